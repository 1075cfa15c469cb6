"""Advice on the findings, with the commands to run."""

import math
import shlex

from input_pipeline.doctor.inspect_image import INPUT_HW, TINY_SIDE
from input_pipeline.sources.kinds import SOURCE_KINDS

# The default of data.max_damaged_fraction.
_ALLOWED_DAMAGE = 0.01
# Minimum shares that give advice.
_MANY_DRAWN, _MANY_TINY, _MANY_ENLARGED, _MANY_GRAY, _MANY_COPIES = 0.01, 0.02, 0.5, 0.05, 0.01
_CROP_ASPECT = 1.2
_MANY_FILES, _SLOW_IMAGES_PER_S = 20_000, 1000
_LUPERSON_LIKE = 2_000_000

# Kinds with arbitrary images, where whole photos may be a mistake.
_PLAIN_KINDS = ("folder", "webdataset", "zip", "lmdb", "tfds", "arrayrecord")
_PREPARED_KINDS = ("arrayrecord", "people", "tfds")
_ANNOTATED_KINDS = tuple(name for name, kind in SOURCE_KINDS.items() if kind.crops)
_RESEARCH_KINDS = (
  "market1501",
  "msmt17",
  "cuhkpedes",
  "icfgpedes",
  "rstpreid",
  "pa100k",
  "peta",
  "rap",
  "lip",
  "cihp",
  "atr",
  "ccp",
  "crowdhuman",
)


def advise(facts: dict) -> list[str]:
  """Returns the advice that applies, the most urgent first.

  Args:
    facts: from `gather_facts`.

  Returns:
    One advice per item.
  """
  return [advice for rule in _RULES if (advice := rule(facts))]


def _damage(facts: dict) -> str | None:
  count, share = facts["unreadable"]["count"], facts["unreadable"]["share"]
  if not count:
    return None
  if share <= _ALLOWED_DAMAGE:
    return (
      f"{_images(count)} cannot be read: training skips and counts them; --out=DIR writes unreadable.txt with "
      "all names."
    )
  if share >= 1:
    return "No image can be read: training will refuse this data set."
  allowed = min(1.0, math.ceil(share * 120) / 100)
  return (
    f"{share:.1%} of the images cannot be read and training refuses more than {_ALLOWED_DAMAGE:.0%}: repair or "
    f"remove them (--out=DIR writes unreadable.txt), or --config.data.max_damaged_fraction={allowed:g}"
  )


def _drawn(facts: dict) -> str | None:
  share = facts["traits"]["drawn"]["share"]
  if share < _MANY_DRAWN:
    return None
  return (
    f"{share:.1%} of the images are masks or drawings, and training would use them as photos: give the folder that "
    "has only the photos as the path."
  )


def _crops(facts: dict) -> str | None:
  aspect = facts["sizes"]["aspect"]["median"]
  if facts["kind"] not in _PLAIN_KINDS or aspect is None or aspect >= _CROP_ASPECT:
    return None
  return (
    f"Half of the images are no taller than {aspect:.2g} times their width: whole photos rather than crops of "
    "people, which training expects. With person boxes: saip prepare coco --path=ANNOTATIONS --out=DIR; "
    "photos without people in focus can be used as scenes: --config.data.scene_path"
  )


def _large(facts: dict) -> str | None:
  if not facts["traits"]["large"]["count"]:
    return None
  return (
    f"Photos of more than 2 megapixels ({_images(facts['traits']['large']['count'])}) take long to decode in "
    f"every epoch; as scenes, shrink them once: {_prepare(facts)} --scenes"
  )


def _size(facts: dict) -> str | None:
  tiny, enlarged = facts["traits"]["tiny"]["share"], facts["traits"]["enlarged"]["share"]
  if tiny >= _MANY_TINY:
    smaller = f" ({_prepare(facts)} --min-side={TINY_SIDE})" if facts["kind"] in _ANNOTATED_KINDS else ""
    return f"{tiny:.1%} of the images are under {TINY_SIDE} pixels wide or high: leave them out{smaller}."
  if enlarged >= _MANY_ENLARGED:
    return (
      f"{enlarged:.1%} of the images are smaller than the training input of {INPUT_HW[0]}x{INPUT_HW[1]} and get "
      "enlarged; a smaller input trains faster: --config.model.image_hw"
    )
  return None


def _gray(facts: dict) -> str | None:
  share = facts["traits"]["grey"]["share"]
  if share < _MANY_GRAY:
    return None
  return f"{share:.1%} of the images are gray; a model cannot learn the colors of clothes from them."


def _copies(facts: dict) -> str | None:
  share = sum(facts["duplicates"][key]["share"] for key in ("exact", "near"))
  if share < _MANY_COPIES:
    return None
  return (
    f"{share:.1%} of the images are copies or near copies of others, which gives them more weight in training: "
    "remove them (--out=DIR writes duplicates.txt; the first of each group can stay)."
  )


def _preparing(facts: dict) -> str | None:
  if facts["kind"] in _PREPARED_KINDS:
    return None
  rate = facts["speed"]["images_per_second_one_thread"]
  reason = (
    "crops are cut out of whole photos again in every epoch"
    if facts["kind"] in _ANNOTATED_KINDS
    else "many small files are slow on network disks and in buckets"
    if facts["images"] >= _MANY_FILES
    else f"one thread decodes only {rate:.0f} images/s here"
    if rate and rate < _SLOW_IMAGES_PER_S
    else None
  )
  return reason and f"Prepare it once, as {reason}: {_prepare(facts)}"


def _subset(facts: dict) -> str | None:
  if facts["images"] < _LUPERSON_LIKE:
    return None
  return (
    "The published recipe trains on a million images; choose them reproducibly: saip doctor "
    f"{shlex.quote(facts['path'])} --subset=1000000 --seed=0 --out=DIR"
  )


def _sample(facts: dict) -> str | None:
  if facts["sample_seed"] is None:
    return None
  return (
    f"Only a sample of {_images(facts['examined'])} was examined; copies of images outside it are not found. "
    "--all examines every one."
  )


def _privacy(facts: dict) -> str | None:
  if facts["kind"] == "people":
    return None
  if facts["kind"] in _RESEARCH_KINDS or any("LUPerson" in sentence for sentence in facts["known"]):
    return (
      "These are photos of persons, published for research only; check license and consent before you share "
      "data or models."
    )
  return "If these are photos of persons: check license and consent before you share data or models."


def _images(count: int) -> str:
  return f"{count:,} image{'s' if count != 1 else ''}"


def _prepare(facts: dict) -> str:
  split = f" --split={shlex.quote(facts['split'])}" if facts["split"] else ""
  return f"saip prepare {facts['kind']} --path={shlex.quote(facts['path'])}{split} --out=DIR"


_RULES = (_damage, _drawn, _crops, _large, _size, _gray, _copies, _preparing, _subset, _sample, _privacy)
