"""Where a real Home Assistant lives: a small Debian of its own, made once, outside the repository.

It needs a newer Python than Debian stable has, so it gets Debian's development release (sid) in a folder, and its own
packages from where pip takes them. That takes root, some minutes and about 2.5 GB.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.peers.process import PeerError, find_program

PYTHON = "python3.14"
# A C compiler for the packages that come as source; what Home Assistant's camera and stream parts load.
PACKAGES = (
    *(PYTHON, f"{PYTHON}-venv", f"{PYTHON}-dev", "gcc", "g++", "libc6-dev", "libffi-dev", "tzdata"),
    *("ca-certificates", "ffmpeg", "libturbojpeg0"),
)
VENV = "/opt/homeassistant"
# Home Assistant installs what an integration needs when it is set up. Here that is done beforehand, for these.
INTEGRATIONS = ("mqtt", "frontend", "default_config")
# Taken up beside them: what this one names, without what it depends on; and these.
BESIDE = "hassio"
ALSO = ("infrared-protocols", "rf-protocols")
_REQUIREMENTS = """
import json, pathlib, sys, homeassistant
from homeassistant.scripts.check_config import REQUIREMENTS
components = pathlib.Path(homeassistant.__file__).parent / "components"
beside, *names = sys.argv[1:]
seen = set()
found = {*REQUIREMENTS, *json.loads((components / beside / "manifest.json").read_text())["requirements"]}
while names:
    name = names.pop()
    if name in seen:
        continue
    seen.add(name)
    manifest = json.loads((components / name / "manifest.json").read_text())
    found.update(manifest.get("requirements", []))
    names += manifest.get("dependencies", [])
print("\\n".join(sorted(found)))
"""
_OF_PIP = ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_STAMP = "made"


class Root:
    """One such folder; `make` fills it unless it is there already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder.with_name(f"{folder.name}.log")

    @classmethod
    def default(cls) -> Root:
        """In the user's cache, or where YIAGENT_HOMEASSISTANT_ROOT says."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yiagent" / "homeassistant"
        return cls(Path(os.environ.get("YIAGENT_HOMEASSISTANT_ROOT") or cache))

    @property
    def version(self) -> str:
        """Which Home Assistant it is."""
        return (self.folder / _STAMP).read_text().split()[1]

    def make(self) -> None:
        """Make it, saying what takes so long. Raises `PeerError` with the end of the log."""
        if self._is_made():
            return
        if os.geteuid() != 0:
            raise PeerError("making a Debian for Home Assistant takes root: run it as root, once")
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.unlink(missing_ok=True)
        self._debian()
        self._home_assistant()
        version = self._output("hass", "--version").strip()
        (self.folder / _STAMP).write_text(f"{_recipe()} {version}\n")
        _say(f"  Home Assistant {version}, made in {time.monotonic() - began:.0f} s")

    def inside(self, command: list[str]) -> list[str]:
        """The command as run in there: with a /proc of its own that goes away with it."""
        script = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
        shell = ["sh", "-c", script, "sh", str(self.folder), *command]
        return [find_program("unshare"), "--mount", "--propagation", "private", "--", *shell]

    # --- the steps ---

    def _is_made(self) -> bool:
        stamp = self.folder / _STAMP
        return stamp.exists() and stamp.read_text().split()[0] == _recipe()

    def _debian(self) -> None:
        _say("Making a Debian (sid) for Home Assistant …")
        mirror = _debian_mirror()
        self._run([find_program("debootstrap"), "--variant=minbase", "sid", str(self.folder), *mirror])
        for name in ("/etc/resolv.conf", "/etc/hosts"):
            shutil.copyfile(name, f"{self.folder}{name}")
        _say("  its packages …")
        # A mirror may lag behind; what it gives is signed all the same.
        late = [f"Acquire::Check-{what}=false" for what in ("Valid-Until", "Date")]
        options = ["Dpkg::Use-Pty=0", "Acquire::Retries=2", *late]
        apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
        self._run(self.inside([*apt, "update"]))
        self._run(self.inside([*apt, "install", "-y", "--no-install-recommends", *PACKAGES]))
        if _CERTIFICATES.exists():
            # The machine's own authorities, such as a company's: pip in there goes the way of pip out here.
            shutil.copyfile(_CERTIFICATES, f"{self.folder}{_CERTIFICATES}")

    def _home_assistant(self) -> None:
        _say("  Home Assistant, from where pip takes its packages …")
        self._run(self.inside([PYTHON, "-m", "venv", VENV]))
        pip = [f"{VENV}/bin/pip", "install", "--quiet", "--no-input", "--cert", str(_CERTIFICATES)]
        self._run(self.inside([*pip, "homeassistant"]))
        site = f"{VENV}/lib/{PYTHON}/site-packages"
        wanted = self._output("python", "-c", _REQUIREMENTS, BESIDE, *INTEGRATIONS)
        (self.folder / "tmp" / "requirements").write_text("\n".join([wanted, *ALSO]))
        constraints = ["-c", f"{site}/homeassistant/package_constraints.txt"]
        self._run(self.inside([*pip, *constraints, "-r", "/tmp/requirements"]))

    def _run(self, command: list[str]) -> None:
        with self.log_file.open("ab") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
        if done.returncode != 0:
            tail = self.log_file.read_text(errors="replace")[-3000:]
            raise PeerError(f"{command[0]} … {command[-1]} ended with status {done.returncode}:\n{tail}")

    def _output(self, program: str, *arguments: str) -> str:
        command = self.inside([f"{VENV}/bin/{program}", *arguments])
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode != 0:
            raise PeerError(f"{program} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout


def _recipe() -> str:
    """Changes with what is made."""
    return hashlib.sha256(repr((PYTHON, PACKAGES, INTEGRATIONS, BESIDE, ALSO, _REQUIREMENTS)).encode()).hexdigest()[:16]


def _environment() -> Mapping[str, str]:
    """Little, for what runs in there: nothing of this machine's Python, but its proxies and its pip's index."""
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name in _OF_PIP}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _debian_mirror() -> list[str]:
    """Where this machine takes its own Debian from; nothing where it is no Debian, which leaves it to debootstrap."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    uris = [uri for line in lines for origin, _, uri in [line.partition(" ")] if origin == "Debian"]
    return [uri for uri in uris if "security" not in uri][:1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
