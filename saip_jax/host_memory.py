"""Keeps the memory of a step on CPU between steps, instead of returning it to the system and taking it anew."""

import ctypes
import os
import pathlib
import platform

_ACCELERATORS = ("nvidia[0-9]*", "accel*", "vfio/[0-9]*", "kfd", "dxg")  # files in /dev: GPUs, TPUs, AMD, WSL
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h
_OWN = ("GLIBC_TUNABLES", "LD_PRELOAD")  # the user has chosen an allocator or its behavior


def keep_freed_memory() -> bool:
  """Makes this process keep the memory that it frees, if it computes on CPU; to be called before JAX starts.

  XLA on CPU allocates the temporary arrays of a program at each execution. The C library maps so large a piece anew
  each time, and the system clears it page by page: 48,000 page faults and 100 ms of processor time for each step of
  `saip_nano`. Afterwards one heap holds everything and never shrinks; threads that have allocated before keep theirs.

  Machines with an accelerator, other C libraries, and processes whose allocator the user has set (MALLOC_*,
  GLIBC_TUNABLES, LD_PRELOAD) are left alone.

  Returns:
    Whether it was done.
  """
  chosen = any(name.startswith("MALLOC_") or name in _OWN for name in os.environ)
  if chosen or platform.libc_ver()[0] != "glibc" or _has_accelerator():
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = (_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20)
  return all([mallopt(*setting) for setting in settings])


def _has_accelerator() -> bool:
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return False
  return any(any(pathlib.Path("/dev").glob(pattern)) for pattern in _ACCELERATORS)
