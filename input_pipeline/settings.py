"""The settings of the data: `config.data`."""

import dataclasses
from typing import Literal

from input_pipeline.checks import require, require_sizes
from input_pipeline.sources.kinds import SOURCE_KINDS, SourceName

PAIR_KINDS = ("view", "pose")
"""The kinds of pairs of images; `pair_type` in a batch is an index into this list."""

PeopleComposition = Literal["crops", "views", "clips"]
"""What the default set of built-in people shows: every image another moment, 4 cameras for each, or 8 frames."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixturePart:
  """One data set of a mixture.

  Attributes:
    source: its kind.
    path: where it lies; None: the default set of built-in people, for source "people" alone.
    split: a part of it; None: the default one.
    subset: file of names, made by `saip doctor --subset`: these images alone; None: all.
    hold_out: leave out the three of ten identities that `saip evaluate --hold-out` measures.
    weight: its share of a batch is `weight` / the sum of all weights.
    people_count: as in `DataConfig`.
    people_composition: as in `DataConfig`.
  """

  source: SourceName
  path: str | None = None
  split: str | None = None
  subset: str | None = None
  hold_out: bool = False
  weight: float = 1.0
  people_count: int = 0
  people_composition: PeopleComposition = "crops"

  def __post_init__(self):
    require(self.weight > 0, f"config.data.mixture: weight is {self.weight}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig:
  """Which images make a pair, for methods that learn from pairs; see `input_pipeline.pairs`.

  Attributes:
    kinds: "view", the same instant seen by another camera; "pose", the same person and camera at another time. An image
      with partners of both kinds is paired as often in either.
    gap: of pose pairs, the shortest and the longest time between the images, seconds, to the millisecond.
    frame_rate: frames per second of sources whose frames are numbered but not timed.
  """

  kinds: tuple[Literal[*PAIR_KINDS], ...] = PAIR_KINDS  # type: ignore[valid-type]
  gap: tuple[float, float] = (0.2, 2.0)
  frame_rate: float = 30.0

  def __post_init__(self):
    at = "config.data.pairs"
    require(bool(self.kinds), f"{at}.kinds is empty: name view, pose or both")
    require(0 <= self.gap[0] <= self.gap[1], f"{at}.gap is {self.gap}: the shortest and the longest time in seconds")
    require(self.frame_rate > 0, f"{at}.frame_rate is {self.frame_rate}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where the images come from and how the host decodes them.

  >>> DataConfig(source="people", people_count=512).canvas_hw
  (320, 160)
  >>> DataConfig(source="people")
  Traceback (most recent call last):
  ValueError: config.data.source is 'people': config.data.people_count must be positive, it is 0

  Attributes:
    source: the kind of data set: "people" (rendered here), "folder" (image files, searched recursively),
      "arrayrecord" (made by `saip prepare`: the fastest), another key of `SOURCE_KINDS`, or "mixture".
    path: where it lies, a path or a URL (gs://, s3://), or None in a recipe that leaves it to the command line; for
      "people", a folder made by `saip prepare people` without --export, or None for a default set that is rendered on
      first use.
    split: a part of it, for sources that have splits; None: the one for training.
    subset: file of names, made by `saip doctor --subset`: these images alone; None: all.
    hold_out: leave out the three of ten identities that `saip evaluate --hold-out` measures.
    mixture: name -> data set; for source "mixture" alone.
    scene_path: the photos that persons are pasted into: a folder, prepared into the cache on first use, or a set made
      by `saip prepare ... --scenes`; None: other images of the same source. Only methods with scenes read it.
    canvas_hw: height and width in pixels of the canvas that holds an image (shrunk if larger).
    scene_canvas_hw: the same for scenes.
    people_count: images of the default set of built-in people, all splits together: about 7 of 10 are trained on;
      only "people" without a path reads it, here and in `monitor_data`.
    people_composition: what these images show: "crops", every one another moment; "views", each moment from 4
      cameras; "clips", 8 frames of a motion.
    whole_photos: uncropped photos with all their persons, of sources that cut persons out of photos; of the default set
      of built-in people, scenes of several, whatever `people_composition` is.
    pairs: for methods that learn from pairs of images, which images make a pair.
    pictures_per_identity: for methods that compare persons, images of one person that a batch holds side by side, see
      `orders.balanced`; 0: no such order.
    workers: decoding processes per host; 0: threads of the training process.
    threads: decoding threads per host or per worker.
    max_damaged_fraction: share of the set that may be unreadable before the run stops, 0 to 1.
  """

  source: Literal[*SOURCE_KINDS, "mixture"]  # type: ignore[valid-type]
  path: str | None = None
  split: str | None = None
  subset: str | None = None
  hold_out: bool = False
  mixture: dict[str, MixturePart] | None = None
  scene_path: str | None = None
  canvas_hw: tuple[int, int] = (320, 160)
  scene_canvas_hw: tuple[int, int] = (256, 256)
  people_count: int = 0
  people_composition: PeopleComposition = "crops"
  whole_photos: bool = False
  pairs: PairsConfig = PairsConfig()
  pictures_per_identity: int = 0
  workers: int = 0
  threads: int = 8
  max_damaged_fraction: float = 0.01

  def __post_init__(self):
    at = "config.data"
    require(
      self.source != "people" or bool(self.path) or self.people_count > 0,
      f"{at}.source is 'people': {at}.people_count must be positive, it is {self.people_count}",
    )
    require(
      (self.source == "mixture") == bool(self.mixture),
      f"{at}.source is {self.source!r} and {at}.mixture is {'given' if self.mixture else 'empty'}: source 'mixture'"
      " and a mixture go together",
    )
    for key in ("path", "split", "subset", "hold_out"):
      require(
        self.source != "mixture" or getattr(self, key) in (None, False),
        f"{at}.{key} is {getattr(self, key)!r}: with source 'mixture' each part has its own, {at}.mixture.NAME.{key}",
      )
    for name, part in (self.mixture or {}).items():
      require(
        bool(part.path) or part.source == "people" and part.people_count > 0,
        f"missing: {at}.mixture.{name}.path" + " or a positive people_count" * (part.source == "people"),
      )
    require_sizes(f"{at}.canvas_hw", self.canvas_hw)
    require_sizes(f"{at}.scene_canvas_hw", self.scene_canvas_hw)
    require(
      self.pictures_per_identity >= 0 and not (self.pictures_per_identity and self.source == "mixture"),
      f"{at}.pictures_per_identity is {self.pictures_per_identity}: it must be 0 or more, and 0 with source"
      " 'mixture', whose weights it would not follow",
    )
    require(
      not (self.whole_photos and self.source == "mixture"),
      f"{at}.whole_photos is True with source 'mixture', whose parts are of persons: set it to False",
    )
    require(self.workers >= 0, f"{at}.workers is {self.workers}: it must be 0 or more")
    require(self.threads > 0, f"{at}.threads is {self.threads}: it must be 1 or more")
    fraction = self.max_damaged_fraction
    require(0 <= fraction <= 1, f"{at}.max_damaged_fraction is {fraction}: it must lie in 0 to 1")
