#!/usr/bin/env bash
# Makes sure that what the build needs is here: Debian 12 and Ubuntu 24.04 by name. With everything
# present it does nothing and needs neither root nor network.
#
#   tools/packages.sh            installs what is missing
#   source tools/packages.sh     defines require_packages, find_cmake, find_python and use_ccache
#
# Exit status: 0 all there, 1 something is missing and could not be installed.

# Programs may come from anywhere on the PATH: "program package".
readonly CAIRN_PROGRAMS=(
  "clang++ clang" "clang-tidy clang-tidy" "clang-format clang-format" "ld.lld lld" "cmake cmake"
  "ninja ninja-build" "pkg-config pkg-config" "g++ g++" "python3 python3" "fio fio"
)
# A header to look for, as the compiler sees it: "header package".
readonly CAIRN_HEADERS=(
  "liburing.h liburing-dev" "rocksdb/db.h librocksdb-dev" "absl/status/statusor.h libabsl-dev"
  "gtest/gtest.h libgtest-dev" "gmock/gmock.h libgmock-dev"
  "benchmark/benchmark.h libbenchmark-dev" "xxhash.h libxxhash-dev" "CLI/CLI.hpp libcli11-dev"
  "nlohmann/json.hpp nlohmann-json3-dev" "numa.h libnuma-dev"
)

# Prints the cmake to use: the system's, or that of the PATH where the first is too old. $CMAKE
# overrides both.
find_cmake() {
  local candidate version
  for candidate in "${CMAKE-}" /usr/bin/cmake "$(command -v cmake || true)"; do
    [[ -x $candidate ]] || continue
    version=$("$candidate" --version 2>/dev/null | sed -n 's/^cmake version //p')
    if [[ -n $version && $(printf '%s\n3.25\n' "$version" | sort -V | head -n 1) == 3.25 ]]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Prints the Python to use: the system's, whose packages these are, or that of the PATH.
find_python() {
  if [[ -x /usr/bin/python3 ]]; then echo /usr/bin/python3; else command -v python3; fi
}

# ccache speeds up the second build where it is installed; nothing needs it.
use_ccache() {
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
  fi
}

# Prints the packages that are missing, one a line.
missing_packages() {
  local entry probe=''
  for entry in "${CAIRN_PROGRAMS[@]}"; do
    if [[ ${entry% *} == cmake ]]; then
      find_cmake >/dev/null || echo cmake
    else
      command -v "${entry% *}" >/dev/null || echo "${entry#* }"
    fi
  done
  # One run of the preprocessor for all headers; without a compiler all of them are asked for, and
  # apt leaves alone what is there.
  for entry in "${CAIRN_HEADERS[@]}"; do
    probe+=$'#if !__has_include(<'"${entry% *}"$'>)\nmissing '"${entry#* }"$'\n#endif\n'
  done
  if command -v g++ >/dev/null; then
    g++ -std=c++20 -E -P -x c++ - <<<"$probe" | sed -n 's/^missing //p' | tr -d ' '
  else
    printf '%s\n' "${CAIRN_HEADERS[@]#* }"
  fi
  # Of Python, what makes an environment and the headers are packages apart.
  local python
  python=$(find_python || true)
  if [[ -n $python ]]; then
    "$python" -c 'import ensurepip' 2>/dev/null || echo python3-venv
    "$python" -c 'import os, sysconfig
os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || echo python3-dev
  else
    printf '%s\n' python3-venv python3-dev
  fi
  # clang's runtime of the sanitizers is a package apart.
  clang++ -fsanitize=thread -x c++ -o /dev/null - <<<'int main() {}' >/dev/null 2>&1 ||
    echo libclang-rt-dev
}

# apt-get as root, with patience for a mirror that drops a connection.
apt_get() {
  local -a as_root=()
  ((EUID == 0)) || as_root=(sudo -n)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 "$@"
}

require_packages() {
  local -a missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} > 0)) || return 0
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null || { ((EUID != 0)) && ! sudo -n true 2>/dev/null; }; then
    echo "missing packages; as root: apt-get update && $install" >&2
    return 1
  fi
  echo "installing: ${missing[*]}"
  # The lists of packages may be absent or old: they are fetched once, before anything else.
  local attempt
  for attempt in 1 2 3; do
    if apt_get update >/dev/null && apt_get install --no-install-recommends "${missing[@]}"; then
      break
    fi
    ((attempt == 3)) || sleep $((attempt * 5))
  done
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} > 0)); then
    echo "still missing: ${missing[*]}; as root: apt-get update && $install" >&2
    return 1
  fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  require_packages
fi
