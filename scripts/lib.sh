# shellcheck shell=bash
# What the scripts beside this file share: installing what is missing, once, and saying so.
# Sourced, never run. After it the working directory is the checkout, and `prepare WHAT` does the rest.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"

# Debian keeps nginx and mosquitto where a plain user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
die() {
  say "${0##*/}: $*"
  exit 1
}

# One line each: package, how to see that it is there, what it is for. A program may come from anywhere (":NAME");
# a library is asked of dpkg, since its files lie elsewhere in each release. Plain "nginx" is right everywhere: the
# program itself in Debian 12 and Ubuntu 24.04, in older releases a package that chooses one of its builds.
demo_packages='
ffmpeg                      :ffmpeg         carries the video, and makes the synthetic camera
mosquitto                   :mosquitto      the MQTT broker
mosquitto-clients           :mosquitto_pub  the commands that you type
nginx                       :nginx          the streaming server
libnginx-mod-rtmp           dpkg            makes nginx speak RTMP
'
test_packages="$demo_packages
libnginx-mod-stream         dpkg            puts TLS in front of RTMP
openssl                     :openssl        certificates for the TLS tests
gir1.2-gst-rtsp-server-1.0  dpkg            RTSP cameras with other codecs and logins
python3-gi                  dpkg            lets Python drive them
gstreamer1.0-plugins-base   dpkg            their test pictures
gstreamer1.0-plugins-good   dpkg            their RTP packets
gstreamer1.0-plugins-bad    dpkg            their H.265
gstreamer1.0-plugins-ugly   dpkg            their H.264
gstreamer1.0-libav          dpkg            their AAC
nftables                    :nft            makes a server vanish from a network of the test's own
busybox                     :busybox        runs the scripts of the camera's card, as the camera does
"
# Ubuntu has it as a snap only: where it is missing, the tests in a browser are left out.
browser_packages='
chromium                    :chromium       opens the page, as its visitors do
libatomic1                  dpkg            is what Playwright, which drives it, runs with
'
homeassistant_packages="$test_packages
debootstrap                 :debootstrap    makes the Debian that Home Assistant runs in
debian-archive-keyring      dpkg            its signatures
util-linux                  :unshare        keeps its mounts from this machine
"
emulator_packages='
qemu-system-arm             :qemu-system-arm         is the machine that stands in for a camera
gcc-arm-linux-gnueabi       :arm-linux-gnueabi-gcc   compiles its kernel
libc6-dev-armel-cross       dpkg                     and what stands in for the programs of its vendor
make                        :make                    builds the kernel
gcc                         :gcc                     compiles what the kernel is built with
libc6-dev                   dpkg                     likewise
flex                        :flex                    likewise
bison                       :bison                   likewise
bc                          :bc                      likewise
xz-utils                    :xz                      unpacks the source of the kernel
e2fsprogs                   :debugfs                 makes its root file system
dosfstools                  :mkfs.fat                makes SD cards
mtools                      :mcopy                   puts files on them, and takes them off
'
check_packages='
shellcheck                  :shellcheck     reads the shell scripts
'

# Prints the lines of a list whose package is missing.
missing_of() {
  local package probe why installed=' '
  if command -v dpkg-query >/dev/null; then
    # One call for everything: this also runs when nothing is missing, and then has to be quick.
    # shellcheck disable=SC2016  # dpkg-query expands these, not the shell
    installed=" $(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' 2>/dev/null |
      sed -n 's/^\([^: ]*\).* installed$/\1/p' | tr '\n' ' ')"
  fi
  while read -r package probe why; do
    case $probe in
      '') continue ;;
      :*) ! command -v "${probe#:}" >/dev/null || continue ;;
      *) [[ $installed != *" $package "* ]] || continue ;;
    esac
    printf '  %-27s %s\n' "$package" "$why"
  done <<<"$1"
}

# A Python that is new enough and can make a virtual environment. Each one found is tried, because what is on the PATH
# may be a version manager's shim that only complains, or a Debian Python whose venv module lacks ensurepip.
find_python() {
  local name
  for name in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  return 1
}

