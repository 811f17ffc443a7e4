"""What the running agent has imported is decided, module by module: on a camera each is paid for as long as it runs.

The agent is started as ever, with MQTT, Home Assistant's discovery, the page and telemetry, without TLS and pictures,
and asked for what it has imported when it is online and streams. Each list below has the reason why it is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import REPOSITORY
from tests.peers.ports import free_port
from tests.peers.process import wait_until
from tests.web.browser import PASSWORD
from tests.web.client import ask

DEVICE = "imports-test"
PATIENCE_S = 40.0
CHILDREN = Path(__file__).parent / "children"
# The camera's.
PYTHON: Final = (3, 11)

# Read the configuration, in a child of its own (yiagent/lean.py).
LOADER: Final = {
    "the command line": "argparse gettext shutil",
    "YAML": "yaml yaml.composer yaml.constructor yaml.dumper yaml.emitter yaml.error yaml.events yaml.loader yaml.nodes"
    " yaml.parser yaml.reader yaml.representer yaml.resolver yaml.scanner yaml.serializer yaml.tokens",
    "the schema": "voluptuous voluptuous.error voluptuous.schema_builder voluptuous.util voluptuous.validators"
    " decimal _decimal numbers",
    # The child has the modules that the agent puts off (lean.defer_modules).
    "inspect, which dataclasses ask for": "_ast _opcode ast dis importlib importlib._bootstrap"
    " importlib._bootstrap_external importlib.machinery opcode",
    "archives, of which shutil knows": "_bz2 _compression _lzma bz2 lzma",
    "ours": "yiagent.config yiagent.document",
}
# PyYAML's faster half: the camera's has none, and a distribution's may have none.
ONLY_IN_SOME_BUILDS: Final = "yaml.cyaml yaml._yaml _yaml cython_runtime _cython_*"

STAYS: Final = {
    "what everything is made of": "__future__ _collections _collections_abc _functools _heapq _locale _operator"
    " _sre _stat _string _struct _weakrefset collections collections.abc contextlib copy copyreg enum"
    " errno functools genericpath heapq itertools"
    " keyword math operator os os.path posixpath re re._casefix re._compiler re._constants re._parser reprlib stat"
    " string struct types warnings weakref",
    "pathlib, and URLs": "_socket array fnmatch ipaddress ntpath pathlib select selectors socket urllib urllib.parse",
    "dataclasses, typing": "_typing dataclasses typing typing.io typing.re",
    "the loop, and children": "_asyncio _contextvars _posixsubprocess asyncio asyncio.base_events asyncio.base_futures"
    " asyncio.base_subprocess asyncio.base_tasks asyncio.constants asyncio.coroutines asyncio.events asyncio.exceptions"
    " asyncio.format_helpers asyncio.futures asyncio.locks asyncio.log asyncio.mixins asyncio.protocols asyncio.queues"
    " asyncio.runners asyncio.selector_events asyncio.sslproto asyncio.staggered asyncio.streams asyncio.subprocess"
    " asyncio.taskgroups asyncio.tasks asyncio.threads asyncio.timeouts asyncio.transports asyncio.trsock"
    " asyncio.unix_events concurrent concurrent.futures concurrent.futures._base contextvars locale signal subprocess",
    "logging, which asyncio and paho ask for": "atexit linecache logging textwrap threading token tokenize traceback",
    "threads beside the loop": "_queue queue",
    "JSON, bytes as text": "_json base64 binascii json json.decoder json.encoder json.scanner",
    "times as text, and psutil": "_datetime datetime",
    "psutil": "glob psutil psutil._common psutil._ntuples psutil._pslinux psutil._psposix psutil._psutil_linux pwd"
    " resource",
    "the lock; the queues of sockets": "fcntl termios",
    "MQTT": "paho paho.mqtt paho.mqtt._packet paho.mqtt.client paho.mqtt.enums paho.mqtt.exception paho.mqtt.matcher"
    " paho.mqtt.packettypes paho.mqtt.properties paho.mqtt.reasoncodes paho.mqtt.subscribeoptions _uuid platform uuid",
    # Of paho's, and the page's; without OpenSSL, which is refused below.
    "hashes": "_blake2 _hashlib _md5 _sha1 _sha256 _sha3 _sha512 hashlib hmac",
    "the page": "microdot microdot.microdot zlib",
    "ours": "about agent announced app broker brokerchoice brokerfile certificates chance child cli commands console"
    " diagnosis events ffmpeg files flow guard handover hardware inbox installed intent interfaces knock lean lock"
    " logfeed machine memory model moment mqtt mqttclient mqttfront narrator network notice payloads picturefeed probe"
    " progress protocol redact rules sendqueue service settings store supervisor threads topics urls vitals",
    "ours, for Home Assistant": "announcer discovery",
    "ours, for the page": "web web.answers web.connections web.front web.head web.history web.live web.login"
    " web.metrics web.origin web.page web.password web.routes web.serve",
}
# Kept away where nothing is encrypted: asyncio, paho and hashlib go on without.
REFUSED: Final = {"ssl", "_hashlib"}
# Loaded where something is asked of them, which nothing here does (lean.defer_modules).
DEFERRED: Final = {"urllib.request", "inspect", "encodings.idna"}

# Becomes the agent; tells what is imported when the configuration has been read, and at each SIGUSR1.
WATCH = """
import signal, sys
target = sys.argv.pop(1)
sys.path[:0] = sys.argv.pop(1).split(":")
def tell(name):
    with open(f"{target}.new", "w") as file:
        file.write("\\n".join(f"{module} {type(loaded).__name__}" for module, loaded in sys.modules.items()))
    import os
    os.rename(f"{target}.new", f"{target}.{name}")
