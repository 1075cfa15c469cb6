"""A process on CPU keeps the memory that its programs free."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from saip_jax.host_memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
import jax, jax.numpy as jnp
a = jnp.ones((20_000, 4))
whole = lambda a: jnp.sum(jnp.sin(a @ jnp.ones((4, 1024))) @ jnp.ones((1024, 4)))
program = jax.jit(whole).lower(a).compile()
assert program.memory_analysis().temp_size_in_bytes > 2**26
for _ in range(int(sys.argv[2])):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  jax.block_until_ready(program(a))
  print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, runs: int, **variables) -> tuple[str, list[int]]:
  environment = {
    name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_", "XLA_FLAGS"))
  }
  environment |= {"JAX_PLATFORMS": "cpu", **variables}
  lines = subprocess.run(
    [sys.executable, "-c", PROGRAM, how, str(runs)], env=environment, check=True, capture_output=True, text=True
  ).stdout.split()
  return lines[0], [int(n) for n in lines[1:]]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is set")
def test_a_program_runs_again_in_the_same_memory():
  done, kept = faults("keep", 40)
  _, anew = faults("leave", 5)
  assert done == "True"
  assert min(anew[1:]) > 10_000  # pages of 4 KiB: all of the temporary arrays
  assert sorted(kept[20:])[10] < 500  # the heap has grown in the first ones


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is set")
def test_the_users_own_allocator_settings_stay():
  done, _ = faults("keep", 0, MALLOC_ARENA_MAX="2")
  assert done == "False"
