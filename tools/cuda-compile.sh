#!/usr/bin/env bash
# Compiles the one file that speaks to CUDA against the runtime's headers of several toolkits, where
# no toolkit needs to be installed: they come from PyPI as wheels, into build/cuda-headers, once.
#
#   tools/cuda-compile.sh
#
# Exit status: 0 compiles with all that could be had; 1 it does not; 77 skipped, with the reason.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A toolkit by its wheels: without copies in batches, with them as 12.8 declares them, and as 13.
readonly TOOLKITS=(
  "12.1 nvidia-cuda-runtime-cu12==12.1.* nvidia-cuda-nvcc-cu12==12.8.*"
  "12.8 nvidia-cuda-runtime-cu12==12.8.* nvidia-cuda-nvcc-cu12==12.8.*"
  "13 nvidia-cuda-runtime==13.* nvidia-cuda-crt==13.*"
)
readonly HEADERS=build/cuda-headers

skip() {
  echo "SKIPPED: $1"
  exit 77
}
python3 -m pip --version >/dev/null 2>&1 || skip 'no pip to fetch the CUDA headers with'
compiler=$(command -v clang++ || command -v g++) || skip 'no C++ compiler'

# The headers of one toolkit, unpacked; only what ends under include/.
fetch() {  # FOLDER WHEEL...
  local folder=$1 wheel
  shift
  [[ -e $folder/complete ]] && return 0
  rm -rf "$folder"
  mkdir -p "$folder/wheels"
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder/wheels" "$@" \
    >"$folder/pip.log" 2>&1 || return 1
  for wheel in "$folder"/wheels/*.whl; do
    python3 - "$wheel" "$folder" <<'UNPACK' || return 1
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if "/include/" in name])
UNPACK
  done
  rm -rf "$folder/wheels"
  touch "$folder/complete"
}

failed=0
compiled=0
for toolkit in "${TOOLKITS[@]}"; do
  read -r -a words <<<"$toolkit"
  folder=$HEADERS/${words[0]}
  if ! fetch "$folder" "${words[@]:1}"; then
    echo "CUDA ${words[0]}: no headers: $(grep -m 1 -i error "$folder/pip.log" 2>/dev/null)"
    continue
  fi
  includes=()
  for include in "$folder"/nvidia/*/include; do includes+=(-isystem "$include"); done
  if "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I. -Iinclude "${includes[@]}" \
    tiers/cuda_device.cc; then
    echo "CUDA ${words[0]}: compiles"
    compiled=$((compiled + 1))
  else
    echo "CUDA ${words[0]}: does not compile"
    failed=1
  fi
done
((failed == 0)) || exit 1
((compiled > 0)) || skip 'no CUDA headers could be fetched from PyPI'
