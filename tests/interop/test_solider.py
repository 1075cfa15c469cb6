"""SOLIDER's files: timm's blocks with the controller's scale and shift in PyTorch give our features."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from saip_jax import cli
from saip_jax.backbones import BACKBONES
from saip_jax.backbones.swin import Swin
from saip_jax.initial import open_initial, start_from
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.dialects import DIALECTS, recognize_dialect
from saip_jax.interop.importing import import_weights
from saip_jax.interop.spec import IMAGENET
from saip_jax.interop.swin import swin_names
from saip_jax.interop.tables import flatten
from saip_jax.interop.weights import load_backbone, loaded_backbone, open_weights
from saip_jax.training.mesh import make_mesh, replicated
from saip_jax.training.state import TrainState
from tests.support.pyramid_laws import images, timms_model
from tests.support.tiny_saip import tiny as tiny_saip
from tests.support.toy_weights import save_pth
from tests.support.trained_weights import backbone_weights

TOY = dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1), heads=(1, 2, 2, 4))
RENAMED = (  # from timm's names to those of mmsegmentation, in this order
  (r"^patch_embed\.proj\.", "patch_embed.projection."),
  (r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample"),
  (r"^layers\.", "stages."),
  (r"attn\.(relative_position_bias_table|qkv|proj)", r"attn.w_msa.\1"),
  (r"mlp\.fc1", "ffn.layers.0.0"),
  (r"mlp\.fc2", "ffn.layers.1"),
  (r"^norm\.", "norm3."),
)


def timms(size: str):
  name = f"swin_{size}"
  options = dict(always_partition=True, strict_img_size=False)
  return timms_model(f"{name}_patch4_window7_224", BACKBONES[name](), ARCHITECTURES[name].names, **options)


def merging_order(torch, merging, channels: int) -> np.ndarray:
  """Returns, for each input of mmsegmentation's merging layer, its place in timm's: both see the same 2x2 cells."""
  cells = torch.arange(4.0 * channels).reshape(1, channels, 2, 2)
  theirs = torch.nn.functional.unfold(cells, kernel_size=2, stride=2).flatten()
  norm, reduction = merging.norm, merging.reduction
  merging.norm = merging.reduction = torch.nn.Identity()
  timm = merging(cells.permute(0, 2, 3, 1)).flatten()
  merging.norm, merging.reduction = norm, reduction
  return np.array([int((timm == value).nonzero()[0, 0]) for value in theirs])


def renamed(timm) -> dict[str, np.ndarray]:
  """Returns the weights of timm's model as SOLIDER's files name and order them."""
  state = {}
  for name, array in timm.state.items():
    if stage := re.match(r"layers\.(\d)\.downsample\.", name):
      merging = timm.model.layers[int(stage[1])].downsample
      order = merging_order(timm.torch, merging, merging.norm.weight.shape[0] // 4)
      array = np.ascontiguousarray(array[..., order])
    for pattern, replacement in RENAMED:
      name = re.sub(pattern, replacement, name)
    state[name] = array
  return state


def controller(dims, seed: int) -> dict[str, np.ndarray]:
  """Returns a controller with norms of the earlier maps, which SOLIDER's files hold too."""
  rng, state = np.random.default_rng(seed), {}
  draw = lambda *shape: 0.5 * rng.standard_normal(shape, np.float32)
  for i, width in enumerate((*dims[1:], dims[-1])):
    for part in "wb":
      state |= {f"semantic_embed_{part}.{i}.weight": draw(width, 2), f"semantic_embed_{part}.{i}.bias": draw(width)}
  for i, width in enumerate(dims[:3]):
    state |= {f"norm{i}.weight": 1 + draw(width), f"norm{i}.bias": draw(width)}
  return state


def solider_file(path, student: dict, teacher: dict):
  """Writes a file of SOLIDER's pre-training, with its heads and the state of its training."""
  head = {"head.mlp.0.weight": np.zeros((4, 3), np.float32)}
  content = {
    "student": {f"module.backbone.{name}": a for name, a in student.items()}
    | {f"module.{n}": a for n, a in head.items()},
    "teacher": {f"backbone.{name}": a for name, a in teacher.items()} | head,
  }
  return save_pth(path, content, epoch=9)


def features(backbone, params, x) -> np.ndarray:
  with jax.default_matmul_precision("highest"):
    out = jax.jit(lambda p, x: backbone.apply({"params": p}, x, ("cls", "tokens")))(params, x)
  return np.asarray(out.cls), np.asarray(out.tokens)


