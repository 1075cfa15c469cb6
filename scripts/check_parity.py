"""Compares a step of a method with recorded numbers of its published code: python scripts/check_parity.py FIXTURE.npz

The file names the method and its sizes: SAIP, MAE, DINO, HAP, CroCo or HCMoCo.
"""

import argparse
import itertools
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from saip_jax.replay import Check, Recording, replay

_KINDS = r"loss|out|rand|grad_norm_as_published|grad_norm|grad|\w*after|schedule"
_LISTED = 5


def kind_of(name: str) -> str:
  """Returns the kind of a quantity: "decay", or the part of its name up to its kind, as in "bilinear/loss"."""
  found = re.match(rf"(.*?\b(?:{_KINDS}))(?:/|$)", name)
  return found[1] if found else name.partition(" of ")[0]


def report(recording: Recording, every: bool) -> str:
  """Returns the table: all losses and outputs, and the worst of each other kind, unless `every` is set."""
  worth = lambda check: (check.error != check.error, check.error / check.limit if check.limit else check.error)
  lines = [f"{'quantity':<76}{'error':>9}{'limit':>9}"]
  by_kind: dict[str, list[Check]] = {}
  for check in recording.checks:
    by_kind.setdefault(kind_of(check.name), []).append(check)
  for kind, group in by_kind.items():
    shown = group if every or kind.endswith(("loss", "out")) else [max(group, key=worth)]  # NaN first
    for check in itertools.chain(shown, (c for c in group if not c.passed and c not in shown)):
      name = check.name + (f" (worst of {len(group)})" if len(shown) < len(group) and check is shown[0] else "")
      lines.append(f"{name:<76}{check.error:>9.1e}{check.limit:>9.0e}{'' if check.passed else '  FAILED'}")
  left, results = recording.left, recording.results
  passed = sum(check.passed for check in recording.checks)
  lines.append(
    f"{passed} of {len(recording.checks)} quantities within their limits; {len(results) - len(left)} of"
    f" {len(results)} recorded results compared"
    + (f", not: {', '.join(left[:_LISTED])}" if left else "")
    + (f" and {len(left) - _LISTED} more" if len(left) > _LISTED else "")
  )
  return "\n".join(lines)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("fixture", help=".npz with weights, inputs, random draws and results of one step")
  parser.add_argument("--all", action="store_true", help="a line per tensor instead of the worst of each kind")
  args = parser.parse_args()
  try:
    recording = replay(args.fixture)
  except (OSError, ValueError, KeyError) as error:
    print(f"check_parity: error: {args.fixture} cannot be replayed: {error}", file=sys.stderr)
    return 2
  print(report(recording, args.all))
  return 0 if recording.checks and all(check.passed for check in recording.checks) else 1


if __name__ == "__main__":
  sys.exit(main())
