#!/usr/bin/env bash
# Trains on a Cloud TPU, one machine or a pod, through gcloud (installed and logged in).
#
#   export NAME=pod ZONE=us-west4-a
#   scripts/tpu_pod.sh create --type=v5e-256 --queued --spot
#   scripts/tpu_pod.sh setup
#   scripts/tpu_pod.sh run configs/saip_vit_tiny.py gs://BUCKET/W --config.data.source=arrayrecord ...
#   scripts/tpu_pod.sh logs
#
# create                   create the TPU, or reuse it; returns when it is ready
# setup                    copy the commits of this checkout to all workers and install them
# run CONFIG WORKDIR ...   start saip pretrain on all workers; a lost connection does not end it
# logs [--worker=all]      follow the log of worker 0, or of --worker
# status                   state of the TPU, and of the run on each worker
# stop                     send SIGTERM: the run saves and ends; returns when it has ended
# resume                   start the same run again; first recreates and sets up a TPU that was preempted
# delete                   delete the TPU
#
# WORKDIR must be one place for all workers: gs://BUCKET/W, or a folder of a network disk.
#
# Settings, from the environment or as flags after the subcommand; those of create and run are stored for NAME:
#   NAME, --name        of the TPU                       TYPE, --type        v5e-256, v6e-256, v5p-128, v4-64, ...
#   ZONE, --zone        where it is                      VERSION, --version  its runtime (the usual one for TYPE)
#   PROJECT, --project  gcloud's default if unset        RUN, --run          name of the run's files (pretrain)
#   QUEUED=1, --queued  wait in the queue for resources  SPOT=1, --spot      cheaper, may be preempted
#   POLL, --poll        seconds between two checks (30)  DRY_RUN=1           only print the gcloud commands, as if
#                                                                            nothing existed yet
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout="$PWD" self="$PWD/scripts/tpu_pod.sh"

help() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$self"; }
say() { printf '%s\n' "$1" >&2; }
fail() { say "tpu_pod.sh: error: $1"; exit "${2:-2}"; }
call() { if [ -z "${DRY_RUN:-}" ]; then gcloud "$@"; else printf 'gcloud'; printf ' %q' "$@"; echo; fi; }
on() { call "${vm[@]}" ssh "$NAME" "${place[@]}" "--worker=$1" "--command=$2"; }
on_all() { local line; printf -v line ' %q' bash saip_jax/scripts/tpu_pod.sh worker "$@"; on all "${line# }"; }

# Runs on a worker: worker STEP RUN [CONFIG WORKDIR ...]. The files of a run are ~/saip_RUN.args, .pid and .log.
worker() {
  local step="$1" file="$HOME/saip_$2"
  shift 2
  case "$step" in
    install)  # uv, because the Python of these machines is too old
      PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
      [ -x ~/saip_venv/bin/python ] || python3 -m uv venv --quiet --python '>=3.11' ~/saip_venv
      python3 -m uv pip install --quiet --python ~/saip_venv/bin/python -e "${checkout}[tpu,cloud]" ;;
    start)
      ! running "$file" || fail "$(hostname): already running; stop it first" 1
      [ $# = 0 ] || printf '%q ' "$@" > "$file.args"
      [ -f "$file.args" ] || fail "$(hostname): no run to resume" 1
      setsid bash "$self" worker exec "${file##*/saip_}" < /dev/null >> "$file.log" 2>&1 &
      echo $! > "$file.pid" ;;
    exec)  # the program replaces this shell, so the recorded pid is its own
      eval "set -- $(cat "$file.args")"
      local config="$1" workdir="$2"
      shift 2
      export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/saip_compiled}"
      exec ~/saip_venv/bin/saip pretrain --config="$config" --workdir="$workdir" "$@" ;;
    status)
      if running "$file"; then echo "$(hostname): running"; else echo "$(hostname): not running"; fi
      tail -n 1 "$file.log" 2> /dev/null || true ;;
    stop)
      ! running "$file" || kill -TERM "$(cat "$file.pid")"
      while running "$file"; do sleep 0.2; done
      tail -n 3 "$file.log" ;;
  esac
}
running() { grep -qsa saip "/proc/$(cat "$1.pid" 2> /dev/null || echo none)/cmdline"; }

# Sets STATE, empty if there is no such TPU; a dry run knows only what it created itself.
look() {
  local ask=("${resource[@]}" describe "$NAME" "${place[@]}" "--format=value($field)") answer
  if [ -n "${DRY_RUN:-}" ]; then call "${ask[@]}"; return; fi
  STATE=""
  if answer="$(gcloud "${ask[@]}" 2>&1)"; then STATE="$(grep -xE '[A-Z_]+' <<< "$answer" || true)"  # and no warnings
  else [[ "$answer" == *NOT_FOUND* ]] || fail "cannot ask for $NAME: ${answer//$'\n'/ }" 1; fi
}

# Returns when the TPU is ready; FRESH is set if it was created.
ensure() {
  STATE="" FRESH=""
  while look; do
    case "$STATE" in
      READY | ACTIVE) return ;;
      "" | PREEMPTED | TERMINATED | SUSPENDED | FAILED)
        [ -z "$FRESH" ] || fail "$NAME was made and is ${STATE:-gone}; see gcloud ${resource[*]} describe" 1
        make_arguments
        if [ -n "$STATE" ]; then say "$NAME is $STATE: creating it again"; remove; fi
        call "${resource[@]}" create "$NAME" "${place[@]}" "${made[@]}" ${SPOT:+--spot}
        FRESH=1 STATE=READY ;;
      STOPPED) call "${resource[@]}" start "$NAME" "${place[@]}" ;;
      *) say "$NAME is $STATE"; sleep "${POLL:-30}" ;;
    esac
  done
}

