# shellcheck shell=bash disable=SC2154 # root, cache, out and python are sd/build's
# What is no program: the Python modules, the certificates, the licences; and the card itself. Sourced by sd/build.
set -euo pipefail

# Python without its site packages; its hashes, and with them the order in sets, are fixed by sd/build's environment.
plain_python() { "$python" -B -s -S "$@"; }

build_modules() {
  local wheel library
  mkdir packages
  for wheel in "$(result packages)"/*.whl; do plain_python -m zipfile -e "$wheel" packages; done
  cp -r "$(result source-psutil)/psutil" packages/
  library=("$root/sd/stdlib" "$(result source-python3.11)/python3.11/Lib")
  plain_python -X no_debug_ranges "$root/sd/build.d/modules.py" "$(result python)/python3" "$out/python311.zip" \
    "$out/agent.zip" "$root" packages "${library[@]}"
}

build_authorities() {
  plain_python "$root/sd/build.d/certificates.py" "$(result source-ca-certificates)/ca-certificates/mozilla/certdata.txt" \
    "$out/ca-certificates.crt"
}

# One text for each work that is on the card, and a list of them.
gather_licences() {
  local wheels name wheel
  licence yiagent "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/yiagent/__init__.py")" MIT "$root/LICENSE"
  licence musl "as in $(toolchain_version)" MIT "$(result toolchain)/ziglang/lib/libc/musl/COPYRIGHT"
  licence compiler-rt "as in $(toolchain_version)" MIT "$(result toolchain)/ziglang/LICENSE"
  for name in ca-certificates ffmpeg openssl python3.11 zlib; do
    debian_licence "$name"
  done
  licence psutil "$(version_of_package psutil)" BSD-3-Clause "$(result source-psutil)/psutil/LICENSE"
  for wheel in "$(result packages)"/*.whl; do
    plain_python -m zipfile -e "$wheel" wheels
  done
  wheels=$PWD/wheels
  licence microdot "$(version_of_package microdot)" MIT "$wheels"/microdot-*.dist-info/licenses/LICENSE
  licence paho-mqtt "$(version_of_package paho-mqtt)" 'EPL-2.0 or BSD-3-Clause (EDL-1.0)' \
    "$wheels"/paho_mqtt-*.dist-info/licenses/*
  licence PyYAML "$(version_of_package PyYAML)" MIT "$wheels"/pyyaml-*.dist-info/licenses/LICENSE
  licence voluptuous "$(version_of_package voluptuous)" BSD-3-Clause "$wheels"/voluptuous-*.dist-info/COPYING
  sort -f -o "$out/list" "$out/list"
  {
    printf 'What is on this card, by whom and on which terms: the text of each lies beside this file.\n\n'
    cat "$out/list"
    printf '\n'
    printf '%s\n' "The sources are Debian's and PyPI's of these versions. What is changed in them, and how all of this is made" \
      "from them, is in the folder sd/ of yiagent's source."
  } >"$out/LICENCES.txt"
  rm "$out/list"
}

licence() {
  local name=$1 version=$2 terms=$3
  shift 3
  printf '%-16s %-28s %s\n' "$name" "$version" "$terms" >>"$out/list"
  cat "$@" >"$out/$name.txt"
}

debian_licence() {
  local folder terms texts=()
  folder=$(result "source-$1")/$1
  case $1 in
    ca-certificates) terms='MPL-2.0' ;;
    ffmpeg)
      terms='LGPL-3.0-or-later'
      texts=("$folder/COPYING.LGPLv3" "$folder/COPYING.GPLv3")
      ;;
    openssl)
      terms='Apache-2.0'
      texts=("$folder/LICENSE.txt")
      ;;
    python3.11)
      terms='PSF-2.0'
      texts=("$folder/LICENSE")
      ;;
    zlib) terms='Zlib' ;;
  esac
  licence "$1" "$(version_of "$1")" "$terms" "$folder/debian/copyright" "${texts[@]}"
}

version_of_package() { sed -n "s/^$1==\([^ ]*\) .*/\1/p" "$root/sd/build.d/packages.txt"; }
toolchain_version() { sed -n 's/^\(ziglang\)==\([^ ]*\) .*/\1 \2/p' "$root/sd/build.d/toolchain.txt"; }

# The card as it is to lie on FAT32: no links, no modes, no two names that differ in case alone.
assemble_card() {
  local card=$out/card/yiagent
  mkdir -p "$card/lib/python3.11/lib-dynload" "$card/licences"
  cp "$(result python)/python3" "$(result authorities)/ca-certificates.crt" "$card/"
  cp "$root/sd/src/yiagent" "$card/"
  cp "$(result ffmpeg)/ffmpeg" "$card/ffmpeg"
  cp "$(result ffmpeg-audio)/ffmpeg" "$card/ffmpeg-audio"
  cp "$(result modules)/agent.zip" "$card/"
  cp "$(result modules)/python311.zip" "$card/lib/"
  # Python looks for this folder, and says so where it is missing. Some programs copy no empty folders.
  printf 'python3 looks for this folder; nothing else is needed in it.\n' >"$card/lib/python3.11/lib-dynload/README"
  cp "$(result licences)"/* "$card/licences/"
  # The hook that starts it all, and what belongs to it.
  [[ ! -d $root/sd/card ]] || cp -r "$root/sd/card/." "$out/card/"
  plain_python "$root/sd/build.d/zips.py" "$out/yiagent-card.zip" "$out/card"
  (cd "$out" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$out/SHA256SUMS"
}
