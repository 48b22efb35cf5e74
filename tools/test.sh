#!/usr/bin/env bash
# Builds and tests.
#
#   tools/test.sh [PRESET] [--engine uring|posix]   one preset of CMakePresets.json; default: dev
#   tools/test.sh --all                             everything that must hold before a merge
#
# --engine sets the I/O engine of the tests' stores (--posix: --engine posix). Ends with ctest's own
# summary: of the last run, or of the first that failed. Logs: build/PRESET/{build,ctest}.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

usage() {
  sed -n '2,8s/^# \{0,1\}//p' tools/test.sh
  exit 2
}

# Steps so far, as "name outcome", for the closing table; and ctest's log of the first step that
# failed (it may have none), else of the last one.
results=()
failed=0
summary_log=''

record() {  # NAME STATUS SECONDS [LOG]
  local outcome=passed
  if (($2 != 0)); then outcome=FAILED; fi
  results+=("$1 $outcome ($3 s)")
  if ((failed == 0)); then
    if (($2 != 0)); then
      failed=1
      summary_log=${4-}
    else
      summary_log=${4-$summary_log}
    fi
  fi
  # A single preset ends with what ctest said.
  if [[ $preset == --all || -z ${4-} ]]; then echo "== $1: $outcome ($3 s)"; fi
}

# Runs a command with its output in LOG, which is shown when it fails.
quietly() {  # LOG COMMAND...
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    grep -v -E '^\[[0-9]+/[0-9]+\] (Building|Linking)' "$log" |
      tail -n 300
    return 1
  fi
}

# ThreadSanitizer of clang 14 cannot start where the kernel spreads addresses widely.
unspread() {  # PRESET COMMAND...
  local preset=$1
  shift
  if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then
    setarch -R "$@"
  else
    "$@"
  fi
}

build() {  # PRESET [TARGET]
  mkdir -p "build/$1"
  quietly "build/$1/configure.log" "$cmake" --preset "$1" || return 1
  quietly "build/$1/build.log" unspread "$1" "$cmake" --build --preset "$1" -j "$jobs" -- -k 0 \
    ${2+"$2"}
}

# Shows what is not simply "Passed"; the log has everything.
run_ctest() {  # PRESET LOG [CTEST ARGUMENT...]
  local preset=$1 log=$2
  shift 2
  unspread "$preset" "$ctest" --preset "$preset" "$@" 2>&1 | tee "$log" |
    { grep -v -E '^ +Start +[0-9]+: | Passed +[0-9.]+ sec$' || true; }
}

# Fails only where nothing could be tested; how the tests went is recorded.
test_preset() {  # PRESET [CTEST ARGUMENT...]
  local start=$SECONDS status=0 log="build/$1/ctest.log"
  echo "== $1: build"
  if ! build "$1"; then
    record "$1" 1 $((SECONDS - start))
    return 1
  fi
  echo "== $1: test"
  run_ctest "$1" "$log" "${@:2}" || status=1
  record "$1" "$status" $((SECONDS - start)) "$log"
}

# The stores' tests again, on the other engine than the one the kernel got them.
test_posix() {  # PRESET
  local start=$SECONDS status=0 log="build/$1/ctest-posix.log"
  echo "== $1: test with the posix engine"
  CAIRN_TEST_IO_ENGINE=posix run_ctest "$1" "$log" -L store --no-tests=ignore || status=1
  record "$1 (posix)" "$status" $((SECONDS - start)) "$log"
}

# The Python package over what the preset has built: of the sanitizers' nothing can be loaded into a
# Python. Status 77: it cannot be tested here.
test_python() {  # PRESET
  [[ $1 == dev || $1 == release ]] || return 0
  local start=$SECONDS status=0 log="build/$1/python.log"
  echo "== $1: test from Python"
  tools/python-test.sh "$1" >"$log" 2>&1 || status=$?
  tail -n 1 "$log"
  if ((status == 77)); then return; fi
  if ((status != 0)); then tail -n 100 "$log"; fi
  record "$1 (python)" "$status" $((SECONDS - start))
}

check_format() {
  local start=$SECONDS status=0
  build dev format_check || status=1
  record format "$status" $((SECONDS - start))
}

check_tidy() {
  local start=$SECONDS status=0
  tools/tidy.sh || status=1
  record tidy "$status" $((SECONDS - start))
}

# Against the headers of toolkits that are not installed; status 77: they cannot be had here.
check_cuda_compiles() {
  local start=$SECONDS status=0 log=build/cuda-compile.log
  mkdir -p build
  tools/cuda-compile.sh >"$log" 2>&1 || status=$?
  cat "$log"
  if ((status == 77)); then return; fi
  record cuda-compile "$status" $((SECONDS - start))
}

test_all() {
  check_format
  check_tidy
  check_cuda_compiles
  # Its stores on the posix engine alone: three presets have them on the other.
  if test_preset dev -LE store; then test_posix dev; fi
  test_preset asan || true
  test_preset tsan || true
  if test_preset release; then test_python release; fi
}

preset=''
engine=''
while (($# > 0)); do
  case $1 in
    --all) preset=--all ;;
    --posix) engine=posix ;;
    --engine)
      engine=${2-}
      shift
      [[ $engine == uring || $engine == posix ]] || usage
      ;;
    -*) usage ;;
    *) preset=$1 ;;
  esac
  shift
done
if [[ -n $engine ]]; then export CAIRN_TEST_IO_ENGINE=$engine; fi

require_packages
use_ccache
cmake=$(find_cmake)
ctest=$(dirname "$cmake")/ctest
jobs=$(nproc)

if [[ $preset == --all ]]; then
  test_all
else
  if test_preset "${preset:-dev}"; then test_python "${preset:-dev}"; fi
fi

if ((${#results[@]} > 1)); then
  printf '%s' "== ${results[0]}"
  printf ' | %s' "${results[@]:1}"
  echo
  # Up to the list of skipped tests, which stands above; all of it where tests failed.
  if [[ -n $summary_log ]]; then
    end='^Total Test time'
    if ((failed)); then end='^no such line'; fi
    sed -n "/% tests passed/,/$end/p" "$summary_log"
  fi
fi
exit "$failed"
