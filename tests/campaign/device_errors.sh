#!/usr/bin/env bash
# kv-offload on a disk whose reads fail at random, then on one that is slow: no byte that it
# restores may be wrong, and the next run on a disk that is well again must go well. Then over two
# drives, of which one fails: it must be drained and named, and the rest go on.
#
#   tests/campaign/device_errors.sh BUILD_DIR [ROUNDS=10]
#
# Needs root, loop devices, /dev/fuse and the packages nbdkit, libnbd-bin, e2fsprogs and mount.
# CAIRN_TEST_IO_ENGINE is uring, posix or auto. TMPDIR is where the disk lives.
# Exit status: 0 no violation, 1 a violation (shown), 2 wrong arguments, 77 not possible here.
set -euo pipefail

if (($# < 1 || $# > 2)) || [[ ! -x $1/bin/kv-offload ]]; then
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
bin=$1/bin
rounds=${2-10}
engine=${CAIRN_TEST_IO_ENGINE-auto}

# shellcheck source=tests/campaign/disks.sh
source "$(dirname "${BASH_SOURCE[0]}")/disks.sh"
require_served_disks
image=$work/image
failing=$work/failing  # While it exists, reads of the disk fail.
violations=0
data_losses=0
drained=0

truncate -s 160M "$image"
mkfs.ext4 -q "$image"

# Leaves its figures in $work/figures and what it says in $work/log.
offload() {  # REQUESTS SEED [OPTION...]
  local requests=$1 seed=$2
  shift 2
  if (($# == 0)); then set -- --dir "$work/mount/store"; fi
  "$bin/kv-offload" --l2 8MiB --l3 64MiB --kv-bytes-per-token 1024 \
    --requests "$requests" --seed "$seed" --io-engine "$engine" --json "$work/figures" "$@" \
    >"$work/log" 2>&1
}

# From the first requests on the served disk fails, as it is served. The status is kv-offload's.
offload_while_it_fails() {  # REQUESTS SEED [OPTION...]
  local status=0
  rm -f "$work/figures"
  : >"$work/log"
  offload "$@" &
  writer_pid=$!
  wait_for kv-offload grep -q 'requests' "$work/log"
  touch "$failing"
  wait "$writer_pid" || status=$?
  writer_pid=''
  rm "$failing"
  return "$status"
}

figure() {  # NAME
  sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$work/figures"
}

expect_right() {  # WHAT
  if [[ $(figure mismatches) != 0 ]]; then
    violations=$((violations + 1))
    echo "$1:"
    cat "$work/log"
  fi
}

# An end by itself, whatever it thought of the disk, is what is asked for while reads fail.
with_failing_reads() {  # SEED
  local status=0
  serve "$image" "$work/mount" error error=EIO error-pread-rate=70% "error-pread-file=$failing"
  offload_while_it_fails 60 "$1" || status=$?
  if ((status != 0)); then
    violations=$((violations + 1))
    echo "seed $1, reads that fail: status $status"
    cat "$work/log"
  else
    expect_right "seed $1, reads that fail"
    data_losses=$((data_losses + $(figure data_losses)))
  fi
  tear_down
}

# Two drives, one of them in a folder beside the served disk. From the middle of the run on the
# disk fails whatever is asked of it.
with_a_failing_drive() {  # SEED
  local status=0
  rm -rf "$work/good" "$work/store"
  mkdir "$work/good"
  serve "$image" "$work/mount" error error=EIO error-rate=100% "error-file=$failing"
  rm -rf "$work/mount/drive"
  mkdir "$work/mount/drive"
  offload_while_it_fails 200 "$1" --dir "$work/store" --data-dir "$work/good" \
    --data-dir "$work/mount/drive" --speed 500 || status=$?
  if ((status != 0)); then
    violations=$((violations + 1))
    echo "seed $1, a drive that fails: status $status"
    cat "$work/log"
  elif ! grep -q "$work/mount/drive/.* is drained" "$work/log"; then
    violations=$((violations + 1))
    echo "seed $1, a drive that fails is not named:"
    cat "$work/log"
  else
    expect_right "seed $1, a drive that fails"
    drained=$((drained + 1))
  fi
  tear_down
}

one_round() {  # SEED
  attach "$image" "$work/mount"
  offload 40 "$1"
  expect_right "seed $1, a sound disk"
  tear_down
  with_failing_reads "$1"
  serve "$image" "$work/mount" delay rdelay=5ms wdelay=5ms
  offload 10 "$1"
  expect_right "seed $1, a slow disk"
  tear_down
  with_a_failing_drive "$1"
}

for ((round = 1; round <= rounds; ++round)); do one_round "$round"; done
echo "rounds done: $rounds, violations: $violations, seed: 1, tensors lost to failing reads:" \
  "$data_losses, drives drained: $drained"
((violations == 0))
