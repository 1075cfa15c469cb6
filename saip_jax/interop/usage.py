"""How to load an export: the section of its model card, by dialect and kind of backbone."""

from typing import Any

from saip_jax.interop.spec import BackboneSpec


def usage_of(dialect: str, record: dict[str, Any], spec: BackboneSpec) -> str:
  """Returns Markdown with code that loads an export; arguments are those of `model_card.model_card`."""
  architecture, (height, width) = spec.architecture, record["model"]["image_hw"]
  plain = lambda value: tuple(value) if isinstance(value, list) else value
  arguments = "".join(f"{name}={plain(value)!r}, " for name, value in spec.timm_arguments.items())
  usage = _USAGE.get((dialect, architecture.kind)) or _USAGE[dialect]
  facts = record.get("stablehlo", {})
  return usage.format(
    height=height,
    width=width,
    which=record["which"],
    architecture=architecture.timm_name,
    timm=architecture.oldest_timm,
    arguments=arguments,
    changes=_changes(spec),
    tokens=_tokens(record["model"]),
    **facts | {"platforms": ", ".join(facts.get("platforms", ()))},
  ).strip()


def _changes(spec: BackboneSpec) -> str:
  """Returns code that changes timm's model where its arguments cannot: upsampling, biases, attributes of a ViT."""
  if spec.architecture.upsampling:
    return _UPSAMPLING.format(mode=spec.architecture.upsampling)
  if spec.architecture.merging_bias:
    return _MERGING_BIAS
  code = ""
  if spec.norm_eps:
    code += f'for layer in model.modules():\n  if hasattr(layer, "eps"):\n    layer.eps = {spec.norm_eps!r}\n'
  if spec.patch_padding:
    code += f"model.patch_embed.proj.padding = ({spec.patch_padding}, {spec.patch_padding})\n"
  if not spec.last_heads:
    return code
  heads, width = spec.last_heads, spec.build().width // spec.last_heads
  return code + (
    f"attention = model.blocks[-1].attn   # the last block has {heads} heads\n"
    f"attention.num_heads, attention.head_dim, attention.scale = {heads}, {width}, {width}**-0.5\n"
  )


def _tokens(facts: dict[str, Any]) -> str:
  """Returns the shape of a ViT's tokens after the batch, and what comes first; facts of a plain ViT are absent."""
  first, count = facts.get("class_token", True), facts.get("prefix_tokens", 0)
  if count:
    return f"{first + count} + N, D): class token, {count} tokens that are no feature, patches"
  return "1 + N, D), class token first" if first else "N, D); their mean is the image feature"


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
tokens = model.forward_features(transform(image)[None])              # (1, {tokens}
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
(B, {height}, {width}, 3), which it normalizes. Any batch size. Inputs and outputs are float32 in every precision.
`saip evaluate --checkpoint=model.onnx` measures the file itself.
""",
  "stablehlo": """
```python
from jax import export
encoder = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
features = encoder.call(images)   # (B, {height}, {width}, 3) float32, normalized; any batch size; "cls", "patch_tokens"
```

It needs JAX alone, and runs on {platforms}. Other compilers read `encoder.mlir_module_serialized`, StableHLO
{stablehlo_version} in its portable form. Calling convention {calling_convention_version}, written by JAX {jax_version}.
Compatibility is that of {guarantee}.
""",
  "torchscript": """
```python
import torch
cls, patch_tokens = torch.jit.load("model.ts")(images)   # (B, 3, {height}, {width}) float32, normalized; any batch size
```
""",
}
