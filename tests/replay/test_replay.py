"""The published codes' own numbers, replayed."""

import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from saip_jax.backbones import vit
from saip_jax.backbones.packing import LANES
from saip_jax.backbones.semgcn import SemGCN
from saip_jax.backbones.statistics import split_statistics
from saip_jax.heads import search
from saip_jax.interop import hrnet
from saip_jax.interop.tables import from_torch
from saip_jax.replay import Recording, hcmoco, replay

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
REPO = FIXTURES.parents[1]
DOCUMENTED = REPO / "docs" / "methods"
# method -> file, checks by their kinds, results that nothing compares
FILES = {
  "saip": ("saip_official_tiny.npz", {"loss/": 6, "out/": 7, "grad/": 197, "grad_norm/": 197}, 6),
  "mae": ("mae_dev.npz", {"loss/": 2, "out/": 6, "grad/": 72, "after/": 72, "decay": 72}, 0),
  "hap": ("hap_dev.npz", {"loss/": 7, "out/": 5, "grad/": 72, "after/": 72, "decay": 72}, 0),
  "dino": (
    "dino_dev.npz",
    {
      "loss/": 1,
      "out/": 6,
      "grad/": 49,
      "student_after/": 50,
      "teacher_after/": 50,
      "decay": 49,
      "schedule/": 4,
      "as_published/": 3,
    },
    0,
  ),
  "croco": ("croco_dev.npz", {"cosine/": 196, "RoPE100/": 196, "class_token/cosine/": 99, "decay": 188}, 0),
  "hcmoco": (
    "hcmoco_dev.npz",
    {
      "nearest/loss/": 21,
      "bilinear/loss/": 21,
      "bilinear/out/": 12,
      "bilinear/grad/": 342,
      "bilinear/grad_norm/": 356,
      "nearest/grad_norm/": 356,
      "bilinear/grad_norm_as_published/": 356,
      "bilinear/statistics_after/": 54,
      "out/nodes": 2,
    },
    0,
  ),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("croco", "hcmoco")]


@pytest.mark.parametrize("method", ["saip", "mae", "hap", "dino", *SLOW])
def test_every_recorded_number_is_reproduced(method):
  file, kinds, left = FILES[method]
  recording = replay(str(FIXTURES / file))
  assert recording.method == method
  assert [check for check in recording.checks if not check.passed] == []
  counts = {kind: sum(check.name.startswith(kind) for check in recording.checks) for kind in kinds}
  assert counts == kinds
  assert len(recording.left) == left
  pages = "".join(page.read_text("utf-8") for page in DOCUMENTED.glob("*.md"))
  assert re.findall(rf"`tests/fixtures/{file}`: ([\d,]+)", pages) == [f"{len(recording.checks):,}"]


@pytest.mark.slow
def test_rows_as_accelerators_take_them_reproduce_every_number(monkeypatch):
  """Short sequences share rows, as in bfloat16; here in float32, so that the numbers can be compared."""
  for module in (vit, search):
    monkeypatch.setattr(module, "row_capacity", lambda dtype: LANES)
  file, kinds, _ = FILES["saip"]
  recording = replay(str(FIXTURES / file))
  assert [check for check in recording.checks if not check.passed] == []
  assert len(recording.checks) >= sum(kinds.values())


def changed(tmp_path, file, keys):
  """Writes a fixture with another first number in some of its arrays."""
  with np.load(FIXTURES / file) as archive:
    arrays = dict(archive)
  for key in keys:
    array = np.array(arrays[key])
    array[(0,) * array.ndim] += 1e-2 * max(np.abs(array).max(), 1.0)
    arrays[key] = array
  np.savez(tmp_path / "changed.npz", **arrays)
  return str(tmp_path / "changed.npz")