make_arguments() {
  [ -n "${TYPE:-}" ] || fail "TYPE is not set: expected a kind of TPU such as v5e-256; set TYPE or --type"
  local type="${TYPE/#v5e-/v5litepod-}" version="${VERSION:-}"
  [ -n "$version" ] || case "$type" in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) version=tpu-ubuntu2204-base ;;
    *) fail "TYPE is '$TYPE': no runtime is known for it; set VERSION or --version" ;;
  esac
  if [ -n "${QUEUED:-}" ]; then made=("--node-id=$NAME" "--accelerator-type=$type" "--runtime-version=$version")
  else made=("--accelerator-type=$type" "--version=$version"); fi
}

remove() { call "${resource[@]}" delete "$NAME" "${place[@]}" ${QUEUED:+--force}; }

setup() {
  local archive="${TMPDIR:-/tmp}/saip_jax_$NAME.tar.gz"
  if [ -z "${DRY_RUN:-}" ]; then
    [ -z "$(git status --porcelain)" ] || say "uncommitted changes are not copied"
    git archive --format=tar.gz --prefix=saip_jax/ --output="$archive" HEAD
  fi
  call "${vm[@]}" scp "$archive" "$NAME:saip_jax.tar.gz" "${place[@]}" --worker=all
  on all "rm -rf saip_jax && tar xzf saip_jax.tar.gz"
  on_all install "$RUN"
}

remember() {
  [ -z "${DRY_RUN:-}" ] || return 0
  mkdir -p runs/pods
  for key in ZONE PROJECT TYPE VERSION QUEUED SPOT RUN STARTED; do echo "$key=${!key:-}"; done > "$memory"
}

subcommand="${1:-}" workers=0
[ $# = 0 ] || shift
case "$subcommand" in
  worker) worker "$@"; exit ;;
  create | setup | run | logs | status | stop | resume | delete) ;;
  -h | --help | help) help; exit ;;
  *) fail "unknown subcommand '$subcommand': expected create, setup, run, logs, status, stop, resume or delete" ;;
esac
while [[ "${1:-}" == -* ]]; do
  case "$1" in
    --name=* | --zone=* | --project=* | --type=* | --version=* | --run=* | --poll=*)
      key="${1%%=*}" key="$(tr '[:lower:]' '[:upper:]' <<< "${key#--}")"
      printf -v "$key" %s "${1#*=}" ;;
    --queued) QUEUED=1 ;;
    --spot) SPOT=1 ;;
    --worker=*) workers="${1#*=}" ;;
    -h | --help) help; exit ;;
    *) fail "unknown flag '$1'; see tpu_pod.sh --help" ;;
  esac
  shift
done
[ "$subcommand" = run ] || [ $# = 0 ] || fail "$subcommand takes no argument '$1'; see tpu_pod.sh --help"
[[ "${NAME:-}" =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
  fail "NAME is '${NAME:-}': expected the name of the TPU, of a-z, 0-9 and -; set NAME or --name"
memory="runs/pods/$NAME" STARTED=""
if [ -f "$memory" ]; then  # settings of this call take precedence
  while IFS='=' read -r key value; do [ -n "${!key:-}" ] || printf -v "$key" %s "$value"; done < "$memory"
fi
[ -n "${ZONE:-}" ] || fail "ZONE is not set: expected the zone of the TPU, such as us-west4-a; set ZONE or --zone"
RUN="${RUN:-pretrain}"
[[ "$RUN" =~ ^[-_.A-Za-z0-9]+$ ]] || fail "RUN is '$RUN': expected only letters, digits and - _ ."
[ -n "${DRY_RUN:-}" ] || type gcloud > /dev/null 2>&1 || fail "gcloud is not installed: see cloud.google.com/sdk"
place=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"} --quiet)
vm=(compute tpus tpu-vm)
if [ -n "${QUEUED:-}" ]; then resource=(compute tpus queued-resources) field=state.state
else resource=("${vm[@]}") field=state; fi

case "$subcommand" in
  create) remember; ensure ;;
  setup) setup ;;
  run)
    [ $# -ge 2 ] || fail "run needs CONFIG and WORKDIR, such as configs/saip_vit_tiny.py gs://BUCKET/W"
    [ -f "$1" ] || fail "CONFIG is '$1': no such file in this checkout"
    printf -v STARTED ' %q' "$@"
    on_all start "$RUN" "$@"
    remember ;;
  resume)
    ensure
    if [ -n "$FRESH" ]; then
      setup
      [ -n "$STARTED" ] || fail "$NAME is new, and no run is stored for it; use run" 1
    fi
    eval "set -- $STARTED"  # otherwise each worker uses its own record
    on_all start "$RUN" "$@" ;;
  logs) on "$workers" "tail -n 100 -F saip_$RUN.log" ;;
  status)
    STATE=""
    look
    say "$NAME: ${STATE:-not there}"
    [[ -z "${DRY_RUN:-}" && "$STATE" != READY && "$STATE" != ACTIVE ]] || on_all status "$RUN" ;;
  stop) on_all stop "$RUN" ;;
  delete) remove ;;
esac
