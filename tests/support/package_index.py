"""Packages from the index, for tests of versions other than the installed ones."""

import functools
import pathlib
import subprocess
import sys
import tempfile

import pytest


@functools.cache
def _why_unreachable() -> str | None:
  with tempfile.TemporaryDirectory() as folder:
    done = _pip("download", "--no-deps", "--no-cache-dir", "--retries=1", "--timeout=15", f"--dest={folder}", "wheel")
  return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def need_package_index() -> None:
  """Skips the test where no package index answers."""
  why = _why_unreachable()
  if why:
    pytest.skip(f"no package index: {why}")


def installed_alone(requirement: str, folder: pathlib.Path) -> pathlib.Path:
  """Installs one package without what it requires into a folder, for PYTHONPATH, and returns the folder."""
  need_package_index()
  done = _pip("install", "--quiet", "--no-deps", f"--target={folder}", requirement)
  assert done.returncode == 0, done.stderr
  return folder


def _pip(*arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, timeout=300)
