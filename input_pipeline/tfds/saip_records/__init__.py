"""A TensorFlow Datasets builder for sets of `saip prepare`: `tfds build` in this folder."""
