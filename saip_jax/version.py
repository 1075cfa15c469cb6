"""The version of the program, which runs and exports record."""

__version__ = "0.1.0"
