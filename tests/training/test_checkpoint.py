"""Checkpoints: exact, whole or absent, and only for their own run."""

import collections
import contextlib
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.run_folder.folder import claim_workdir
from saip_jax.training.checkpoint import CheckpointError, Checkpoints
from saip_jax.training.mesh import make_mesh, replicated
from saip_jax.training.state import TrainState

_FINGERPRINT = {"config.seed": 0, "data": {"length": 3, "canvas_hw": (4, 2)}}


def _state_of(params, step=0):
  return TrainState(jnp.int32(step), params, {}, {})


def _state(step, devices=1):
  values = np.random.default_rng(step)
  tree = _state_of(
    {
      "kernel": jnp.asarray(values.normal(size=(3, 4)), jnp.float32),
      "half": jnp.asarray([0.1, -0.0], jnp.bfloat16),
      "odd": jnp.asarray([np.nan, np.inf, 1e-45], jnp.float32),
      "count": jnp.uint32(2**32 - 1),
    },
    step,
  )
  return jax.device_put(tree, replicated(make_mesh(jax.devices()[:devices])))


def _abstract(state):
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)


def _open(workdir, keep_last=3, keep_every=None, fingerprint=_FINGERPRINT):
  return Checkpoints(workdir, keep_last, keep_every, fingerprint)


def _assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def _steps(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.parametrize("saved_on, restored_on", [(1, 1), (1, 8), (8, 1), (8, 2)])
def test_restores_the_same_bits_on_any_number_of_devices(tmp_path, saved_on, restored_on):
  checkpoints = _open(tmp_path)
  assert checkpoints.latest() is None
  checkpoints.save(7, _state(7, saved_on))
  checkpoints.close()
  checkpoints = _open(tmp_path)
  assert checkpoints.latest() == 7
  restored = checkpoints.restore(_abstract(_state(0, restored_on)))
  checkpoints.close()
  _assert_same_bits(restored, _state(7))
  assert len(restored.params["kernel"].sharding.device_set) == restored_on


def test_a_donated_state_is_saved_as_it_was(tmp_path):
  """The save goes on in the background while the next step overwrites the state in place."""
  change = jax.jit(lambda state: jax.tree.map(lambda a: a * 0, state), donate_argnums=0)
  checkpoints = _open(tmp_path)
  state = jax.device_put(_state_of({"a": jnp.ones(2_000_000)}), replicated(make_mesh(jax.devices()[:1])))
  abstract = _abstract(state)
  checkpoints.save(1, state)
  jax.block_until_ready(change(state))
  checkpoints.wait()
  np.testing.assert_array_equal(checkpoints.restore(abstract).params["a"], 1.0)
  checkpoints.close()


def test_keeps_the_last_and_every_nth(tmp_path):
  checkpoints = _open(tmp_path, keep_last=2, keep_every=10)
  for step in (5, 10, 15, 20, 25, 30, 35):
    checkpoints.save(step, _state(step))
  checkpoints.close()
  assert _steps(tmp_path) == [10, 20, 30, 35]


def test_another_run_is_refused_with_what_differs(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(1, _state(1))
  checkpoints.close()
  _open(tmp_path).close()
  with pytest.raises(ValueError) as caught:
    _open(tmp_path, fingerprint={"config.seed": 1, "data": {"length": 5, "canvas_hw": (4, 2)}, "new": 2})
  message = str(caught.value)
  for words in ("config.seed was 0, now 1", "data.length was 3, now 5", "new was absent, now 2", "--workdir"):
    assert words in message
  assert "canvas_hw" not in message and "\n" not in message
  with pytest.raises(ValueError, match="config.seed was 0, now 1; .*; and 15 more; set these back"):
    _open(tmp_path, fingerprint={"config.seed": 1} | {f"new{i}": i for i in range(20)})


def test_another_state_is_refused(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(1, _state_of({"a": jnp.ones(2)}))
  with pytest.raises(ValueError, match="checkpoints/1 does not fit"):
    checkpoints.restore(_abstract(_state(0)))
  checkpoints.close()


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
  checkpoints = _open(tmp_path)
  checkpoints.save(1, _state(1))
  checkpoints.close()
  (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-3" / "state").mkdir(parents=True)
  checkpoints = _open(tmp_path)
  assert checkpoints.latest() == 1
  checkpoints.save(2, _state(2))
  checkpoints.close()
  assert _steps(tmp_path) == [1, 2]


def test_a_full_disk_is_reported_before_the_save(tmp_path, monkeypatch):
  checkpoints = _open(tmp_path)
  checkpoints.save(1, _state(1))
  checkpoints.wait()
  usage = collections.namedtuple("usage", "total used free")
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
  with pytest.raises(CheckpointError) as caught:
    checkpoints.save(2, _state(2))
  checkpoints.close()
  for words in ("step 2", "0.0 MB free", str(tmp_path), "--workdir", f"last good checkpoint: {tmp_path}/checkpoints/1"):
    assert words in str(caught.value)
  assert _open(tmp_path).latest() == 1


@pytest.mark.parametrize("when", ["at once", "in the background"])
def test_a_failed_write_is_one_line_and_spares_the_last_good(tmp_path, monkeypatch, when):
  checkpoints = _open(tmp_path)
  checkpoints.save(1, _state(1))
  checkpoints.wait()
  with pytest.raises(CheckpointError) as caught:
    if when == "at once":
      monkeypatch.setattr(checkpoints._manager, "save", _no_space)
      checkpoints.save(2, _state(2))
    else:
      with _files_of_at_most(100_000):  # the system refuses larger files, as a full disk refuses any
        checkpoints.save(2, _state_of({"noise": jax.random.normal(jax.random.key(0), (300_000,))}))
        checkpoints.wait()
  message = str(caught.value)
  assert "File too large" in message or "No space left" in message
  assert "\n" not in message and f"last good checkpoint: {tmp_path}/checkpoints/1" in message
  monkeypatch.undo()
  checkpoints.close()
  checkpoints = _open(tmp_path)
  assert checkpoints.latest() == 1 and _steps(tmp_path) == [1]
  _assert_same_bits(checkpoints.restore(_abstract(_state(0))), _state(1))
  checkpoints.close()


def _no_space(*_, **__):
  raise OSError(28, "No space left on device")


@contextlib.contextmanager
def _files_of_at_most(size):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_only_a_folder_of_a_run_is_a_workdir(tmp_path):
  config = {"seed": 0}
  workdir = claim_workdir(tmp_path / "new" / "run", config).path
  assert (workdir / "config.json").exists()
  (workdir / "other.txt").write_text("a run may hold more files")
  claim_workdir(workdir, {"seed": 1})

  holiday = tmp_path / "holiday"
  holiday.mkdir()
  claim_workdir(holiday, config)  # an empty folder will do
  (holiday / "config.json").unlink()
  (holiday / "beach.jpg").write_text("")
  with pytest.raises(ValueError, match="holiday holds files but no config.json"):
    claim_workdir(holiday, config)
  with pytest.raises(ValueError, match="beach.jpg is a file"):
    claim_workdir(holiday / "beach.jpg", config)
