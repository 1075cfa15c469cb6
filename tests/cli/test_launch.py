"""What starts a run elsewhere: the pod script, with a gcloud that keeps its workers in folders, and the JobSet."""

import json
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from saip_jax.cli import make_parser
from saip_jax.recipes import apply_overrides, load_recipe, parse_config

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[2]
SCRIPT, JOBSET = REPO / "scripts" / "tpu_pod.sh", REPO / "scripts" / "jobset.yaml"
GCLOUD = REPO / "tests" / "support" / "toy_gcloud.py"
AWKWARD = ["--config.data.path=/a b/it's", "--config.method.crop_aspect=(0.4, 0.6)", '--config.x="$HOME" `id` \\ *', ""]

# `python3 -m uv venv` makes an environment with a saip that records its arguments and, as ours, ends well on SIGTERM.
PYTHON3 = """#!/bin/bash
if [ "$2 $3" = "uv venv" ]; then
  mkdir -p "${@: -1}/bin"
  ln -s "$(type -P true)" "${@: -1}/bin/python"
  cat > "${@: -1}/bin/saip" <<'SAIP'
#!/bin/bash
trap 'echo saved; exit 0' TERM
printf '%s\\n' "$PWD" "$@" > ~/called
for _ in {1..300}; do sleep 0.1; done
SAIP
  chmod +x "${@: -1}/bin/saip"
fi
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A checkout with one commit and the machines it can start."""
  checkout, programs = tmp_path / "checkout", tmp_path / "programs"
  for folder in (checkout / "scripts", checkout / "configs", programs):
    folder.mkdir(parents=True)
  shutil.copy(SCRIPT, checkout / "scripts")
  (checkout / "configs" / "recipe.py").write_text("")
  (checkout / ".gitignore").write_text("/runs/\n")
  made = {"gcloud": f"#!{sys.executable} -IS\n{GCLOUD.read_text()}", "python3": PYTHON3}
  for name, text in made.items():
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)
  git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e@example.org"]
  for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
    subprocess.run([*git, *command], check=True)
  for name in ("ZONE", "PROJECT", "TYPE", "VERSION", "RUN", "QUEUED", "SPOT", "DRY_RUN"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("WORLD", str(tmp_path))
  monkeypatch.setenv("NAME", "pod")
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  monkeypatch.setenv("POLL", "0")
  monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
  yield tmp_path
  for file in tmp_path.glob("worker?/*.pid"):
    try:
      os.kill(int(file.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      pass


def pod(world, *arguments, status=0, **environment):
  """Runs the script and returns (output, error)."""
  done = subprocess.run(
    [str(world / "checkout" / "scripts" / "tpu_pod.sh"), *arguments],
    capture_output=True,
    text=True,
    cwd="/",
    env={**os.environ, **environment},
    timeout=60,
  )
  assert done.returncode == status, done.stderr
  return done.stdout, done.stderr


def calls(world):
  """What gcloud was asked since the last time: (kind, verb, rest)."""
  path = world / "calls"
  asked = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
  path.unlink(missing_ok=True)
  return [(a[2], a[3], a[4:]) for a in asked]


def verbs(world):
  return [f"{kind} {verb}".removeprefix("tpu-vm ").removeprefix("queued-resources ") for kind, verb, _ in calls(world)]


def called(world, worker):
  """How saip was called on a worker: its folder and arguments."""
  path = world / f"worker{worker}" / "called"
  for _ in range(200):
    if path.exists() and path.read_text().endswith("\n\n"):  # the last awkward argument is empty
      return path.read_text()[:-1].split("\n")
    time.sleep(0.05)
  raise AssertionError("saip was not started")


def test_a_pod_from_creation_to_deletion(world):
  pod(world, "create", "--zone=z", "--type=v5e-256", "--queued", "--spot", "--project=p")
  (_, _, asked), (kind, verb, create), _ = calls(world)
  assert asked == ["pod", "--zone=z", "--project=p", "--quiet", "--format=value(state.state)"]
  assert (kind, verb) == ("queued-resources", "create") and {
    "--node-id=pod",
    "--accelerator-type=v5litepod-256",
    "--runtime-version=v2-alpha-tpuv5-lite",
    "--spot",
    "--zone=z",
    "--project=p",
  } <= set(create)

  pod(world, "create")  # reused, with the settings remembered
  assert verbs(world) == ["describe"]
  pod(world, "setup")
  assert verbs(world) == ["scp", "ssh", "ssh"]
  pod(world, "run", "configs/recipe.py", "gs://bucket/a/W", *AWKWARD)
  for worker in (0, 1):
    home = world / f"worker{worker}"
    assert called(world, worker) == [
      str(home / "saip_jax"),
      "pretrain",
      "--config=configs/recipe.py",
      "--workdir=gs://bucket/a/W",
      *AWKWARD,
    ]
  assert pod(world, "status")[0].count(": running") == 2
  assert "already running" in pod(world, "run", "configs/recipe.py", "/disk/W", status=1)[1]
  assert "already running" in pod(world, "resume", status=1)[1]

  assert pod(world, "stop")[0].count("saved") == 2
  assert pod(world, "status")[0].count("not running") == 2
  (world / "worker1" / "called").unlink()
  pod(world, "resume")
  assert called(world, 1)[-len(AWKWARD) :] == AWKWARD
  pod(world, "stop")
  calls(world)
  pod(world, "delete")
  assert verbs(world) == ["delete"] and "not there" in pod(world, "status")[1]


@pytest.mark.parametrize(
  "state,made_again",
  [
    ("SUSPENDED", True),
    ("SUSPENDING SUSPENDED", True),
    ("FAILED", True),
    ("PREEMPTED", True),
    ("ACTIVE", False),
    ("WAITING_FOR_RESOURCES ACTIVE", False),
  ],
)
def test_resume_makes_again_what_was_taken_away(world, state, made_again):
  pod(world, "create", "--zone=z", "--type=v4-64", "--queued")
  pod(world, "setup")
  pod(world, "run", "configs/recipe.py", "/disk/W", *AWKWARD)
  first = called(world, 1)
  pod(world, "stop")
  (world / "worker1" / "called").unlink()
  (world / "queued-resources.state").write_text(state)
  calls(world)
  pod(world, "resume")
  looks = ["describe"] * len(state.split())
  again = [*looks, "delete", "create", "describe", "scp", "ssh", "ssh", "ssh"]
  assert verbs(world) == (again if made_again else [*looks, "ssh"])
  assert called(world, 1) == first


def test_what_was_started_from_another_machine_is_resumed_from_the_workers(world):
  pod(world, "create", "--zone=z", "--type=v5p-128", "--run=big")
  assert "--version=v2-alpha-tpuv5" in calls(world)[1][2]
  pod(world, "setup")
  pod(world, "run", "configs/recipe.py", "/disk/W", *AWKWARD)
  pod(world, "stop")
  shutil.rmtree(world / "checkout" / "runs")
  (world / "worker0" / "called").unlink()
  pod(world, "resume", "--run=big", "--zone=z")
  assert called(world, 0)[-len(AWKWARD) :] == AWKWARD
  pod(world, "stop", "--run=big", "--zone=z")
  assert "no run to resume" in pod(world, "resume", "--run=other", "--zone=z", status=1)[1]
  (world / "tpu-vm.state").write_text("PREEMPTED")
  assert "TYPE is not set" in pod(world, "resume", "--zone=z", status=2)[1]  # and nothing is deleted
  assert (world / "worker0").exists()


def test_a_dry_run_prints_the_commands_and_does_nothing(world):
  environment = {"DRY_RUN": "1", "ZONE": "z", "TYPE": "v6e-256"}
  expected = {
    ("create",): ["describe", "create", "describe"],
    ("setup",): ["scp", "ssh", "ssh"],
    ("stop",): ["ssh"],
    ("run", "configs/recipe.py", "gs://b/W", *AWKWARD): ["ssh"],
    ("logs", "--worker=all"): ["ssh"],
    ("status",): ["describe", "ssh"],
    ("delete",): ["delete"],
  }
  for arguments, wanted in expected.items():
    printed = [shlex.split(line) for line in pod(world, *arguments, **environment)[0].splitlines()]
    assert [line[4] for line in printed] == wanted
    assert all(line[:4] == ["gcloud", "compute", "tpus", "tpu-vm"] and "--zone=z" in line for line in printed)
    if arguments[0] == "create":
      assert {"--accelerator-type=v6e-256", "--version=v2-alpha-tpuv6e"} <= set(printed[1])
    if arguments[0] == "run":
      remote = shlex.split(printed[0][-1].removeprefix("--command="))
      assert remote[2:] == ["worker", "start", "pretrain", "configs/recipe.py", "gs://b/W", *AWKWARD]
    if arguments[0] == "logs":
      assert "--worker=all" in printed[0]
  assert not calls(world) and not (world / "checkout" / "runs").exists()


@pytest.mark.parametrize(
  "arguments,environment,named",
  [
    (["start"], {}, "unknown subcommand 'start'"),
    ([], {}, "unknown subcommand ''"),
    (["create"], {"NAME": ""}, "NAME"),
    (["create"], {"NAME": "A b"}, "NAME is 'A b'"),
    (["create"], {}, "ZONE"),
    (["create", "--zone=z"], {}, "TYPE is not set"),
    (["create", "--zone=z", "--type=h100"], {}, "TYPE is 'h100'"),
    (["create", "--zone=z", "--sport"], {}, "unknown flag '--sport'"),
    (["stop", "--zone=z", "W"], {}, "'W'"),
    (["run", "--zone=z", "configs/recipe.py"], {}, "CONFIG and WORKDIR"),
    (["run", "--zone=z", "no.py", "W"], {}, "no.py"),
    (["logs", "--zone=z", "--run=a b"], {}, "RUN is 'a b'"),
    (["logs", "--zone=z"], {"PATH": "few"}, "gcloud is not installed"),
  ],
)
def test_an_error_is_one_line(world, arguments, environment, named):
  if "PATH" in environment:
    environment = {"PATH": str(world / "few")}
    (world / "few").mkdir()
    for name in ("bash", "dirname", "tr"):
      (world / "few" / name).symlink_to(shutil.which(name))
  _, error = pod(world, *arguments, status=2, **environment)
  assert error.count("\n") == 1 and named in error and not (world / "tpu-vm.state").exists()


def test_nothing_is_made_blindly_or_again_and_again(world):
  (world / "logged_out").touch()
  error = pod(world, "create", "--zone=z", "--type=v6e-8", status=1)[1]
  assert error.count("\n") == 1 and "active account" in error and verbs(world) == ["describe"]
  (world / "logged_out").unlink()
  (world / "becomes").write_text("PROVISIONING FAILED")
  assert "was made and is FAILED" in pod(world, "create", "--zone=z", "--type=v6e-8", "--queued", status=1)[1]
  assert verbs(world) == ["describe", "create", "describe", "describe"]


def test_help_is_the_head_of_the_script(world):
  text = pod(world, "--help")[0]
  assert text == pod(world, "create", "--help")[0]
  assert all(f"\n{name}" in text for name in ("create", "setup", "run", "logs", "status", "stop", "resume", "delete"))


def jobset():
  (jobset,) = filter(None, yaml.safe_load_all(JOBSET.read_text()))
  job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
  return jobset, job, job["template"]["spec"]


def test_the_jobset_fits_together():
  jobset_, job, pod_ = jobset()
  assert (jobset_["apiVersion"], jobset_["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  (container,) = pod_["containers"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert container["resources"]["requests"]["google.com/tpu"] == chips
  selected = [pod_["nodeSelector"][f"cloud.google.com/gke-tpu-{name}"] for name in ("accelerator", "topology")]
  rows = [line.split()[1:] for line in JOBSET.read_text().splitlines() if re.match(r"#   v\d", line)]
  assert [*selected, str(job["parallelism"]), str(chips)] in [row[1:] for row in rows] and len(rows) >= 4
  for _, _, topology, hosts, chips in rows:
    assert math.prod(map(int, topology.split("x"))) == int(hosts) * int(chips)

  assert job["completions"] == job["parallelism"] and job["backoffLimit"] == 0 and job["completionMode"] == "Indexed"
  assert pod_["restartPolicy"] == "Never"  # a podFailurePolicy needs it
  assert pod_["terminationGracePeriodSeconds"] >= 120 and jobset_["spec"]["failurePolicy"]["maxRestarts"] > 0
  volumes = {volume["name"]: volume for volume in pod_["volumes"]}
  mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
  assert set(mounts.values()) == set(volumes) == {"memory"} and pod_["serviceAccountName"]
  assert container["env"][0]["value"].startswith("gs://")

  command = container["args"][2:]
  options, settings = make_parser().parse_known_args(command[1:])
  assert command[0] == "saip" and options.command == "pretrain" and options.workdir.startswith("gs://BUCKET/")
  parse_config(apply_overrides(load_recipe(REPO / options.config), settings))


@pytest.mark.parametrize(
  "program,signaled,status",
  [
    ("exit 0", False, 0),
    ("exit 7", False, 7),
    ("touch up; exec sleep 9", True, 143),
    ("trap 'exit 0' TERM; touch up; for i in {1..99}; do sleep .1; done", True, 143),
    ("trap 'exit 1' TERM; touch up; for i in {1..99}; do sleep .1; done", True, 1),
  ],
)
def test_a_preempted_pod_is_not_taken_for_a_complete_run(tmp_path, program, signaled, status):
  (container,) = jobset()[-1]["containers"]
  process = subprocess.Popen([*container["command"], *container["args"][:2], "bash", "-c", program], cwd=tmp_path)
  while signaled and not (tmp_path / "up").exists():
    time.sleep(0.02)
  if signaled:
    time.sleep(0.1)
    process.terminate()
  assert process.wait(timeout=20) == status
