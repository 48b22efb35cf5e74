#!/usr/bin/env bash
# What can only be seen on a machine with a GPU: builds with CUDA for its card, runs the tests
# labelled gpu, and the L1 lines of tier-bench beside bare copies. Writes one report in Markdown.
#
#   tools/gpu-check.sh [REPORT.md]     default: build/cuda/gpu-check.md
#
# Exit status: 0 all passed; 1 something did not, the report says what; 77 no GPU, or no toolkit.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

report=${1-build/cuda/gpu-check.md}
failed=0

skip() {
  echo "SKIPPED: $1" >&2
  exit 77
}
command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU ||
  skip 'no GPU answers (nvidia-smi lists none)'
command -v nvcc >/dev/null || [[ -d ${CUDA_PATH-/usr/local/cuda} ]] ||
  skip 'no CUDA toolkit of 12.0 or later'

require_packages || exit 1
use_ccache
cmake=$(find_cmake)
mkdir -p "$(dirname "$report")" build/cuda
: >"$report"

say() { printf '%s\n' "$@" >>"$report"; }
# Runs a command with its output as a block of the report.
block() {  # TITLE COMMAND...
  local title=$1 status=0
  shift
  echo "== $title"
  say "## $title" '' '```' "\$ $*"
  "$@" >>"$report" 2>&1 || status=$?
  say '```' '' "$( ((status == 0)) && echo passed || echo "FAILED (exit status $status)")" ''
  ((status == 0)) || failed=1
  return "$status"
}
quiet_build() {
  local log=build/cuda/build.log
  if "$cmake" --preset cuda >"$log" 2>&1 &&
    "$cmake" --build --preset cuda -j "$(nproc)" >>"$log" 2>&1; then
    echo "built with CAIRN_CUDA=ON"
    return
  fi
  tail -n 50 "$log"
  return 1
}
card=name,compute_cap,memory.total,driver_version,pcie.link.gen.max,pcie.link.width.max

say '# GPU check' '' "$(git rev-parse --short HEAD 2>/dev/null), $(date -u +%Y-%m-%dT%H:%MZ)" ''
block 'Card' nvidia-smi --query-gpu="$card" --format=csv
if block 'Build' quiet_build; then
  block 'Tests labelled gpu' "$(dirname "$cmake")/ctest" --test-dir build/cuda -L gpu \
    --output-on-failure --no-tests=error
  for test in store_l1_test store_l1_stream_test; do
    block "$test" env CAIRN_TEST_DEVICE=cuda "build/cuda/bin/$test" --gtest_brief=1
  done
  directory=$(mktemp -d)
  for bytes in 1m 2304k 4m; do
    block "L2 to L1, blocks of $bytes" build/cuda/bin/tier-bench --directory="$directory" \
      --tier=gpu --rw=randread --bs="$bytes" --size=512m --iodepth=16 --runtime=5 --time_based \
      --name="l1-$bytes"
  done
  block 'Three tiers, every byte compared' build/cuda/bin/kv-offload --dir "$directory/kv" \
    --device cuda --l1 1GiB --l2 2GiB --l3 8GiB --model qwen3-vl-8b --scale 8 \
    --class-mix kv:70,vision:20,text:10 --requests 300 --concurrency 4
  block 'The same with managed memory' build/cuda/bin/kv-offload --dir "$directory/managed" \
    --device cuda --l1 1GiB --l1-memory managed --l2 2GiB --l3 8GiB --model qwen3-vl-8b --scale 8 \
    --requests 100
  if command -v compute-sanitizer >/dev/null; then
    block 'compute-sanitizer' compute-sanitizer --error-exitcode 1 build/cuda/bin/device_test
  else
    say '## compute-sanitizer' '' 'SKIPPED: it is not installed' ''
  fi
  rm -rf "$directory"
fi
echo "report: $report"
exit "$failed"
