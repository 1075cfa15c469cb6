#!/usr/bin/env bash
# Builds the documentation into docs/_build/html; a warning is an error:
#   ./scripts/docs.sh             the tutorials as they are written
#   ./scripts/docs.sh --execute   the tutorials with their outputs: ten minutes on two CPU cores
# Further arguments go to sphinx-build.
set -euo pipefail
execute="" extras="[docs]"
if [ "${1:-}" = --execute ]; then execute=1 extras="[docs,torch]"; shift; fi  # a tutorial exports
source "$(dirname "$0")/environment.sh" "$extras"
export SAIP_DOCS_EXECUTE="$execute" PATH="$PWD/.venv/bin:$PATH"  # tutorials call saip
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.compiled}"
.venv/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html "$@"
echo "open docs/_build/html/index.html"
