#!/usr/bin/env bash
# Cairn beside its peers on one disk: RocksDB, LevelDB, LMDB, and a file for each tensor.
#
#   bench/peers.sh [DIRECTORY] [--size GIB] [--bs 1m,4m] [--rounds N] [--lock FILE]
#
# DIRECTORY (default: build/peers) gets the files of one store at a time, gone when it is measured;
# figures.jsonl, one line for each run, and table.md stay there. Every round measures every store
# once, each time another one first. Default: 4 GiB, 1 MiB and 4 MiB, 3 rounds. --lock: hold FILE
# (flock) while a store is measured, where others measure on this disk.
#
# Installs what is missing of libleveldb-dev and liblmdb-dev where it can, and else says which peer
# is left out. Exit status: 0, 1 a store failed or gave other bytes back, 2 wrong use.
set -euo pipefail

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0"
  exit 2
}

directory=''
gib=4
sizes=1m,4m
rounds=3
lock=()
while (($# > 0)); do
  case $1 in
    --size | --bs | --rounds | --lock)
      (($# > 1)) || usage
      case $1 in
        --size) gib=${2%[gG]*} ;;
        --bs) sizes=$2 ;;
        --rounds) rounds=$2 ;;
        --lock) lock=(flock "$2") ;;
      esac
      shift
      ;;
    -*) usage ;;
    *)
      [[ -z $directory ]] || usage
      directory=$1
      ;;
  esac
  shift
done
[[ $gib =~ ^[1-9][0-9]*$ && $rounds =~ ^[1-9][0-9]*$ ]] || usage
tensor_bytes=()
for size in ${sizes//,/ }; do
  [[ $size =~ ^[1-9][0-9]*[kmKM]$ ]] || usage
  tensor_bytes+=("$(numfmt --from=iec "${size^^}")")
done
if [[ -n $directory ]]; then directory=$(realpath -m "$directory"); fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh
directory=${directory:-$PWD/build/peers}

# The peers that Cairn itself does not need.
install_peers() {
  local -a missing=()
  [[ -e /usr/include/leveldb/db.h ]] || missing+=(libleveldb-dev)
  [[ -e /usr/include/lmdb.h ]] || missing+=(liblmdb-dev)
  ((${#missing[@]} > 0)) || return 0
  if command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }; then
    if apt_get install --no-install-recommends "${missing[@]}" >/dev/null; then return; fi
  fi
  echo "left out, for want of a package: ${missing[*]}" >&2
}

require_packages
install_peers
use_ccache
cmake=$(find_cmake)
mkdir -p build/release "$directory"
echo "building (log: build/release/peers.log)" >&2
if ! { "$cmake" --preset release && "$cmake" --build --preset release -j "$(nproc)" \
  --target peers_bench; } >build/release/peers.log 2>&1; then
  tail -n 100 build/release/peers.log
  exit 1
fi

bench=build/release/bin/peers_bench
mapfile -t stores < <("$bench" --list)
figures=$directory/figures.jsonl
: >"$figures"
failed=0
for bytes in "${tensor_bytes[@]}"; do
  for ((round = 1; round <= rounds; ++round)); do
    for ((i = 0; i < ${#stores[@]}; ++i)); do
      store=${stores[$(((i + round - 1) % ${#stores[@]}))]}
      echo "tensors of $bytes bytes, round $round of $rounds: $store" >&2
      "${lock[@]}" "$bench" --store "$store" --directory "$directory" --size $((gib << 30)) \
        --tensor-bytes "$bytes" --round "$round" >>"$figures" || failed=1
    done
  done
done
"$bench" --table "$figures" | tee "$directory/table.md"
exit "$failed"
