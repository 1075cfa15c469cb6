"""Compares one SAIP step with numbers recorded from the published code: python scripts/check_parity.py FIXTURE.npz"""

import argparse
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from saip_jax.interop.parity import replay  # noqa: E402


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("fixture", help=".npz with weights, inputs, random draws and results of one step")
  parser.add_argument("--all", action="store_true", help="a line per tensor instead of the worst of each kind")
  args = parser.parse_args()
  try:
    checks = replay(args.fixture)
  except (OSError, ValueError, KeyError) as error:
    print(f"check_parity: error: {args.fixture} cannot be replayed: {error}", file=sys.stderr)
    return 2

  print(f"{'quantity':<66}{'max rel. error':>15}{'limit':>9}")
  for kind, group in itertools.groupby(checks, key=lambda c: c.name.split("/")[0]):
    group = list(group)
    worst = max(group, key=lambda c: (c.error != c.error, c.error / c.limit))  # NaN before all
    shown = group if args.all or kind in ("loss", "out") else [worst]
    for check in shown:
      others = f" (worst of {len(group)})" if len(shown) < len(group) else ""
      print(f"{check.name + others:<66}{check.error:>15.1e}{check.limit:>9.0e}{'' if check.passed else '  FAILED'}")
  failed = sum(not check.passed for check in checks)
  print(f"{len(checks) - failed} of {len(checks)} quantities within their limits")
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