# install_missing LIST [optional]: from the system's packages, or a sentence that says what to install.
# Takes "python" for a Python 3.11 or newer with venv, whatever this release calls it.
install_missing() {
  local list=$1 optional=${2:-} packages names python by_hand hindrance='' sudo=()
  mapfile -t packages < <(awk '{ print $1 }' <<<"$list")
  names=${packages[*]}
  if [[ $names == *python ]]; then
    python=$(bash scripts/apt-install.sh --name-python 2>/dev/null) || python='python3 python3-venv'
    names=${names%python}$python
  fi
  ((EUID == 0)) || sudo=(sudo '--preserve-env=http_proxy,https_proxy,no_proxy')
  by_hand="${sudo[*]:0:1} apt-get install --no-install-recommends $names"

  if ! command -v apt-get >/dev/null; then
    hindrance='This system has no apt-get: what Debian calls by these names has to come by your own means, then try again.'
    by_hand=$names
  elif ((EUID != 0)) && ! command -v sudo >/dev/null; then
    hindrance='You are not root, and there is no sudo: root has to run this, then try again.'
    by_hand=${by_hand#sudo }
  elif ((EUID != 0)) && [[ -n $optional ]] && ! sudo -n true 2>/dev/null; then
    # What can be left out is not worth a password prompt.
    hindrance='sudo wants a password. If you like, run this.'
  fi
  if [[ -n $hindrance ]]; then
    say "Missing${optional:+, and left out}:"
    say "$list"
    say "$hindrance"
    say "  ${by_hand# }"
    [[ -n $optional ]] || exit 1
    return 0
  fi

  say "Installing from this system's packages (once; it can take some minutes):"
  say "$list"
  if ! "${sudo[@]}" bash scripts/apt-install.sh "${packages[@]}"; then
    [[ -n $optional ]] || die "these could not be installed. By hand: ${by_hand# }"
    say 'Left out: it could not be installed.'
  fi
}

# What the virtual environment was made from. When it says the same as last time, pip is not even started.
# The checkout's path is part of it, for that path is written into every program of the environment.
stamp_of() {
  local version
  version=$(.venv/bin/python -c 'import sys; print(sys.version)' 2>/dev/null) || return 1
  printf '%s %s\n%s\n' "$1" "$root" "$version"
  sha256sum pyproject.toml
}

# make_venv run|dev: .venv in the checkout. An environment made for development serves the demo too.
make_venv() {
  local wanted=$1 made python what='.'
  if [[ -e .venv/stamp ]]; then
    for made in "$wanted" dev; do
      if [[ "$(stamp_of "$made")" == "$(<.venv/stamp)" ]]; then
        return 0
      fi
    done
    # Never take the test tools away from somebody who only wants to see the demo.
    [[ "$(<.venv/stamp)" != dev* ]] || wanted=dev
  fi

  rm -f .venv/stamp
  if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$(find_python) || die 'there is still no Python 3.11 or newer that can make virtual environments'
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || die 'the virtual environment .venv could not be made'
  fi
  [[ $wanted != dev ]] || what='.[dev]'
  say "Installing Python packages into .venv (pip install -e '$what')"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -e "$what" ||
    die "pip could not install '$what'; its reason is above"
  stamp_of "$wanted" >.venv/stamp
}

# prepare demo|test|homeassistant|emulator|check
prepare() {
  local list optional=''
  case $1 in
    demo) list=$(missing_of "$demo_packages") ;;
    test) list=$(missing_of "$test_packages") optional=$browser_packages ;;
    homeassistant) list=$(missing_of "$homeassistant_packages") optional=$browser_packages ;;
    check) list='' optional=$check_packages ;;
    emulator) list=$(missing_of "$emulator_packages") ;;
    *) die "prepare: $1?" ;;
  esac
  if ! .venv/bin/python -c '' >/dev/null 2>&1 && ! find_python >/dev/null; then
    list+=$'\n  python                      runs the agent: 3.11 or newer, with venv'
  fi
  [[ -z $list ]] || install_missing "${list#$'\n'}"

  list=$(missing_of "$optional")
  [[ -z $list ]] || install_missing "$list" optional

  if [[ $1 == demo ]]; then
    make_venv run
  else
    make_venv dev
  fi
}
