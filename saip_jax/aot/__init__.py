"""Ahead-of-time compilation: what a train step costs on a TPU topology, without a TPU."""
