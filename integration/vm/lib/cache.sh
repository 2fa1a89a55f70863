# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of the test bed: messages and the cache.
#
# What is slow to make (kernels, disk images) is made once per content: the cache path holds
# a hash of everything that goes in, so a changed recipe never meets an old result.

shopt -s inherit_errexit

CACHE=${VARMOR_CACHE:-$HOME/.cache/varmor-nri}

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { note "$*"; exit 1; }

# hash_of FILE_OR_TEXT...: one short hash over the contents of files and over plain words.
hash_of() {
  local item
  for item; do
    if [[ -f $item ]]; then cat "$item"; else printf '%s\n' "$item"; fi
  done | sha256sum | cut -c1-16
}

# cached PATH COMMAND...: prints the full path of PATH in the cache. When it is not there,
# COMMAND makes it: it gets a path as its last argument and writes a file or directory there.
# Parallel callers wait for one builder, and nobody ever sees a half-made entry.
cached() {
  local final=$CACHE/$1 lock scratch status=0
  shift
  if [[ ! -e $final ]]; then
    mkdir -p "${final%/*}"
    exec {lock}> "$final.lock"
    flock "$lock"
    if [[ ! -e $final ]]; then
      scratch=$(mktemp -d "$final.part.XXXXXX")
      # In the background, since bash ignores -e inside the condition of an if. Without the
      # lock, which a daemon left behind by the builder would hold for ever.
      ("$@" "$scratch/made") >&2 {lock}>&- &
      wait $! || status=$?
      if ((status != 0)); then
        rm -rf "$scratch"
        die "could not make ${final#"$CACHE"/}"
      fi
      mv -T "$scratch/made" "$final"
      rmdir "$scratch"
    fi
    exec {lock}>&-
  fi
  printf '%s\n' "$final"
}
