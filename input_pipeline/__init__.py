"""The host side of training: image sources, decoding, the Grain pipeline, the built-in people. Never imports jax."""
