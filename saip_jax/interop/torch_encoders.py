"""timm's models as PyTorch modules with the outputs of the backbones here, one class per kind of backbone.

Needs the optional extra `torch`, which is imported inside functions.
"""

import functools
from collections.abc import Mapping

from saip_jax.backbones.linear import NORM_EPSILON


def adapt(
  architecture, model, last_heads: int | None = None, norm_eps: float | None = None, padding: int | None = None
):
  """Returns timm's new model, changed in place where the backbone here differs.

  Args:
    architecture: an `architectures.TorchArchitecture`.
    model: a new model of timm.
    last_heads: attention heads of a ViT's last block; None for as many as in the other blocks.
    norm_eps: epsilon of a ViT's norms; None for timm's.
    padding: zero pixels around an image of a ViT; None for timm's.
  """
  import torch

  if norm_eps:
    for layer in model.modules():
      if isinstance(layer, torch.nn.LayerNorm):
        layer.eps = norm_eps
  if padding:
    model.patch_embed.proj.padding = (padding, padding)

  if last_heads:
    attention, width = model.blocks[-1].attn, model.embed_dim
    attention.num_heads, attention.head_dim = last_heads, width // last_heads
    attention.scale = attention.head_dim**-0.5
  if architecture.upsampling:
    for layer in model.modules():
      if isinstance(layer, torch.nn.Upsample):
        layer.mode, layer.align_corners = architecture.upsampling, False
  if architecture.merging_bias:
    for stage in model.layers[1:]:
      reduction = stage.downsample.reduction
      stage.downsample.reduction = torch.nn.Linear(reduction.in_features, reduction.out_features)
  if architecture.kind == "tinyvit":
    model.stages[-1].downsample.conv2.conv.stride = (1, 1)
    model.head.norm = torch.nn.Identity()  # replaced by the mean over the neck
  return model


def make_encoder(kind: str, model, extra: Mapping):
  """Returns a module in evaluation mode, images (B, 3, H, W) -> (cls (B, D), patch_tokens (B, N, D)).

  Args:
    kind: `TorchArchitecture.kind`.
    model: from `torch_model.timm_model`.
    extra: name -> extra tensors that timm's model lacks; only a neck is used.
  """
  return _classes()[kind](model, extra).eval()


def tapped_layer(kind: str, model, norm: Mapping, tap: int, images):
  """Returns the tapped layer (B, 1 + M, E) of images (B, 3, H, W) after its norm.

  Args:
    kind: `TorchArchitecture.kind`.
    model: from `torch_model.timm_model`.
    norm: `inter_norm.weight` and `inter_norm.bias`.
    tap: index of the tapped block or stage.
    images: normalized images.
  """
  import torch

  options = {"indices": [tap], "intermediates_only": True}
  if kind == "vit":
    (tokens,) = model.forward_intermediates(
      images, norm=False, output_fmt="NLC", return_prefix_tokens=model.num_prefix_tokens > 0, **options
    )
    if model.num_prefix_tokens:
      patches, first = tokens
      tokens = torch.cat([first, patches], dim=1)
  else:
    if kind == "hrnet":  # forward_intermediates returns only the maps of the last stage
      cells = _stage_output(getattr(model, f"stage{tap + 1}"), model, images)[-1]  # the coarsest
    else:
      (cells,) = model.forward_intermediates(images, **options)  # (B, E, h, w)
    tokens = cells.flatten(2).transpose(1, 2)
  tokens = torch.nn.functional.layer_norm(
    tokens, tokens.shape[-1:], norm["inter_norm.weight"], norm["inter_norm.bias"], NORM_EPSILON
  )
  if kind != "vit":
    return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
  cells = tokens[:, model.num_prefix_tokens :]
  first = tokens[:, :1] if model.cls_token is not None else cells.mean(1, keepdim=True)
  return torch.cat([first, cells], dim=1)


def _stage_output(stage, model, images):
  """Returns the output of a module of the model for these images."""
  outputs = []
  hook = stage.register_forward_hook(lambda module, inputs, output: outputs.append(output))
  model.forward_features(images)
  hook.remove()
  return outputs[0]


@functools.cache
def _classes() -> dict[str, type]:
  """Returns kind -> class of the module."""
  import torch
  from timm.layers import LayerNorm2d

  class Encoder(torch.nn.Module):
    scriptable = True  # otherwise it is traced

    def __init__(self, model, extra):
      super().__init__()
      self.model = model

  class ViT(Encoder):
    def __init__(self, model, extra):
      super().__init__(model, extra)
      self.count, self.class_token = model.num_prefix_tokens, model.cls_token is not None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      tokens = self.model.forward_features(images)  # (B, P + N, D)
      patches = tokens[:, self.count :]
      if self.class_token:
        return tokens[:, 0], patches
      return patches.mean(1), patches

  class Swin(Encoder):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      tokens = self.model.forward_features(images).flatten(1, 2)  # (B, h, w, D) -> (B, N, D)
      return tokens.mean(1), tokens

  class ConvNeXt(Encoder):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      cells = self.model.forward_features(images)  # (B, D, h, w)
      return self.model.forward_head(cells, pre_logits=True), cells.flatten(2).transpose(1, 2)

  class HRNet(Encoder):
    scriptable = False  # timm's lists of maps cannot be scripted

    def __init__(self, model, extra):
      super().__init__(model, extra)
      self.upsampling = next(layer.mode for layer in model.modules() if isinstance(layer, torch.nn.Upsample))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      maps = self.model.forward_features(images)  # four of (B, C, h, w), finest first
      cls = torch.cat([cells.mean((2, 3)) for cells in maps], dim=1)
      size = maps[0].shape[2:]
      finest = [torch.nn.functional.interpolate(cells, size, mode=self.upsampling) for cells in maps]
      return cls, torch.cat(finest, dim=1).flatten(2).transpose(1, 2)

  class TinyViT(Encoder):
    def __init__(self, model, extra):
      super().__init__(model, extra)
      neck = {name.removeprefix("neck."): tensor for name, tensor in extra.items() if name.startswith("neck.")}
      width, channels = neck["0.weight"].shape[:2]
      self.neck = torch.nn.Sequential(
        torch.nn.Conv2d(channels, width, 1, bias=False),
        LayerNorm2d(width, eps=NORM_EPSILON),
        torch.nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width, eps=NORM_EPSILON),
      )
      self.neck.load_state_dict(neck, strict=True)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
      tokens = self.neck(self.model.forward_features(images)).flatten(2).transpose(1, 2)  # (B, N, D)
      return tokens.mean(1), tokens

  return {"vit": ViT, "swin": Swin, "convnext": ConvNeXt, "hrnet": HRNet, "tinyvit": TinyViT}
