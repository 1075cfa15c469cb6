"""The table of a `breakdown`: a line for each part, a column for each kind of work."""

import collections

from saip_jax.aot.breakdown import KINDS, Row

_SMALLEST = 5e-4  # share of the cycles; smaller parts share a line


def breakdown_table(rows: list[Row]) -> str:
  """Returns the costs as an aligned table: million cycles, their share, ideal million cycles, traffic in 10^9 bytes.

  Args:
    rows: from `breakdown`.
  """
  whole = sum(row.cycles for row in rows)
  parts = collections.defaultdict(list)
  for row in rows:
    parts[row.part].append(row)
  small = [part for part, own in parts.items() if sum(row.cycles for row in own) < _SMALLEST * whole]
  if len(small) > 1:
    parts[f"{len(small)} smaller parts"] = [row for part in small for row in parts.pop(part)]
  kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
  lines = [("", "all", "%", "ideal", "GB", *kinds)]
  for part, own in [*parts.items(), ("total", rows)]:
    by_kind = collections.Counter()
    for row in own:
      by_kind[row.kind] += row.cycles
    cycles = by_kind.total()
    ideal, traffic = sum(row.ideal_cycles for row in own), sum(row.hbm_bytes for row in own)
    numbers = cycles / 1e6, 100 * cycles / max(whole, 1), ideal / 1e6, traffic / 1e9
    lines.append((part, *(f"{number:.2f}" for number in (*numbers, *(by_kind[kind] / 1e6 for kind in kinds)))))
  widths = [max(map(len, column)) for column in zip(*lines)]
  return "\n".join(
    "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
    for line in lines
  )
