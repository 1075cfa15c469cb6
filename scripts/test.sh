#!/usr/bin/env bash
# Installs the package with its test requirements and runs the tests in two processes; arguments go to pytest.
# Tests marked slow wait for `./scripts/test.sh -m slow`; .ci/run runs both.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "[test]"
# Mostly compilation, which keeps one core busy. A module stays in one process: its tests share what they compile.
exec .venv/bin/python -m pytest -n 2 --dist loadscope -m "not slow" "$@"
