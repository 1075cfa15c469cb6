"""Every dialect in both directions: bitwise exact, and strict about tensors that do not fit."""

import ml_dtypes
import numpy as np
import pytest

from saip_jax.backbones import BACKBONES
from saip_jax.interop import saip
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.dialects import DIALECTS, recognize_dialect
from saip_jax.interop.nesting import locate
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.interop.tables import flatten, from_torch, to_torch
from tests.support.toy_weights import add_toy_backbone, official_states, published, random_backbone, random_weights

OF_VITS = [name for name, dialect in DIALECTS.items() if dialect.kind in (None, "vit")]  # the others have own tests
READABLE = [name for name in OF_VITS if DIALECTS[name].reads]


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


def assert_same_bits(ours: dict, theirs: dict):
  assert ours.keys() == theirs.keys()
  for name, value in theirs.items():
    assert ours[name].dtype == value.dtype and ours[name].shape == value.shape, name
    assert np.array_equal(ours[name].view(np.uint32), value.view(np.uint32)), name


def _student(name, content):
  """Returns the state dict of the encoder, or of the student, in a file's content."""
  return DIALECTS[name].state_of(locate(content).student)


def test_every_backbone_has_a_table():
  assert set(ARCHITECTURES) == set(BACKBONES), (
    "a backbone without a row per parameter cannot go to PyTorch or come back"
  )


def test_a_backbone_without_a_table_is_noticed(monkeypatch):
  monkeypatch.setitem(BACKBONES, "vit_new", BACKBONES["vit_tiny"])
  with pytest.raises(AssertionError, match="vit_new"):
    test_every_backbone_has_a_table()


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_torch_to_flax_to_torch_is_exact(name):
  spec = BackboneSpec(name, (224, 112), "flat1d")
  shallow = {"depth": 2, "tapped_block": 0} if ARCHITECTURES[name].kind == "vit" else {}
  backbone = spec.build(**shallow)
  table = [*ARCHITECTURES[name].names.timm, *ARCHITECTURES[name].names.extra]
  state = to_torch(random_backbone(backbone), table, spec.patch)
  tree = from_torch(state, table, shapes=parameter_shapes(backbone), patch=spec.patch)
  assert flatten(tree).keys() == parameter_shapes(backbone).keys()  # nothing of the module is left out
  assert_same_bits(to_torch(tree, table, spec.patch), state)


@pytest.mark.parametrize("name", OF_VITS)
def test_every_dialect_keeps_every_bit(name):
  weights, dialect = random_weights(), DIALECTS[name]
  state = dialect.to_state(weights, "student")
  student = _student(name, state)
  back = dialect.from_state(student, "vit_toy", weights.spec.build())
  wanted = flatten(weights.backbone())
  if name != "saip":  # the others have no place for the tapped layer's norm
    wanted = {path: a for path, a in wanted.items() if not path.startswith("inter_norm/")}
  assert_same_bits(flatten(back["backbone"]), wanted)


@pytest.mark.torch
def test_timms_own_model_survives_the_round_trip():
  timm = pytest.importorskip("timm")
  model = timm.create_model("vit_tiny_patch16_224", img_size=(256, 128), num_classes=0)
  state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
  spec, dialect = BackboneSpec("vit_tiny", (256, 128), "grid2d"), DIALECTS["timm"]
  tree = dialect.from_state(state, "vit_tiny", spec.build())
  back = dialect.to_state(Weights(spec, tree, None, "timm"))
  assert len(back) == 150 and sum(a.size for a in back.values()) == 5_511_360
  assert_same_bits(back, state)


