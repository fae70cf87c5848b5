#!/usr/bin/env bash
# A real Slurm of one node, this machine, for `make test-slurm`: installs Debian's packages, starts it, leaves it running
# (`scontrol shutdown` ends it). One that answers already is used as it is. Run as root.
set -euo pipefail
conf=/etc/slurm/slurm.conf mark="# The one-node Slurm of make test-slurm."

scontrol ping >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] || { echo "Slurm is not running here; start it, or run make test-slurm as root." >&2; exit 1; }
if [ -e "$conf" ] && ! grep -qF "$mark" "$conf"; then
    echo "$conf is another Slurm's: start that one, or move the file away." >&2
    exit 1
fi
if ! command -v slurmctld >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
fi
mkdir -p /etc/slurm /run/munge /var/spool/slurmctld /var/spool/slurmd
chown munge: /run/munge
pgrep -x munged >/dev/null || su -s /bin/bash munge -c munged
cat >"$conf" <<END
$mark
ClusterName=local
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
$(slurmd -C | sed -n 's/^\(NodeName=.*\)/\1 NodeAddr=127.0.0.1 State=UNKNOWN/p')
PartitionName=main Nodes=$(hostname) Default=YES MaxTime=INFINITE State=UP
END
slurmctld
slurmd
for _ in $(seq 30); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && exit 0
    sleep 1
done
echo "Slurm does not come up; look into /var/log/slurmctld.log and /var/log/slurmd.log." >&2
exit 1
