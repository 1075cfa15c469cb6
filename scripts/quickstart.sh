#!/usr/bin/env bash
# From nothing to a pre-trained model: environment, built-in people, SAIP on two CPU cores. Run again, it reuses all.
set -euo pipefail
source "$(dirname "$0")/environment.sh" ""  # without an argument it would see ours
people=runs/people workdir=runs/demo
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.compiled}"

.venv/bin/saip prepare people --out="$people" --count=512 --image-hw=256x128 --seed=0
.venv/bin/saip pretrain --config=configs/saip_demo.py --workdir="$workdir" --config.data.path="$people" "$@"