def test_the_published_file_has_the_published_parameters():
  """Read by the rules of its loaders, not by ours: strip `module.`, select names that start with `backbone.`."""
  weights = random_weights("vit_tiny", (256, 128))
  content = DIALECTS["saip"].to_state(weights)
  for who in ("student", "teacher"):
    names = {name.replace("module.", ""): a for name, a in content[who].items()}
    backbone = {name.replace("backbone.", ""): a for name, a in names.items() if name.startswith("backbone.")}
    assert sum(a.size for a in backbone.values()) == 5_511_744
    assert {"inter_norm.weight", "inter_norm.bias", "blocks.11.mlp.fc2.bias"} <= backbone.keys()
    assert len(backbone) == 152
    if who == "teacher":
      np.testing.assert_array_equal(backbone["inter_norm.weight"], weights.teacher["backbone"]["inter_norm"]["scale"])


def test_the_published_modules_are_written_whole():
  """Every tensor that the published classes own: a strict load there must find all of them."""
  student, teacher = official_states()
  spec = BackboneSpec("vit_toy", (128, 64), "flat1d")
  weights = Weights(spec, saip.read(student), saip.read(teacher), "fixture")
  content = DIALECTS["saip"].to_state(weights)
  for state in (student, teacher):  # the fixture gives an unused norm random values; training leaves it as it starts
    state["csm_decoder.decoder_norm.weight"][:], state["csm_decoder.decoder_norm.bias"][:] = 1, 0
  assert_same_bits(content["student"], published(student, None)["student"])
  assert_same_bits(content["teacher"], teacher)


@pytest.mark.parametrize(
  "name, key",
  [
    ("timm", "blocks.7.attn.qkv.weight"),
    ("mae", "model/blocks.7.attn.qkv.weight"),
    ("dino", "teacher/backbone.blocks.7.attn.qkv.weight"),
    ("vitpose", "state_dict/last_norm.weight"),
    ("vitpose", "state_dict/blocks.0.norm1.weight"),
    ("mmpose", "state_dict/backbone.layers.7.attn.qkv.weight"),
    ("mmpose", "state_dict/backbone.layers.7.ln2.weight"),
    ("mmpose", "state_dict/backbone.layers.7.ffn.layers.0.0.weight"),
    ("mmpose", "state_dict/backbone.layers.7.ffn.layers.1.bias"),
    ("mmpose", "state_dict/backbone.ln1.weight"),
    ("mmpose", "state_dict/backbone.patch_embed.projection.weight"),
  ],
)
def test_names(name, key):
  flat = flatten(DIALECTS[name].to_state(random_weights()))
  assert key in flat and not any("mask_token" in k or "inter_norm" in k for k in flat)


def test_which_chooses_the_network():
  weights = random_weights()
  for name in set(OF_VITS) - {"saip"}:
    student, teacher = (_student(name, DIALECTS[name].to_state(weights, w)) for w in ("student", "teacher"))
    np.testing.assert_array_equal(student["cls_token"], weights.student["backbone"]["cls_token"])
    np.testing.assert_array_equal(teacher["cls_token"], weights.teacher["backbone"]["cls_token"])
  with pytest.raises(ValueError, match="random has no teacher"):
    DIALECTS["timm"].to_state(random_weights(teacher=False), "teacher")


@pytest.mark.parametrize("name", READABLE)
def test_a_file_is_recognized_by_its_names(name):
  content = DIALECTS[name].to_state(random_weights())
  assert recognize_dialect(content) == {"safetensors": "timm"}.get(name, name)


@pytest.mark.parametrize("content", [{}, {"weight": np.zeros(3)}, {"state_dict": {"conv1.weight": np.zeros(3)}}])
def test_what_is_no_vit_is_not_recognized(content):
  assert recognize_dialect(content) is None


def read(name, content):
  return DIALECTS[name].from_state(_student(name, content), "vit_toy", random_weights().spec.build())


