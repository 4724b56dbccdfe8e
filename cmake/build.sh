# Functions for examples/run, tests/run and .ci/run, which source this file. They configure and
# build a preset without noise, and install what is missing on Debian and Ubuntu. All messages go to
# stderr.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
packages="cmake make g++ libopenblas-dev libfmt-dev zlib1g-dev nlohmann-json3-dev libpng-dev libturbojpeg0-dev doctest-dev libcli11-dev"
jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# The packages of the list that are not installed for this machine; one for another architecture may
# be installed beside.
missing_packages() {
  local package native
  native=$(dpkg --print-architecture 2>/dev/null) || native=none
  for package in $packages; do
    dpkg-query -W -f '${db:Status-Status} ${Architecture}\n' "$package" 2>/dev/null |
      grep -xE "installed (all|$native)" >/dev/null || printf '%s ' "$package"
  done
}

# Install what is missing. Fails if nothing is missing, or if only the user can install it.
install_missing() {
  if ! command -v apt-get >/dev/null; then
    cat >&2 <<'END'
If something to build with is missing, install:
  Fedora  gcc-c++ make cmake openblas-devel fmt-devel zlib-devel json-devel libpng-devel turbojpeg-devel doctest-devel cli11-devel
  Arch    base-devel cmake openblas fmt zlib nlohmann-json libpng libjpeg-turbo doctest cli11
END
    return 1
  fi
  local missing as_root= output
  missing=$(missing_packages)
  [ -n "$missing" ] || return 1
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "As root, run: apt-get install $missing"
    as_root=sudo
  fi
  printf 'installing %s\n' "$missing" >&2
  # A fresh machine may have no package lists yet. If they cannot be renewed, the old ones may do.
  $as_root apt-get update -qq >/dev/null 2>&1 || true
  output=$($as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing 2>&1) || die "$output"
}

# configure PRESET: runs CMake the first time, and again if the presets or the list of examples have
# changed since; the build itself notices all other changes.
configure() {
  local done=$root/build/$1/configured tool output
  if [ "$done" -nt "$root/CMakePresets.json" ] && [ "$done" -nt "$root/examples" ]; then return; fi
  for tool in cmake make c++; do
    command -v $tool >/dev/null || install_missing || die "There is no $tool."
  done
  output=$(cmake -S "$root" --preset "$1" 2>&1) ||
    { install_missing && output=$(cmake -S "$root" --preset "$1" 2>&1); } || die "$output"
  touch "$done"
}

# Turn the output of a build into its progress: on a terminal into one line that counts up,
# elsewhere into a line for each quarter. A build that has nothing to do prints nothing.
show_progress() {
  local line percent shown=-25
  while IFS= read -r line; do
    if [[ $line =~ ^\[\ *([0-9]+)%\]\ (Building|Linking) ]]; then
      percent=${BASH_REMATCH[1]}
    elif [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]]; then # ninja
      percent=$((100 * BASH_REMATCH[1] / BASH_REMATCH[2]))
    else
      continue
    fi
    if [ -t 2 ]; then
      printf '\r%s: %d %%' "$1" "$percent" >&2
    elif ((percent >= shown + 25)); then
      shown=$((percent / 25 * 25))
      printf '%s: %d %%\n' "$1" "$shown" >&2
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
}

# build PRESET TARGET WHAT: shows all that the compiler said if the build fails, else nothing of it.
build() {
  local log=$root/build/$1/build.log
  configure "$1"
  if ! (set -o pipefail
        cmake --build "$root/build/$1" --parallel "$jobs" --target "$2" 2>&1 </dev/null |
          tee "$log" | show_progress "building $3"); then
    grep -vE '^(\[ *[0-9]+[%/]|-- )' "$log" >&2
    die "Building $3 failed; the whole log is $log"
  fi
}
