#!/usr/bin/env bash
# Runs many seeds of the simulation, a share of them on each core, and prints those that fail.
#
#   tests/campaign/simulation.sh BUILD_DIR [SEEDS=10000] [FIRST_SEED=1]
#
# BUILD_DIR is an optimised build with the target simulation_test. Replay one seed with
#   CAIRN_TEST_SEED=N BUILD_DIR/bin/simulation_test
# Exit status: 0 when every seed held.
set -euo pipefail

if (($# < 1 || $# > 3)); then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 2
fi
program=$1/bin/simulation_test
seeds=${2-10000}
first=${3-1}
if [[ ! -x $program ]]; then
  echo "no $program: cmake --build $1 --target simulation_test" >&2
  exit 2
fi
cores=$(nproc)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Seeds FIRST to LAST. A seed that ends the process says so, and the next one goes on behind it.
run_share() {  # FIRST LAST LOG
  local from=$1 ended
  while ((from <= $2)); do
    if CAIRN_TEST_FIRST_SEED=$from CAIRN_TEST_SEEDS=$(($2 - from + 1)) \
      "$program" --gtest_filter='*NoSeedBreaksAPromise' >"$3.part" 2>&1; then
      cat "$3.part" >>"$3"
      return
    fi
    cat "$3.part" >>"$3"
    # Ran to its end: the failures are in the log.
    if grep -q '^\[  FAILED  \]' "$3.part"; then return; fi
    ended=$(sed -n 's/^CAIRN_TEST_SEED=\([0-9]*\)$/\1/p' "$3.part" | tail -n 1)
    if [[ -z $ended ]]; then
      echo "CAIRN_TEST_SEED=? the program ended without a word, from seed $from on" >>"$3"
      return
    fi
    from=$((ended + 1))
  done
}

start=$SECONDS
for ((core = 0; core < cores; ++core)); do
  run_share $((first + seeds * core / cores)) $((first + seeds * (core + 1) / cores - 1)) \
    "$logs/$core" &
done
wait

for log in "$logs"/*; do
  if [[ $log != *.part ]]; then grep -E '^[0-9]+ (seeds|reads|times|switches)' "$log" || true; fi
done
failed=$(cat "$logs"/* | grep -oE 'CAIRN_TEST_SEED=[0-9?]+' | sort -u || true)
if [[ -n $failed ]]; then
  for log in "$logs"/*; do
    if [[ $log == *.part ]]; then continue; fi
    grep -vE '^(\[|Note|Running|[0-9]+ (seeds|reads|times|switches))' "$log" | head -n 200 || true
  done
  echo "failed:"
  echo "$failed"
  exit 1
fi
echo "simulation: $seeds seeds from $first on held, $((SECONDS - start)) s on $cores cores"
