"""What the agent does without: the child that reads the configuration, and modules that are put off."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import REPOSITORY
from yiagent import lean
from yiagent.config import parse_config
from yiagent.handover import pack, unpack

EXAMPLE = REPOSITORY / "config" / "yiagent.yaml"
EVERYTHING = b"""\
device: {id: front-door, name: "T\xc3\xbcr", manufacturer: somebody, model: one, mac: 0c:8c:24:00:00:01}
source: {hd: "rtsp://who:se%40cret@[::1]:8554/ch0_0.h264?token=abcd", sd: "rtsp://127.0.0.1/ch0_1.h264", transport: udp}
destination: {server: "rtmps://127.0.0.1/live2?backup=1", key: abcd-efgh}
stream: {autostart: true, channel: hd, audio: silent, start_timeout_s: 7.5, stall_timeout_s: 3}
mqtt: {host: broker, port: 8883, username: who, password: secret, prefix: a/b, keepalive_s: 7,
       tls: {ca_file: CA, cert_file: CA, key_file: CA}, discovery: {format: entity, prefix: ha, latest: 1.0.0}}
web: {host: "::1", port: 81, password: another, tls: {cert_file: CA, key_file: CA}}
telemetry: {interval_s: 0.5, interface: wlan0}
snapshot: {enabled: true}
log: {level: debug}
state_dir: /somewhere
ffmpeg: /usr/bin/ffmpeg
"""


def run(script: str) -> str:
    """What a Python that has imported nothing yet prints."""
    program = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {f'{REPOSITORY}'!r})\n{script}"]
    return subprocess.run(program, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


# --- the child ---


def test_what_is_done_apart_leaves_nothing_but_its_answer() -> None:
    """Neither a module, nor a child, nor a descriptor."""
    script = """
import os
from yiagent.lean import do_apart
def work():
    import decimal
    return b"x" * 300_000
before = os.listdir("/proc/self/fd")
answer = do_apart(work)
print(len(answer), "decimal" in sys.modules, os.listdir("/proc/self/fd") == before)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child")
"""
    assert run(script) == "300000 False True\nno child"


def test_what_fails_apart_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """There is no answer then, and the parent goes on."""

    def fails() -> bytes:
        raise ValueError("a fault of ours")

    assert lean.do_apart(fails) == b""
    assert capfd.readouterr().err.count("ValueError: a fault of ours") == 1


def test_whose_words_nobody_reads_ends_all_the_same(tmp_path: Path) -> None:
    """A child that went on would be a second agent."""
    script = f"""
import os
from yiagent.lean import do_apart
def work():
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    print("to nobody")
    return b"done"
try:
    do_apart(work)
finally:
    with open({f"{tmp_path / 'went on'}"!r}, "a") as file:
        file.write("one\\n")
"""
    run(script)
    assert (tmp_path / "went on").read_text() == "one\n"


def test_where_no_process_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and no descriptor stays open."""

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with pytest.raises(BlockingIOError):
        lean.do_apart(bytes)
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_whom_the_kernel_ends_has_not_answered() -> None:
    """As it does where memory runs out; half an answer is none."""

    def dies() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b"never"

    with pytest.raises(ChildProcessError, match="signal 9"):
        lean.do_apart(dies)


class Alone(AgentProcess):
    """An agent that cannot have a child read its configuration."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        program = (
            "import os, sys, yiagent.cli\n"
            "def refuse(): raise BlockingIOError(11, 'no')\n"
            "fork, os.fork = os.fork, refuse\n"
            "sys.exit(yiagent.cli.main())"
        )
        return [python, "-c", program, *arguments]


def test_the_agent_runs_where_no_process_can_be_made(any_broker: Broker, tmp_path: Path) -> None:
    """Heavier, but it does."""
    with (
        Listener(any_broker.port, "yiagent/alone/#") as listener,
        Alone(tmp_path, broker_port=any_broker.port, config={"device": {"id": "alone"}}) as agent,
    ):
        agent.wait_until_online(listener)
        assert agent.end() == 0


# --- what the child hands over ---


@pytest.mark.parametrize("text", [EXAMPLE.read_bytes(), EVERYTHING, b"source: {sd: 'rtsp://127.0.0.1/'}"])
def test_a_configuration_arrives_as_it_was_sent(text: bytes, tmp_path: Path) -> None:
    """Whole, with every type and secret in it."""
    (tmp_path / "ca").touch()
    text = text.replace(b"CA", f"{tmp_path / 'ca'}".encode())
    config = parse_config(text, hostname="host", read_secret=lambda path: "from a file")
    arrived = unpack(pack(config))
    assert arrived == config
    # Equality of a str and a StrEnum of it says nothing of the type.
    assert repr(arrived) == repr(config)
    assert [secret.reveal() for secret, _ in arrived.secrets] == [secret.reveal() for secret, _ in config.secrets]


# --- modules that are put off ---


def test_modules_are_loaded_when_something_is_asked_of_them() -> None:
    """Then everyone has the real one."""
    script = """