def torch_features(timm, control: dict, weight: float, x: np.ndarray):
  """Runs timm's layers one by one, with SOLIDER's scale and shift after each merging."""
  torch = timm.torch
  control, semantic = {n: torch.tensor(a) for n, a in control.items()}, torch.tensor([weight, 1 - weight])
  linear = lambda part, i: torch.nn.functional.linear(
    semantic, control[f"semantic_embed_{part}.{i}.weight"], control[f"semantic_embed_{part}.{i}.bias"]
  )
  with torch.inference_mode():
    cells = timm.model.patch_embed(torch.tensor(x.transpose(0, 3, 1, 2)))
    for i, stage in enumerate(timm.model.layers):
      if i:
        scale, shift = torch.nn.functional.softplus(linear("w", i - 1)), linear("b", i - 1)
        assert scale.std() > 0.1 and shift.std() > 0.1
        cells = stage.downsample(cells) * scale + shift
      cells = stage.blocks(cells)
    cells = timm.model.norm(cells)
  return cells.mean((1, 2)).numpy(), cells.flatten(1, 2).numpy()


# Against PyTorch.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """timm's Swin-T, its controller, and a SOLIDER file with it as the teacher."""
  timm = timms("tiny")
  control, plain = controller((96, 192, 384, 768), 1), renamed(timm)
  path = solider_file(
    tmp_path_factory.mktemp("tiny") / "s.pth", plain | controller((96, 192, 384, 768), 2), plain | control
  )
  return timm, control, path


@pytest.mark.torch
@pytest.mark.parametrize("image_hw,weight", [((224, 224), 0.2), ((256, 128), 0.0)])
def test_the_features_are_those_of_timms_blocks(tiny, image_hw, weight):
  timm, control, path = tiny
  weights = open_weights(path, image_hw=image_hw, semantic_weight=weight)
  assert weights.spec.name == "swin_tiny_solider" and weights.spec.image_hw == image_hw
  x = images(0, 2, *image_hw)
  cls, cells = torch_features(timm, control, weight, x)
  ours = features(weights.spec.build(), weights.backbone("teacher"), x)
  np.testing.assert_allclose(ours[0], cls, rtol=0, atol=1e-4)
  np.testing.assert_allclose(ours[1], cells, rtol=0, atol=1e-4)
  assert np.std(cls) > 0.1 and np.abs(torch_features(timm, control, 1.0, x)[0] - cls).max() > 0.1  # the weight matters
  student = features(weights.spec.build(), weights.backbone("student"), x)
  assert np.abs(student[0] - cls).max() > 0.1  # its own controller


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("size,dims", [("small", (96, 192, 384, 768)), ("base", (128, 256, 512, 1024))])
@pytest.mark.parametrize("image_hw", [(224, 224), (256, 128)])
def test_the_larger_ones_too(tmp_path, size, dims, image_hw):
  timm, control = timms(size), controller(dims, 3)
  state = renamed(timm) | control
  weights = open_weights(save_pth(tmp_path / "s.pth", {"teacher": state}), image_hw=image_hw, semantic_weight=0.7)
  assert weights.spec.name == f"swin_{size}_solider"
  x = images(0, 2, *image_hw)
  cls, cells = torch_features(timm, control, 0.7, x)
  ours = features(weights.spec.build(), weights.backbone(), x)
  np.testing.assert_allclose(ours[0], cls, rtol=0, atol=1e-4)
  np.testing.assert_allclose(ours[1], cells, rtol=0, atol=1e-4)
  params = sum(t.numel() for t in timm.model.parameters())
  assert sum(a.size for n, a in control.items() if n.startswith("semantic")) == {"small": 12_672, "base": 16_896}[size]
  assert params == {"small": 48_837_258, "base": 86_743_224}[size]


@pytest.mark.torch
def test_without_a_controller_it_is_timms_swin_bit_for_bit(tiny, tmp_path):
  """As mmsegmentation's own Swins; the file returns as it was."""
  state = renamed(tiny[0])
  weights = open_weights(save_pth(tmp_path / "a.pth", {"state_dict": {f"backbone.{n}": a for n, a in state.items()}}))
  assert weights.spec.name == "swin_tiny" and weights.origin.endswith("a.pth (solider)")
  ours, theirs = flatten(weights.backbone()), flatten(tiny[0].tree)
  assert ours.keys() == theirs.keys()
  for path, a in theirs.items():
    assert path.startswith("inter_norm") or np.array_equal(ours[path], a)
  back = DIALECTS["solider"].to_state(weights)["teacher"]
  assert back.keys() == {f"backbone.{name}" for name in state}
  assert all(np.array_equal(back[f"backbone.{name}"], a) for name, a in state.items())


