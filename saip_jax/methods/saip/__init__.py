"""SAIP: cross-scale matching, reconstruction and search."""
