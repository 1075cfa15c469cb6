"""The accelerators that a step can be compiled for without having one: how compilers name them, sizes and speeds."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Tpu:
  """What libtpu needs to know.

  Attributes:
    name: the generation, as libtpu names it.
    megacore: whether two cores work as one device.
  """

  name: str
  megacore: bool


@dataclasses.dataclass(frozen=True)
class Gpu:
  """What XLA needs to know of a GPU of NVIDIA, which has to be there otherwise.

  Attributes:
    compute_capability: (major, minor).
    multiprocessors: how many the product has.
    lanes: float32 operations of a multiprocessor per clock.
    threads: most resident threads of a multiprocessor.
    shared_kib: shared memory of a multiprocessor, KiB; a block may have one KiB less.
    l2_mib: second-level cache, MiB.
  """

  compute_capability: tuple[int, int]
  multiprocessors: int
  lanes: int
  threads: int
  shared_kib: int
  l2_mib: int


@dataclasses.dataclass(frozen=True)
class Chip:
  """One TPU chip or GPU, which JAX shows as one device. Speeds are peaks from data sheets.

  Attributes:
    target: what its compiler needs to know.
    hbm_gib: memory of the chip, GiB.
    usable_gib: memory that a program may use, GiB: for TPUs from the error of libtpu 0.0.42 for a program that does not
      fit, for GPUs the 75 % that JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise; of a real GPU the
      driver shows a few percent less than the data sheet.
    bf16_tflops: dense bfloat16 TFLOP/s.
    hbm_gb_per_s: memory bandwidth, 10^9 bytes/s.
    link_gb_per_s: bandwidth to the neighbors, all links and one direction, 10^9 bytes/s.
    ghz: clock at which the peak is reached; turns the compiler's cycles into seconds.
  """

  target: Tpu | Gpu
  hbm_gib: float
  usable_gib: float
  bf16_tflops: float
  hbm_gb_per_s: float
  link_gb_per_s: float
  ghz: float


_HOPPER = Gpu((9, 0), multiprocessors=132, lanes=128, threads=2048, shared_kib=228, l2_mib=50)
_AMPERE = Gpu((8, 0), multiprocessors=108, lanes=64, threads=2048, shared_kib=164, l2_mib=40)
_ADA = Gpu((8, 9), multiprocessors=58, lanes=128, threads=1536, shared_kib=100, l2_mib=48)

CHIPS = {
  "v4": Chip(Tpu("v4", True), 32, 30.75, 275, 1228, 300, 1.05),
  "v5e": Chip(Tpu("v5e", False), 16, 15.75, 197, 819, 200, 1.5),
  "v5p": Chip(Tpu("v5p", True), 95, 95.74, 459, 2765, 600, 1.75),
  "v6e": Chip(Tpu("v6e", False), 32, 31.25, 918, 1640, 448, 1.75),
  "h100": Chip(_HOPPER, 80, 60, 989.4, 3350, 450, 1.83),
  "h200": Chip(_HOPPER, 141e9 / 2**30, 0.75 * 141e9 / 2**30, 989.4, 4800, 450, 1.83),
  "a100": Chip(_AMPERE, 40, 30, 312, 1555, 300, 1.41),
  "a100_80gb": Chip(_AMPERE, 80, 60, 312, 2039, 300, 1.41),
  "l4": Chip(_ADA, 24, 18, 121, 300, 32, 2.04),
}
"""Sources: Google Cloud's pages of the TPU versions; NVIDIA's data sheets of H100 SXM (HBM3, NVLink), H200 SXM, A100
SXM and L4 (PCIe 4.0 x16), without sparsity; multiprocessors and caches from the white papers of the architectures
Hopper, Ampere and Ada; limits of a multiprocessor from the CUDA C++ Programming Guide, technical specifications per
compute capability. The clock of a GPU is that of its peak: FLOP/s / (multiprocessors x FLOP per clock)."""


def gpu_description(chip: Chip) -> str:
  """Returns a GPU as XLA describes it, a text of the protocol buffer GpuTargetConfigProto."""
  gpu = chip.target
  major, minor = gpu.compute_capability
  return f"""
    gpu_device_info {{
      cuda_compute_capability {{ major: {major} minor: {minor} }}
      core_count: {gpu.multiprocessors}
      fpus_per_core: {gpu.lanes}
      clock_rate_ghz: {chip.ghz}
      memory_bandwidth: {round(chip.hbm_gb_per_s * 1e9)}
      device_memory_size: {round(chip.hbm_gib * 2**30)}
      l2_cache_size: {gpu.l2_mib * 2**20}
      shared_memory_per_core: {gpu.shared_kib * 2**10}
      shared_memory_per_block: {48 * 2**10}
      shared_memory_per_block_optin: {(gpu.shared_kib - 1) * 2**10}
      threads_per_warp: 32
      threads_per_block_limit: 1024
      threads_per_core_limit: {gpu.threads}
      registers_per_core_limit: 65536
      registers_per_block_limit: 65536
      block_dim_limit_x: 2147483647
      block_dim_limit_y: 65535
      block_dim_limit_z: 65535
    }}
    platform_name: "CUDA"
  """
