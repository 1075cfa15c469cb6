"""Objectives as pure functions: arrays of the global batch in, scalars out."""
