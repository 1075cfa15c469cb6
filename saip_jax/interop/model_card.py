"""The README.md of exported weights: how they were made, how to load them, and caveats."""

import json
import pathlib
import re

from input_pipeline.names import shown
from saip_jax.interop.spec import BackboneSpec
from saip_jax.run_folder.files import CHECKPOINTS, CONFIG
from saip_jax.run_folder.integrity import checkpoint_steps
from saip_jax.run_folder.remote import local
from saip_jax.version import __version__


def run_history(checkpoint, step: int | None = None) -> dict[str, str]:
  """Returns how the weights were made, from the config.json of their run or the parity.json of their export.

  Args:
    checkpoint: a run's folder, or one of its checkpoints W/checkpoints/<step>; an export, or a file in it. The result
      is empty for anything else.
    step: number of updates, for a run; None for that of its newest checkpoint.
  """
  path = local(checkpoint, "--checkpoint").absolute()
  parity = _read(path / "parity.json") if path.is_dir() else _read(path.with_name("parity.json"))
  if "history" in parity and (path.is_dir() or path.name in parity.get("files", ())):
    return parity["history"]
  workdir = path.parent.parent if path.parent.name == CHECKPOINTS else path
  config = _read(workdir / CONFIG)
  if not {"method", "data", "batch_size", "precision", "total_steps"} <= config.keys():
    return {}
  method, data, batch_size, total = config["method"], config["data"], config["batch_size"], config["total_steps"]
  if step is None:
    step = int(path.name) if workdir != path else max(checkpoint_steps(path), default=0)
  images = pathlib.Path(data["path"]).name if data.get("path") else "the default set"
  history = {
    "method": method["name"] + (f", fidelity {method['fidelity']}" if "fidelity" in method else ""),
    "step": f"{step:,} of {total:,}",
    "data": f"built-in people ({images})" if data["source"] == "people" else images,
    "images seen": f"{step * batch_size:,} (batches of {batch_size:,}, {config['precision']})",
  }
  if config.get("init_from"):
    history["started from"] = pathlib.Path(config["init_from"]).name
  return history


def _read(path: pathlib.Path) -> dict:
  try:
    content = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def shortened(origin: str) -> str:
  """Returns the text with its paths reduced to the last folder and the file: disk locations stay private."""
  return shown(re.sub(r"/(?:[^/\s]+/)+(?=[^/\s]+/[^/\s]+)", "", origin))


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
  proven = (
    parity
    if isinstance(parity, str)
    else (
      f"largest absolute difference between saip_jax and the file reloaded with {parity['reloaded_with']}:"
      f" {parity['max_abs_difference']:.1e} in float32"
    )
  )
  channels, values = "RGB", f"0..1, then mean {facts['mean']}, std {facts['std']}"
  if record["which"] == "depth":
    channels = "depth, repeated three times"
    values = "meters, minus their mean over the pixels with known depth, 0 at the others"
  activation = f"{facts['gelu']} GELU" if "gelu" in facts else "ReLU"
  rows = {
    "network": f"{facts['name']}: {_sizes(facts)}, norm epsilon {facts['norm_eps']:g}, {activation}",
    "input": f"{channels}, {size} (height x width); the whole image resized to that size, not cropped; {values}",
    "weights": record["which"] if record["history"] else f"{record['which']} of {record['origin']}",
    **record["history"],
    "proof": f"{proven}; details in parity.json",
  }
  front = _FRONT_MATTER if dialect == "timm" else ""
  table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
  notes = "".join(f"\n- {note}" for note in record["notes"])
  architecture = spec.architecture
  plain = lambda value: tuple(value) if isinstance(value, list) else value
  arguments = "".join(f"{name}={plain(value)!r}, " for name, value in spec.timm_arguments.items())
  usage = _USAGE.get((dialect, architecture.kind)) or _USAGE[dialect]
  usage = usage.format(
    height=height,
    width=width,
    which=record["which"],
    architecture=architecture.timm_name,
    timm=architecture.oldest_timm,
    arguments=arguments,
    changes=_changes(spec),
  )
  features = (
    "a class token and patch tokens"
    if architecture.kind == "vit"
    else "an image feature and features of the cells of a map"
  )
  return (
    f"{front}# {facts['name']} at {size}, {dialect}\n\n"
    f"An encoder of person images, pre-trained without labels: {features} for\n"
    f"retrieval, attributes, keypoints, parsing. Exported by saip_jax {__version__}.\n\n"
    f"| | |\n|---|---|\n{table}\n\n## Load it\n\n{usage.strip()}\n{notes and chr(10) + notes.strip() + chr(10)}"
    "\n## License\n\nThe license under which these weights are published; name it here.\n"
  )


