#!/bin/bash
# One worker per node, all GPUs of a node in its worker: sbatch docs/howto/several_workers/slurm.sh
# The checkout with its .venv, the data and the run folder lie on file systems all nodes share.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
# The same job begins again after a node fails or the job is preempted, and goes on.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=train-%j.log
set -eu
cd "$SLURM_SUBMIT_DIR"

# block: task n runs on the node that the list of hosts says it is on.
# kill-on-bad-exit: also ends workers that still wait for one that failed at its start.
srun --distribution=block --kill-on-bad-exit=1 --label \
  .venv/bin/python -m train.run --strategy multi_worker \
  --dataset "${DATASET:-brain_tumor_mri}" --data-dir "${DATA_DIR:-$HOME/tensorflow_datasets}" \
  --run-dir "${RUN_DIR:-runs/multi_worker}" --checkpoint-minutes 5 "$@"
