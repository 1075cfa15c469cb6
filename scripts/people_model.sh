#!/usr/bin/env bash
# Trains `saip_nano_people`, the model of this package: ./scripts/people_model.sh [FOLDER]
# Two CPU cores, about half an hour, built-in people alone. Run again, it continues where it stopped.
#   mae     masked autoencoding teaches places and shapes at a thousand images/s
#   expert  the same encoder learns the identities of the training people, which rendering gives for free
#   saip    the three objectives, from the expert's weights and aligned to it, colors kept
set -euo pipefail
source "$(dirname "$0")/environment.sh" "[torch]"
out="${1:-runs/people_model}"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/.compiled}"
people=(--config.data.people_count=16384 --config.panel_every=0)
from=(--config.init_heads=False --config.init_from)

.venv/bin/saip pretrain --config=mae_nano --workdir="$out/mae" "${people[@]}" \
  --config.total_steps=16000 --config.checkpoint_every=4000
.venv/bin/saip pretrain --config=expert_people --workdir="$out/expert" "${people[@]}" "${from[@]}=$out/mae" \
  --config.total_steps=3000 --config.checkpoint_every=1000 --config.method.classes=1433
.venv/bin/saip pretrain --config=saip_expert_demo --workdir="$out/saip" "${people[@]}" "${from[@]}=$out/expert" \
  --config.method.expert="$out/expert" --config.method.color_scale=0.0 --config.optimizer.learning_rate=5e-4
.venv/bin/saip evaluate --checkpoint="$out/saip" --data=people \
  --task=reid,reid:stripes,attributes,keypoints,parsing,text,joints3d,depth,correspondence
.venv/bin/saip export --checkpoint="$out/saip" --dialect=timm --license=apache-2.0 --out="$out/saip_nano_people"
