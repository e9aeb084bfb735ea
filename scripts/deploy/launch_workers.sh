#!/usr/bin/env bash
# Train on several hosts: start one command on each, with the TF_CONFIG that names them all.
#   scripts/deploy/launch_workers.sh 2 fcis train --config configs/shapes.yaml --run demo/run
#   scripts/deploy/launch_workers.sh alice,bob:2345 fcis train --config ... --run /shared/run
#   WORKERS  a number of workers on this machine, or HOST[:PORT],HOST[:PORT],... reached with ssh
#   PORT     (environment) first port; by default 12345
#   GRACE    (environment) seconds that the others have to end after one did not; by default 180
# On every host the same files must lie at the same paths. Output of the first worker is
# printed as it is; lines of the others begin with their address. See docs/distributed.md.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

[ $# -ge 2 ] || fail "expected WORKERS COMMAND...; see the first lines of $0"
workers=$1
shift
port=${PORT:-12345} grace=${GRACE:-180}
addresses=()
if [[ $workers =~ ^[0-9]+$ ]]; then
  [ "$workers" -ge 1 ] || fail "WORKERS=$workers: expected at least 1"
  for ((i = 0; i < workers; i++)); do addresses+=("127.0.0.1:$((port + i))"); done
else
  IFS=, read -ra names <<<"$workers"
  for name in "${names[@]}"; do
    [ -n "$name" ] || fail "WORKERS=$workers: expected HOST[:PORT],HOST[:PORT],..."
    [[ $name == *:* ]] && addresses+=("$name") || addresses+=("$name:$port")
  done
fi
printf -v list '"%s",' "${addresses[@]}"

config() {  # config INDEX: the TF_CONFIG of a worker
  echo "{\"cluster\": {\"worker\": [${list%,}]}, \"task\": {\"type\": \"worker\", \"index\": $1}}"
}

start() {  # start INDEX COMMAND...: here, or through ssh
  local host=${addresses[$1]%:*} variable
  variable=$(config "$1")
  shift
  if [ "$host" = 127.0.0.1 ]; then
    TF_CONFIG=$variable exec "$@"
  else
    exec ssh -o BatchMode=yes "$host" \
      "cd $(printf %q "$PWD") && TF_CONFIG=$(printf %q "$variable") PATH=$(printf %q "$PATH") $(printf '%q ' "$@")"
  fi
}

running=()
end() {  # end SIGNAL: send it to all that still run
  for process in "${running[@]}"; do kill -s "$1" "$process" 2>/dev/null || true; done
}
alive() {
  for process in "${running[@]}"; do
    if kill -0 "$process" 2>/dev/null; then return 0; fi
  done
  return 1
}
trap 'end TERM' TERM INT

for ((i = ${#addresses[@]} - 1; i >= 0; i--)); do
  if [ "$i" = 0 ]; then
    (start 0 "$@") &
  else
    (start "$i" "$@") > >(sed -u "s/^/[${addresses[$i]}] /") 2>&1 &
  fi
  running+=($!)
done

status=0
for _ in "${running[@]}"; do
  wait -n || status=$?
  [ "$status" = 0 ] || break
done
if [ "$status" != 0 ]; then
  # The others end by themselves, but one that waits forever ignores all signals but KILL.
  last=$((SECONDS + grace))
  while [ $SECONDS -lt $last ] && alive; do sleep 0.2; done
  end KILL
fi
wait
exit "$status"
