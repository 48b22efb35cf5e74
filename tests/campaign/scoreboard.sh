#!/usr/bin/env bash
# Runs every test and campaign that tests/scoreboard_rows.txt names and writes tests/SCOREBOARD.md.
# Everything of the build must have been built.
#
#   tests/campaign/scoreboard.sh BUILD_DIR [KILLS=500] [CUTS=200] [SNAPSHOTS=200] [ROUNDS=10] \
#     [SEEDS=10000] [PAIRS=5]
#
# As root with the packages nbdkit, libnbd-bin, e2fsprogs, xfsprogs and fio no row is skipped.
# Exit status: 0 no violation, 1 a violation, 2 wrong arguments.
set -euo pipefail

if (($# < 1 || $# > 7)) || [[ ! -f $1/CTestTestfile.cmake ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
campaigns=$(dirname "${BASH_SOURCE[0]}")
tests=$(dirname "$campaigns")
build=$(cd "$1" && pwd)
rows=$tests/scoreboard_rows.txt
declare -A sizes=([kills]=${2-500} [power_cuts]=${3-200} [snapshots]=${4-200}
  [device_errors]=${5-10} [simulation]=${6-10000} [rates]=${7-5})

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
regex=$(python3 "$campaigns/scoreboard.py" regex "$rows")
ctest --test-dir "$build" -j 2 -R "$regex" --output-junit "$logs/tests.xml" \
  --test-output-size-passed 100000 >"$logs/tests.log" 2>&1 || tail -n 50 "$logs/tests.log"
for campaign in kills power_cuts snapshots device_errors simulation rates; do
  echo "== $campaign ${sizes[$campaign]}"
  status=0
  "$campaigns/$campaign.sh" "$build" "${sizes[$campaign]}" >"$logs/$campaign.log" 2>&1 || status=$?
  echo "$status" >"$logs/$campaign.status"
  cat "$logs/$campaign.log"
done

status=0
python3 "$campaigns/scoreboard.py" table "$rows" "$logs/tests.xml" "$logs" >"$logs/table" ||
  status=$?
compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
{
  cat <<END
# What the store was held against

Made by \`tests/campaign/scoreboard.sh\`; what a row means, and which tests it has, is in
[\`scoreboard_rows.txt\`](scoreboard_rows.txt). A violation is a promise that was seen broken.
"Not yet" is what the row asks for and the store does not do.

Last run: $(date -u +%F), kernel $(uname -r | cut -d. -f1,2), $("$compiler" --version | head -n 1).

END
  cat "$logs/table"
} >"$tests/SCOREBOARD.md"
exit "$status"
