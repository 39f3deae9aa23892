#!/bin/sh
# One job of the queue on a node with a GPU: `sbatch slurm.sh` for each job that is to run there, with the queue in
# DPG_DATABASE, the store in DPG_STORE and the bucket's AWS_* variables. It ends with its job, and fails with it.
#SBATCH --job-name=dpg
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
# two minutes before the end the run saves itself and goes back to the queue
#SBATCH --signal=TERM@120
set -eu
# runs in progress; what must last is in the queue and the store
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
srun dpg work --once --data-dir "$data" --device cuda:0
