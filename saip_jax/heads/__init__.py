"""Modules on top of a backbone, used in training; only a full export includes them."""
