"""Weights in the names of PyTorch implementations: one table per dialect, applied in both directions."""
