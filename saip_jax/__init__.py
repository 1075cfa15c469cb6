"""Self-supervised pre-training of lightweight human-centric vision models, in JAX."""

from typing import TYPE_CHECKING

from saip_jax.version import __version__ as __version__

if TYPE_CHECKING:
  from saip_jax.interop.weights import load_backbone as load_backbone
  from saip_jax.pretraining import pretrain as pretrain


def __getattr__(name):  # on first use: importing JAX takes seconds
  if name == "load_backbone":
    from saip_jax.interop.weights import load_backbone

    return load_backbone
  if name == "pretrain":
    from saip_jax.pretraining import pretrain

    return pretrain
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
