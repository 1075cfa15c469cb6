"""Modules on top of a backbone: they train it and are left behind by every export but the full one."""
