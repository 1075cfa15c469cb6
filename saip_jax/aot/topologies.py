"""Topologies of TPUs and GPUs that a step can be compiled for without having one."""

import dataclasses
import importlib.util
import os
import pathlib
import shutil

import jax
from jax.experimental import topologies

from input_pipeline.checks import choices_hint
from saip_jax.aot.chips import CHIPS, Chip, Gpu, gpu_description

_INSTALL = f'pip install "jax[tpu]=={jax.__version__}"'  # each release of JAX names the libtpu that fits it


@dataclasses.dataclass(frozen=True)
class Topology:
  """Connected chips of one kind.

  Attributes:
    name: Google Cloud's accelerator type: v4 and v5p are counted in cores, two to a chip, v5e and v6e in chips. GPUs by
      their product, with their number if they are several in one machine: h100, h100-8.
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
    if isinstance(chip.target, Gpu):
      names = {kind if gpus == 1 else f"{kind}-{gpus}": gpus for gpus in (1, 2, 4, 8)}
      result |= {name: Topology(name, chip, f"1x1x{gpus}", gpus) for name, gpus in names.items()}
      continue
    megacore = chip.target.megacore
    for chips, shape in (deep if megacore else flat).items():
      name = f"{kind}-{2 * chips if megacore else chips}"
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
    ValueError: the compiler for them is not installed.
  """
  describe = _describe_gpus if isinstance(topology.chip.target, Gpu) else _describe_tpus
  return list(describe(topology).devices)


def _describe_tpus(topology: Topology):
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
  tpu = topology.chip.target
  options = {"chip_config_name": "megacore"} if tpu.megacore else {}
  if topology.chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  return topologies.get_topology_desc(platform="tpu", topology_name=f"{tpu.name}:{topology.shape}", **options)


def _describe_gpus(topology: Topology):
  missing = ValueError(
    f"--topology={topology.name}: compiling for a GPU needs the CUDA plugin of JAX {jax.__version__} and ptxas, which"
    ' are not installed: pip install "saip-jax[cuda-compile]"'
  )
  if not (_has_cuda_plugin() and _has_ptxas()):
    raise missing
  description = gpu_description(topology.chip)
  try:
    return topologies.get_topology_desc("", "cuda", topology=topology.shape, target_config=description)
  except NotImplementedError:  # a plugin of another JAX
    raise missing from None


def _has_cuda_plugin() -> bool:
  if importlib.util.find_spec("jax_plugins") is None:
    return False
  return any(importlib.util.find_spec(f"jax_plugins.xla_cuda{version}") for version in (12, 13))


def _has_ptxas() -> bool:
  """Whether XLA finds NVIDIA's assembler: as a Python package, which this puts on the path, or with CUDA."""
  if shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin"):
    return True
  nvidia = importlib.util.find_spec("nvidia")
  folders = [pathlib.Path(folder) for folder in nvidia.submodule_search_locations] if nvidia else []
  found = next((ptxas for folder in folders for ptxas in sorted(folder.glob("*/bin/ptxas"))), None)
  if found:
    os.environ["PATH"] = os.pathsep.join([str(found.parent), os.environ.get("PATH", "")])
  return found is not None
