"""Scores of the field's tasks: arrays of numpy in, a frozen dataclass of scores out; shares are 0 to 1.

Each file states the protocol that it follows, and its tests hold it to the implementation that people trust.
"""
