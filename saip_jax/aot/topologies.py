"""TPU topologies that a step can be compiled for without having one: names, sizes and speeds."""

import dataclasses
import os

import jax

from input_pipeline.checks import choices_hint

_INSTALL = f'pip install "jax[tpu]=={jax.__version__}"'  # each release of JAX names the libtpu that fits it


@dataclasses.dataclass(frozen=True)
class Chip:
  """One TPU chip, which JAX shows as one device. Speeds are peaks from Google's data sheets.

  Attributes:
    libtpu_name: the generation, as libtpu names it.
    megacore: whether two cores work as one device.
    hbm_gib: memory of the chip, GiB.
    usable_gib: memory that the compiler may use, GiB, from the error of libtpu 0.0.42 for a program that does not fit.
    bf16_tflops: dense bfloat16 TFLOP/s.
    hbm_gb_per_s: memory bandwidth, 10^9 bytes/s.
    ici_gb_per_s: bandwidth to the neighbors, all links and one direction, 10^9 bytes/s.
    ghz: clock at which the peak is reached; turns the compiler's cycles into seconds.
  """

  libtpu_name: str
  megacore: bool
  hbm_gib: float
  usable_gib: float
  bf16_tflops: float
  hbm_gb_per_s: float
  ici_gb_per_s: float
  ghz: float


CHIPS = {
  "v4": Chip("v4", True, 32, 30.75, 275, 1228, 300, 1.05),
  "v5e": Chip("v5e", False, 16, 15.75, 197, 819, 200, 1.5),
  "v5p": Chip("v5p", True, 95, 95.74, 459, 2765, 600, 1.75),
  "v6e": Chip("v6e", False, 32, 31.25, 918, 1640, 448, 1.75),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Connected chips of one kind.

  Attributes:
    name: Google Cloud's accelerator type: v4 and v5p are counted in cores, two to a chip, v5e and v6e in chips.
    chip: their kind.
    shape: how they are arranged, as in "4x4x2".
    chips: their number.
  """

  name: str
  chip: Chip
  shape: str
  chips: int


def _topologies() -> dict[str, Topology]:
  flat = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
  deep = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8"}
  result = {}
  for kind, chip in CHIPS.items():
    for chips, shape in (deep if chip.megacore else flat).items():
      name = f"{kind}-{2 * chips if chip.megacore else chips}"
      result[name] = Topology(name, chip, shape, chips)
  return result


TOPOLOGIES = _topologies()


def find_topology(name: str) -> Topology:
  """Returns the topology of that name.

  Raises:
    ValueError: there is none; the message lists all.
  """
  if name not in TOPOLOGIES:
    known = list(TOPOLOGIES)
    raise ValueError(f"--topology is {name!r}: unknown{choices_hint(name, known)}")
  return TOPOLOGIES[name]


def describe_devices(topology: Topology) -> list[jax.Device]:
  """Returns devices to compile for; they cannot run anything.

  Raises:
    ValueError: libtpu is not installed.
  """
  try:
    import libtpu  # noqa: F401
  except ImportError:
    raise ValueError(f"compiling for a TPU needs libtpu, which is not installed: {_INSTALL}") from None
  # Queries no TPU for its metadata; several of these may run side by side.
  os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
  for name, value in {
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_ID": "0",
    "TPU_WORKER_HOSTNAMES": "localhost",
  }.items():
    os.environ.setdefault(name, value)
  from jax.experimental import topologies

  chip = topology.chip
  options = {"chip_config_name": "megacore"} if chip.megacore else {}
  if topology.chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  description = topologies.get_topology_desc(
    platform="tpu", topology_name=f"{chip.libtpu_name}:{topology.shape}", **options
  )
  return list(description.devices)
