"""Roofline of a step: the slowest of arithmetic, memory and network, each at its peak."""

import dataclasses

from saip_jax.aot.chips import Chip

# Bytes that a ring sends per byte of payload, for many devices; a permutation sends its payload once.
_RING = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "collective-permute": 1}

ASSUMPTIONS = (
  "every unit at the peak of its data sheet, the three overlap perfectly, data arrives in time, saves cost nothing;"
  " collectives as rings over all links of a chip"
)


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Least time of one step on one chip.

  Attributes:
    compute_s: arithmetic.
    memory_s: traffic with the chip's memory.
    network_s: traffic with other chips.
  """

  compute_s: float
  memory_s: float
  network_s: float

  @property
  def bound(self) -> str:
    """The slowest of the three."""
    times = {"compute": self.compute_s, "memory": self.memory_s, "network": self.network_s}
    return max(times, key=times.get)

  @property
  def step_s(self) -> float:
    return max(self.compute_s, self.memory_s, self.network_s)


def roofline(chip: Chip, flops: float, hbm_bytes: float, collectives: dict[str, tuple[int, int]]) -> Roofline:
  """Returns the least times of a step.

  Args:
    chip: the kind of chip.
    flops: floating-point operations per chip.
    hbm_bytes: bytes of memory traffic per chip.
    collectives: kind -> (number, bytes of payload) per chip.
  """
  sent = sum(_RING[kind] * size for kind, (_, size) in collectives.items())
  return Roofline(
    flops / (chip.bf16_tflops * 1e12), hbm_bytes / (chip.hbm_gb_per_s * 1e9), sent / (chip.link_gb_per_s * 1e9)
  )
