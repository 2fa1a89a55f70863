# SPDX-License-Identifier: Apache-2.0
# Sourced: packages of any Debian suite, without touching this machine's own apt state.

# The mirror this machine already uses; any Debian mirror carries all the suites.
debian_mirror() {
  local here uri
  here=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # $(REPO_URI) is a field of apt's, and not for the shell.
  # shellcheck disable=SC2016
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $here" |
    sort -u | sed -n 1p)
  printf '%s\n' "${VARMOR_DEBIAN_MIRROR:-${uri:?no Debian mirror among the apt sources}}"
}

# debian_source SUITE: one line for a sources.list.
debian_source() {
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$(debian_mirror)" "$1"
}

# open_suite SUITE DIR: makes DIR an apt state of its own that knows SUITE, for the two below.
open_suite() {
  local suite=$1 dir=$2
  mkdir -p "$dir"/{lists/partial,cache/archives/partial}
  debian_source "$suite" > "$dir/sources.list"
  echo "$suite" > "$dir/suite"
  # Check-Valid-Until: the Release file of a suite past its support has expired, and is still good.
  cat > "$dir/apt.conf" <<CONF
Dir::State::Lists "$dir/lists";
Dir::State::Status "/dev/null";
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "-";
Dir::Cache "$dir/cache";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Sandbox::User "root";
CONF
  APT_CONFIG=$dir/apt.conf apt-get -qq update
}

# newest_package DIR REGEX: the name with the highest version in it among the names that match,
# nothing when none does.
newest_package() {
  APT_CONFIG=$1/apt.conf apt-cache pkgnames | { grep -Ex "$2" || true; } | sort -V | tail -n 1
}

# unpack_source DIR TARGET PACKAGE: downloads the upstream sources of one package, as Debian has
# them and without Debian's changes, and unpacks them into TARGET.
unpack_source() {
  local dir=$1 target=$2 package=$3
  debian_source "$(< "$dir/suite")" | sed 's/^deb /deb-src /' >> "$dir/sources.list"
  APT_CONFIG=$dir/apt.conf apt-get -qq update
  mkdir -p "$dir/source" "$target"
  (cd "$dir/source" && APT_CONFIG=$dir/apt.conf apt-get -qq source --download-only "$package")
  tar -x -f "$dir"/source/*.orig.tar.* -C "$target" --strip-components 1
  rm -r "$dir/source"
}

# unpack_packages DIR TARGET PACKAGE...: downloads packages (not what they depend on) and
# unpacks their files into TARGET.
unpack_packages() {
  local dir=$1 target=$2 deb
  shift 2
  mkdir -p "$dir/debs" "$target"
  (cd "$dir/debs" && APT_CONFIG=$dir/apt.conf apt-get -qq download "$@")
  for deb in "$dir"/debs/*.deb; do
    dpkg-deb -x "$deb" "$target"
  done
  rm -r "$dir/debs"
}
