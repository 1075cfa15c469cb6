"""`python -m saip_jax` is the `saip` command."""

import sys

from saip_jax.cli import main

if __name__ == "__main__":  # worker processes import this file again
  sys.exit(main())
