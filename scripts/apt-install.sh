#!/usr/bin/env bash
# Installs system packages without starting or enabling the services that come with them. Run as root by lib.sh, in one
# piece so that sudo asks once: apt-install.sh PACKAGE...  ("python": a Python 3.11 or newer with venv)
# With --name-python, by anyone: tells what "python" would be.
set -euo pipefail

candidate() { apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }

# The release's own Python where that is new enough; else the newest it has beside it (Ubuntu 22.04: python3.11).
python_packages() {
  local version name
  version=$(candidate python3)
  if [[ -n $version ]] && dpkg --compare-versions "$version" ge 3.11~ && [[ -n $(candidate python3-venv) ]]; then
    echo python3 python3-venv
    return
  fi
  for name in python3.14 python3.13 python3.12 python3.11; do
    if [[ -n $(candidate "$name-venv") ]]; then
      echo "$name" "$name-venv"
      return
    fi
  done
  echo "This release has no Python 3.11 or newer. (On Ubuntu 22.04 it is in universe: add-apt-repository universe)" >&2
  return 1
}

if [[ ${1:-} == --name-python ]]; then
  python_packages
  exit
fi

# Servers that are wanted here as programs only: the demo and the tests start their own, on other ports. A service
# would take the well-known port, and put a machine on the network that its owner only wanted to try something on.
services=(nginx mosquitto)

policy=/usr/sbin/policy-rc.d
log=$(mktemp)
wrote_policy=
# shellcheck disable=SC2317  # called by the trap
clean_up() {
  rm -f "$log"
  [[ -z $wrote_policy ]] || rm -f "$policy"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Unattended upgrades and desktops hold the lock for a minute now and then; a source that does not answer must not hold
# everything up; no question may wait for an answer that nobody sees.
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 -o Acquire::http::Timeout=30
  -o Acquire::https::Timeout=30 -o Dpkg::Use-Pty=0)

has_unit() { [[ -e /lib/systemd/system/$1.service || -e /usr/lib/systemd/system/$1.service ]]; }

# A source that fails here may not be needed at all: what counts is whether the installation works.
"${apt[@]}" update >"$log" 2>&1 || {
  echo "apt-get update failed, trying with the package lists that are there. Its last lines:" >&2
  tail -n 5 "$log" >&2
}

packages=()
for package in "$@"; do
  if [[ $package == python ]]; then
    chosen=$(python_packages)
    read -r -a chosen <<<"$chosen"
    packages+=("${chosen[@]}")
  else
    packages+=("$package")
  fi
done

new=()
for service in "${services[@]}"; do
  has_unit "$service" || new+=("$service")
done

# Debian's way to say "do not start this now". A machine that already has a policy keeps its own, and a service that was
# there before is left alone. The file goes when this script ends, and says nothing any more should that be a kill -9.
if ((${#new[@]})) && [[ ! -e $policy ]]; then
  wrote_policy=yes
  cat >"$policy" <<POLICY
#!/bin/sh
# Written while yiagent's scripts install packages; may be deleted.
[ -d /proc/$$ ] || exit 0
for word in "\$@"; do
  for service in ${new[*]}; do
    case \$word in "\$service" | "\$service.service") exit 101 ;; esac
  done
done
exit 0
POLICY
  chmod 755 "$policy"
fi

if ! "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >"$log" 2>&1; then
  echo "apt-get install ${packages[*]} failed. Its last lines:" >&2
  tail -n 30 "$log" >&2
  exit 1
fi

# Not started is not enough: an enabled service would come up at the next boot.
for service in "${new[@]}"; do
  if has_unit "$service" && command -v systemctl >/dev/null; then
    if [[ -d /run/systemd/system ]]; then
      systemctl --quiet disable --now "$service.service" || continue
    else
      systemctl --quiet disable "$service.service" 2>/dev/null || continue
    fi
    echo "$service is installed as a program only: its system service is off (sudo systemctl enable --now $service)." >&2
  fi
done
