#!/usr/bin/env bash
# Runs kv-offload in a memory control group (version 1 or 2) whose limit is smaller than L2. Another
# process of the group takes half of the limit, by and by, and ends. Nothing may be killed, no byte
# may be wrong, and what is short must be there again within a second.
#
#   tests/campaign/cgroup.sh BUILD_DIR [LIMIT_MIB=768] [ENGINE...=uring posix]
#
# Needs root and a memory controller. The store lives under TMPDIR.
# Exit status: 0 all held, 1 something did not (shown), 2 wrong arguments, 77 not possible here.
set -euo pipefail

if (($# < 1)) || [[ ! -x $1/bin/kv-offload || ! ${2-768} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 2
fi
kv_offload=$1/bin/kv-offload
limit_mib=${2-768}
engines=("${@:3}")
((${#engines[@]})) || engines=(uring posix)

skip() {
  echo "SKIPPED: $*"
  exit 77
}

((EUID == 0)) || skip 'needs root'
group=''
work=$(mktemp -d)
finish() {
  local status=$? pid attempt
  set +e
  trap '' INT TERM HUP
  if [[ -n $group ]]; then
    for ((attempt = 0; attempt < 100; ++attempt)); do
      while read -r pid; do kill -KILL "$pid"; done 2>/dev/null <"$group/cgroup.procs"
      rmdir "$group" 2>/dev/null && break
      sleep 0.05
    done
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# The group's folder, and the names of its files.
make_group() {
  local root name=cairn-$$
  root=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ {print $2; exit}' /proc/mounts)
  if [[ -n $root ]]; then
    mkdir "$root/$name" 2>/dev/null || skip "cannot make a group in $root"
    group=$root/$name limit_file=memory.limit_in_bytes usage_file=memory.usage_in_bytes
    droppable=total_ kills_file=memory.oom_control
    version=1
  else
    root=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
    [[ -n $root ]] || skip 'no control groups are mounted'
    grep -qw memory "$root/cgroup.controllers" || skip 'no memory controller'
    echo +memory >"$root/cgroup.subtree_control" 2>/dev/null || skip 'cannot hand memory to a group'
    mkdir "$root/$name" 2>/dev/null || skip "cannot make a group in $root"
    group=$root/$name limit_file=memory.max usage_file=memory.current
    droppable='' kills_file=memory.events
    version=2
  fi
  echo $((limit_mib << 20)) >"$group/$limit_file" || skip 'cannot limit its memory'
  # Memory that is swapped out would not be short.
  if [[ -e $group/memory.swappiness ]]; then echo 0 >"$group/memory.swappiness"; fi
  if [[ -e $group/memory.swap.max ]]; then echo 0 >"$group/memory.swap.max"; fi
}

kills() { awk '$1 == "oom_kill" {print $2}' "$group/$kills_file"; }

# As the store counts: what could be dropped is free.
free_bytes() {
  local usage name bytes
  usage=$(<"$group/$usage_file")
  while read -r name bytes; do
    if [[ $name == "$droppable"inactive_file || $name == "$droppable"active_file ]]; then
      usage=$((usage - bytes))
    fi
  done <"$group/memory.stat"
  echo $(((limit_mib << 20) - usage))
}

in_group() {  # COMMAND...
  echo "$BASHPID" >"$group/cgroup.procs"
  exec "$@"
}

# Half of the limit at some 100 MB/s, held for three seconds.
neighbour() {
  local step
  for ((step = 0; step < limit_mib / 2 / 4; ++step)); do
    head -c 4M /dev/zero
    sleep 0.04
  done | tail -c "$((limit_mib / 2))M" | sleep "$((limit_mib / 2 / 100 + 5))"
}

figure() {  # NAME: of the report's JSON; 0 without one.
  local value=''
  [[ ! -e $work/report.json ]] ||
    value=$(sed -n "s/^ *\"$1\": \([0-9]*\),\{0,1\}\$/\1/p" "$work/report.json" | head -1)
  echo "${value:-0}"
}

failed=0
check() {  # WHAT CONDITION
  if (($2)); then return; fi
  echo "FAILED: $1"
  failed=1
}

run() {  # ENGINE
  local kills_before pid status=0 began now free high_since=0 high_ms_max=0 neighbour_pid=''
  local reserve=$((limit_mib << 20 >> 3)) free_least=$((limit_mib << 20))
  kills_before=$(kills)
  rm -rf "$work/store" "$work/report.json"
  # More requests than the neighbour stays for.
  (in_group "$kv_offload" --dir "$work/store" --l2 "$((limit_mib * 2))MiB" --l3 6GiB --scale 8 \
    --requests "$((limit_mib * 3 / 2))" --concurrency 2 --hints 4 --io-engine "$1" \
    --json "$work/report.json" >"$work/said" 2>"$work/errors") &
  pid=$!
  began=$(date +%s%3N)
  while kill -0 "$pid" 2>/dev/null; do
    now=$(date +%s%3N)
    if [[ -z $neighbour_pid ]] && ((now - began > 3000)); then
      (in_group bash -c "$(declare -f neighbour); limit_mib=$limit_mib; neighbour") &
      neighbour_pid=$!
    fi
    free=$(free_bytes)
    ((free >= free_least)) || free_least=$free
    if ((free * 5 < reserve)); then
      ((high_since)) || high_since=$now
      ((now - high_since <= high_ms_max)) || high_ms_max=$((now - high_since))
    else
      high_since=0
    fi
    sleep 0.01
  done
  wait "$pid" || status=$?
  if [[ -n $neighbour_pid ]]; then wait "$neighbour_pid" || true; fi
  cat "$work/said"
  grep -v '^kv-offload: [0-9]' "$work/errors" | tail -5 || true
  echo "control group version $version, limit $limit_mib MiB," \
    "L2 $((limit_mib * 2)) MiB, engine $1:" \
    "exit $status, killed $(($(kills) - kills_before)), at least $((free_least >> 20)) MiB free," \
    "high for $high_ms_max ms at most, $(figure times_high) times;" \
    "given back $(($(figure l2_bytes_given_back) >> 20)) MiB," \
    "taken $(($(figure l2_bytes_taken_back) >> 20)) MiB, in use at the end" \
    "$(($(figure l2_bytes_usable) >> 20)) MiB, mismatches $(figure mismatches)"
  check "$1 ended with $status" "status == 0"
  check "$1: somebody was killed" "$(kills) == kills_before"
  check "$1: bytes were wrong" "$(figure mismatches) == 0"
  check "$1: memory was not short" "$(figure times_high) > 0"
  check "$1: nothing was given back" "$(figure l2_bytes_given_back) > 0"
  check "$1: nothing was taken back" "$(figure l2_bytes_taken_back) > 0"
  check "$1: high for more than a second" "high_ms_max <= 1000"
}

make_group
for engine in "${engines[@]}"; do run "$engine"; done
exit "$failed"
