"""Data sets with annotations, one module for each format or family."""
