#!/usr/bin/env bash
# Random allocations, frees, splits and moves on every allocator beside a map of intervals, with new
# seeds for so long: each allocator has its share of the time.
#
#   tests/campaign/allocators.sh BUILD_DIR [SECONDS=600]
#
# BUILD_DIR has the target allocator_model_test; one with sanitizers finds more. Prints each seed as
# it begins, and the first and the number of them; a failure names its seed, for
#   CAIRN_TEST_SEED=N BUILD_DIR/bin/allocator_model_test
# Exit status: 0 when every seed held.
set -euo pipefail

if (($# < 1 || $# > 2)) || ! [[ ${2-600} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0"
  exit 2
fi
program=$1/bin/allocator_model_test
seconds=${2-600}
if [[ ! -x $program ]]; then
  echo "no $program: cmake --build $1 --target allocator_model_test" >&2
  exit 2
fi
kinds=$("$program" --gtest_list_tests | grep -c AgreesWithTheModel)
CAIRN_TEST_SECONDS=$(((seconds + kinds - 1) / kinds)) "$program" --gtest_brief=1
