#!/usr/bin/env bash
# Restores from disk beside fio on the same files: the second run of kv-offload over one directory,
# alternating with fio reading the store's own data files, several pairs, the median of the ratios.
#
#   bench/restore_vs_fio.sh KV_OFFLOAD DIRECTORY [PAIRS [KV_OFFLOAD ARGUMENT...]]
#
# fio gets what Cairn uses: huge pages, fixed buffers and files, the same block size, and the bytes
# in flight of StoreOptions::io_bytes_in_flight_max. As root it reserves huge pages for fio while it
# runs; else fio runs with small pages, and the script says so.
set -euo pipefail

if (($# < 2)); then
  sed -n '2,9s/^# \{0,1\}//p' "$0"
  exit 2
fi
kv_offload=$1
directory=$2
pairs=${3:-5}
arguments=("${@:4}")
if ((${#arguments[@]} == 0)); then
  arguments=(--kv-bytes-per-token 65536 --requests 1500 --l2 256MiB --l3 4GiB)
fi
json=$(mktemp)
huge_before=$(cat /proc/sys/vm/nr_hugepages)
restore() {
  rm -f "$json"
  if ((EUID == 0)); then echo "$huge_before" >/proc/sys/vm/nr_hugepages; fi
}
trap restore EXIT

field() {
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$json" "$1"
}
memory=mmap
if ((EUID == 0)); then
  memory=mmaphuge
else
  echo "not root: fio runs with small pages, which is slower than the device"
fi

fio_gbps() {
  local files
  files=$(printf '%s:' "$directory"/data/*.data)
  if [[ $memory == mmaphuge ]]; then echo 64 >/proc/sys/vm/nr_hugepages; fi
  fio --name=restore --filename="${files%:}" --readonly --rw=randread --bs="$1" --iodepth="$2" \
    --ioengine=io_uring --direct=1 --iomem=$memory --fixedbufs=1 --registerfiles=1 \
    --runtime=4 --time_based --output-format=json |
    python3 -c 'import json, sys
text = sys.stdin.read()
print(json.loads(text[text.index("{"):])["jobs"][0]["read"]["bw_bytes"] / 1e9)'
  if [[ $memory == mmaphuge ]]; then echo "$huge_before" >/proc/sys/vm/nr_hugepages; fi
}

echo "first run, to fill the store: kv-offload ${arguments[*]}"
"$kv_offload" --dir "$directory" "${arguments[@]}" --json "$json" >/dev/null 2>&1
block_bytes=$(python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["config"]["block_bytes"])' "$json")
request_bytes=$((block_bytes < 1048576 ? block_bytes : 1048576))
depth=$((8388608 / request_bytes))
echo "fio: randread, bs $request_bytes, iodepth $depth, iomem $memory"
ratios=()
for ((pair = 1; pair <= pairs; ++pair)); do
  fio=$(fio_gbps "$request_bytes" "$depth")
  "$kv_offload" --dir "$directory" "${arguments[@]}" --json "$json" >/dev/null 2>&1
  cairn=$(field restore_gbps)
  ratio=$(python3 -c "print(f'{$cairn / $fio:.3f}')")
  ratios+=("$ratio")
  printf 'pair %d: fio %.2f GB/s, restored at %.2f GB/s (blocks: %s L3, %s L2), ratio %s\n' \
    "$pair" "$fio" "$cairn" "$(field hits_l3)" "$(field hits_l2)" "$ratio"
done
printf '%s\n' "${ratios[@]}" | sort -n | awk '{ v[NR] = $1 } END {
  median = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
  printf "median of %d ratios: %.3f\n", NR, median }'
