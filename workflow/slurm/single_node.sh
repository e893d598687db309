#!/bin/bash
# A real SLURM on this one machine, from Debian's packages: for tests of the slurm profile, without systemd or cgroups.
# usage (as root): single_node.sh up|down|remove
# Memory limits are scheduled but not enforced. A pretend GPU lets GPU jobs be scheduled.
set -euo pipefail

run=/run/slurm
config=/etc/slurm/slurm.conf

running() { # running PIDFILE: the daemon lives; a zombie does not count
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && grep -qs '^State:[[:space:]]*[RSD]' "/proc/$pid/status"
}

install_packages() {
    local name missing=0
    for name in slurmctld slurmd sbatch munged; do command -v "$name" >/dev/null || missing=1; done
    [ "$missing" -eq 1 ] || return 0
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
}

write_config() {
    local host cpus memory
    host=$(hostname -s)
    cpus=$(nproc)
    memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) - 512))
    cat >"$config" <<CONF
ClusterName=bevkd
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ReturnToService=2
InactiveLimit=0
KillWait=5
# Without it, a job larger than the machine would wait for ever.
EnforcePartLimits=ALL
# The profile asks squeue, which must remember finished jobs between two questions.
MinJobAge=600
DefMemPerCPU=512
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# One line per finished job: what tests read to see that jobs went through SLURM.
JobCompType=jobcomp/filetxt
JobCompLoc=/var/log/slurm/jobs.log
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    echo "Name=gpu File=/dev/null" >/etc/slurm/gres.conf
}

up() {
    install_packages
    install -d -m 0755 -o munge -g munge /run/munge /var/lib/munge /var/log/munge
    install -d -m 0755 /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm "$run"
    if [ ! -s /etc/munge/munge.key ]; then
        mungekey --create --force
        chown munge:munge /etc/munge/munge.key
    fi
    munge -n </dev/null >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
    if ! running "$run/slurmctld.pid"; then
        write_config
        slurmctld
    fi
    running "$run/slurmd.pid" || slurmd
    for _ in $(seq 60); do
        sinfo --noheader --format %T 2>/dev/null | grep -qE 'idle|mixed|allocated' && break
        sleep 0.5
    done
    sinfo
}

down() { # the daemons first, munge last: they need it to stop in order
    local name pid
    for name in slurmd slurmctld; do
        running "$run/$name.pid" || continue
        pid=$(cat "$run/$name.pid")
        kill "$pid"
        for _ in $(seq 40); do
            running "$run/$name.pid" || break
            sleep 0.25
        done
    done
    rm -f "$run"/*.pid
    if running /run/munge/munged.pid; then kill "$(cat /run/munge/munged.pid)"; fi
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    remove) # where SLURM is installed but down, every start of Snakemake waits ten seconds for it
        down
        DEBIAN_FRONTEND=noninteractive apt-get remove -y -qq slurmctld slurmd slurm-client >/dev/null
        ;;
    *)
        echo "usage: $0 up|down|remove" >&2
        exit 2
        ;;
esac
