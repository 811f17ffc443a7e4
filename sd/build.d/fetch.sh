# shellcheck shell=bash disable=SC2154 # root, cache, out, python and debian_sources are sd/build's
# What comes from elsewhere: Debian's sources by apt, Python packages by pip. Sourced by sd/build.
set -euo pipefail

# version_of NAME: of one of Debian's sources.
version_of() { awk -v name="$1" '$1 == name { print $2 }' <<<"$debian_sources"; }

# The machine's own package sources, asked for sources: apt's configuration of the machine is not touched, and root is
# not needed. A mirror, a proxy and a login for it are used as the machine has them.
private_apt() {
  local apt=$cache/apt
  mkdir -p "$apt/parts" "$apt/state/lists/partial" "$apt/cache/archives/partial"
  apt-"$1" -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" -o Dir::State="$apt/state" \
    -o Dir::Cache="$apt/cache" -o Acquire::Retries=2 -o APT::Sandbox::User=root "${@:2}"
}

update_private_apt() {
  local file
  rm -rf "$cache/apt/parts"
  mkdir -p "$cache/apt/parts"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ ! -e $file ]] ||
      sed -n 's/^[[:space:]]*deb\([[:space:]]\)/deb-src\1/p' "$file" >"$cache/apt/parts/$(basename "$file" .list).list"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ ! -e $file ]] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$cache/apt/parts/${file##*/}"
  done
  # A source that fails here may not be one that is needed.
  private_apt get update >"$cache/apt/log" 2>&1 || true
}

# fetch_source NAME VERSION SHA256: the source into $cache/downloads/NAME, as Debian has it.
fetch_source() {
  local name=$1 version=$2 sha256=$3 folder=$cache/downloads/$1 dsc newest
  dsc=$folder/${name}_${version#*:}.dsc
  if ! is_source_whole "$dsc" "$sha256"; then
    [[ -n ${apt_updated:-} ]] || update_private_apt
    apt_updated=yes
    say "  $name $version: from Debian"
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && private_apt get source --download-only --only-source "$name=$version") >"$cache/apt/log" 2>&1 || {
      tail -n 5 "$cache/apt/log" >&2
      die "Debian's source of $name $version could not be had. Where this machine's package sources have another version,
  ($(versions_of_source "$name")), write it into sd/build.d/versions, with the sha256 of its .dsc."
    }
    is_source_whole "$dsc" "$sha256" ||
      die "$dsc is not what sd/build.d/versions says it is: its sha256 is $(sha256sum "$dsc" | cut -c 1-64)"
    newest=$(versions_of_source "$name" | tr ' ' '\n' | sort -V | tail -n 1)
    [[ $newest == "$version" ]] || say "  $name: $newest has come since, see sd/build.d/versions"
  fi
}

versions_of_source() {
  private_apt cache showsrc --only-source "$1" 2>/dev/null | sed -n 's/^Version: //p' | sort -Vu | tr '\n' ' ' |
    sed 's/ $//'
}

# The .dsc by our checksum, all other files by those that stand in it.
is_source_whole() {
  [[ -e $1 ]] || return 1
  (
    cd "${1%/*}"
    sha256sum --quiet --check <<<"$2  ${1##*/}" &&
      sed -n '/^Checksums-Sha256:/,/^[^ ]/ s/^ \([0-9a-f]\{64\}\) [0-9]* \(.*\)/\1  \2/p' "$1" |
      sha256sum --quiet --check
  ) >/dev/null 2>&1
}

# The source unpacked, with Debian's patches and ours on top.
unpack_source() {
  local name=$1 version=$2
  # Its signature was checked by apt, and its checksum by us; Debian's developers' keys are not on every machine.
  dpkg-source --no-check --extract "$cache/downloads/$name/${name}_${version#*:}.dsc" "$out/$name"
  apply_patches "$name"
}

# psutil's source, with our patches.
unpack_psutil() {
  mkdir "$out/psutil"
  tar --extract --file "$(find "$(result packages)" -name 'psutil-*.tar.gz')" --directory "$out/psutil" --strip-components=1
  apply_patches psutil
  # The source lies one deeper than the package.
  mv "$out/psutil" "$out/source"
  mv "$out/source/psutil" "$out/psutil"
  mv "$out/source/LICENSE" "$out/psutil/"
  rm -r "$out/source"
}

apply_patches() {
  local patch
  for patch in "$root/sd/patches/$1"/*.patch; do
    [[ ! -e $patch ]] || patch --directory="$out/$1" --strip=1 --no-backup-if-mismatch <"$patch"
  done
}

# pip, from a virtual environment in the cache, by the machine's configuration of pip.
cache_pip() {
  if ! "$cache/venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$cache/venv"
  fi
  "$cache/venv/bin/python" -m pip --disable-pip-version-check --no-input --quiet "$@"
}

# The compiler, and programs that call it for the camera.
make_toolchain() {
  cache_pip install --no-deps --no-compile --require-hashes --only-binary :all: --target "$out" \
    --requirement "$root/sd/build.d/toolchain.txt"
  rm -r "${out:?}/bin"
  mkdir "$out/bin"
  cp "$root"/sd/build.d/tools/* "$out/bin/"
}

# The packages as they are on PyPI: wheels and one source.
fetch_packages() {
  # psutil's setup.py is asked for its name by pip, in an environment of its own; nothing of that comes here.
  cache_pip download --no-deps --require-hashes --no-binary psutil --dest "$out" \
    --requirement "$root/sd/build.d/packages.txt"
}
