#!/usr/bin/env bash
# Whether L3 is still as fast as it was: tier-bench beside fio, turn about on the same files, and
# the median of the pairs' ratios held against the least that bench/RESULTS.md allows.
#
#   tests/campaign/rates.sh BUILD_DIR [PAIRS=5]
#
# BUILD_DIR is an optimised build. Needs fio; about a minute for five pairs, on a machine that does
# nothing else. TMPDIR is on the disk in question: 2.5 GiB.
# Exit status: 0 no violation, 1 a violation (shown), 2 wrong arguments, 77 not possible here.
set -euo pipefail

if (($# < 1 || $# > 2)) || [[ ! -x $1/bin/tier-bench ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
bin=$1/bin
pairs=${2-5}
if ! command -v fio >/dev/null; then
  echo "SKIPPED: no fio"
  exit 77
fi
work=$(mktemp -d "${TMPDIR:-/var/tmp}/cairn-rates.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The least percent of fio's rate, and the job. A tenth under the medians of bench/RESULTS.md: so
# much they move on a machine that is not alone. (A put stands at 0.67 where the disk is fastest.)
jobs=(
  '85 --tier=nvme --rw=randread --bs=128k --iodepth=16'
  '85 --tier=nvme --rw=randread --bs=1m --iodepth=4'
  '85 --tier=nvme --rw=randwrite --bs=1m --iodepth=4'
  '70 --tier=store --rw=randread --bs=1m --iodepth=4'
  '70 --tier=store --rw=randread --bs=2304k --iodepth=4'
  '55 --tier=store --rw=randwrite --bs=1m --iodepth=4'
)

violations=0
for job in "${jobs[@]}"; do
  read -r percent_min options <<<"$job"
  # shellcheck disable=SC2086  # Several options.
  "$bin/tier-bench" --directory="$work" --size=1g --time_based --runtime=1 \
    --compare-fio="$pairs" --output-format=json --output="$work/figures" --name=rate $options
  percent=$(sed -n 's/.*"percent_of_fio": \([0-9.]*\).*/\1/p' "$work/figures")
  verdict=held
  if ! awk -v is="$percent" -v least="$percent_min" 'BEGIN { exit !(is >= least) }'; then
    verdict=VIOLATED
    violations=$((violations + 1))
  fi
  printf '%-50s %5.1f %% of fio, at least %d: %s\n' "$options" "$percent" "$percent_min" "$verdict"
done
echo "rates done: ${#jobs[@]}, violations: $violations, medians of $pairs pairs"
((violations == 0))
