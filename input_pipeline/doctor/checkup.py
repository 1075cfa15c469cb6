"""`saip doctor`: opens a data set, examines it, and writes the findings."""

import contextlib
import json
import os
import tempfile
import time
import warnings

from input_pipeline import storage
from input_pipeline.doctor.advice import advise
from input_pipeline.doctor.examine import Findings, examine_images
from input_pipeline.doctor.facts import duplicate_groups, gather_facts
from input_pipeline.doctor.picture import draw_sizes
from input_pipeline.names import ESCAPED, shown
from input_pipeline.source import ImageSource
from input_pipeline.sources.recognize import recognize_source
from input_pipeline.sources.subset import write_subset
from input_pipeline.sources.table import open_source

DEFAULT_LIMIT = 100_000
"""Default size of the sample to examine: takes minutes, and shares are exact to a third of a percent."""

# More threads than cores, as reading waits for disks and buckets.
_THREADS_PER_CORE = 2


def doctor(
  path: str,
  *,
  source: str | None = None,
  split: str | None = None,
  out: str | None = None,
  limit: int = DEFAULT_LIMIT,
  whole: bool = False,
  subset: int | None = None,
  seed: int = 0,
  cache_dir: str | None = None,
  setting: str = "PATH",
  progress: bool = True,
) -> dict:
  """Examines a data set and reports its contents and faults.

  Args:
    path: path or URL of the data set.
    source: its kind, as in `data.source`; None to recognize it.
    split: the split; None for the default one.
    out: folder for doctor.json, sizes.png, unreadable.txt, duplicates.txt and subset.txt, made if missing; existing
      files are replaced. None writes nothing.
    limit: maximum number of images to examine, a sample drawn with `seed`.
    whole: examine all images.
    subset: size of a reproducible subset to write to `out` as a list of names; None for no subset.
    seed: seed of the sample and of the subset.
    cache_dir: folder of the remembered index; None for a temporary folder.
    setting: the option that gave `path`, named in messages.
    progress: show progress bars on a terminal.

  Returns:
    The facts of `gather_facts`, with `advice`, `subset` (count, seed, file; None without one), `out` and `seconds`.

  Raises:
    ValueError: no such data, no images in it, or an unwritable folder; the message is one line.
  """
  begun = time.perf_counter()
  if limit < 1:
    raise ValueError(f"--limit={limit}: expected 1 or more images, or --all")
  if subset is not None and out is None:
    raise ValueError("--subset needs --out=DIR, where its list of names is written")
  kind = source or recognize_source(path, setting)
  if out is not None:
    out = _made_folder(out, path)
  with contextlib.ExitStack() as stack:
    # Pillow warns about damaged metadata, which is not used, and about large photos, which are examined here.
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"PIL\.")
    cache_dir = cache_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="saip_doctor_"))
    images = open_source(kind, path, split=split, cache_dir=cache_dir, setting=setting)
    if subset is not None and not 1 <= subset <= len(images):
      raise ValueError(f"--subset={subset}: the data set has {len(images)} images; expected 1 to that many")
    findings = examine_images(
      images,
      limit=None if whole else limit,
      seed=seed,
      threads=_THREADS_PER_CORE * (os.cpu_count() or 1),
      progress=progress,
    )
    groups = duplicate_groups(findings)
    facts = gather_facts(images, kind, path, split, findings, groups, seed)
    facts |= {"advice": advise(facts), "subset": None, "out": out}
    if subset is not None:
      facts["subset"] = {"count": subset, "seed": seed, "file": f"{out}/subset.txt"}
      write_subset(f"{out}/subset.txt", images, subset, seed)
    facts["seconds"] = round(time.perf_counter() - begun, 2)
    if out is not None:
      _write_files(out, images, findings, groups, facts)
  return facts


def _made_folder(out: str, path: str) -> str:
  folder, data = storage.normalized(out), storage.normalized(path)
  if folder == data or folder.startswith(data + "/"):
    raise ValueError(f"--out={out} is inside the data set, which must not change; choose another folder")
  try:
    if not storage.is_remote(folder):
      os.makedirs(folder, exist_ok=True)
    storage.write_file(f"{folder}/doctor.unfinished", b"")  # fail before the work, not after it
    storage.remove(f"{folder}/doctor.unfinished")
  except OSError as error:
    raise ValueError(f"--out={out} cannot be made ({error.strerror or error}); choose another folder") from error
  return folder


def _write_files(out: str, images: ImageSource, findings: Findings, groups: dict, facts: dict) -> None:
  name = lambda row: shown(images.name(int(findings.positions[row])))
  unreadable = [f"{name(row)}: {reason}" for row, reason in sorted(findings.unreadable.items())]
  unreadable += [f"{shown(item)}: {reason}" for item, reason in images.left_out]
  copies = []
  for key, title in (("exact", "the same bytes"), ("near", "nearly the same image")):
    copies += [f"# {title}: {len(groups[key]):,} groups, an empty line between them", ""]
    copies += [line for group in groups[key] for line in (*map(name, group), "")]
  title = f"Sizes of {len(findings.readable):,} images of {facts['source']['name']}"
  files = {
    "doctor.json": json.dumps(facts, indent=2, allow_nan=False) + "\n",
    "sizes.png": draw_sizes(findings.hw[findings.readable], title),
    "unreadable.txt": "".join(line + "\n" for line in unreadable),
    "duplicates.txt": "\n".join(copies),
  }
  try:
    for file, content in files.items():
      storage.write_file(f"{out}/{file}", content if isinstance(content, bytes) else content.encode("utf-8", ESCAPED))
  except OSError as error:
    raise ValueError(f"{out}/{file} cannot be written ({error.strerror or error}); choose another --out") from error
