#!/usr/bin/env bash
# Cuts the power of a store at random moments: its disk is an image served by nbdkit with a volatile
# write cache, which dies with nbdkit. After each cut the image as it is by then is mounted, the
# store in it is opened and checked, and the next writer goes on with it.
#
#   tests/campaign/power_cuts.sh BUILD_DIR [CUTS=200] [SEED]
#
# Needs root, loop devices, /dev/fuse and the packages nbdkit, libnbd-bin, e2fsprogs and mount.
# The I/O engines take turns, unless CAIRN_TEST_IO_ENGINE names one. The image lives under TMPDIR.
# Exit status: 0 no violation, 1 a violation (shown), 2 wrong arguments, 77 not possible here.
set -euo pipefail

if (($# < 1 || $# > 3)) || [[ ! -x $1/bin/crash_check ]]; then
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
bin=$1/bin
cuts=${2-200}
seed=${3-$RANDOM}
engines=(auto posix)

# shellcheck source=tests/campaign/disks.sh
source "$(dirname "${BASH_SOURCE[0]}")/disks.sh"
require_served_disks
image=$work/image
mount_point=$work/mount
said=$work/said

truncate -s 160M "$image"
mkfs.ext4 -q "$image"
touch "$said"
RANDOM=$seed
violations=0
lost=0
flushed=0
damage_reports=0

one_cut() {  # NUMBER
  local lines_before engine=${CAIRN_TEST_IO_ENGINE-${engines[$1 % 2]}}
  lines_before=$(wc -l <"$said")
  serve "$image" "$mount_point" cache cache=writeback
  "$bin/crash_child" "$mount_point/store" "$engine" "$1" >>"$said" 2>"$work/writer.err" &
  writer_pid=$!
  # Some come while the writer still creates or recovers the store.
  sleep "0.$(printf '%03d' $((RANDOM % 900)))"
  # Its last words after this moment cannot be of anything flushed.
  tear_down
  attach "$image" "$mount_point"
  local status=0 lost_now
  # 1: it found damage. Another status: the cut came before there was a store.
  "$bin/store-inspect" verify "$mount_point/store" >"$work/verify" 2>&1 || status=$?
  if ((status == 1)); then
    damage_reports=$((damage_reports + 1))
    sed "s/^/cut $1: store-inspect: /" "$work/verify"
  fi
  flushed=$((flushed + $(tail -n "+$((lines_before + 1))" "$said" | grep -c '^P.* 3$' || true)))
  status=0
  "$bin/crash_check" "$mount_point/store" "$engine" "$said" >"$work/check" || status=$?
  lost_now=$(sed -n 's/.* right, \([0-9]*\) lost.*/\1/p' "$work/check")
  lost=$((lost + ${lost_now:-0}))
  if ((status != 0)); then
    violations=$((violations + 1))
    echo "cut $1:"
    cat "$work/check"
  fi
  tear_down
}

for ((cut = 1; cut <= cuts; ++cut)); do one_cut "$cut"; done
echo "power cuts done: $cuts, violations: $violations, seed: $seed"
echo "flushed puts acknowledged: $flushed, weaker ones lost: $lost," \
  "cuts after which store-inspect verify spoke of damage: $damage_reports"
((violations == 0))
