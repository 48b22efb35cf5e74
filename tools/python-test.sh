#!/usr/bin/env bash
# Tests the Python package over what a preset has built: installs that below build/python, builds
# the native module against it, and runs pytest in an environment of its own.
#
#   tools/python-test.sh [PRESET]    default: release
#
# Exit status: 0 passed, 1 failed, 77 skipped, and the last line says why.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/packages.sh
source tools/packages.sh

preset=${1-release}
folder=$PWD/build/python
prefix=$folder/$preset/prefix
python=$folder/env/bin/python
log=$folder/$preset/install.log
mkdir -p "$folder/$preset"

skip() {
  echo "python: skipped: $1"
  exit 77
}

use_ccache
cmake=$(find_cmake)
if ! "$cmake" --install "build/$preset" --prefix "$prefix" >"$log" 2>&1; then
  tail -n 20 "$log"
  exit 1
fi

if [[ ! -x $python ]] && ! "$(find_python)" -m venv "$folder/env" >"$log" 2>&1; then
  rm -rf "$folder/env"
  skip "no virtual environment can be made: $(tail -n 1 "$log")"
fi
requirements=(scikit-build-core nanobind numpy ml_dtypes pytest)
if ! "$python" -m pip install --quiet "${requirements[@]}" >"$log" 2>&1; then
  skip "no ${requirements[*]} from the package index: $(grep -m 1 ERROR "$log" || tail -n 1 "$log")"
fi
# What the tests of model hosts need; without it they skip. Of torch only a build for the CPU, which
# its version says: the others bring gigabytes of CUDA with them.
hosts=(torch==2.13.0+cpu 'transformers>=5,<6')
if ! "$python" -m pip install --quiet "${hosts[@]}" >"$log" 2>&1; then
  echo "python: without ${hosts[*]}: $(grep -m 1 ERROR "$log" || tail -n 1 "$log")"
fi

if ! CMAKE="$cmake" "$python" -m pip install --no-build-isolation --no-deps --force-reinstall \
  --config-settings="build-dir=$folder/$preset/native" \
  --config-settings="cmake.define.CAIRN_PREFIX=$prefix" ./python >"$log" 2>&1; then
  tail -n 60 "$log"
  exit 1
fi
# On the disk of this tree: what is temporary for the system is often memory.
PYTHONDONTWRITEBYTECODE=1 timeout 600 "$python" -m pytest -q -rs -p no:cacheprovider \
  -o tmp_path_retention_policy=failed \
  --basetemp="$folder/$preset/tmp" python/tests || exit 1
