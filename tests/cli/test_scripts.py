"""The scripts that set up the environment hand on what is theirs to hand on."""

import os
import pathlib
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.compile

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
_STUB = '#!/bin/bash\necho "$(basename "$0")" "$@" >> "$CALLS"\n'


@pytest.fixture
def checkout(tmp_path):
  """A checkout with a .venv that records its arguments."""
  (tmp_path / "scripts").mkdir()
  (tmp_path / ".venv" / "bin").mkdir(parents=True)
  for name in ("environment.sh", "quickstart.sh", "test.sh", "docs.sh"):
    shutil.copy(SCRIPTS / name, tmp_path / "scripts")
  for name in ("requirements.txt", "pyproject.toml"):
    (tmp_path / name).write_text("")
  for name in ("python", "saip"):
    (tmp_path / ".venv" / "bin" / name).write_text(_STUB)
    (tmp_path / ".venv" / "bin" / name).chmod(0o755)
  return tmp_path


def _called(checkout, script, *arguments):
  calls = checkout / "calls"
  calls.unlink(missing_ok=True)
  done = subprocess.run(
    [checkout / "scripts" / script, *arguments],
    capture_output=True,
    text=True,
    cwd="/",
    env=os.environ | {"CALLS": str(calls)},
  )
  assert done.returncode == 0, done.stderr
  return calls.read_text().splitlines()


@pytest.mark.parametrize("flags", [[], ["--config.total_steps=3"], ["[test]", "--config.batch_size=4"]])
def test_quickstart_hands_its_flags_to_the_run_alone(checkout, flags):
  install, people, run = _called(checkout, "quickstart.sh", *flags)
  assert install.startswith("python -m pip install") and install.endswith("-r requirements.txt -e .")
  assert people.startswith("saip prepare people --out=runs/people") and "--config" not in people
  assert run == " ".join(
    ["saip pretrain --config=configs/saip_demo.py --workdir=runs/demo --config.data.path=runs/people", *flags]
  )
  assert _called(checkout, "quickstart.sh", *flags) == [people, run]  # installed once


@pytest.mark.parametrize(
  "arguments, lane",
  [([], "not slow"), (["fast"], "not compile and not slow"), (["slow"], "slow"), (["-k", "name"], "not slow")],
)
def test_the_tests_run_one_lane_and_hand_the_rest_to_pytest(checkout, arguments, lane):
  install, tests = _called(checkout, "test.sh", *arguments)
  rest = [argument for argument in arguments if argument not in ("fast", "slow")]
  assert install.endswith("-r requirements.txt -e .[test]")
  assert tests.startswith("python -m pytest") and tests.endswith(" ".join(["-m", lane, *rest]))


@pytest.mark.parametrize(
  "arguments, executes, extras", [([], "", "[docs]"), (["--execute", "-q"], "1", "[docs,torch]")]
)
def test_the_documentation_is_built_with_warnings_as_errors(checkout, arguments, executes, extras):
  python = checkout / ".venv" / "bin" / "python"
  python.write_text(_STUB.replace('"$@"', '"$SAIP_DOCS_EXECUTE" "$@"'))
  install, build = _called(checkout, "docs.sh", *arguments)
  assert install.endswith(f"-r requirements.txt -e .{extras}")
  rest = [argument for argument in arguments if argument != "--execute"]
  assert build == " ".join(["python", executes, "-m sphinx -W --keep-going -b html docs docs/_build/html", *rest])
