#!/usr/bin/env bash
# Takes images of a disk at random moments while a store on it is written to, as a crash of the
# whole machine would leave it: the disk is a file on XFS, an image a reflink of it. In each the
# store is opened and checked.
#
#   tests/campaign/snapshots.sh BUILD_DIR [SNAPSHOTS=200] [SEED]
#
# Needs root, loop devices and the packages xfsprogs, e2fsprogs and mount.
# CAIRN_TEST_IO_ENGINE is uring, posix or auto. TMPDIR is where the disk lives.
# Exit status: 0 no violation, 1 a violation (shown), 2 wrong arguments, 77 not possible here.
set -euo pipefail

if (($# < 1 || $# > 3)) || [[ ! -x $1/bin/crash_check ]]; then
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
bin=$1/bin
snapshots=${2-200}
seed=${3-$RANDOM}
engine=${CAIRN_TEST_IO_ENGINE-auto}

# shellcheck source=tests/campaign/disks.sh
source "$(dirname "${BASH_SOURCE[0]}")/disks.sh"
require_disks mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs
said=$work/said
disk=$work/outer/disk
snapshot=$work/outer/snapshot

truncate -s 1G "$work/outer.image"
mkfs.xfs -q -m reflink=1 "$work/outer.image" || skip 'mkfs.xfs knows no reflink'
attach "$work/outer.image" "$work/outer"
truncate -s 160M "$disk"
mkfs.ext4 -q "$disk"
attach "$disk" "$work/live"
RANDOM=$seed
violations=0
lost=0
damage_reports=0

one_snapshot() {  # NUMBER
  local status=0 lost_now bytes_before
  sleep "0.$(printf '%03d' $((RANDOM % 300)))"
  # What was said before is promised; what was begun by the time it is taken may be there.
  bytes_before=$(wc -c <"$said")
  cp --reflink=always "$disk" "$snapshot"
  head -c "$bytes_before" "$said" >"$said.now"
  tail -c "+$((bytes_before + 1))" "$said" | { grep '^[pe]' || true; } >>"$said.now"
  attach "$snapshot" "$work/copy"
  "$bin/store-inspect" verify "$work/copy/store" >"$work/verify" 2>&1 || status=$?
  if ((status == 1)); then
    damage_reports=$((damage_reports + 1))
    sed "s/^/snapshot $1: store-inspect: /" "$work/verify"
  fi
  status=0
  "$bin/crash_check" "$work/copy/store" "$engine" "$said.now" >"$work/check" || status=$?
  lost_now=$(sed -n 's/.* right, \([0-9]*\) lost.*/\1/p' "$work/check")
  lost=$((lost + ${lost_now:-0}))
  if ((status != 0)); then
    violations=$((violations + 1))
    echo "snapshot $1:"
    cat "$work/check"
  fi
  umount "$work/copy"
  rm "$snapshot"
}

"$bin/crash_child" "$work/live/store" "$engine" "$seed" >>"$said" 2>"$work/writer.err" &
writer_pid=$!
for ((number = 1; number <= snapshots; ++number)); do one_snapshot "$number"; done
kill -0 "$writer_pid" || { echo 'the writer ended by itself:' && cat "$work/writer.err" && exit 1; }
echo "snapshots done: $snapshots, violations: $violations, seed: $seed"
echo "flushed puts acknowledged: $(grep -c '^P.* 3$' "$said" || true), weaker ones lost: $lost," \
  "snapshots in which store-inspect verify spoke of damage: $damage_reports"
((violations == 0))
