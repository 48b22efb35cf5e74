#!/usr/bin/env bash
# Tests the adapters of cairn.hosts on the packages of the hosts themselves, each in an environment
# of its own below build/python/hosts. Without a GPU: torch is a build for the CPU, and of a host's
# own requirements only those are installed that its plug point imports. (vLLM 0.25.1 imports too
# much: python/tests has stand-ins of its signatures.)
#
#   tools/hosts-test.sh [HOST==VERSION...]    default: all it knows; after tools/test.sh release
#
# Exit status: 0 all passed on the hosts' own classes, 1 one did not or cannot be imported.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

readonly TORCH=torch==2.13.0+cpu
readonly VLLM='vllm.v1.kv_offload.tiering.factory'
readonly SGLANG='sglang.srt.mem_cache.storage.backend_factory'
readonly LMCACHE='lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter'
# "package plug-point test what-it-imports..."
readonly HOSTS=(
  "vllm==0.33.0 $VLLM vllm msgspec packaging psutil pyzmq regex urllib3"
  "vllm==0.27.1 $VLLM vllm packaging regex"
  "sglang==0.5.23 $SGLANG sglang aiohttp ipython msgspec orjson packaging pillow psutil pybase64 \
     pydantic pyzmq requests starlette tqdm triton"
  "lmcache==0.5.6 $LMCACHE lmcache aiohttp cachetools cryptography numba prometheus-client psutil \
     py-cpuinfo pyyaml requests sortedcontainers"
)

folder=$PWD/build/python
prefix=$folder/release/prefix
if [[ ! -x $folder/env/bin/python || ! -d $prefix ]]; then
  echo "hosts-test: tools/test.sh release comes first: it builds what is tested here" >&2
  exit 1
fi

build_wheel() {
  rm -rf "$folder/wheel"
  CMAKE="$(find_cmake)" "$folder/env/bin/python" -m pip wheel --quiet --no-build-isolation \
    --no-deps --config-settings="build-dir=$folder/release/native" \
    --config-settings="cmake.define.CAIRN_PREFIX=$prefix" --wheel-dir "$folder/wheel" ./python
}

# Says nothing of what pip thinks of the requirements that are left out.
install() {  # ENVIRONMENT PIP-ARGUMENT...
  local env=$1
  shift
  if ! "$env/bin/python" -m pip install --quiet "$@" >"$env/install.log" 2>&1; then
    cat "$env/install.log"
    return 1
  fi
}

test_host() {  # PACKAGE PLUG_POINT TEST REQUIREMENT...
  local package=$1 plug_point=$2 test=$3 env=$folder/hosts/$1
  shift 3
  [[ -x $env/bin/python ]] || "$(find_python)" -m venv "$env" || return 1
  install "$env" "$TORCH" numpy ml_dtypes pytest "$@" || return 1
  install "$env" --no-deps "$package" || return 1
  install "$env" --no-deps --force-reinstall "$folder"/wheel/*.whl || return 1
  "$env/bin/python" -c "import $plug_point" || return 1
  PYTHONDONTWRITEBYTECODE=1 timeout 600 "$env/bin/python" -m pytest -q -rs -p no:cacheprovider \
    -o tmp_path_retention_policy=failed --basetemp="$env/tmp" "python/tests/test_hosts_$test.py"
}

use_ccache
build_wheel
status=0
for host in "${HOSTS[@]}"; do
  read -r -a words <<<"$host"
  if (($# > 0)) && [[ " $* " != *" ${words[0]} "* ]]; then continue; fi
  echo "== ${words[0]}"
  if ! test_host "${words[@]}"; then
    echo "== ${words[0]}: FAILED"
    status=1
  fi
done
exit "$status"
