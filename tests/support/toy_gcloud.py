"""Plays gcloud for tests/test_launch.py, in the folder $WORLD.

Two workers are two home folders, the state of a TPU is a file (of several words each look takes one away), and deleting
the TPU takes what was on its workers. What it was asked is added to the file calls.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

world, arguments = pathlib.Path(os.environ["WORLD"]), sys.argv[1:]
kind, verb = arguments[2:4]
with open(world / "calls", "a") as calls:
  print(json.dumps(arguments), file=calls)
flag = lambda name: next((a.split("=", 1)[1] for a in arguments if a.startswith(f"--{name}=")), None)
homes = [world / "worker0", world / "worker1"]
state = world / f"{kind}.state"
if (world / "logged_out").exists():
  sys.exit("ERROR: (gcloud.compute.tpus) You do not currently have an active account selected.\nPlease run: login")
if verb == "describe":
  if not state.exists():
    sys.exit("ERROR: (gcloud.compute.tpus) NOT_FOUND: no such resource")
  states = state.read_text().split()
  print(states[0])
  state.write_text(" ".join(states[1:] or states))
elif verb == "create":
  made = world / "becomes"
  state.write_text(made.read_text() if made.exists() else "ACTIVE" if kind == "queued-resources" else "READY")
  for home in homes:
    home.mkdir()
elif verb == "delete":
  state.unlink()
  for home in homes:
    shutil.rmtree(home)
elif verb == "scp":
  for home in homes:
    shutil.copy(arguments[4], home / arguments[5].split(":")[1])
elif verb == "ssh":
  for home in homes if flag("worker") == "all" else homes[:1]:
    words = flag("command").split(" ")  # as gcloud does
    done = subprocess.run(["bash", "-c", " ".join(words)], cwd=home, env={**os.environ, "HOME": str(home)})
    if done.returncode:
      sys.exit(done.returncode)
