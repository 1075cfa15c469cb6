"""Self-supervised pre-training of lightweight human-centric vision models, in JAX."""

__version__ = "0.1.0"