def test_everything_that_does_not_fit_is_listed_at_once():
  state = DIALECTS["timm"].to_state(random_weights())
  del state["norm.weight"], state["blocks.3.norm1.bias"], state["blocks.7.attn.proj.weight"]
  state["blocks.8.norm1.bias"] = state["register_tokens"] = np.zeros(3, np.float32)
  state["blocks.0.attn.qkv.weight"] = np.zeros((72, 23), np.float32)
  state["blocks.1.mlp.fc1.bias"] = np.zeros(96, np.int64)
  state["cls_token"] = state["cls_token"].astype(np.int32)
  with pytest.raises(ValueError) as error:
    read("timm", state)
  missing, unexpected = str(error.value).split("unexpected")
  unexpected, misshaped = unexpected.split("of another shape")
  misshaped, mistyped = misshaped.split("of another type")
  for part, words in (
    (missing, ["norm.weight", "blocks.3.norm1.bias", "blocks.7.attn.proj.weight"]),
    (unexpected, ["blocks.8.norm1.bias", "register_tokens"]),
    (misshaped, ["blocks.0.attn.qkv.weight (72, 23), expected (72, 24)"]),
    (mistyped, ["blocks.1.mlp.fc1.bias int64", "cls_token int32"]),
  ):
    assert all(word in part for word in words), part


def test_mis_shaped_heads_are_listed():
  student, _ = official_states()
  student["csm_decoder.mlp.2.bias"] = np.zeros(31, np.float32)
  student["csr_decoder.decoder_blocks.1.norm1.weight"] = np.zeros(31, np.float32)
  student["csr_decoder.decoder_pos_embed"] = np.zeros((1, 30, 32), np.float32)
  student["css_decoder.mask_head.2.weight"] = np.zeros((32, 32, 1, 1), np.float32)
  with pytest.raises(ValueError) as error:
    read("saip", published(student, None))
  for words in (
    "csm_decoder.mlp.2.bias (31,), expected (32,)",
    "decoder_blocks.1.norm1.weight (31,), expected (32,)",
    "decoder_pos_embed (1, 30, 32), expected (1, 33, 32)",
    "mask_head.2.weight (32, 32, 1, 1)",
  ):
    assert words in str(error.value)


def test_a_published_file_may_lack_whole_heads_and_no_part_of_one():
  student, _ = official_states()
  without = {name: a for name, a in student.items() if not name.startswith("css_decoder.")}
  assert read("saip", published(without, None)).keys() == {"backbone", "csm", "csr"}
  del without["csr_decoder.decoder_embed.weight"]
  with pytest.raises(ValueError, match=r"missing \['csr_decoder.decoder_embed.weight'\]"):
    read("saip", published(without, None))


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(half):
  weights = random_weights()
  exact, state = flatten(weights.backbone()), DIALECTS["timm"].to_state(weights)
  for path, value in flatten(read("timm", {name: a.astype(half) for name, a in state.items()})["backbone"]).items():
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, exact[path].astype(half).astype(np.float32))


@pytest.mark.parametrize(
  "name, others",
  [
    ("mae", ["decoder_embed.weight", "decoder_blocks.0.norm1.weight", "mask_token"]),
    ("dino", ["head.mlp.0.weight", "dino_head.last_layer.weight_g"]),
    ("timm", ["head.weight", "head.bias"]),
  ],
)
def test_heads_of_others_are_left_out_by_name(name, others):
  content = DIALECTS[name].to_state(random_weights())
  section = content.get("model", content.get("student", content))
  section |= {other: np.zeros(3, np.float32) for other in others}
  assert read(name, content).keys() == {"backbone"}
  section[f"{'module.backbone.' * (name == 'dino')}decoder.weight"] = np.zeros(3, np.float32)
  with pytest.raises(ValueError, match=r"unexpected \['decoder.weight'\]"):
    read(name, content)


@pytest.mark.parametrize(
  "head,named",
  [
    ({"mae": {"embed": np.zeros(2, np.float32)}}, "no place for mae"),
    ({"csr": {"memory_embed": {"kernel": np.zeros(2, np.float32)}}}, "csr with cross-attention"),
  ],
)
def test_heads_that_the_published_model_lacks_are_refused(head, named):
  weights = random_weights(teacher=False)
  weights.student.update(head)
  with pytest.raises(ValueError, match=f"{named}.*choose another --dialect"):
    DIALECTS["saip"].to_state(weights)
