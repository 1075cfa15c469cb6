#!/usr/bin/env bash
# Installs the package with its test requirements and runs one lane of the tests in two processes:
#   ./scripts/test.sh fast   pure functions, settings, data, metrics, layers
#   ./scripts/test.sh        fast, and everything that compiles a network or a train step
#   ./scripts/test.sh slow   whole trainings, kill and resume, large encoders
# Further arguments go to pytest.
set -euo pipefail
case "${1:-}" in
  fast) lane="not compile and not slow"; shift ;;
  slow) lane="slow"; shift ;;
  *) lane="not slow" ;;
esac
source "$(dirname "$0")/environment.sh" "[test]"
# Mostly compilation, which keeps one core busy. A module stays in one process: its tests share what they compile.
exec .venv/bin/python -m pytest -n 2 --dist loadscope -m "$lane" "$@"