from yiagent.lean import Deferred, defer_modules
defer_modules()
import inspect, urllib.request, encodings.idna
names = ("inspect", "urllib.request", "encodings.idna")
print([type(sys.modules[name]) is Deferred for name in names])
print(inspect.signature(lambda a, b: 0), urllib.request.getproxies.__module__, encodings.idna.ToASCII("ab"))
print([type(sys.modules[name]) is Deferred for name in names])
import inspect
print(inspect.getdoc.__module__, inspect.iscoroutinefunction.__module__)
"""
    assert run(script).splitlines() == [
        "[True, True, True]",
        "(a, b) urllib.request b'ab'",
        "[False, False, False]",
        "inspect inspect",
    ]


def test_what_is_loaded_already_is_left_alone() -> None:
    """Also what has no such thing says so."""
    script = """
import inspect
from yiagent.lean import defer_modules
defer_modules()
print(sys.modules["inspect"] is inspect)
import urllib.request
try:
    urllib.request.nothing_like_it
except AttributeError as error:
    print(error)
"""
    assert run(script).splitlines() == ["True", "module 'urllib.request' has no attribute 'nothing_like_it'"]


async def _coroutine() -> None: ...


def _function() -> None: ...


@functools.wraps(_coroutine)
def _wrapper() -> None: ...


class _Thing:
    async def method(self) -> None: ...

    async def __call__(self) -> None: ...


THINGS = [
    *(_coroutine, _function, _wrapper, _Thing, _Thing(), _Thing().method, _Thing.method, print, 1, None, lambda: None),
    *(functools.partial(_coroutine), functools.partial(functools.partial(_function)), functools.partial(print)),
    functools.partial(_Thing().method),
]


@pytest.mark.parametrize("name", ["iscoroutinefunction", "isfunction", "iscoroutine", "unwrap"])
def test_of_which_kind_something_is(name: str) -> None:
    """As Python's own says."""
    ours, theirs = lean._INSPECT[name], getattr(inspect, name)
    assert [ours(thing) for thing in THINGS] == [theirs(thing) for thing in THINGS]
    coroutine = _coroutine()
    assert ours(coroutine) == theirs(coroutine)
    coroutine.close()


LABELS = st.text("abcXYZ019-_.äß漢İ\u0301", max_size=70)


@given(st.one_of(LABELS, st.lists(LABELS, max_size=4).map(".".join)))
def test_host_names_are_encoded_as_ever(name: str) -> None:
    """Whatever stands in them."""

    def outcome(encode: object) -> object:
        try:
            return encode(name)  # type: ignore[operator]
        except UnicodeError:
            return UnicodeError

    assert outcome(lean._idna().encode) == outcome(lambda name: (name.encode("idna"), len(name)))
    assert lean._idna().decode(b"xn--4ca.example")[0] == b"xn--4ca.example".decode("idna")


def test_a_host_is_found_without_the_tables_of_the_codec() -> None:
    """By the functions that the agent finds hosts with; a name with other letters has them loaded."""
    script = """
from yiagent.lean import defer_modules
defer_modules()
import socket
print(socket.getaddrinfo("localhost", 80)[0][4][1], "stringprep" in sys.modules)
print("b\\u00fccher.example".encode("idna"), "stringprep" in sys.modules)
"""
    assert run(script).splitlines() == ["80 False", "b'xn--bcher-kva.example' True"]
