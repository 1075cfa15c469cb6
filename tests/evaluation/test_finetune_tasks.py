"""Fine-tuning, task by task: labels are read, learned and measured."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from input_pipeline.body import whole_body_points
from input_pipeline.fields.captions import word_numbers
from input_pipeline.people.dataset import PeopleSource
from saip_jax.evaluation.tasks import TASKS
from saip_jax.methods import METHODS
from saip_jax.methods.finetune.config import FinetuneConfig
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.methods.finetune.views import Placement, SupervisedViews
from saip_jax.training.optimizer import parameter_names
from saip_jax.training.step import init_state, make_train_step
from tests.support.batches import take
from tests.support.toy_finetune import add_toys, config_of, data_of, evaluate_finetuned, prepare_toys

QUICK, OTHERS = (
  ("reid", "detection"),
  ("attributes", "keypoints", "wholebody", "text", "parsing", "multi_parsing", "joints3d"),
)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
  add_toys(monkeypatch)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """Composition -> the folder of a set."""
  root = tmp_path_factory.mktemp("sets")
  return {name: prepare_toys(root / name, name) for name in ("crops", "scenes")}


def set_of(task, sets):
  return sets["scenes" if SUPERVISED[task].whole else "crops"]


def batch_of(task, sets, *overrides):
  """Returns the method of a demo at toy size, its first batch, and the source of that."""
  people = set_of(task, sets)
  config = config_of(task, people, *overrides)
  method = METHODS["finetune"].build(config)
  METHODS["finetune"].check_data(config.method, data_of(people, config, method))
  return method, take(data_of(people, config, method), 1)[0], PeopleSource(people, "train")


def facts_of(batch, source):
  return [source.annotations(int(i))[0] for i in batch["index"]]


def test_attributes_and_parts_in_batches(sets):
  _, batch, source = batch_of("attributes", sets)
  signs = np.array([source.annotations(i)[0]["people"][0]["attributes"] for i in range(len(source))])
  np.testing.assert_array_equal(batch["attributes"], 2 * signs[batch["index"]] - 1)
  np.testing.assert_allclose(batch["attribute_shares"], np.tile(signs.mean(0), (8, 1)), rtol=1e-6)
  _, batch, source = batch_of("parsing", sets, "data.canvas_hw=(80, 40)")
  assert batch["has_parts"].all() and (batch["parts"][:, 64:] == 255).all()
  for i, parts in zip(batch["index"], batch["parts"]):
    np.testing.assert_array_equal(parts[:64, :32], source.picture(int(i)).parts)


def test_joints_captions_and_places_in_batches(sets):
  _, batch, source = batch_of("keypoints", sets)
  for row, facts in zip(batch["joints"], facts_of(batch, source)):
    given = np.array(facts["people"][0]["keypoints"])
    np.testing.assert_allclose(row, given * (given[:, 2:] > 0), rtol=1e-5)
  _, batch, source = batch_of("wholebody", sets, "data.canvas_hw=(32, 16)")  # half of the size
  for row, facts in zip(batch["landmarks"], facts_of(batch, source)):
    points = whole_body_points(facts)
    inside = ((points[:, :2] >= 0) & (points[:, :2] < (32, 64))).all(1) & (points[:, 2] > 0)
    np.testing.assert_allclose(row, points * [0.5, 0.5, 1] * inside[:, None], atol=1e-4)
  _, batch, source = batch_of("joints3d", sets)
  names = source.legend["landmarks"]
  for row, facts in zip(batch["joints_xyz"], facts_of(batch, source)):
    places = np.array(facts["people"][0]["landmarks_xyz"])
    hips = places[[names.index("left_hip"), names.index("right_hip")]].mean(0)
    np.testing.assert_allclose(row[:, :3], places - hips, atol=1e-5)
    assert (row[:, 3] == 1).all()
  _, batch, source = batch_of("text", sets)
  for row, facts in zip(batch["captions"], facts_of(batch, source)):
    np.testing.assert_array_equal(row[0], word_numbers(facts["people"][0]["caption"]))
    assert not row[1].any() and (row[0] > 0).sum() == 5  # person, in, plain, a color, clothes


def test_boxes_and_persons_in_batches(sets):
  _, batch, source = batch_of("detection", sets)
  assert batch["has_boxes"].all()
  for row, facts in zip(batch["boxes"], facts_of(batch, source)):
    given = np.array([person["box_full"] for person in facts["people"]])
    assert sorted(map(tuple, row[row[:, 4] == 1, :4])) == sorted(map(tuple, given)) and (row[len(given) :] == 0).all()
  _, batch, source = batch_of("multi_parsing", sets)
  assert batch["has_persons"].all()
  for i, persons in zip(batch["index"], batch["persons"]):
    np.testing.assert_array_equal(persons, source.picture(int(i)).instances)


@pytest.mark.parametrize("task", [*QUICK, *(pytest.param(task, marks=pytest.mark.slow) for task in OTHERS)])
def test_a_batch_can_be_learned_by_heart(sets, task):
  """The loss on center crops of one batch falls; running statistics change and are used in evaluation."""
  method, rows, _ = batch_of(
    task,
    sets,
    "method.views.erase=0.0",
    "method.views.flip=0.0",
    "method.views.shift=0",
    "method.views.scale=(1.0, 1.0)",
    "method.layer_decay=1.0",
  )
  batch = {name: jnp.asarray(rows[name]) for name in method.batch_spec(8)}
  tx = optax.adam(3e-3)
  step = jax.jit(make_train_step(method, tx, optax.constant_schedule(3e-3), 1, 0))
  after = state = jax.jit(lambda: init_state(method, tx, 0))()
  losses = []
  for _ in range(25):
    after, metrics = step(after, batch)
    losses.append(float(metrics["loss/total"]))
  assert np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]
  without_norm = ("attributes", "text", "joints3d")
  assert sorted(after.method_state["statistics"]) == ([] if task in without_norm else ["head"])
  for name, value in parameter_names(after.method_state["statistics"]).items():
    assert not np.allclose(value, parameter_names(state.method_state["statistics"])[name]), name


HEADLINES = {
  "reid": "mAP",
  "text": "mAP",
  "attributes": "mA",
  "keypoints": "PCK@0.1",
  "wholebody": "PCK@0.1",
  "detection": "AP@0.5",
  "parsing": "mIoU",
  "segmentation": "mIoU",
  "multi_parsing": "APp_vol",
  "joints3d": "MPJPE_mm",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADLINES)
def test_every_task_is_measured(sets, tmp_path, capfd, task):
  assert {name for name, t in TASKS.items() if t.finetuned} == SUPERVISED.keys() == HEADLINES.keys()
  people = set_of(task, sets)
  assert evaluate_finetuned(task, people, f"--workdir={tmp_path}/run", "--config.total_steps=1", "--json") == 0
  record = json.loads(capfd.readouterr().out)
  assert record["protocol"] == "finetune" and record["facts"]["updates"] == 1
  assert next(iter(record["scores"])) == HEADLINES[task] and np.isfinite(record["scores"][HEADLINES[task]])


@pytest.mark.parametrize("task, wrong, right", [("detection", False, True), ("keypoints", True, False)])
def test_photos_and_persons_are_told_apart(sets, task, wrong, right):
  with pytest.raises(ValueError, match=f"config.data.whole_photos is {wrong}: {task} .* set it to {right}"):
    METHODS["finetune"].build(config_of(task, set_of(task, sets), f"data.whole_photos={wrong}"))


def test_joints_in_space_change_sides_with_the_mirror_image():
  task = SUPERVISED["joints3d"]
  config = FinetuneConfig(name="finetune", task="joints3d", classes=3, flip_pairs=((1, 2),), views=SupervisedViews())
  sample = {"joints_xyz": jnp.array([[0.1, 0.2, 0.3, 1], [-0.3, 0.4, 0.5, 1], [0.0, 0.0, 0.0, 0]])}
  place = Placement(jnp.array([0.0, 0.0, 64.0, 32.0]), jnp.array(True), jnp.array([64, 32]), (64, 32))
  places, known = task.targets(sample, place, config.mirrored)
  assert known.tolist() == [True, False, True]
  np.testing.assert_allclose(places[0], [-0.1, 0.2, 0.3])
  np.testing.assert_allclose(places[2], [0.3, 0.4, 0.5])
