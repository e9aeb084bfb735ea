#!/usr/bin/env bash
# Start TensorFlow Serving on an export, and wait until it is ready:
#   bash scripts/deploy/start.sh EXPORT [cpu|gpu]      EXPORT is the folder of version folders
#   bash scripts/deploy/start.sh --stop
# FCIS_REST_PORT and FCIS_GRPC_PORT (8501, 8500) choose other ports, FCIS_SERVING_TAG another release.
set -euo pipefail

compose=(docker compose --file "$(dirname "$0")/compose.yaml" --project-name fcis-serving)

fail() {
  echo "error: $*" >&2
  exit 2
}

[ $# -ge 1 ] || fail "start.sh: expected the folder of version folders, such as export"
command -v docker >/dev/null ||
  fail "docker is not installed; without it: tensorflow_model_server --model_name=fcis --model_base_path=$(realpath "$1")"
if [ "$1" = --stop ]; then
  FCIS_EXPORT=. exec "${compose[@]}" --profile cpu --profile gpu down
fi
compgen -G "$1/[0-9]*/saved_model.pb" >/dev/null ||
  fail "$1: no version folder with a SavedModel, such as $1/1; fcis export --run RUN --out $1/1"
[ -e "$1/batching_parameters.txt" ] || fail "$1/batching_parameters.txt: missing; fcis export writes it"
profile=${2:-cpu}
case $profile in
  cpu | gpu) ;;
  *) fail "$profile: expected cpu or gpu" ;;
esac
FCIS_EXPORT=$(realpath "$1")
export FCIS_EXPORT
"${compose[@]}" --profile "$profile" up --detach --wait
echo "serving $1: REST http://localhost:${FCIS_REST_PORT:-8501}, gRPC grpc://localhost:${FCIS_GRPC_PORT:-8500}"
echo "next: fcis predict --server http://localhost:${FCIS_REST_PORT:-8501} --out pictures IMAGE_OR_FOLDER"
