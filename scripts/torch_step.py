"""SAIP's step in eager PyTorch: the baseline of scripts/bench_against_torch.py, for timing only.

It has the layers, widths and token counts of the released recipe (ViT-Ti, 256x128, 65,536 prototypes). It also computes
what the released code computes without using: value-value attention in every block, attention weights written out, the
search decoder's map twice, the teacher to its last block. Written from the method's description. The images are random,
so that no views are timed, and the loss values have no meaning.
"""

import contextlib
import copy

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, DEPTH, HEADS, TAP, DECODER = 192, 12, 3, 7, 512


class Block(nn.Module):
  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
    self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
    self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

  def forward(self, x, values_too: bool):
    batch, length, width = x.shape
    q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
    scale = q.shape[-1] ** -0.5
    maps = [(q @ k.transpose(-1, -2) * scale).softmax(-1)]
    if values_too:
      maps.append((v @ v.transpose(-1, -2) * scale).softmax(-1))
    x = x + self.proj((maps[0] @ v).transpose(1, 2).reshape(x.shape))
    return x + self.mlp(self.norm2(x)), maps


class Encoder(nn.Module):
  def __init__(self):
    super().__init__()
    self.patches = nn.Conv2d(3, WIDTH, 16, 16)
    self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.rand(1, 129, WIDTH))
    self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(DEPTH))
    self.inter_norm, self.norm = nn.LayerNorm(WIDTH, 1e-6), nn.LayerNorm(WIDTH, 1e-6)

  def forward(self, images, keep=None, tapped_only=False):
    x = self.patches(images).flatten(2).transpose(1, 2)
    pos = F.interpolate(self.pos[:, 1:, None].permute(0, 3, 1, 2), (x.shape[1], 1), mode="bicubic")[..., 0]
    x = x + pos.transpose(1, 2)
    if keep is not None:
      x = x.gather(1, keep[..., None].expand(-1, -1, WIDTH))
    x = torch.cat([(self.cls + self.pos[:, :1]).expand(len(x), -1, -1), x], 1)
    for i, block in enumerate(self.blocks):
      x, maps = block(x, values_too=True)
      if i == TAP - 1:
        tapped = self.inter_norm(x)
        if tapped_only:
          return None, tapped, None
    return self.norm(x)[:, 0], tapped, maps


class Heads(nn.Module):
  def __init__(self):
    super().__init__()
    layers = [nn.Linear(WIDTH, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 256)]
    self.csm = nn.Sequential(*layers)
    self.prototypes = nn.utils.parametrizations.weight_norm(nn.Linear(256, 65536, bias=False))
    self.csr_embed, self.csr_pred = nn.Linear(WIDTH, DECODER), nn.Linear(DECODER, 768)
    self.csr_norm = nn.LayerNorm(DECODER)
    self.mask_token, self.csr_pos = nn.Parameter(torch.rand(1, 1, DECODER)), nn.Parameter(torch.rand(1, 202, DECODER))
    self.csr_blocks = nn.ModuleList(Block(DECODER, 16) for _ in range(8))
    self.query_embed, self.map_embed = nn.Linear(WIDTH, DECODER), nn.Linear(WIDTH, DECODER)
    self.query_blocks, self.map_norm = nn.ModuleList(Block(DECODER, 16) for _ in range(2)), nn.LayerNorm(DECODER)
    self.cross, self.cross_norm1 = nn.MultiheadAttention(DECODER, 16, batch_first=True), nn.LayerNorm(DECODER)
    self.cross_norm2, self.kernel_norm = nn.LayerNorm(DECODER), nn.LayerNorm(DECODER)
    self.cross_mlp = nn.Sequential(nn.Linear(DECODER, 2048), nn.GELU(), nn.Linear(2048, DECODER))
    self.kernel = nn.Linear(DECODER, DECODER)
    convolutions = [layer for _ in range(3) for layer in (nn.Conv2d(DECODER, DECODER, 3, padding=1), nn.GELU())]
    self.map = nn.Sequential(nn.Conv2d(WIDTH, DECODER, 1), nn.GELU(), *convolutions)

  def match(self, cls):
    return self.prototypes(F.normalize(self.csm(cls), dim=-1))

  def reconstruct(self, masked, anchor, restore):
    hidden = self.mask_token.expand(len(masked), restore.shape[1] + 1 - masked.shape[1], -1)
    tokens, anchor = self.csr_embed(masked), self.csr_embed(anchor)  # all anchor tokens, one of which is used
    patches = torch.cat([tokens[:, 1:], hidden.to(tokens.dtype)], 1)
    patches = patches.gather(1, restore[..., None].expand(-1, -1, DECODER))
    x = torch.cat([tokens[:, :1], anchor[:, :1], patches], 1) + self.csr_pos
    for block in self.csr_blocks:
      x, _ = block(x, values_too=False)
    return self.csr_pred(self.csr_norm(x))[:, 2:]

  def search(self, query, scene):
    x, keys = self.query_embed(query), self.map_norm(self.map_embed(scene))
    for block in self.query_blocks:
      x, _ = block(x, values_too=False)
    x = x[:, :1]
    x = x + self.cross(self.cross_norm1(x), keys, keys)[0]
    x = x + self.cross_mlp(self.cross_norm2(x))
    features = self.map(scene.transpose(1, 2).reshape(len(scene), WIDTH, 14, 14)).flatten(2)
    return self.kernel(self.kernel_norm(x)) @ features


