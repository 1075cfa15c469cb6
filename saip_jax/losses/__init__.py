"""Losses: pure functions from arrays of the global batch to scalars."""
