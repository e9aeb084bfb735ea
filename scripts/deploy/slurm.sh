#!/usr/bin/env bash
# Train on several hosts of a SLURM cluster, one worker on each with all its GPUs:
#   sbatch scripts/deploy/slurm.sh --config configs/fcis_r101_coco.yaml --run /shared/runs/r101
# Change the lines below, or give the same options to sbatch. The repository, .venv, the records and
# the run directory must be on a file system that all hosts see.
#SBATCH --job-name=fcis
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=fcis-%j.log
# Two minutes before the time limit every worker gets TERM, writes a checkpoint and ends.
#SBATCH --signal=TERM@120
# After the failure of a host the job is queued again and continues from the newest checkpoint.
#SBATCH --requeue
set -euo pipefail

list=""
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  list+="${list:+, }\"$host:${PORT:-12345}\""
done
export WORKERS="[$list]"

# If a worker is lost the others end by themselves; --wait gives them time to report it.
srun --label --wait=180 bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": $WORKERS}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec fcis train "$@"
' worker "$@"
