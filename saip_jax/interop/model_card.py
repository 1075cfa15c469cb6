"""The README.md of exported weights: how they were made, how to load them, and caveats."""

import json
import re

from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.usage import usage_of
from saip_jax.version import __version__


def model_card(dialect: str, record: dict, spec: BackboneSpec) -> str:
  """Returns the text of README.md.

  Args:
    dialect: name of the dialect.
    record: content of parity.json.
    spec: spec of the weights.
  """
  facts = record["model"]
  height, width = facts["image_hw"]
  size = f"{height}x{width}"
  parity = record["parity"]
  proven = parity if isinstance(parity, str) else _proof(record)
  normalization = "ImageNet's mean and std, which the weights do not state"
  if facts["mean"]:
    normalization = f"mean {facts['mean']}, std {facts['std']}"
  channels, values = "RGB", f"0..1, then {normalization}"
  if record["which"] == "depth":
    channels = "depth, repeated three times"
    values = "meters, minus their mean over the pixels with known depth, 0 at the others"
  activation = f"{facts['gelu']} GELU" if "gelu" in facts else "ReLU"
  rows = {
    "network": f"{facts['name']}: {_sizes(facts)}, norm epsilon {facts['norm_eps']:g}, {activation}",
    "input": f"{channels}, {size} (height x width); the whole image resized to that size, not cropped; {values}",
    "weights": record["which"] if record["history"] else f"{record['which']} of {record['origin']}",
    **record["history"],
    **({"precision": _precision(record)} if "precision" in record else {}),
    "proof": f"{proven}; details in parity.json",
  }
  front = _FRONT_MATTER.format(license=_identifier(record["license"])) if dialect == "timm" else ""
  table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
  notes = "".join(f"\n- {note}" for note in record["notes"])
  features = (
    f"{'a class token' if facts.get('class_token', True) else 'an image feature'} and patch tokens"
    if spec.architecture.kind == "vit"
    else "an image feature and features of the cells of a map"
  )
  return (
    f"{front}# {facts['name']} at {size}, {dialect}\n\n"
    f"An encoder of person images: {features} for\n"
    f"retrieval, attributes, keypoints, parsing. Exported by saip_jax {__version__}.\n\n"
    f"| | |\n|---|---|\n{table}\n\n{_scores(record)}## Load it\n\n{usage_of(dialect, record, spec)}\n"
    f"{notes and chr(10) + notes.strip() + chr(10)}\n## License\n\n{_license(record)}\n"
  )


def _proof(record: dict) -> str:
  parity = record["parity"]
  reloaded = f"the file reloaded with {parity['reloaded_with']}"
  if "cosine" not in parity:
    return f"largest absolute difference between saip_jax and {reloaded}: {parity['max_abs_difference']:.1e} in float32"
  return (
    f"features of {record['compared_on']} images in saip_jax, float32, and of {reloaded}: centered cosine"
    f" {parity['cosine']:.4f}, largest absolute difference {parity['max_abs_difference']:.2g}"
  )


def _precision(record: dict) -> str:
  """Returns what the precision costs and saves, as text."""
  name = record["precision"]
  sizes = ", ".join(f"{of[name] / 1e6:.1f} MB in place of {of['float32'] / 1e6:.1f}" for of in record["bytes"].values())
  if name != "int8":
    return f"{name} inside, float32 outside; {sizes}"
  return (
    "int8 weights per channel and int8 inputs of their products (QDQ), float32 elsewhere; ranges by the extremes of"
    f" {record['calibrated_on']} images; {sizes}. x86 processors without VNNI need"
    " onnxruntime's session option `session.x64quantprecision` = 1 to be exact"
  )


def _scores(record: dict) -> str:
  """Returns the section of the scores that `saip evaluate` recorded for these weights; empty without any."""
  if not record.get("scores"):
    return ""
  rows = []
  for each in record["scores"]:
    height, width = each["image_hw"]
    values = ", ".join(f"{name} {value:.4g}" for name, value in each["scores"].items())
    rows.append(f"| {each['task']} | {each['protocol']} | {each['data']} | {height}x{width} | {values} |")
  return (
    "## Scores\n\nOf frozen features in float32, measured by `saip evaluate`: fractions from 0 to 1, unless a name ends"
    " in a unit.\n\n"
    "| task | protocol | data | input | scores |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
  )


def _license(record: dict) -> str:
  stated = record["license"] or "unstated; set --license"
  return "\n\n".join([stated, *record.get("terms", ())])


def _identifier(license: str | None) -> str:
  """Returns a license as the front matter of the hub names it."""
  if license is None:
    return "unknown"
  return license if re.fullmatch(r"[a-z0-9.+-]+", license) else f"other\nlicense_name: {json.dumps(license)}"


def _sizes(facts: dict) -> str:
  """Returns the sizes of the network, of its blocks or of its stages, as text."""
  if "depth" in facts:
    heads, last = facts["heads"], facts.get("last_heads", facts["heads"])
    heads = f"{heads} heads" + (f" and {last} in the last block" if last != heads else "")
    return f"width {facts['width']}, {facts['depth']} blocks, {heads}, patches of {facts['patch']} pixels"
  names = {
    "dims": "channels",
    "depths": "blocks",
    "heads": "heads",
    "window": "windows of cells",
    "windows": "windows of cells",
  }
  parts = [f"{word} {_listed(facts[name])}" for name, word in names.items() if name in facts]
  return ", ".join([*parts, f"tapped stage {facts['tapped_stage']} with a cell every {facts['stride']} pixels"])


def _listed(value) -> str:
  return "/".join(map(str, value)) if isinstance(value, list) else str(value)


_FRONT_MATTER = """---
library_name: timm
license: {license}
pipeline_tag: image-feature-extraction
tags:
- image-feature-extraction
- timm
- transformers
---
"""
