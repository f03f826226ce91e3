#!/bin/bash
# Runs `dvc repro` under Slurm, with one rank of the training per task: type `sbatch examples/slurm.sh` in the project's
# folder, which all nodes need to see. `ranks` in params.yaml is the number of nodes times the tasks of each. Before the
# time is over, the training saves a checkpoint, and the job is queued again and goes on.
#SBATCH --job-name=dcgan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append

cd "$SLURM_SUBMIT_DIR" || exit
export PATH="$PWD/.venv/bin:$PATH"
# No rank is killed because another has ended: the one that saves and logs to MLflow ends last.
export DCGAN_LAUNCHER="srun --cpus-per-task=$SLURM_CPUS_PER_TASK --kill-on-bad-exit=0 --wait=0"

set -m # so that DVC and its stage are a process group of their own
dvc repro "$@" &
dvc=$!
trap 'stopped=yes; kill -INT -- "-$dvc"' TERM
wait "$dvc"
status=$?
while kill -0 "$dvc" 2>/dev/null; do # `wait` ends at a signal too
    wait "$dvc"
    status=$?
done

if [ "${stopped:-}" ] && [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID" # not after scancel
fi
exit "$status"
