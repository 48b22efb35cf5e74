#!/usr/bin/env bash
# Fuzzes the decoders by libFuzzer, with the address and undefined behaviour sanitizers.
#
#   tests/fuzz/run.sh [SECONDS_PER_TARGET [TARGET...]]     default: 600 s, all targets
#
# What was learnt stays in build/fuzz/corpus/TARGET for the next run, which starts from there, from
# the seeds that the encoders make, and from tests/fuzz/corpus/TARGET. Exit status: 0 no findings,
# 1 findings: where each reproducer lies is said, and how to run it; 2 wrong use or nothing built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

seconds=${1:-600}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,8s/^# \{0,1\}//p' tests/fuzz/run.sh
  exit 2
fi
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(basename -s _target.cc -a tests/fuzz/*_target.cc)
fi
for target in "${targets[@]}"; do
  if [[ ! -f tests/fuzz/${target}_target.cc ]]; then
    echo "no target $target: there is no tests/fuzz/${target}_target.cc" >&2
    exit 2
  fi
done

require_packages
use_ccache
cmake=$(find_cmake)
mkdir -p build/fuzz
echo "building (log: build/fuzz/build.log)"
if ! { "$cmake" --preset fuzz && "$cmake" --build --preset fuzz -j "$(nproc)"; } \
  >build/fuzz/build.log 2>&1; then
  tail -n 100 build/fuzz/build.log
  exit 2
fi

findings=0
for target in "${targets[@]}"; do
  learnt=build/fuzz/corpus/$target
  found=build/fuzz/findings/$target
  log=build/fuzz/$target.log
  mkdir -p "$learnt" "$found"
  build/fuzz/bin/"fuzz_${target}_replay" --write-seeds "$learnt"
  corpora=("$learnt")
  if [[ -d tests/fuzz/corpus/$target ]]; then corpora+=("tests/fuzz/corpus/$target"); fi
  status=0
  build/fuzz/bin/"fuzz_$target" -max_total_time="$seconds" -max_len=8192 -malloc_limit_mb=64 \
    -timeout=10 -print_final_stats=1 -artifact_prefix="$found/" "${corpora[@]}" \
    >"$log" 2>&1 || status=$?
  awk -v target="$target" '
    / cov: / { for (i = 1; i < NF; ++i) if ($i == "cov:") cov = $(i + 1) }
    /stat::number_of_executed_units/ { executed = $2 }
    /stat::average_exec_per_sec/ { rate = $2 }
    /stat::peak_rss_mb/ { rss = $2 }
    END { printf "%s: %d executions, %d a second, %d edges, %d MiB at most\n", target,
          executed, rate, cov, rss }' "$log"
  if ((status != 0)); then
    findings=$((findings + 1))
    echo "$target: FINDING; log: $log"
    grep -E 'check failed|ERROR:|runtime error:|SUMMARY:' "$log" | head -n 5 || true
    sed -n 's/.*Test unit written to /  build\/fuzz\/bin\/fuzz_'"$target"' /p' "$log"
  fi
done
echo "targets: ${#targets[@]}, with findings: $findings"
((findings == 0))
