"""Builders for TensorFlow Datasets."""
