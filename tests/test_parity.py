"""The published code's own numbers, replayed."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from saip_jax.interop.parity import replay

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "saip_official_tiny.npz"
REPO = FIXTURE.parents[2]


def test_every_recorded_number_is_reproduced():
  checks = replay(str(FIXTURE))
  assert [c for c in checks if not c.passed] == []
  kinds = {c.name.split("/")[0] for c in checks}
  assert kinds == {"loss", "out", "grad", "grad_norm", "student_after", "teacher_after"}
  assert sum(c.name.startswith("loss/") for c in checks) == 6
  assert sum(c.name.startswith("grad/") for c in checks) == 197


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    ["loss/csr", "out/ref_feats", "grad/backbone.blocks.2.attn.qkv.weight", "student_after/csr_decoder.mask_token"],
)
def test_a_changed_number_fails(tmp_path, key):
  with np.load(FIXTURE) as archive:
    arrays = dict(archive)
  changed = np.array(arrays[key])
  changed[(0,) * changed.ndim] += 1e-2 * max(np.abs(changed).max(), 1.0)
  arrays[key] = changed
  np.savez(tmp_path / "changed.npz", **arrays)
  failed = [c.name for c in replay(str(tmp_path / "changed.npz")) if not c.passed]
  assert key in failed


def test_script_reports_a_file_that_is_no_fixture(tmp_path):
  path = shutil.copy(__file__, tmp_path / "not.npz")
  run = subprocess.run(
      [sys.executable, REPO / "scripts" / "check_parity.py", path], capture_output=True, text=True, cwd=REPO
  )
  assert run.returncode == 2
  assert run.stderr.startswith("check_parity: error:") and run.stderr.count("\n") == 1
