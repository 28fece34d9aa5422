#!/usr/bin/env bash
# Run the tests CI runs, on real engines. Arguments go to pytest; without any, everything runs.
# Images (engine software) are kept in a directory of their own between runs: ARGOSY_TEST_IMAGES.
# Servers without an Argosy are made in ARGOSY_TEST_SCRATCH, which has to be a short path that every account can reach.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${ARGOSY_TEST_WORKERS:-3}

# An ext4 without a journal, as small virtual machines have, looks at every file that was deleted in the last minutes
# before it makes another (recently_deleted in the kernel's fs/ext4/ialloc.c): a quarter of all processor time of these
# tests. On such a one they get a file system of their own, in a file that has no name any more and goes with the mount.
journal_is_missing() {
  local device
  device=$(findmnt -n -o SOURCE,FSTYPE --target /tmp | awk '$2 == "ext4" {print $1}') && [ -b "$device" ] &&
    ! dumpe2fs -h "$device" 2>/dev/null | grep -q has_journal
}

scratch=/tmp/argosy-s$$
image=$scratch.img
mount_scratch() {
  mkdir "$scratch" && truncate -s 40G "$image" &&
    mkfs.ext4 -q -F -m 0 -i 65536 -E lazy_itable_init=1,nodiscard "$image" &&
    mount -o loop,noatime,noinit_itable "$image" "$scratch" && chmod 1777 "$scratch" && rm "$image"
}
take_away() {
  umount "$1" 2>/dev/null || umount --lazy "$1" 2>/dev/null || true
  rm -rf --one-file-system "$1.img" "$1"
}

if [ -z "${ARGOSY_TEST_SCRATCH:-}" ] && [ "$(id -u)" = 0 ] && journal_is_missing; then
  for other in /tmp/argosy-s[0-9]*; do # of runs that were killed
    [ -e "$other" ] && ! kill -0 "${other//[^0-9]/}" 2>/dev/null && take_away "${other%.img}"
  done
  trap 'take_away "$scratch"' EXIT
  if mount_scratch; then
    export ARGOSY_TEST_SCRATCH=$scratch
  fi
fi

# In the order of the tree: the servers that the tests of a package share end with it, and do not idle to the end.
.venv/bin/python -m pytest -q -n "$workers" --dist loadfile --no-loadscope-reorder --durations=25 "$@"
