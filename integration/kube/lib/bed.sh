# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of the Kubernetes test bed: where a bed has its files, and how its programs
# are started and found again.
#
# A bed is one state directory:
#   number               which bed of this machine it is; ports and the node's address follow from it
#   kubeconfig           of a cluster administrator, on this machine
#   bin/                 the programs, kubectl among them
#   pki/, kubeconfigs/   keys and certificates, and the files of each component
#   parts/               how each program on this machine was started, and its process id; see part
#   log/                 one log per component; of the node, see share/log/
#   share/               the node's /share, see in-node; of others than the first, share-node2/ and so on

. "$(dirname "${BASH_SOURCE[0]}")/../../vm/lib/cache.sh"

project=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../../..")
state=$(readlink -m "${VARMOR_KUBE_STATE:-$project/target/kube}")
# The node that is meant: `node`, or one beside it.
node=${VARMOR_KUBE_NODE:-node}
[[ $node =~ ^node([2-9]?)$ ]] || die "VARMOR_KUBE_NODE is $node: write node, node2, ... node9"
node_number=${BASH_REMATCH[1]:-1}
share=$state/share
[[ $node = node ]] || share=$state/share-$node
# Every program of a bed has this in its environment: that is how `down` finds them, also those
# whose starter was killed.
mark=VARMOR_KUBE_BED=$state

# take_number: the first number that no other bed on this machine has. The lock is handed down to
# the programs that are started from here, so a bed that has gone in any way has given it back.
take_number() {
  local n
  mkdir -p "$CACHE/kube-beds"
  for ((n = 0; n < 100; n++)); do
    exec {bed_lock}> "$CACHE/kube-beds/$n"
    if flock -n "$bed_lock"; then
      echo "$n" > "$state/number"
      return
    fi
    exec {bed_lock}>&-
  done
  die "100 beds are up; see integration/kube/down"
}

# Sets the ports and addresses of this bed.
addresses() {
  local number base
  [[ -s $state/number ]] || die "no bed in $state; see integration/kube/up"
  number=$(< "$state/number")
  base=$((26400 + number * 10))
  api_port=$base etcd_port=$((base + 1)) etcd_peer_port=$((base + 2)) controller_port=$((base + 3))
  scheduler_port=$((base + 4)) crd_port=$((base + 5))
  # What the API server calls the node's kubelet by. Both sides have it on their loopback device:
  # here QEMU listens on it and hands on to the guest. Of the block for benchmarks (RFC 2544), which
  # no real network uses.
  node_address=198.18.$number.$node_number
  kubelet_port=10250
  # This machine, seen from the guest.
  host_address=10.0.2.2
}

# start NAME COMMAND...: starts a program of the bed in the background; `part` can do it again.
start() {
  local name=$1
  shift
  mkdir -p "$state/parts"
  printf '%q ' "$@" > "$state/parts/$name.command"
  env "$mark" setsid "$@" >> "$state/log/$name.log" 2>&1 < /dev/null &
  started=$!
  echo "$started" > "$state/parts/$name.pid"
}

# processes: the process ids of everything of this bed that runs.
processes() {
  { grep -lsxzF "$mark" /proc/[0-9]*/environ || true; } | cut -d/ -f3
}

# find_node: the process id of the VM of the node that is meant, nothing when there is none.
find_node() {
  [[ ! -s $state/$node.pid ]] || processes | grep -xF "$(< "$state/$node.pid")" || true
}

# With a cache of its own: the usual one, by address, would hold an earlier bed's resources.
kubectl() { "$state/bin/kubectl" --kubeconfig "$state/kubeconfig" --cache-dir "$state/cache" "$@"; }

# until_true SECONDS WHAT LOG COMMAND...: waits until COMMAND succeeds; its last output and the
# log's end are shown when it does not. Ends at once when the program $started has ended.
until_true() {
  local limit=$((SECONDS + $1)) what=$2 log=$3 why
  shift 3
  until why=$("$@" 2>&1); do
    if ((SECONDS >= limit)) || [[ ! -d /proc/$started ]]; then
      [[ -d /proc/$started ]] && note "$what: not there in time: $why" || note "$what: its program has ended"
      [[ ! -f $log ]] || { note "the end of $log:"; tail -n 15 "$log" >&2; }
      exit 1
    fi
    sleep 0.2
  done
}
