#!/usr/bin/env bash
# Installs the environment, renders built-in people and trains SAIP on two CPU cores. A second run reuses all of it.
set -euo pipefail
source "$(dirname "$0")/environment.sh" ""  # an explicit argument, or it would see those of this script
people=runs/people workdir=runs/demo
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.compiled}"

.venv/bin/saip prepare people --out="$people" --count=512 --image-hw=256x128 --seed=0
.venv/bin/saip pretrain --config=configs/saip_demo.py --workdir="$workdir" --config.data.path="$people" "$@"