def _changes(spec: BackboneSpec) -> str:
  """Returns code that changes timm's model where its arguments cannot: upsampling, biases, heads of the last block."""
  if spec.architecture.upsampling:
    return _UPSAMPLING.format(mode=spec.architecture.upsampling)
  if spec.architecture.merging_bias:
    return _MERGING_BIAS
  if not spec.last_heads:
    return ""
  heads, width = spec.last_heads, spec.build().width // spec.last_heads
  return (
    f"attention = model.blocks[-1].attn   # the last block has {heads} heads\n"
    f"attention.num_heads, attention.head_dim, attention.scale = {heads}, {width}, {width}**-0.5\n"
  )


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
license: unknown
pipeline_tag: image-feature-extraction
tags:
- image-feature-extraction
- timm
- transformers
---
"""

_INTO_TIMM = """model = timm.create_model("{architecture}", {arguments}num_classes=0)
{changes}model.load_state_dict(state)  # strict: every tensor fits
```
"""
_UPSAMPLING = """for layer in model.modules():
  if isinstance(layer, torch.nn.Upsample):  # timm repeats cells
    layer.mode, layer.align_corners = "{mode}", False
"""
_MERGING_BIAS = """for stage in model.layers[1:]:  # timm's merging layers have no bias
  reduction = stage.downsample.reduction
  stage.downsample.reduction = type(reduction)(reduction.in_features, reduction.out_features)
"""

_STAGES_IN_TIMM = """
```python
import timm   # {timm} or newer
model = timm.create_model("local-dir:DIR", {how}).eval()   # DIR is this folder
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
images = transform(image)[None]
feature, cells = model(images), model.forward_features(images)       # (1, D), {shape}
```

or `transformers.AutoModel.from_pretrained(DIR)` and `AutoImageProcessor.from_pretrained(DIR)`. The hidden
features that pre-training used: `model.forward_intermediates(images, indices=[2])`, then the layer norm (epsilon 1e-6)
in `extra/inter_norm.safetensors`, and in addition to the cells their mean.{note}
"""
_RENAMED = (
  " From timm 1.0.29 on, `pretrained=True`\n"
  "loads the folder too; older versions take a Swin without a classifier for one of the original code."
)

_USAGE = {
  "timm": """
```python
import timm
model = timm.create_model("local-dir:DIR", pretrained=True).eval()   # timm {timm} or newer; DIR is this folder
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
tokens = model.forward_features(transform(image)[None])              # (1, 1 + N, D), class token first
```

or `transformers.AutoModel.from_pretrained(DIR)` and `AutoImageProcessor.from_pretrained(DIR)`. The hidden
features that pre-training used: `model.forward_intermediates(x, indices=[6], norm=False)`, then the layer norm (epsilon
1e-6) in `extra/inter_norm.safetensors`.
""",
  "safetensors": """
```python
import timm
from safetensors.torch import load_file
state = load_file("model.safetensors")
"""
  + _INTO_TIMM,
  ("timm", "swin"): _STAGES_IN_TIMM.format(
    shape="(1, h, w, D)", timm="{timm}", how='checkpoint_path="DIR/model.safetensors"', note=_RENAMED
  ),
  ("timm", "convnext"): _STAGES_IN_TIMM.format(shape="(1, D, h, w)", timm="{timm}", how="pretrained=True", note=""),
  ("timm", "hrnet"): """
