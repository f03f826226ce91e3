#!/bin/bash
# Makes two machines of this one, node1 and node2, with a real Slurm: `machines.sh up FOLDER`, `machines.sh down FOLDER`,
# `machines.sh on node1 FOLDER COMMAND...`. It needs root, and of Debian slurm-wlm, munge, iproute2 and openmpi-bin.
#
# Each is a network namespace with a name and an /etc/hosts of its own, in which the name has the address 127.0.1.1, as
# Debian writes it. A pair of virtual Ethernet devices joins them; they have the same disk and no other network.
set -euo pipefail
what=$1
if [ "$what" = on ]; then
    node=$2 folder=$3
    shift 3
    exec nsenter --target "$(cat "$folder/$node.pid")" --net --uts --mount --wd="$PWD" -- "$@"
fi
folder=$2

in_node() { nsenter --target "$(cat "$folder/node$1.pid")" --net --uts --mount -- "${@:2}"; }

up() {
    mkdir -p "$folder"
    for number in 1 2; do
        other=$((3 - number))
        printf '%s\n' "127.0.0.1 localhost" "127.0.1.1 node$number" "10.231.0.$other node$other" >"$folder/hosts$number"
        rm -f "$folder/node$number.pid"
        # shellcheck disable=SC2016
        setsid unshare --net --uts --mount sh -c 'hostname "$1"; mount --bind "$2" /etc/hosts; ip link set lo up
            echo $$ >"$3.new"; mv "$3.new" "$3"; exec sleep infinity' \
            - "node$number" "$folder/hosts$number" "$folder/node$number.pid" </dev/null >/dev/null 2>&1 &
        until [ -s "$folder/node$number.pid" ]; do :; done
    done
    ip link add dcgan1 netns "$(cat "$folder/node1.pid")" type veth peer name dcgan2 netns "$(cat "$folder/node2.pid")"
    for number in 1 2; do
        in_node "$number" ip addr add "10.231.0.$number/24" dev "dcgan$number"
        in_node "$number" ip link set "dcgan$number" up
    done
    slurm
}

slurm() {
    mkdir -p "$folder/state" "$folder/munge"
    chmod 711 "$folder/munge"
    head -c 1024 /dev/urandom >"$folder/munge/key"
    chmod 400 "$folder/munge/key"
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge/seed" 2>/dev/null
        cat >"$folder/slurm.conf" <<END
ClusterName=dcgan
SlurmctldHost=node1(10.231.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=30
GresTypes=gpu
NodeName=node1 NodeAddr=10.231.0.1 CPUs=32 Gres=gpu:4
NodeName=node2 NodeAddr=10.231.0.2 CPUs=32 Gres=gpu:4
PartitionName=all Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
    # No GPU is there, but a job that asks for some runs; its training is told to use the CPU.
    for gpu in 0 1 2 3; do mknod "$folder/gpu$gpu" c 1 3; done
    echo "NodeName=node[1-2] Name=gpu File=$folder/gpu[0-3]" >"$folder/gres.conf"
    export SLURM_CONF=$folder/slurm.conf
    in_node 1 slurmctld -f "$SLURM_CONF"
    for number in 1 2; do in_node "$number" slurmd -f "$SLURM_CONF" -N "node$number"; done
}

down() {
    for name in slurmd-node1 slurmd-node2 slurmctld munged; do
        [ -e "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
    for number in 1 2; do kill -KILL "$(cat "$folder/node$number.pid")" || true; done # the network goes with it
}

"$what"