signal.signal(signal.SIGUSR1, lambda *_: tell("running"))
from yiagent import cli
pack = cli._answer
def answer(arguments):
    packed = pack(arguments)
    tell("loaded")
    return packed
cli._answer = answer
sys.exit(cli.main())
"""


class WatchedAgent(AgentProcess):
    """The agent in a Python that imports nothing by itself, as the camera's."""

    def command(self) -> list[str]:
        """As ever, watched."""
        *_, command, option, file = super().command()
        return [*BARE, WATCH, f"{self.folder / 'modules'}", ":".join(SEARCHED), command, option, file]

    def modules(self, when: str) -> dict[str, str]:
        """What was imported, and as what: `NoneType` is what was kept from being so."""
        path = self.folder / f"modules.{when}"
        wait_until(path.exists, PATIENCE_S, f"{path.name}")
        return {line.split()[0]: line.split()[1] for line in path.read_text().splitlines()}


BARE: Final = (sys.executable, "-I", "-S", "-c")
SEARCHED: Final = (f"{REPOSITORY}", f"{Path(yaml.__file__).parents[1]}")


def _names(groups: dict[str, str]) -> set[str]:
    return {
        f"yiagent.{name}" if group.startswith("ours") and not name.startswith("yiagent.") else name
        for group, names in groups.items()
        for name in names.split()
    }


def _of_some_builds(name: str) -> bool:
    prefixes = [part.rstrip("*") for part in ONLY_IN_SOME_BUILDS.split() if part.endswith("*")]
    return name in ONLY_IN_SOME_BUILDS.split() or name.startswith(tuple(prefixes))


@pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason="the lists are of the camera's Python, 3.11")
def test_what_is_imported(tmp_path: Path, any_broker: Broker) -> None:
    """Neither more than is on the lists, nor less: one that is needed no longer is taken off."""
    script = "import sys; print(*sys.modules)"
    done = subprocess.run([*BARE, script], capture_output=True, text=True, check=True)
    bare = {*done.stdout.split(), "yiagent"}
    config = {
        "device": {"id": DEVICE},
        "destination": {"server": "rtmp://127.0.0.1/live", "key": "made-up"},
        "mqtt": {"discovery": {"enabled": True}},
        "web": {"enabled": True, "host": "127.0.0.1", "port": free_port(), "password": PASSWORD},
        "ffmpeg": f"{CHILDREN / 'streams.py'}",
    }
    with (
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        WatchedAgent(tmp_path, broker_port=any_broker.port, config=config) as agent,
    ):
        agent.wait_until_online(listener)
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S)
        listener.wait_for_topic(agent.topic("telemetry"), PATIENCE_S)
        for path in ("/", "/api/state", "/api/history"):
            assert ask(agent, path).status == 200
        os.kill(agent.pid, signal.SIGUSR1)
        loaded, running = agent.modules("loaded"), agent.modules("running")
        assert agent.end() == 0

    refused = {name for name, kind in running.items() if kind == "NoneType"}
    assert refused == REFUSED, "what lean.drop_ssl keeps away is told in REFUSED"
    deferred = {name for name, kind in running.items() if kind == "Deferred"}
    assert deferred == DEFERRED, "what lean.defer_modules puts off is told in DEFERRED; something has loaded the others"
    reading = {name for name in loaded if name not in running}
    staying = {name for name in running if not _of_some_builds(name)} - bare - DEFERRED
    _compare(reading - {name for name in reading if _of_some_builds(name)}, _names(LOADER), "LOADER")
    _compare(staying - REFUSED, _names(STAYS) - REFUSED, "STAYS")


def _compare(found: set[str], listed: set[str], of: str) -> None:
    more, fewer = sorted(found - listed), sorted(listed - found)
    assert not more, (
        f"The agent now imports {', '.join(more)}: a camera pays for it as long as it runs. Import it in the function"
        " that needs it, if that is a rare one, or do without; `python -X importtime -m yiagent …` shows who asks for"
        f" it. Else write it into {of}, with the reason, and see that the camera's standard library has it too."
    )
    assert not fewer, f"No longer imported, so to be taken off {of} (and the camera's standard library): {fewer}"


def test_each_stands_on_one_list() -> None:
    """With two reasons, one of them would go unnoticed when it is none any more."""
    every = [name for groups in (LOADER, STAYS) for names in groups.values() for name in names.split()]
    assert sorted(every) == sorted(set(every))
