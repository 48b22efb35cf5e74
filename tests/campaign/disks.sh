# Disks in files for the campaigns that source this: loop devices over images, and images served by
# nbdkit through nbdfuse, which can lose their cache, fail and dawdle. All of it lives in $work and
# is gone at the end, whatever the end.

skip() {
  echo "SKIPPED: $*"
  exit 77
}

# Ends the script with 77 where this machine cannot.
require_disks() {  # PROGRAM:PACKAGE...
  ((EUID == 0)) || skip 'needs root'
  local entry
  for entry in losetup:mount umount:mount "$@"; do
    command -v "${entry%:*}" >/dev/null || skip "no ${entry%:*}: install ${entry#*:}"
  done
  losetup -f >/dev/null 2>&1 || skip 'no loop devices'
}
require_served_disks() {
  require_disks nbdkit:nbdkit nbdfuse:libnbd-bin mkfs.ext4:e2fsprogs
  [[ -c /dev/fuse ]] || skip 'no /dev/fuse'
}

work=$(mktemp -d)
mounts=()  # In the order in which they were made.
nbd=$work/nbd  # What nbdfuse shows of the image.
nbdkit_pid='' fuse_pid='' writer_pid=''

kill_now() {  # PID...
  local pid
  for pid in "$@"; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}

# By the name of what is behind them: a signal may come before their own names are known.
detach_loops() {
  local loop back
  losetup --noheadings -O NAME,BACK-FILE | while read -r loop back; do
    if [[ $back == "$work"/* ]]; then losetup -d "$loop" 2>/dev/null || true; fi
  done
}

# Ends all that was set up, in whatever state it is.
tear_down() {
  local i
  # The writer's requests end only when the server is dead.
  [[ -z $nbdkit_pid ]] || kill_now "$nbdkit_pid"
  [[ -z $writer_pid ]] || kill_now "$writer_pid"
  for ((i = ${#mounts[@]} - 1; i >= 0; --i)); do
    umount "${mounts[i]}" 2>/dev/null || umount -l "${mounts[i]}" 2>/dev/null || true
  done
  detach_loops
  [[ -z $fuse_pid ]] || kill_now "$fuse_pid"
  # A mount whose server is gone: mountpoint would not know it.
  umount -l "$nbd" 2>/dev/null || true
  mounts=() nbdkit_pid='' fuse_pid='' writer_pid=''
}
finish() {
  local status=$?
  set +e
  trap '' INT TERM HUP
  tear_down 2>/dev/null
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

wait_for() {  # WHAT COMMAND...
  local what=$1 attempt
  shift
  for ((attempt = 0; attempt < 500; ++attempt)); do
    if "$@" 2>/dev/null; then return; fi
    sleep 0.01
  done
  skip "$what does not come up"
}

attach() {  # FILE DIRECTORY: mounts the file system in the file.
  local loop
  mkdir -p "$2"
  mounts+=("$2")
  loop=$(losetup --show -f "$1")
  mount "$loop" "$2"
  losetup -d "$loop"  # As soon as the mount is gone.
}

# The image as nbdkit serves it with these arguments behind its filters, mounted.
serve() {  # IMAGE DIRECTORY FILTER [PARAMETER...]
  local image=$1 directory=$2 filter=$3 socket=$work/socket
  shift 3
  rm -f "$socket"
  TMPDIR=$work nbdkit -f -U "$socket" --filter="$filter" file "$image" "$@" 2>"$work/nbdkit.log" &
  nbdkit_pid=$!
  wait_for nbdkit test -S "$socket"
  touch "$nbd"
  # It speaks of the death of its server, and may die of it.
  nbdfuse "$nbd" --unix "$socket" 2>/dev/null &
  fuse_pid=$!
  disown "$fuse_pid"  # The shell need not say how it ended.
  wait_for nbdfuse mountpoint -q "$nbd"
  attach "$nbd" "$directory"
}
