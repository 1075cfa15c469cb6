#!/usr/bin/env bash
# Makes a small expert that knows the built-in people, and pre-trains SAIP with it: ./scripts/expert_demo.sh [FOLDER]
# Two CPU cores, about fifteen minutes. Run again, it continues where it stopped.
set -euo pipefail
source "$(dirname "$0")/environment.sh" ""
out="${1:-runs/expert_demo}"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.compiled}"

.venv/bin/saip pretrain --config=expert_people --workdir="$out/expert"
.venv/bin/saip pretrain --config=saip_expert_demo --workdir="$out/student" --config.method.expert="$out/expert"
for encoder in expert student; do
  echo "re-identification by the $encoder:"
  .venv/bin/saip evaluate --checkpoint="$out/$encoder" --task=reid --data=people --protocol=nearest
done
