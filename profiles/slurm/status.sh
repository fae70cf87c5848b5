#!/usr/bin/env bash
# What Snakemake asks about a job: running, success or failed. A job that Slurm killed (time, memory, node) leaves no
# mark of its own, and without this answer Snakemake would wait for it for ever.
# squeue knows who waits or runs, scontrol who ended minutes ago; sacct, where there is one, everybody.
state=$(squeue --noheader --format=%T --jobs="$1" 2>/dev/null)
[ -n "$state" ] || state=$(scontrol show job "$1" 2>/dev/null | grep -oP 'JobState=\K\w+')
[ -n "$state" ] || state=$(sacct --noheader --allocations --format=State --jobs="$1" 2>/dev/null | awk 'NR == 1 {print $1}')
case $state in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED | RESIZING | STOPPED | PREEMPTED) echo running ;;
    "") squeue >/dev/null 2>&1 && echo failed || echo running ;;  # a controller that does not answer is no failed job
    *) echo failed ;;
esac
