"""Weights in the naming of PyTorch implementations: one table per dialect, read in both directions."""
