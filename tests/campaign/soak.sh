#!/usr/bin/env bash
# All verbs from eight threads on a device that fails and lies now and then, while memory runs short
# now and then (tests/soak_test.cc), for long: best with the builds of ThreadSanitizer and
# AddressSanitizer. Prints how long the longest call of each verb took.
#
#   tests/campaign/soak.sh [SECONDS=1200] [BUILD_DIR...=build/tsan build/asan]
#
# Exit status: 0 all held, 1 something did not (shown).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1-1200}
builds=("${@:2}")
((${#builds[@]})) || builds=(build/tsan build/asan)
status=0
for build in "${builds[@]}"; do
  echo "== $build, $seconds s"
  # ThreadSanitizer of clang 14 cannot start where the kernel spreads addresses widely.
  CAIRN_TEST_SOAK_SECONDS=$seconds \
    TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tests/tsan.supp" \
    setarch -R "$build/bin/soak_test" || status=1
done
exit "$status"