@pytest.mark.slow
@pytest.mark.parametrize(
  "method,keys",
  [
    (
      "saip",
      {"loss/csr", "out/ref_feats", "grad/backbone.blocks.2.attn.qkv.weight", "student_after/csr_decoder.mask_token"},
    ),
    ("mae", {"out/block1", "after/mask_token"}),
    ("hap", {"loss/align_second_to_first"}),
    ("dino", {"as_published/out/student_logits", "schedule/teacher_temp_of_epoch", "teacher_after/head.mlp.0.bias"}),
    ("croco", {"RoPE100/grad/dec_blocks.0.cross_attn.projk.weight"}),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_changed_numbers_fail(tmp_path, method, keys):
  """Each of them, and no other of the same kind."""
  failed = {c.name for c in replay(changed(tmp_path, FILES[method][0], keys)).checks if not c.passed}
  assert keys <= failed
  assert {name for name in failed if name.startswith(("loss/", "out/", "schedule/"))} <= keys


def test_skeleton_encoder_of_hcmoco():
  """The part of HCMoCo's file that compiles within seconds: nodes from joints, biases not zero."""
  recording = Recording(str(FIXTURES / "hcmoco_dev.npz"))
  meta = recording.meta
  tree = from_torch(recording.below("weights/"), hcmoco.hcmoco_table(meta), hrnet.HRNET_NAMES.buffers)["skeleton"]
  module = SemGCN(meta["width"], meta["skeleton_blocks"])
  run = jax.jit(lambda variables, x: module.apply(variables, x, mutable=["batch_stats"])[0])
  with jax.default_matmul_precision("highest"):
    recording.output("out/nodes", run(split_statistics(tree), recording["in/skeleton"]))
  assert recording.checks[0].passed


def synthetic(tmp_path, **arrays):
  """Returns a recording of one tensor "w" before and after an update with decay, with other arrays."""
  meta = '{"method": "toy", "lr": 0.1, "weight_decay": 0.5}'
  w, gradient = np.float32([1.0, -2.0, 2.0]), np.float32([1.0, 1.0, 0.0])
  after = w - 0.1 * np.sign(gradient) - 0.1 * 0.5 * w
  path = tmp_path / "toy.npz"
  np.savez(path, meta=meta, **{"weights/w": w, "grad/w": gradient, "after/w": after}, **arrays)
  return Recording(str(path)), w, gradient


def test_decay_of_a_tensor_is_seen(tmp_path):
  recording, w, gradient = synthetic(tmp_path)
  for decay in (0.5, 0.0):
    ours = w - 0.1 * np.sign(gradient) - 0.1 * decay * w
    recording.weights("after/", {"w": ours.astype(np.float32)}, "grad/", {"w": w}, {})
  with_decay, without = (check for check in recording.checks if check.name == "decay of w")
  assert with_decay.passed and without.error == pytest.approx(1.0, rel=1e-5) and not without.passed


def test_what_moves_on_rounding_alone_is_not_held_to_a_direction(tmp_path):
  """Of two tensors the second has no gradient in truth: it may step either way, but no further than Adam does."""
  tiny = np.float32([1e-9, -1e-9])
  recording, _, gradient = synthetic(
    tmp_path, **{"grad/k": tiny, "after/k": np.float32([0.1, -0.1]), "weights/k": np.zeros(2, np.float32)}
  )
  recording.gradients("", {"w": gradient, "k": -tiny})
  recording.weights("after/", {"k": np.float32([-0.1, 0.1])}, "grad/", {"k": np.zeros(2, np.float32)}, {})
  assert all(check.passed for check in recording.checks) and len(recording.checks) == 3
  recording.gradients("", {"k": np.float32([1e-3, 0.0])})
  assert not recording.checks[-1].passed


@pytest.mark.slow
def test_what_is_not_recorded_is_not_compared(tmp_path):
  """SAIP's file of full size keeps a few of the weights after the step, and no gradients."""
  with np.load(FIXTURES / FILES["saip"][0]) as archive:
    arrays = dict(archive)
  kept = [n for n in arrays if n.startswith("student_after/")][:20]
  few = {n: a for n, a in arrays.items() if not n.startswith(("student_after/", "grad/")) or n in kept}
  np.savez(tmp_path / "few.npz", **few)
  run = check_parity(tmp_path / "few.npz")
  assert run.returncode == 0
  last = run.stdout.splitlines()[-1]
  results = sum(not n.startswith(("config", "in/", "rand/", "student/", "teacher/")) for n in few)
  assert "recorded results compared" in last and f" of {results} recorded" in last


def check_parity(path):
  return subprocess.run(
    [sys.executable, REPO / "scripts" / "check_parity.py", path], capture_output=True, text=True, cwd=REPO
  )


def test_script_reports_a_file_that_is_no_fixture(tmp_path):
  np.savez(tmp_path / "other.npz", meta='{"method": "simclr"}')
  np.savez(tmp_path / "plain.npz", weights=np.zeros(3))
  for path, words in (
    (shutil.copy(__file__, tmp_path / "not.npz"), ""),
    (tmp_path / "other.npz", "'simclr'"),
    (tmp_path / "plain.npz", "expected an array `meta`"),
  ):
    run = check_parity(path)
    assert run.returncode == 2
    assert run.stderr.startswith("check_parity: error:") and run.stderr.count("\n") == 1 and words in run.stderr
