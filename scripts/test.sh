#!/usr/bin/env bash
# Installs the package with its test requirements and runs the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "[test]"
exec .venv/bin/python -m pytest "$@"
