#!/usr/bin/env bash
# Kills a writer again and again, half of the times on each I/O engine, and checks after each kill
# that what was acknowledged is there and right, all else right or absent, and no space lost.
#
#   tests/campaign/kills.sh BUILD_DIR [RUNS=500] [SEED]
#
# Exit status: 0 no violation, 1 a violation (shown), 2 wrong arguments.
set -euo pipefail

if (($# < 1 || $# > 3)) || [[ ! -x $1/bin/crash_test ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
build=$1
runs=${2-500}
export CAIRN_TEST_SEED=${3-$RANDOM$RANDOM}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
done_total=0
violations=0
engine_number=0
for engine in uring posix; do
  CAIRN_TEST_KILLS=$((engine_number++ == 0 ? runs / 2 : runs - runs / 2))
  ((CAIRN_TEST_KILLS > 0)) || continue
  CAIRN_TEST_KILLS=$(((CAIRN_TEST_KILLS + 1) / 2))  # Half of them over several drives.
  export CAIRN_TEST_KILLS CAIRN_TEST_IO_ENGINE=$engine
  status=0
  "$build/bin/crash_test" --gtest_brief=1 >"$log" 2>&1 || status=$?
  kills=$(sed -n 's/^kills done: \([0-9]*\),.*/\1/p' "$log" | paste -sd+)
  done_total=$((done_total + ${kills:-0}))
  if ((status != 0)); then
    violations=$((violations + 1))
    cat "$log"
  fi
done
echo "kills done: $done_total, violations: $violations, seed: $CAIRN_TEST_SEED"
((violations == 0))
