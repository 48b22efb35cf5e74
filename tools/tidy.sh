#!/usr/bin/env bash
# clang-tidy 14 over the library, the tools and the benchmarks, as .clang-tidy says; another version
# warns differently, so where only such a one is found it says so and passes. Not over the tests,
# which four configurations compile and run. Many sources are one translation unit (preset tidy):
# the headers of others, which take most of the time, are walked once for all of them.
#
#   tools/tidy.sh                         everything, some minutes
#   clang-tidy -p build/dev FILE.cc       one file, where preset dev was configured
#
# Exit status: 0 clean, or skipped; 1 findings (shown), or it could not be run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

readonly VERSION=14
# Of this name: the analyser goes into sources that a file under it includes, and no other.
readonly BUILD=build/tidy/UnifiedSource

tidy=$(command -v "clang-tidy-$VERSION" || command -v clang-tidy || true)
if [[ -z $tidy ]] || ! "$tidy" --version | grep -q "version $VERSION\."; then
  echo "clang-tidy skipped: no clang-tidy $VERSION"
  exit 0
fi

mkdir -p "$BUILD"
if ! "$(find_cmake)" --preset tidy >"$BUILD"/configure.log 2>&1; then
  cat "$BUILD"/configure.log
  exit 1
fi

root=$(sed 's/[][+.*()^?$|\\]/\\&/g' <<<"$PWD")
# What clang-tidy counts, of all headers of the system, goes to standard error, findings to the
# other; the analyser's bound for a function is a tenth of its default: half of the time, and what
# it found here it found within.
check() {  # SOURCE
  local out
  if ! out=$("$tidy" --quiet -p "$BUILD" --checks=-bugprone-suspicious-include \
    --header-filter="^$root/(include|src|io|tiers|tools|bench)/" \
    --extra-arg=-Xclang --extra-arg=-analyzer-config \
    --extra-arg=-Xclang --extra-arg=max-nodes=20000 "$1" 2>/dev/null); then
    echo "$1:"
    # Without findings it is the compiler that refused.
    if [[ -n $out ]]; then echo "$out"; else "$tidy" -p "$BUILD" "$1" 2>&1 | tail -n 50; fi
    return 1
  fi
}
export -f check
export tidy root BUILD

sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$BUILD"/compile_commands.json | sort -u |
  xargs -P "$(nproc)" -I SOURCE bash -c 'check SOURCE' || exit 1
