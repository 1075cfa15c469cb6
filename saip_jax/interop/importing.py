"""`saip import`: converts weights of any readable dialect to a folder for `--config.init_from` and for export."""

import json
import os
import pathlib
import shutil
import tempfile

from input_pipeline.names import shown
from input_pipeline.storage import utf8_path, writing
from saip_jax.interop.spec import Weights
from saip_jax.interop.tables import flatten
from saip_jax.interop.tensor_files import sha256, write_safetensors
from saip_jax.interop.weights import WEIGHTS_FILE, open_weights
from saip_jax.run_folder.files import MODEL_FILE
from saip_jax.run_folder.remote import local, published
from saip_jax.version import __version__


def import_weights(source, dialect: str | None, out, image_hw: tuple[int, int] | None = None, **options) -> Weights:
  """Reads weights and writes them into a folder: `weights.safetensors` and `model.json`, whole or not at all.

  Args:
    source: anything that `open_weights` reads.
    dialect: its dialect; None recognizes it.
    out: a new or empty folder, or one made by an earlier import, which is replaced; a local path or a URL.
    image_hw: size in pixels of the stored positions, for a source that does not specify it.
    **options: other arguments of `open_weights`.

  Returns:
    The weights.

  Raises:
    ValueError: unusable weights, or a folder that holds something else.
  """
  with published(out, "--out") as folder:
    return _import(source, dialect, utf8_path(folder, "--out"), image_hw, options)


def _import(source, dialect, out, image_hw, options) -> Weights:
  """`import_weights` into a local folder."""
  _check_folder(out)
  weights = open_weights(source, dialect, image_hw, flag="--from", **options)
  with writing(out, "--out=", "choose another folder"):
    out.parent.mkdir(parents=True, exist_ok=True)
    holder = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    partial = holder / "W"  # the holder is private to its owner, independent of the umask
  try:
    partial.mkdir()
    trees = {"student": weights.student} | ({} if weights.teacher is None else {"teacher": weights.teacher})
    write_safetensors(partial / WEIGHTS_FILE, flatten(trees))
    model = {
      "saip_jax": __version__,
      "facts": weights.spec.facts(),
      "origin": shown(weights.origin),
      "tensors": weights.counts(),
      "new": list(weights.new),
      "head_counts": dict(weights.head_counts),
      "notes": list(weights.notes),
      "sha256": {WEIGHTS_FILE: sha256(partial / WEIGHTS_FILE)},
    }
    source = local(source, "--from")
    if source.is_file():
      model["sha256"]["source"] = sha256(source)
    (partial / MODEL_FILE).write_text(json.dumps(model, indent=2) + "\n", "utf-8")
    if out.exists():
      shutil.rmtree(out)
    os.replace(partial, out)
  finally:
    shutil.rmtree(holder, ignore_errors=True)
  return weights


def import_summary(weights: Weights, out) -> list[str]:
  """Returns the matched tensors, the notes and the next command, one line each."""
  height, width = weights.spec.image_hw
  lines = [f"{weights.spec.name} for {height}x{width} pixels from {weights.origin}"]
  for who in ("student", "teacher"):
    parts = {part.partition("/")[2]: n for part, n in weights.counts().items() if part.startswith(f"{who}/")}
    listed = ", ".join(f"{part} {n}" for part, n in parts.items()) if parts else "none in the file"
    lines.append(f"{who}: {listed}" + (" tensors" if parts else ""))
  return [*lines, *weights.notes, f"pre-train from it with --config.init_from={out}"]


def _check_folder(out: pathlib.Path) -> None:
  if out.exists() and not out.is_dir():
    raise ValueError(f"--out={out} is a file: choose a folder")
  ours = {MODEL_FILE, WEIGHTS_FILE}
  if out.is_dir() and {path.name for path in out.iterdir()} not in (set(), ours):
    raise ValueError(f"--out={out} holds other files: choose a new or empty folder")
