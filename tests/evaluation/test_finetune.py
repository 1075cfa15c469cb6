"""Fine-tuning: how it is trained and resumed, and `saip evaluate --finetune` from end to end."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.identities import number_identities
from input_pipeline.orders import balanced
from input_pipeline.people.dataset import PeopleSource
from saip_jax import cli
from saip_jax.backbones import build_backbone
from saip_jax.evaluation import finetune
from saip_jax.evaluation.splits import Data
from saip_jax.interop.weights import open_weights
from saip_jax.methods import METHODS
from saip_jax.methods.groups import layer_wise, usual_groups
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.running import train_in_folder
from saip_jax.training.optimizer import make_optimizer, parameter_names
from tests.support.batches import assert_same, take
from tests.support.kill_and_resume import differing
from tests.support.tiny_methods import REPO
from tests.support.toy_finetune import TINY, add_toys, config_of, data_of, evaluate_finetuned, prepare_toys
from tests.support.toy_weights import random_weights


@pytest.fixture(autouse=True)
def toys(monkeypatch):
  add_toys(monkeypatch)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  return prepare_toys(tmp_path_factory.mktemp("sets") / "people")


def numbers(length=40, persons=7):
  return np.random.default_rng(0).integers(0, persons + 1, length).astype(np.int32)


def test_the_order_holds_several_pictures_of_each_person():
  of_image, count = numbers(), 4
  order = balanced(of_image, count, 0)
  turns = np.array([[order[count * turn + k] for k in range(count)] for turn in range(60)])
  persons = of_image[turns]
  assert (persons == persons[:, :1]).all() and persons.min() == 1
  for turn, person in zip(turns, persons[:, 0]):
    assert len(set(turn)) == min(count, (of_image == person).sum()) or (of_image == person).sum() < count
  epoch = sum(max(1, (of_image == p).sum() // count) for p in range(1, 8))
  for person in range(1, 8):
    assert (persons[:epoch, 0] == person).sum() == max(1, (of_image == person).sum() // count)
  other = balanced(of_image, count, 1)
  assert [other[k] for k in range(40)] != turns.reshape(-1)[:40].tolist()


def test_batches_of_persons_are_the_same_for_any_hosts_and_workers(people):
  config = config_of("reid", people)
  method = METHODS["finetune"].build(config)
  data = data_of(people, config, method)
  whole = take(data, 4)
  of_image, names = number_identities(PeopleSource(people, "train"))
  for batch in whole:
    np.testing.assert_array_equal(batch["identity"], of_image[batch["index"]])
    assert (batch["identity"].reshape(-1, 4) == batch["identity"][::4, None]).all()
  halves = [take(data, 2, start_step=2, host=host, hosts=2) for host in range(2)]
  assert_same([{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves)], whole[2:])
  workers = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=1))
  assert_same(take(data_of(people, workers, method), 2), whole[:2])
  assert data.classes["identity"] == names and data.identity["pictures_per_identity"] == 4


@pytest.mark.parametrize(
  "name",
  [
    "vit_toy",
    "convnext_femto",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin_tiny", "tinyvit_5m", "hrnet_w18")),
  ],
)
def test_each_layer_learns_at_its_own_rate(name):
  """With SGD and gradients of one, the change of a parameter is its learning rate."""
  decay, backbone = 0.75, build_backbone(name, image_hw=(64, 32))
  shapes = jax.eval_shape(
    lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 64, 32, 3)), ("cls", "tokens", "hidden"))
  )["params"]
  params = {
    "backbone": jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes),
    "head": {"kernel": np.zeros((2, 3), np.float32)},
  }
  settings = config_of_optimizer()
  tx, _ = make_optimizer(settings, 10, layer_wise(usual_groups(decay_tokens=False), backbone, decay))
  update = jax.jit(lambda params: tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)[0])
  updates = update(params)
  rates = {path: -np.asarray(u) for path, u in parameter_names(updates).items()}
  last = 9 if name == "vit_toy" else 5
  for path, rate in rates.items():
    layer, part = last, path.removeprefix("backbone/")
    if part.startswith(("patch_embed", "stem", "cls_token", "pos_embed", "conv")):
      layer = 0
    elif part.startswith("blocks/"):
      layer = np.arange(1, 9).reshape(-1, *[1] * (rate.ndim - 1))
    elif part.startswith(("stages_", "layers_")):
      layer = int(part.split("_")[1][0]) + 1
    elif part.startswith("stage"):
      layer = int(part[5])
    np.testing.assert_allclose(rate, np.broadcast_to(decay ** (last - layer), rate.shape), rtol=1e-6, err_msg=path)


def config_of_optimizer():
  config = parse_config(load_recipe(REPO / "configs" / "finetune_reid_demo.py"))
  return dataclasses.replace(
    config.optimizer, name="sgd", learning_rate=1.0, b1=0.0, warmup_fraction=0.0, weight_decay=0.0, grad_clip_norm=None
  )


def train(people, workdir, steps=4, devices=1):
  """Trains on persons at a constant rate, which no length changes, by SGD, which does not enlarge rounding as Adam."""
  config = config_of("reid", people, f"total_steps={steps}", "optimizer.min_learning_rate=1e-3", "optimizer.name=sgd")
  method = METHODS["finetune"].build(config)
  state = train_in_folder(
    config, method, lambda _: data_of(people, config, method), workdir, devices=jax.devices()[:devices]
  )
  return method, parameter_names(jax.device_get(state.params))


def test_a_run_resumes_exactly(people, tmp_path):
  for workdir, steps in (("parts", 2), ("parts", 4), ("whole", 4)):
    train(people, tmp_path / workdir, steps)
  assert differing(tmp_path / "parts", tmp_path / "whole") == []


@pytest.mark.slow
def test_devices_agree(people, tmp_path):
  """Persons are compared, and batch norms take their statistics, over the whole batch, wherever its parts are."""
  method, whole = train(people, tmp_path / "one")
  _, two = train(people, tmp_path / "two", devices=2)
  start = parameter_names(method.init(jax.random.key(0))[0])
  for path, value in whole.items():
    moved = np.abs(value - start[path]).max()
    np.testing.assert_allclose(two[path], value, atol=1e-2 * moved + 1e-7, err_msg=path)


@pytest.fixture
def evaluate(people, capfd):
  """Runs `saip evaluate --finetune` at toy size and returns (status, its output, errors)."""

  def run(*arguments, task="attributes", **options):
    status = evaluate_finetuned(task, people, *arguments, **options)
    return status, *capfd.readouterr()

  return run


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_what_it_learned_is_measured(evaluate, people, tmp_path):
  first = tmp_path / "first"
  status, out, _ = evaluate(f"--workdir={first}", "--json", task="parsing")
  record = json.loads(out)
  assert status == 0 and record["protocol"] == "finetune" and record["facts"]["updates"] == 4
  assert 0 < record["scores"]["mIoU"] < 1 and record["encoder"]["image_hw"] == [64, 32]
  # A fine-tuned run is a run like others: init_from, saved evaluations and export work.
  weights = open_weights(first)
  assert weights.spec.name == "vit_toy" and {"backbone", "head"} == set(weights.student)
  status, out, _ = evaluate("--json", task="attributes", checkpoint=str(first))
  assert status == 0
  record = json.loads(out)
  assert (first / "evaluations.jsonl").read_text().splitlines() == [json.dumps(record)]
  assert (first / "finetune" / "finetune_attributes_demo" / "checkpoints" / "4").is_dir()
  assert "step 4 of the run" in record["encoder"]["checkpoint"]
  # The same command again has nothing left to learn, and measures the same.
  status, out, errors = evaluate("--json", task="attributes", checkpoint=str(first))
  assert "already complete: step 4 of 4" in errors and json.loads(out)["scores"] == record["scores"]


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--task=correspondence"], ["--finetune", "correspondence", "reid, text, attributes"]),
    (["--task=juggling"], ["--task=juggling is unknown"]),
    (["--task=reid"], ["recipe of finetune attributes", "--task=reid", "such as finetune_reid"]),
    (["--finetune=nowhere.py"], ["--finetune=nowhere.py", "no such file"]),
    (["--checkpoint=nowhere"], ["--checkpoint=nowhere", "no such file"]),
    (["--checkpoint=random:vit_huge"], ["vit_huge", "vit_tiny"]),
    (["--workdir="], ["--workdir is needed"]),
    (["--config.data.path=x"], ["--config.data.path", "--data"]),
    (["--config.model.backbone=swin_tiny"], ["--config.model.backbone", "--checkpoint"]),
    (["--config.method.layer_decay=2"], ["layer_decay is 2", "0 to 1"]),
    (["--config.method.views.flip=2"], ["views.flip is 2"]),
    (["--protocol=linear"], ["leave out --protocol"]),
    (["--flip-test", "--task=joints3d"], ["--flip-test", "joints3d", "keypoints"]),
    (["--config.init_which=teacher"], ["config.init_which", "--which"]),
    (["--config.data.whole_photos=True"], ["config.data.whole_photos", "--task"]),
  ],
)
def test_a_mistake_is_one_line(evaluate, tmp_path, arguments, words):
  workdir = [] if "--workdir=" in arguments else [f"--workdir={tmp_path}/run"]
  arguments = [argument for argument in arguments if argument != "--workdir="]
  status, _, errors = evaluate(*workdir, *arguments)
  assert status == 2 and errors.startswith("saip evaluate: error: ") and errors.count("\n") == 1, errors
  assert all(word in errors for word in words), errors


def test_a_teacher_can_be_fine_tuned(people, tmp_path, monkeypatch):
  monkeypatch.setattr(finetune, "open_weights", lambda path: random_weights())
  start, data = finetune._start_of(str(tmp_path), 0, "teacher"), Data("people", str(people), str(tmp_path), 96)
  recipe = REPO / "configs" / "finetune_reid_demo.py"
  config = finetune._config(recipe, [], "reid", data, data.train_and_test()[0], start, None, 0)
  assert (config.init_from, config.init_which) == (str(tmp_path), "teacher") and start.facts["which"] == "teacher"
  monkeypatch.setattr(finetune, "open_weights", lambda path: random_weights(teacher=False))
  with pytest.raises(ValueError, match="has no teacher; choose --which=student"):
    finetune._start_of(str(tmp_path), 0, "teacher")


def test_settings_are_for_finetuning_alone(people, capsys):
  command = ["evaluate", "--checkpoint=constant", "--task=reid", f"--data=people:{people}"]
  assert cli.main([*command, "--config.seed=1"]) == 2
  assert "'--config.seed=1' is for --finetune" in capsys.readouterr().err


def test_data_without_the_labels_is_refused(tmp_path, capsys):
  cv2 = pytest.importorskip("cv2")
  for i in range(8):
    cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 10, 3), i, np.uint8))
  for task, word in (
    ("reid", "has no identities"),
    ("attributes", "names no attributes"),
    ("parsing", "names no parts"),
    ("keypoints", "holds no keypoints"),
  ):
    assert (
      cli.main(
        [
          "evaluate",
          "--checkpoint=random:vit_toy",
          f"--task={task}",
          f"--data=folder:{tmp_path}",
          "--hold-out",
          f"--finetune={REPO}/configs/finetune_{task}_demo.py",
          "--workdir=unused",
        ]
      )
      == 2
    )
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
  "setting, words",
  [
    ("method.classes=5", "config.method.classes is 5, the labels of the data set need 8"),
    ("data.pictures_per_identity=0", "pictures_per_identity is 0"),
    ("data.pictures_per_identity=3", "a multiple of config.data.pictures_per_identity"),
    ("accumulate=2", "config.accumulate is 2"),
  ],
)
def test_a_recipe_that_cannot_be_learned_is_refused(people, setting, words):
  with pytest.raises(ValueError, match=words):
    config = config_of("reid", people)
    settings = {
      **{"data.path": people, "model.backbone": "vit_toy", "method.classes": config.method.classes},
      **dict([setting.split("=")]),
    }
    recipe = load_recipe(REPO / "configs" / "finetune_reid_demo.py")
    overrides = [f"--config.{s}" for s in TINY] + [f"--config.{k}={v}" for k, v in settings.items()]
    config = parse_config(apply_overrides(recipe, overrides))
    method = METHODS["finetune"].build(config)
    METHODS["finetune"].check_data(config.method, data_of(people, config, method))
