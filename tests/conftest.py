"""Test set-up: must run before jax is imported anywhere."""

import ast
import atexit
import contextlib
import ctypes
import functools
import gc
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
# The tests compile much and compute little: LLVM's optimizations double the time, MLIR's emitters of fused loops double
# what is left of it, and the memory.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
_REPO = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_REPO / ".pytest_cache" / "jax"))
# Small programs are cached too: between the two processes, after `jax.clear_caches()`, and for the next run.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ["SAIP_CACHE"] = tempfile.mkdtemp(prefix="saip_cache_")  # never the user's own
atexit.register(shutil.rmtree, os.environ["SAIP_CACHE"], ignore_errors=True)
sys.path.insert(0, str(_REPO))
gc.set_threshold(20_000, 20, 10)  # tracing makes many objects that stay: Python looks for garbage less often

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

hypothesis.settings.register_profile("repeatable", derandomize=True)  # every run draws the same examples
hypothesis.settings.load_profile("repeatable")
flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which only absl.app parses


_NETWORKS = (
  "saip_jax.aot",
  "saip_jax.backbones",
  "saip_jax.evaluation.encoders",
  "saip_jax.heads",
  "saip_jax.interop",
  "saip_jax.methods",
  "saip_jax.pretraining",
  "saip_jax.replay",
  "saip_jax.training",
  "tests.support.kill_and_resume",
  "tests.support.processes",
  "tests.support.tiny_",
  "tests.support.toy_finetune",
)
"""A test module that imports one of these builds networks or trains, so it is marked `compile`."""
_MAX_RSS = 3 * 2**29
"""Bytes; a larger process forgets what it has compiled, and finds it again in the compilation cache."""


def pytest_configure():
  """Imports torchvision before a test does: the package knows how, if it was built for another torch."""
  from saip_jax.interop.torch_model import import_package

  with contextlib.suppress(ImportError):
    import_package("torchvision")


@functools.cache
def _imports_networks(path):
  for node in ast.parse(path.read_text("utf-8")).body:
    names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
    module = getattr(node, "module", None)
    if any((f"{module}.{name}" if module else name).startswith(_NETWORKS) for name in names):
      return True
  return False


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
  for item in items:
    if _imports_networks(item.path):
      item.add_marker("compile")


def pytest_collection_finish():
  """What is imported stays: Python need not look for garbage there."""
  gc.freeze()


def _rss():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
  """Returns freed memory to the system after each module, as a process that compiles keeps gigabytes."""
  yield
  if not sys.platform.startswith("linux"):
    return
  trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda keep: None)  # glibc alone keeps what XLA frees
  trim(0)
  if _rss() > _MAX_RSS and "jax" in sys.modules:
    sys.modules["jax"].clear_caches()
    gc.collect()
    trim(0)


@pytest.fixture
def torch():
  """PyTorch with timm beside it, on one thread: the machine's cores are shared."""
  from saip_jax.interop.torch_model import why_missing

  missing = why_missing(("torch", "timm"))
  if missing:
    pytest.skip(missing)
  import torch

  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield torch
  torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def rendered_samples(tmp_path_factory):
  """Rendered photos of people in the layouts of public data sets."""
  from tests.support.sample_photos import write_samples

  return write_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(params=["rendered", pytest.param("real", marks=[pytest.mark.real_photos, pytest.mark.slow])])
def samples(request):
  """The rendered samples; and the real ones, where they are present."""
  from tests.support.sample_photos import Samples, real_or_skip

  return request.getfixturevalue("rendered_samples") if request.param == "rendered" else Samples(real_or_skip(), True)
