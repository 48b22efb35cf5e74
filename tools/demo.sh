#!/usr/bin/env bash
# Shows Cairn at work on a machine without a GPU: a model host's key-value blocks go through a store
# of 256 MiB of memory and up to 2 GiB of disk. Runs twice: the second run finds what the first left
# on disk. Then every byte on disk is verified. Ends with the table of the second run.
#
#   tools/demo.sh [--keep]     --keep leaves the store for a look with store-inspect
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

keep=0
case ${1-} in
  '') ;;
  --keep) keep=1 ;;
  *)
    sed -n '2,6s/^# \{0,1\}//p' tools/demo.sh
    exit 2
    ;;
esac

readonly MIB=$((1 << 20))

build() {
  mkdir -p build/release
  local log=build/release/demo.log
  echo "building (log: $log)"
  if ! { "$cmake" --preset release && "$cmake" --build --preset release -j "$(nproc)" \
    --target kv-offload store-inspect; } >"$log" 2>&1; then
    tail -n 100 "$log"
    exit 1
  fi
}

# Prints the bytes of L3 that leave the disk a third of what is free: 2 GiB where that fits.
l3_bytes() {  # DIRECTORY
  local free l3
  free=$(df --output=avail -B 1 "$1" | tail -n 1)
  l3=$((free * 2 / 3))
  l3=$((l3 - l3 % (32 * MIB)))
  if ((l3 < 256 * MIB)); then
    echo "the demo needs 384 MiB of free disk space; $((free / MIB)) MiB are free in $1" >&2
    return 1
  fi
  if ((l3 < 2048 * MIB)); then
    echo "only $((free / MIB)) MiB are free: L3 is $((l3 / MIB)) MiB instead of 2048 MiB" >&2
    echo "$l3"
  else
    echo $((2048 * MIB))
  fi
}

require_packages
use_ccache
cmake=$(find_cmake)
build

# On the disk of this tree: what is temporary for the system is often memory.
directory=$(mktemp -d "$PWD/build/demo-XXXXXX")
table=$directory.txt
clean_up() {
  rm -f "$table"
  if ((keep)); then
    echo "kept: ${directory#"$PWD/"}/store" >&2
  else
    rm -rf "$directory"
  fi
}
trap clean_up EXIT

l3=$(l3_bytes "$directory")
# As many requests as L3 can hold the blocks of, so that the second run has them all to find.
requests=$((l3 / (3 * MIB)))
run() {
  build/release/bin/kv-offload --dir "$directory/store" --l2 256MiB --l3 "$l3" \
    --requests "$requests"
}

echo
echo "== First run: an empty store"
run
echo
echo "== Second run: the same requests, and what is on disk from the first"
run >"$table"
echo "== Verifying every byte on disk"
build/release/bin/store-inspect verify "$directory/store"
echo
echo "== Second run"
cat "$table"
