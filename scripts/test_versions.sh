#!/usr/bin/env bash
# Tests the package at the ends of the versions that it admits, each in an environment of its own, and prints a table:
#   ./scripts/test_versions.sh                 lowest, colab and newest
#   ./scripts/test_versions.sh lowest next     these
# lowest: Python 3.11, every requirement at its lower bound.  colab: Python 3.12, what Colab and Kaggle bring.
# newest: Python 3.13, the newest of all.                     next: the same on Python 3.14.
# Environments, logs and compiled programs are kept in VERSIONS (default .versions) and used again. PyTorch is not
# installed: tests that compare with it are skipped. TESTS="PATH ..." runs others. uv finds the Pythons, or fetches them.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${VERSIONS:-$PWD/.versions}"
tests="${TESTS:-tests/backbones tests/training/test_checkpoint.py tests/training/test_loop.py tests/training/test_distributed.py
  tests/pipeline/test_pipeline.py tests/sources/test_tfds.py tests/methods/test_saip.py tests/replay tests/test_golden.py}"
tools="pytest>=8 pytest-xdist>=3.6 hypothesis>=6.100 importlib-resources>=6 tensorboard>=2.17"
# The index knows no lower bound of a requirement's requirement: TFDS 4.9.9 fails with protobuf 7 and says otherwise.
declare -A python=([lowest]=3.11 [colab]=3.12 [newest]=3.13 [next]=3.14)
declare -A wanted=(
  [lowest]="--resolution lowest-direct protobuf>=6.31.1,<7"
  [colab]="jax==0.7.2 flax==0.11.2 orbax-checkpoint==0.11.36 grain==0.2.16 numpy==2.0.2 absl-py==1.4.0
    protobuf==5.29.6 tensorflow-datasets==4.9.9 tensorflow-metadata==1.17.3"
  [newest]="--upgrade"
  [next]="--upgrade"
)
mkdir -p "$folder"
if ! uv="$(command -v uv)"; then
  uv="$folder/uv/bin/uv"
  [ -x "$uv" ] || { "${PYTHON:-python3}" -m venv "$folder/uv" && "$folder/uv/bin/pip" install --quiet uv; }
fi
if command -v pyenv > /dev/null; then  # its commands find only the versions that are switched on
  PYENV_VERSION="$(pyenv versions --bare | sort --version-sort --reverse | paste -sd :)"
  export PYENV_VERSION
fi

step() {  # NAME COMMAND...: runs it with a log of its own; sets `result`
  local log="$folder/$environment-$1.log"
  shift
  result=pass
  "$@" > "$log" 2>&1 || { result=FAIL; failed=1; echo "  $environment: failed, see $log" >&2; }
}

import_all() {
  "$bin/python" -W error::DeprecationWarning:saip_jax -W error::DeprecationWarning:input_pipeline - <<< '
import importlib, pkgutil, input_pipeline, saip_jax
for package in (input_pipeline, saip_jax):
  for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    if not module.name.endswith("__main__"):
      print(importlib.import_module(module.name).__name__)'
}

demo() {  # RECIPE: three steps on built-in people
  rm -rf "$folder/$environment-run-$1"
  [ -d "$folder/people" ] || "$bin/saip" prepare people --out="$folder/people" --count=64 --image-hw=256x128 --seed=0
  "$bin/saip" pretrain --config="configs/$1.py" --workdir="$folder/$environment-run-$1" \
    --config.data.path="$folder/people" --config.total_steps=3
}

export JAX_COMPILATION_CACHE_DIR="$folder/compiled" JAX_PLATFORMS=cpu
export XLA_FLAGS=--xla_backend_optimization_level=0  # compiling takes longest
failed=0
table="$folder/table.txt"
echo "environment|python|jax|flax|orbax|grain|numpy|protobuf|imports|saip|dino|tests" > "$table"
[ $# -gt 0 ] || set -- lowest colab newest
for environment; do
  [ -n "${python[$environment]:-}" ] || { echo "no environment $environment: ${!python[*]}" >&2; exit 2; }
  bin="$folder/$environment/bin"
  echo "$environment: Python ${python[$environment]}, $(date +%H:%M)"
  [ -x "$bin/python" ] || "$uv" venv --quiet --python "${python[$environment]}" "$folder/$environment"
  # shellcheck disable=SC2086  # lists of words
  step install "$uv" pip install --python "$bin/python" --editable . $tools ${wanted[$environment]}
  row="$environment"
  [ $result = pass ] || { echo "$row|${python[$environment]}|not installed" >> "$table"; continue; }
  row+="|$("$bin/python" -c '
import platform
from importlib.metadata import version
names = ("jax", "flax", "orbax-checkpoint", "grain", "numpy", "protobuf")
print("|".join((platform.python_version(), *map(version, names))))')"
  step imports import_all; row+="|$result"
  step saip demo saip_demo; row+="|$result"
  step dino demo dino_demo; row+="|$result"
  # shellcheck disable=SC2086
  step tests "$bin/python" -m pytest -n 2 --dist loadscope -m "not slow" -p no:cacheprovider $tests
  row+="|$(tail -n 1 "$folder/$environment-tests.log" | tr -d = | sed 's/ in .*//; s/^ *//')"
  echo "$row" >> "$table"
done
column -t -s '|' "$table" || cat "$table"  # a small Linux has no column
exit $failed
