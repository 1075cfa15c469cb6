"""The table of a `breakdown`: a line for each part, a column for each kind of work."""

import collections

from saip_jax.aot.breakdown import KINDS, Row


def breakdown_table(rows: list[Row]) -> str:
  """Returns the costs as an aligned table: million cycles, their share, ideal million cycles, traffic in 10^9 bytes.

  Args:
    rows: from `breakdown`.
  """
  parts = list(dict.fromkeys(row.part for row in rows))
  kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
  whole = sum(row.cycles for row in rows) or 1
  lines = [("Mcycles", "all", "%", "ideal", "GB", *kinds)]
  for part in [*parts, "total"]:
    own = [row for row in rows if part in (row.part, "total")]
    cycles = sum(row.cycles for row in own)
    by_kind = collections.Counter()
    for row in own:
      by_kind[row.kind] += row.cycles
    numbers = [f"{cycles / 1e6:.2f}", f"{100 * cycles / whole:.1f}"]
    numbers += [f"{sum(row.ideal_cycles for row in own) / 1e6:.2f}", f"{sum(row.hbm_bytes for row in own) / 1e9:.2f}"]
    lines.append((part, *numbers, *(f"{by_kind[kind] / 1e6:.2f}" for kind in kinds)))
  widths = [max(map(len, column)) for column in zip(*lines)]
  return "\n".join(
    "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
    for line in lines
  )
