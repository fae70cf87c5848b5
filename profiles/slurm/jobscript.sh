#!/bin/bash
# properties = {properties}
# What is submitted: the unit, and at its end its exit status in a file (workflow/slurm.py reads it).
ended="${{RESULTS_DIR:-results}}/runs/slurm/$SLURM_JOB_ID.ended"
trap 'status=$?; echo "$status" > "$ended.new" && mv "$ended.new" "$ended"' EXIT
trap 'exit 143' TERM INT HUP XCPU  # without it bash says 0 when Slurm cancels the job
{exec_job}
