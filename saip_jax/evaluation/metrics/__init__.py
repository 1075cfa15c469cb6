"""Metrics: numpy arrays -> a frozen dataclass of scores; fractions are from 0 to 1.

Each module states its protocol; its tests compare it with the reference implementation.
"""