```python
import timm, torch
model = timm.create_model("local-dir:DIR", pretrained=True).eval()   # timm {timm} or newer; DIR is this folder
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
maps = model(transform(image)[None])                                 # four of (1, C, h, w), a cell every 4 to 32 pixels
feature = torch.cat([cells.mean((2, 3)) for cells in maps], dim=1)   # (1, D)
```

The folder holds HRNetV2 without its classifier. Pre-training also used the coarsest map of `model.stage3`, after the
layer norm (epsilon 1e-6) in `extra/inter_norm.safetensors`, and in addition to its cells their mean.
""",
  ("safetensors", "hrnet"): """
```python
import timm, torch
from safetensors.torch import load_file
state = load_file("model.safetensors")
"""
  + _INTO_TIMM.removesuffix("```\n")
  + """\
maps = model.eval()(images)   # (B, 3, H, W), sides multiples of 32 -> four of (B, C, h, w), a cell every 4 to 32 pixels
feature = torch.cat([cells.mean((2, 3)) for cells in maps], dim=1)
```
""",
  ("safetensors", "tinyvit"): """
```python
import timm, torch
from safetensors.torch import load_file
model = timm.create_model("{architecture}", num_classes=0)
model.stages[-1].downsample.conv2.conv.stride = (1, 1)   # a final stride of 16 pixels
model.head.norm = torch.nn.Identity()
model.load_state_dict(load_file("model.safetensors"))    # strict: every tensor fits
conv, norm = torch.nn.Conv2d, timm.layers.LayerNorm2d
layers = conv(320, 256, 1, bias=False), norm(256), conv(256, 256, 3, padding=1, bias=False), norm(256)
neck, own = torch.nn.Sequential(*layers), load_file("extra/neck.safetensors")
neck.load_state_dict({{name.removeprefix("neck."): own[name] for name in own if name.startswith("neck.")}})
cells = neck(model.eval().forward_features(images))      # (B, 3, H, W) -> (B, 256, h, w); their mean is the feature
```

`inter_norm.*` is the norm of the output of `forward_features`, which pre-training used.
""",
  "mae": """
```python
import timm, torch
state = torch.load("model.pth", weights_only=True)["model"]
"""
  + _INTO_TIMM,
  "dino": """
```python
import timm, torch
state = torch.load("model.pth", weights_only=True)["teacher"]   # as TransReID does
state = {{name.removeprefix("backbone."): value for name, value in state.items()}}
"""
  + _INTO_TIMM,
  "saip": """
The published layout, heads included: `torch.load("model.pth", weights_only=True)["{which}"]`, names without `module.`;
`backbone.*` is timm's ViT and `inter_norm`, the norm of the output of block 6.
""",
  "vitpose": """
`model.pretrained = "model.pth"` in a ViTPose config (the tensors are in the section `state_dict`).
""",
  "mmpose": """
```python
backbone=dict(
    type="mmpretrain.VisionTransformer", img_size=({height}, {width}), patch_size=16, qkv_bias=True,
    with_cls_token=False, out_type="featmap",
    init_cfg=dict(type="Pretrained", checkpoint="model.pth", prefix="backbone."))
```

with `arch=dict(...)` of the network above. Without `prefix="backbone."` nothing is loaded, with only a line in the log.
""",
  "onnx": """
```python
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
cls, patch_tokens = session.run(["cls", "patch_tokens"], {{"images": images}})   # (B, 3, {height}, {width}) float32
```

`images` are normalized as in the table; the input of `model_with_preproc.onnx`, if there is one, is uint8 RGB
(B, {height}, {width}, 3), which it normalizes. Any batch size.
""",
  "torchscript": """
```python
import torch
cls, patch_tokens = torch.jit.load("model.ts")(images)   # (B, 3, {height}, {width}) float32, normalized; any batch size
```
""",
}
