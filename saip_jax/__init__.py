"""Self-supervised pre-training of lightweight human-centric vision models, in JAX."""

from saip_jax.version import __version__ as __version__


def __getattr__(name):
  if name == "load_backbone":  # on first use: importing JAX takes seconds
    from saip_jax.interop.weights import load_backbone

    return load_backbone
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
