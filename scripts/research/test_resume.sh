#!/usr/bin/env bash
# Kill a training twenty times (KILLS) at random moments, also while it writes a checkpoint, resume
# it, and compare its files after each kill and at the end, bit for bit, with an undisturbed run.
set -euo pipefail
source "$(dirname "$0")/../environment.sh"
exec python -m tests.training.kill_and_resume --kills "${KILLS:-20}" "${1:-resume_trial}"
