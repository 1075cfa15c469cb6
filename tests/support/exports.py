"""`saip export` of the weights that the fixture `checkpoint` opens."""

import json
import pathlib

from saip_jax import cli


def run(*arguments) -> int:
  """Returns the exit status of `saip export`."""
  return cli.main(["export", "--checkpoint=W", *arguments])


def parity(folder: pathlib.Path) -> dict:
  """Returns the record of the comparison beside exported weights."""
  return json.loads((folder / "parity.json").read_text())