# The command and its errors, on a small Swin.


@pytest.fixture
def toy(monkeypatch, tmp_path):
  """Adds a small Swin, and returns the tensors of a SOLIDER file of it."""
  for name, bias in (("swin_toy", False), ("swin_toy_solider", True)):
    build = functools.partial(Swin, **TOY, merging_bias=bias)
    like = ARCHITECTURES[name.replace("toy", "tiny")]
    monkeypatch.setitem(BACKBONES, name, build)
    monkeypatch.setitem(ARCHITECTURES, name, dataclasses.replace(like, names=swin_names(build())))
  plain = DIALECTS["solider"].to_state(backbone_weights("swin_toy"))["teacher"]
  return {name.removeprefix("backbone."): a for name, a in plain.items()} | controller(TOY["dims"], 4)


def test_an_import_states_its_weight_and_is_opened_without_asking(toy, tmp_path, capsys):
  path = solider_file(tmp_path / "solider.pth", toy, {n: 0.9 * a for n, a in toy.items()})
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}", "--semantic-weight=0.2"]) == 0
  printed = capsys.readouterr().out
  assert "swin_toy_solider for 256x128" in printed and "(solider, semantic weight 0.2)" in printed
  assert "not used: " in printed and "norm0" in printed and "semantic_embed_w.3" in printed and "head.mlp.0" in printed
  model = json.loads((tmp_path / "W" / "model.json").read_text())
  assert model["facts"]["name"] == "swin_toy_solider" and model["facts"]["merging_bias"] is True
  assert model["origin"].endswith("solider.pth (solider, semantic weight 0.2)")
  assert any("--semantic-weight=0.2" in note for note in model["notes"])
  assert model["new"] == [
    f"{who}/backbone/inter_norm/{leaf}" for who in ("student", "teacher") for leaf in ("scale", "bias")
  ]

  again, direct = open_weights(tmp_path / "W"), open_weights(path, "solider", semantic_weight=0.2)
  assert again.origin == direct.origin and again.spec == direct.spec
  for who in ("student", "teacher"):
    ours, theirs = flatten(again.backbone(who)), flatten(direct.backbone(who))
    assert all(np.array_equal(ours[name], a) for name, a in theirs.items()) and ours.keys() == theirs.keys()
  x = images(1, 2, 64, 32)
  loaded = load_backbone(tmp_path / "W", "teacher", (64, 32))
  other = loaded_backbone(open_weights(path, semantic_weight=0.3), "teacher", (64, 32))
  assert np.abs(features(loaded.module, loaded.params, x)[0] - features(other.module, other.params, x)[0]).max() > 1e-3

  with pytest.raises(ValueError, match="--semantic-weight=0.3 is for a SOLIDER file"):
    open_weights(tmp_path / "W", semantic_weight=0.3)


def without(name: str):
  return lambda state: state.pop(name)


def shaped(name: str, *shape: int):
  return lambda state: state.update({name: np.ones(shape, np.float32)})


SETTINGS = ("method.csm.attention_weight=0.0", "method.csr.weight=0.0")
WEIGHT = ["--semantic-weight=0.2"]


@pytest.mark.parametrize(
  "change,flags,words",
  [
    (None, [], ["semantic_embed_w", "from 0 to 1", "--semantic-weight=0 is the default", "--semantic-weight=0.2"]),
    (None, ["--semantic-weight=1.5"], ["--semantic-weight=1.5", "from 0 to 1"]),
    (None, ["--semantic-weight=-0.1"], ["--semantic-weight=-0.1", "from 0 to 1"]),
    (None, ["--semantic-weight=nan"], ["--semantic-weight=nan", "from 0 to 1"]),
    (without("semantic_embed_b.1.bias"), WEIGHT, ["semantic_embed_b.1.bias is missing"]),
    (shaped("semantic_embed_w.2.weight", 48, 2), WEIGHT, ["semantic_embed_w.2.weight (48, 2)", "(64, 128)"]),
    (shaped("semantic_embed_w.0.weight", 16, 3), WEIGHT, ["semantic_embed_w.0.weight (16, 3)"]),
    (without("stages.1.downsample.reduction.weight"), WEIGHT, ["stages.1.downsample.reduction.weight is missing"]),
    (shaped("stages.1.downsample.reduction.weight", 32, 60), WEIGHT, ["reduction.weight (32, 60), expected (32, 64)"]),
    (without("stages.2.blocks.1.attn.w_msa.qkv.bias"), WEIGHT, ["missing ['stages.2.blocks.1.attn.w_msa.qkv.bias']"]),
    (without("norm3.bias"), WEIGHT, ["missing ['norm3.bias']"]),
    (without("patch_embed.projection.weight"), WEIGHT, ["missing ['patch_embed.projection.weight']"]),
    (
      shaped("stages.3.blocks.0.ffn.layers.0.0.weight", 250, 64),
      WEIGHT,
      ["stages.3.blocks.0.ffn.layers.0.0.weight (250, 64), expected (256, 64)"],
    ),
    (shaped("patch_embed.projection.weight", 9, 3, 4, 4), WEIGHT, ["begins 9 wide", "swin_toy"]),
    (shaped("stages.0.blocks.1.norm1.weight", 8), WEIGHT, ["unexpected ['stages.0.blocks.1.norm1.weight']"]),
    (lambda state: [state.pop(n) for n in list(state) if "semantic" in n], WEIGHT, ["no semantic_embed_w", "leave it"]),
    (None, [*WEIGHT, "--dialect=mae"], ["--dialect=mae names tensors of a vit, and these are of a swin"]),
  ],
)
def test_what_does_not_fit_is_one_line(toy, tmp_path, capsys, change, flags, words):
  if change:
    change(toy)
  path = save_pth(tmp_path / "a.pth", {"teacher": {f"backbone.{name}": a for name, a in toy.items()}})
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}", *flags]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and all(word in error for word in words), error
  assert not (tmp_path / "W").exists()


