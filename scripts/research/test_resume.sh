#!/usr/bin/env bash
# Kills a training twenty times (KILLS) at random moments, also while it writes a checkpoint, and
# compares what it leaves each time and in the end, bit for bit, with a training nobody disturbed.
set -euo pipefail
source "$(dirname "$0")/../environment.sh"
exec python -m tests.training.kill_and_resume --kills "${KILLS:-20}" "${1:-resume_trial}"
