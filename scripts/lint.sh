#!/usr/bin/env bash
# Checks format, lint and the types of the public interfaces; changes nothing. `ruff format . && ruff check --fix .` mends.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "[test]"
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