class TorchStep:
  """One training step on random images: `step()` runs it and waits for its end.

  Args:
    batch: images per step.
    device: cpu or cuda.
    half: float16 autocast with a gradient scaler, as released; otherwise float32.
    compiled: losses and their gradients by `torch.compile`; otherwise eager, as released.
  """

  def __init__(self, batch: int, device: str, half: bool, compiled: bool = False):
    torch.manual_seed(0)
    self.student = nn.ModuleDict({"encoder": Encoder(), "heads": Heads()}).to(device)
    self.teacher = copy.deepcopy(self.student).requires_grad_(False)
    self.optimizer = torch.optim.AdamW(self.student.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
    self.scaler, self.center = torch.amp.GradScaler(device, enabled=half), torch.zeros(1, 65536, device=device)
    self.cast = lambda: torch.autocast(device, torch.float16) if half else contextlib.nullcontext()
    self.device, self.batch = device, batch
    sizes = {
      "globals": (2, 256, 128),
      "locals": (6, 128, 64),
      "small": (1, 112, 56),
      "large": (1, 160, 80),
      "enlarged": (1, 320, 160),
      "scene": (1, 224, 224),
    }
    self.images = {name: torch.randn(views * batch, 3, *hw, device=device) for name, (views, *hw) in sizes.items()}
    order = torch.rand(batch, 200, device=device).argsort(1)
    self.keep, self.restore = order[:, :50], order.argsort(1)
    self.masks = (torch.rand(2, batch, 1, 196, device=device) > 0.84).float()
    self._total = torch.compile(self._loss) if compiled else self._loss

  def __call__(self) -> None:
    with self.cast():
      loss = self._total()
    self.optimizer.zero_grad()
    self.scaler.scale(loss).backward()
    self.scaler.step(self.optimizer)
    self.scaler.update()
    with torch.no_grad():
      for target, source in zip(self.teacher.parameters(), self.student.parameters()):
        target.mul_(0.996).add_(source, alpha=0.004)
    if self.device == "cuda":
      torch.cuda.synchronize()

  def _loss(self):
    encoder, heads, images, batch = self.student["encoder"], self.student["heads"], self.images, self.batch
    cls, tapped, maps = encoder(images["globals"])
    small, _, _ = encoder(images["small"])
    large, large_tapped, _ = encoder(images["large"])
    logits = heads.match(torch.cat([cls, encoder(images["locals"])[0], large, small])).float() / 0.1
    _, masked, _ = encoder(images["enlarged"], self.keep, tapped_only=True)
    predicted = heads.reconstruct(masked, tapped[:batch], self.restore).float()
    with torch.no_grad():
      teacher_cls, _, teacher_maps = self.teacher["encoder"](images["globals"])
      teacher_logits = self.teacher["heads"].match(teacher_cls).float()
      scene = self.teacher["encoder"](images["scene"])[1][:, 1:]
      targets = ((teacher_logits - self.center) / 0.04).softmax(-1).chunk(2)
      self.center = 0.9 * self.center + 0.1 * teacher_logits.mean(0, keepdim=True)
    student = logits.chunk(10)
    matching = (
      sum(
        -(target * F.log_softmax(view, -1)).sum(-1).mean()
        for i, target in enumerate(targets)
        for v, view in enumerate(student)
        if v != i
      )
      / 18
    )
    attention = sum(
      (t * ((t + 1e-10).log() - (s.float() + 1e-10).log())).sum(-1).mean()
      for t, s in ((t.float(), s) for t, s in zip(teacher_maps, maps))
    )
    patches = F.unfold(images["enlarged"], 16, stride=16).transpose(1, 2)
    patches = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    errors = ((predicted - patches) ** 2).mean(-1)[:, 50:].mean()
    found = sum(
      F.binary_cross_entropy_with_logits(heads.search(query, scene).float(), mask)
      for query, mask in zip((tapped[:batch], large_tapped), self.masks)
    )
    return matching + attention + errors + found
