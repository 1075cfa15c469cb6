"""Every recipe in configs/ builds, and its whole step has the right shapes, without computing anything."""

import pathlib

import jax
import pytest

from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import make_train_step, state_shapes
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD
from tests.support.toy_weights import random_weights, timm_file

REPO = pathlib.Path(__file__).resolve().parents[2]
RECIPES = sorted((REPO / "configs").glob("*.py"))


def load(path, *overrides):
  return parse_config(apply_overrides(load_recipe(path), overrides))


def losses_of(settings) -> set[str]:
  """Returns the losses that a method with these settings logs: those of a positive weight."""
  match settings.name:
    case "saip":
      css = settings.css.weight
      weights = {
        "csm_rep": settings.csm.weight,
        "csm_att": settings.csm.weight and settings.csm.attention_weight,
        "csr": settings.csr.weight,
        "css_inst": css,
        "css_roi": css,
      }
      align = settings.align
      if align.weight:
        relation = align.relation != "none" and align.relation_weight
        weights |= {"align_image": align.image_weight, "align_patch": align.patch_weight, "align_relation": relation}
    case "mae":
      weights = {"mae": 1.0}
    case "dino":
      weights = {"dino": 1.0, "mae": settings.mae.weight}
    case "croco_human":
      weights = {"view": 1.0, "pose": 1.0}
    case "hap":
      weights = {"mae": 1.0, "align": settings.align.weight}
    case "hcmoco":
      weights = vars(settings.weights)
    case "finetune":
      names = {
        "reid": ("identity", "triplet"),
        "text": ("contrast", "identity"),
        "wholebody": ("keypoints",),
        "detection": ("middles", "sides"),
        "parsing": ("parts",),
        "segmentation": ("parts",),
        "multi_parsing": ("parts", "middles", "ways"),
      }
      weights = dict.fromkeys(names.get(settings.task, (settings.task,)), 1.0)
  return {name for name, weight in weights.items() if weight}


@pytest.fixture
def expert(tmp_path):
  """config -> a file of weights that fits its expert: those of a new backbone like the student's."""

  def write(config):
    hw = config.model.image_hw
    return timm_file(tmp_path / "expert.safetensors", random_weights(config.model.backbone, hw, teacher=False))

  return write


# They compile for long; of the two stages of HCMoCo the second, which is not among them, has all losses.
SLOW = {
  name: pytest.mark.slow
  for name in ("hcmoco", "hcmoco_stage2", "saip_convnext_femto", "saip_swin_tiny", "saip_tinyvit_5m")
}


@pytest.mark.parametrize("path", [pytest.param(p, marks=SLOW.get(p.stem, ()), id=p.stem) for p in RECIPES])
def test_step_of_every_recipe(path, expert):
  config = load(path)
  if config.method.name == "saip" and config.method.uses_expert:
    assert config.method.expert is None  # the user has it
    settings = {"expert": expert(config), "expert_mean": IMAGENET_MEAN, "expert_std": IMAGENET_STD}
    config = load(path, *(f"--config.method.{name}={value}" for name, value in settings.items()))
  method = METHODS[config.method.name].build(config)
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  state = state_shapes(method, tx, config.seed)
  after, metrics = jax.eval_shape(step, state, method.batch_spec(config.batch_size))
  assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
  assert all(m.shape == () for m in metrics.values())
  assert {n.removeprefix("loss/") for n in metrics if n.startswith("loss/")} == {"total", *losses_of(config.method)}
  monitors = {"teacher_entropy", "center_norm"} if "center" in after.method_state else set()
  assert {"optim/lr", "optim/grad_norm", *(f"monitor/{name}" for name in monitors)} <= metrics.keys()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_docstring_gives_command_and_hardware(path):
  text = path.read_text()
  assert f"--config={path.stem} " in text and "Hardware:" in text


def test_published_recipe():
  """The numbers of the published run, spelled out here once more on purpose."""
  config = load(REPO / "configs" / "saip_vit_tiny.py")
  method = METHODS["saip"].build(config)
  params = jax.eval_shape(method.init, jax.random.key(0))[0]
  count = {name: sum(a.size for a in jax.tree.leaves(part)) for name, part in params.items()}
  assert count["backbone"] == 5_511_744
  # Published: 21.96 M with an unused norm (384) and 65,536 frozen gains.
  assert count["csm"] + 384 + 65_536 == 21_959_296
  assert round(count["csr"] / 1e6, 2) == 25.78 and round(count["css"] / 1e6, 2) == 17.10
  assert method.networks.grid == (16, 8) and method.networks.csr_grid == (20, 10)
  _, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  per_epoch = 488
  assert float(schedule(0)) == 0
  assert float(schedule(10 * per_epoch)) == pytest.approx(2e-3)
  assert float(schedule(155 * per_epoch)) == pytest.approx(1e-3, rel=1e-3)
  assert float(schedule(300 * per_epoch)) == pytest.approx(0, abs=1e-9)


def test_baselines_have_the_published_numbers_and_read_what_saip_reads():
  """MAE of He et al. 2022, DINO of Caron et al. 2021, both on SAIP's images for its 300 epochs."""
  saip, mae, dino = (load(REPO / "configs" / f"{name}.py") for name in ("saip_vit_tiny", "mae", "dino"))
  for config in (mae, dino):
    assert (config.data, config.model) == (saip.data, saip.model)
    images = config.total_steps * config.batch_size
    assert images == pytest.approx(300e6, rel=1e-3) and images == pytest.approx(saip.total_steps * 2048, rel=2e-3)
  assert mae.optimizer.learning_rate == pytest.approx(1.5e-4 * mae.batch_size / 256)
  assert dino.optimizer.learning_rate == pytest.approx(5e-4 * dino.batch_size / 256)
  method = METHODS["dino"].build(dino)
  epoch = dino.total_steps // 300 * dino.accumulate  # micro-steps
  temps = [float(method.temp_teacher(epoch * at)) for at in (0, 15, 30, 299)]
  assert temps == pytest.approx([0.04, 0.04 + 0.03 * 15 / 29, 0.07, 0.07])  # a stair an epoch, 30 of them
  _, schedule = make_optimizer(dino.optimizer, dino.total_steps, method.param_groups())
  assert float(schedule(10 * dino.total_steps // 300)) == pytest.approx(2e-3)
  assert float(schedule(dino.total_steps)) == pytest.approx(1e-6, rel=0.01)