def test_a_raw_file_is_asked_about_wherever_it_is_opened(toy, tmp_path, capsys):
  path = save_pth(tmp_path / "a.pth", {"teacher": toy})
  assert recognize_dialect({"teacher": toy}) == "solider"
  (tmp_path / "images").mkdir()
  Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / "a.png")
  commands = (
    ["embed", f"--checkpoint={path}", f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'a.npz'}"],
    ["evaluate", f"--checkpoint={path}", "--task=reid", "--data=people"],
  )
  for command in commands:
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "--semantic-weight=0.2" in error and "saip import" in error and error.count("\n") == 1, error
  with pytest.raises(ValueError, match="config.method.expert=.*--semantic-weight=0.2"):
    tiny_saip(*SETTINGS, "method.teacher=expert", f"method.expert={path}", "model.backbone=swin_toy")
  with pytest.raises(ValueError, match="config.init_from=.*--semantic-weight=0.2"):
    open_initial(tiny_saip(*SETTINGS, f"init_from={path}", "model.backbone=swin_toy_solider", **TOY)[0], None)


def test_a_run_starts_from_an_import_and_has_it_as_its_expert(toy, tmp_path):
  path, folder = solider_file(tmp_path / "s.pth", toy, toy), str(tmp_path / "W")
  weights = import_weights(path, None, folder, (128, 64), semantic_weight=0.2, mean=IMAGENET[0], std=IMAGENET[1])
  settings = SETTINGS + (f"init_from={folder}", "model.backbone=swin_toy_solider")
  config, method = tiny_saip(*settings, **TOY)
  params, method_state = jax.jit(method.init)(jax.random.key(0))
  fresh = TrainState(jnp.int32(0), params, method_state, {})
  state, line = start_from(config, method, fresh, replicated(make_mesh(jax.devices()[:1])))
  assert "semantic weight 0.2" in line
  started, wanted = flatten(jax.device_get(state.params["backbone"])), flatten(weights.backbone())
  assert started.keys() == wanted.keys() and all(np.array_equal(started[name], a) for name, a in wanted.items())
  assert np.any(started["layers_1/downsample/reduction/bias"])

  _, taught = tiny_saip(*settings, "method.teacher=expert", f"method.expert={folder}", "method.css.weight=0.0", **TOY)
  expert = flatten(taught.expert.variables["params"])
  assert taught.expert.module.merging_bias
  assert all(np.array_equal(expert[name], a) for name, a in flatten(weights.backbone()).items())
  other, _ = tiny_saip(*SETTINGS, f"init_from={folder}", "model.backbone=swin_toy", **TOY)
  with pytest.raises(ValueError, match="weights of swin_toy_solider, config.model.backbone is swin_toy"):
    open_initial(other, None)


def test_other_dialects_are_refused_by_name(toy, tmp_path):
  vit = DIALECTS["timm"].to_state(backbone_weights("vit_nano"))
  with pytest.raises(ValueError, match="--dialect=solider names tensors of a swin, and these are of a vit"):
    open_weights(save_pth(tmp_path / "a.pth", vit), "solider")
  with pytest.raises(ValueError, match="no Swin in the names of --dialect=solider"):
    open_weights(save_pth(tmp_path / "b.pth", {"weight": np.zeros(3, np.float32)}), "solider")
