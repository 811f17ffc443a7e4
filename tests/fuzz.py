"""Hostile bytes for everything that reads what others wrote: `python -m tests.fuzz [--bytes N] [--seed N] [target …]`.

Each target gets so many bytes, made of real inputs by a mutator; the same seed makes the same inputs. A finding (an
exception that escapes, a wrong result, a case that takes too long, memory that grows) ends the run with status 1: it is
printed with its target, seed and case, and its input is kept in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import json
import os
import pickle
import random
import re
import resource
import secrets
import signal
import string
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yiagent.agent import empty_snapshot
from yiagent.commands import MAX_PAYLOAD_BYTES, Change, Refused, Restart, TakeSnapshot, parse_command, parse_request
from yiagent.config import MAX_FILE_BYTES, ConfigError, load_config, parse_config
from yiagent.diagnosis import Diagnosis, is_expected
from yiagent.intent import MAX_FILE_BYTES as MAX_INTENT_BYTES
from yiagent.intent import IntentUnreadable, parse_intent, render_intent
from yiagent.model import Channel, Failure, Level, Origin, Progress, ReasonCode
from yiagent.payloads import answer_json, log_json, refusal_json
from yiagent.progress import LONGEST_LINE, LineSplitter, ProgressParser, parse_message
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.store import CAPACITY, LONGEST_MESSAGE, Journal
from yiagent.urls import check_key, parse_server

BYTES: Final = 10_000_000
# No case may take so long, whatever else the machine does.
WATCHDOG_S: Final = 30.0
# Code that hears no signal while it works is ended by the kernel after so much of its time.
LAST_RESORT_S: Final = 60.0
# Memory is compared from here on: by then everything is imported and every buffer has had its largest content.
WARM_UP: Final = 0.1
# A byte kept for every byte that came would be more; what the allocator wins and loses by itself is less.
GROWTH_BYTES: Final = 8 * 1024 * 1024
# Of Python's own small blocks not one is lost by itself: an object kept for every fifth case would be more.
GROWTH_BLOCKS: Final = 1000
# A case over its limit is looked at again: only what takes long every time is slow, and not the machine.
LOOKS: Final = 3

HERE: Final = Path(__file__).parent
# Stands where a secret may stand; no message may repeat it. Not of the form of a setting's name, which may be shown.
MARKER: Final = "Zq7-xK9 wV3!"
_MARKER: Final = MARKER.encode()
_SPACELESS: Final = _MARKER.replace(b" ", b"")
# Far more than all sentences there are: what repeats nothing of its input cannot say more than these.
MOST_MESSAGES: Final = 200
LONGEST_SENTENCE: Final = 400


# --- the mutator ----------------------------------------------------------------------------------------------------


def _words(text: str) -> tuple[bytes, ...]:
    """Words between bars, with Python's escapes; where the lines of `text` end means nothing."""
    return tuple(word.encode().decode("unicode_escape").encode("latin-1") for word in text.replace("\n", "").split("¦"))


_ANYWHERE: Final = _words(r"""
\0¦\xff¦\xc3¦\xed\xa0\x80¦\xf4\x90\x80\x80¦\xef\xbb\xbf¦\xff\xfe¦\xfe\xff¦\r\n¦\r¦\n¦\t¦\x1b[2J\x1b]0;x\x07¦\x7f¦\xc2\x85
¦\xe2\x80\xa8¦\xe2\x80\xae¦\xf0\x9f\x94\x91¦\xd9\xa3¦-¦--¦ ¦%s%n¦{0}{1.__class__}¦%00¦%¦***¦../../../etc/passwd¦'¦"¦\\
¦99999999999999999999¦1e999¦-1¦0x1F¦1_0¦nan¦inf¦://¦rtmp://¦a://¦@¦?¦#¦&¦=¦[::1]¦[¦]
""")
_JSON: Final = (
    b"[" * 3000,
    b'{"a":' * 600,
    b"9" * 4400,
    *_words(r"""
{"stream":"ON","stream":"OFF"}¦NaN¦-Infinity¦1e999¦null¦true¦[]¦{}¦"\\ud800"¦"\\udc00\\ud800"¦"\\u0000"¦\\u¦\\¦"¦,¦:¦{¦}
¦"transaction":¦"key":¦"version":
"""),
)
_YAML: Final = (
    b"%YAML " + b"9" * 4400,
    *_words(r"""
a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n¦&a ¦*a¦<<: *a\n¦!!python/object/apply:os.system [id]¦!¦!<a>
¦%YAML 1.1\n---\n¦%YAML 1.¦%TAG ! tag:x,2000:\n¦---\n¦...\n¦? ¦: ¦- ¦- - ¦[¦{¦{a: ¦]¦}¦,¦|\n¦>+9\n¦'¦"¦"\\U
¦"\\UFFFFFFFF"¦"\\uD800"¦"\\x¦\\\n¦#¦~¦null¦.nan¦.inf¦  ¦\n  ¦\n¦password: ¦mqtt:\n  ¦source: ¦: {a: 1, a: 2}\n
"""),
)
_STDERR: Final = (
    b"x" * (LONGEST_LINE - 3),
    *_words(r"""
[error] ¦[rtsp @ 0x1] [warning] ¦[fatal] ¦[info] Input #0, rtsp, from 'x':\n¦[info] Output #0, flv, to 'x':\n
¦[info]   Stream #0:0: Video: h264¦Stream #0:1¦: Audio: ¦method DESCRIBE failed: 500 ¦401 Unauthorized
¦Server error: ¦Video codec ¦codec a ¦ not supported in container¦ not compatible with flv¦certificate ¦ssl ¦handshake¦rtmp://
¦rtmp://a/b/c: ¦Input/output error¦output ¦Connection to tcp://¦ failed¦av_interleaved_write_frame()
¦Error sending ¦Error closing file¦Broken pipe¦timed out¦error while ¦tcp¦rtsp¦in#0
¦EOF¦Exiting normally, received signal¦Immediate exit requested¦dimensions not set¦Out of memory¦[a] ¦ @ 0x¦a.¦a://
"""),
)
_PROGRESS: Final = (
    b"x" * (LONGEST_LINE - 3),
    *_words(r"frame=¦total_size=¦progress=continue\n¦progress=end\n¦speed=¦fps=¦drop_frames=¦out_time_us=¦=¦N/A"),
)


@dataclass(frozen=True)
class Mutator:
    """Makes inputs of at most `longest` bytes out of `corpus` and `tokens`."""

    corpus: Sequence[bytes]
    tokens: Sequence[bytes]
    longest: int

    def make(self, rng: random.Random) -> bytes:
        """One input; now and then a real one, and now and then one that nobody meant."""
        if rng.random() < 0.05:
            return rng.randbytes(rng.randrange(min(self.longest, 2000)))
        data = rng.choice(self.corpus)
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 8))):
            data = rng.choice(_MUTATIONS)(self, data, rng)
        return data[: self.longest]

    def token(self, rng: random.Random) -> bytes:
        """Something nasty."""
        return rng.choice(_ANYWHERE if rng.random() < 0.4 else self.tokens)


def _slice(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(rng.paretovariate(0.7)))


def _flip(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _delete(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:start] + data[end:]


def _truncate(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _duplicate(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[start:end] + data[at:]


def _insert(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + made.token(rng) + data[at:]


def _replace(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:start] + made.token(rng) + data[end:]


def _splice(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(made.corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeat(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    """What is repeated often enough shows time that grows faster than the input."""
    start, end = _slice(data, rng)
    word = made.token(rng) if rng.random() < 0.5 else data[start:end][:40]
    if rng.random() < 0.3:
        word += made.token(rng)
    # Mostly some, now and then as much as there may be.
    length = int(made.longest ** (rng.uniform(0.8, 1) if rng.random() < 0.08 else rng.uniform(0.2, 0.6)))
    times = min(length // max(1, len(word)), made.longest)
    return data[:start] + word * times + data[end:]


_MUTATIONS: Final = (_flip, _delete, _truncate, _duplicate, _insert, _replace, _splice, _repeat)


# --- the targets ----------------------------------------------------------------------------------------------------


class Target:
    """What is fed, and what must be so for every input. `limit_s`: processor time one case may take."""

    limit_s: float = 0.25
    mutator: Mutator

    def feed(self, data: bytes, rng: random.Random) -> None:
        """One case. Whatever it raises is a finding."""
        raise NotImplementedError


class _Sentences:
    """The messages of one kind of refusal: bounded, printable, and repeating nothing of what was refused."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def take(self, message: str) -> None:
        # But for a line's number and a character's name.
        self._seen.add(re.sub(r"\d+|'[^']{1,10}'|\"'\"", "#", message))
        _check_sentence(message)
        assert len(self._seen) <= MOST_MESSAGES, f"so many messages repeat their input, this one too: {message}"


def _check_sentence(text: str) -> None:
    assert 0 < len(text) <= LONGEST_SENTENCE, f"a message of {len(text)} characters: {text[:200]}"
    assert text.isprintable(), f"a message that cannot be printed: {text!r}"
    assert MARKER not in text, f"a message that repeats a secret: {text}"
    assert MARKER.replace(" ", "") not in text, f"a message that repeats a secret: {text}"


class Payloads(Target):
    """Every command, and `request`, takes it or refuses it."""

    COMMANDS = ("stream/set", "url/set", "server/set", "key/set", "channel/set", "restart/set", "snapshot/set")
    limit_s = 0.1

    def __init__(self) -> None:
        key = _SPACELESS
        corpus = [
            b"ON",
            b"OFF",
            b"sd",
            b"auto",
            b"PRESS",
            _MARKER,
            "ключ/🔑?a=b".encode(),
            b"rtmp://server.example/live/" + key,
            b"rtmps://" + key + b"@[::1]:443/live/a?psk=" + key + b"&backup=1",
            b"rtmps://user:" + key + b"@a.rtmps.youtube.com:443/live2",
            b'{"transaction":"1","stream":"ON","channel":"hd"}',
            b'{"stream":"OFF","server":"rtmp://h/app","key":"' + key + b'","channel":"auto"}',
            b'{"transaction":"' + key + b'","key":{"' + key + b'":["' + key + b'"]}}',
            b"{}",
            b'{"' + key + b'":"' + key + b'"}',
        ]
        self.mutator = Mutator(corpus, _JSON, 2 * MAX_PAYLOAD_BYTES)
        self._sentences = _Sentences()
        self._snapshot = empty_snapshot(Channel.AUTO)

    def feed(self, data: bytes, rng: random.Random) -> None:
        for name in (*self.COMMANDS, data[:64].decode("utf-8", "replace")):
            try:
                _check_command(parse_command(name, data))
            except Refused as refused:
                self._sentences.take(refused.message)
                _read_json(refusal_json(self._snapshot, command=name, refused=refused))
            else:
                assert name in self.COMMANDS
        answer: Refused | None = None
        try:
            request = parse_request(data)
        except Refused as refused:
            answer, transaction = refused, refused.transaction
            self._sentences.take(refused.message)
        else:
            transaction = request.transaction
            _check_command(request.command)
        assert transaction is None or (len(transaction) <= 128 and transaction.isprintable())
        _read_json(answer_json(self._snapshot, transaction=transaction, refused=answer))


def _check_command(command: object) -> None:
    if isinstance(command, Change):
        _check_wish(command.server, command.key)
    else:
        assert isinstance(command, Restart | TakeSnapshot)


def _check_wish(server: str | None, key: Secret | None) -> None:
    """What was taken goes onto ffmpeg's command line and into the intent's file."""
    if server is not None:
        assert MARKER not in parse_server(server).masked
        server.encode()
    if key is not None:
        check_key(key.reveal()).encode()


def _read_json(text: str) -> None:
    assert isinstance(json.loads(text.encode()), dict)
    assert "\n" not in text


class Settings(Target):
    """The loader, from a file as `yiagent check` reads it, and with password files that hold anything."""

    limit_s = 2.0  # twice 64 KiB of YAML that is nothing but keys

    def __init__(self) -> None:
        example = (HERE.parent / "config" / "yiagent.yaml").read_bytes()
        quoted = b'"' + _MARKER + b'"'
        full = b"""source: {hd: "rtsp://cam:%s@camera/ch0?token=%s", transport: udp}
destination: {server: "rtmp://server/live", key: %s}
mqtt:
  host: broker
  username: me
  password: %s
  port: 8883
  tls: {ca_file: /nowhere/ca.pem}
stream: {autostart: yes, channel: sd, start_timeout_s: 12.5}
web: {password_file: secret.txt}
"""
        bare = re.sub(rb" *#.*", b"", example)
        camera, *sections = re.split(rb"\n(?=\w)", bare.strip())
        corpus = [
            example,
            example.replace(b"password:   ", b"password: " + quoted + b" "),
            full % (_SPACELESS, _SPACELESS, quoted, quoted),
            bare,
            *(camera + b"\n" + section + b"\n" for section in sections),
            b"source: {sd: rtsp://camera/a}\n" + quoted + b": {" + quoted + b": " + quoted + b"}\n",
            b"source: {sd: rtsp://camera/a}\nmqtt: {" + quoted + b": 1, " + quoted + b": 2}\n",
            "source: {sd: rtsp://camera/a}\n".encode("utf-16"),
        ]
        self.mutator = Mutator(corpus, (*_YAML, quoted), MAX_FILE_BYTES + 100)
        self._sentences = _Sentences()
        # A file that nobody has to remove.
        self._file = os.memfd_create("yiagent.yaml")

    def feed(self, data: bytes, rng: random.Random) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, data, 0)
        self._load(lambda: load_config(Path(f"/proc/self/fd/{self._file}")), data)
        if rng.random() < 0.2:
            secret = self.mutator.make(rng)[:5000].decode("utf-8", "replace")

            def read_secret(path: Path) -> str:
                if rng.random() < 0.2:
                    raise OSError(0, "is too large for a password")
                return secret

            self._load(lambda: parse_config(data, hostname=secret[:64], read_secret=read_secret), data)

    def _load(self, load: Callable[[], Config], data: bytes) -> None:
        try:
            config = load()
        except ConfigError as error:
            faults = error.faults
        else:
            assert all(secret.reveal() for secret, _ in config.secrets)
            assert all(url.masked.isprintable() for url in (config.source.hd, config.source.sd) if url is not None)
            passwords = (config.source.password, config.mqtt.password, config.web.password, config.destination.key)
            if Secret(MARKER) in passwords and data.count(_MARKER) == 1:
                assert MARKER not in repr(config)
            return
        assert 0 < len(faults) <= len(data) + 10
        for fault in faults:
            # What is said is one of so many sentences; where it is said may name a setting.
            self._sentences.take(fault.message)
            _check_sentence(f"{fault}")


class Wishes(Target):
    """The intent's file: an intent that survives being written again, or the one exception."""

    def __init__(self) -> None:
        corpus = [
            b'{"version":1}',
            b'{"version":1,"stream":"ON","server":"rtmp://h/app","key":"' + _SPACELESS + b'","channel":"hd"}',
            b'{"version":1,"key":["' + _SPACELESS + b'"],"server":{"' + _SPACELESS + b'":1}}',
            b'{\n "version": 1,\n "stream": "OFF",\n "server": null,\n "key": null,\n "channel": null\n}\n',
            '{"version":1,"stream":"ON"}'.encode("utf-16"),
            '{"version":1,"stream":"ON"}'.encode("utf-32-be"),
        ]
        self.mutator = Mutator(corpus, _JSON, MAX_INTENT_BYTES + 100)
        self._sentences = _Sentences()

    def feed(self, data: bytes, rng: random.Random) -> None:
        try:
            intent = parse_intent(data)
        except IntentUnreadable as error:
            self._sentences.take(str(error))
            return
        _check_wish(intent.server, intent.key)
        assert parse_intent(render_intent(intent)) == intent


def _chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """`data` as a pipe may give it."""
    # Byte by byte only where that is soon done.
    most = rng.choice((1, 7, 100, 4096, 65536) if len(data) < 3000 else (100, 4096, 65536))
    at = 0
    while at < len(data):
        size = rng.randint(1, most)
        yield data[at : at + size]
        at += size


class Reports(Target):
    """`-progress`: the same sane figures however the pipe cuts, and little that is kept."""

    def __init__(self) -> None:
        report = (
            b"frame=%d\nfps=20.35\nstream_0_0_q=-1.0\nbitrate= 736.4kbits/s\ntotal_size=%d\nout_time_us=5952000\n"
            b"out_time=00:00:05.952000\ndup_frames=0\ndrop_frames=3\nspeed=1.07x\nprogress=continue\n"
        )
        corpus = [
            report % (113, 547871),
            b"".join(report % (number, 5000 * number) for number in range(8)),
            (report % (1, 2)).replace(b"\n", b"\r\n"),
            report.replace(b"%d", b"N/A"),
            report % (114, 5) + b"frame=115\ntotal_size=6\nprogress=end\n",
        ]
        self.mutator = Mutator(corpus, _PROGRESS, 8 * LONGEST_LINE)
        # Lives as long as the run: what it kept of each input would add up.
        self._parser = ProgressParser()
        self._splitter = LineSplitter()

    def feed(self, data: bytes, rng: random.Random) -> None:
        for chunk in _chunks(data, rng):
            for report in self._parser.feed(chunk):
                _check_report(report)
            for line, _ in self._splitter.feed(chunk):
                assert 0 < len(line) <= LONGEST_LINE
                assert "\n" not in line
                assert "\r" not in line
        held = len(pickle.dumps(self._parser)) + len(pickle.dumps(self._splitter))
        # A line that has not ended in each of the two, and one value for each key.
        assert held <= 10 * LONGEST_LINE, f"{held} bytes are kept"
        parser = ProgressParser()
        assert [report for chunk in _chunks(data, rng) for report in parser.feed(chunk)] == ProgressParser().feed(data)


def _check_report(report: Progress) -> None:
    assert all(0 <= count < 10**18 for count in (report.frames, report.total_bytes, report.dropped_frames)), report
    assert all(rate is None or 0 <= rate < 1000 for rate in (report.fps, report.speed)), report
    assert report.media_s is None or 0 <= report.media_s < 1e12, report


def _recordings() -> list[bytes]:
    """What real ffmpegs said, launch by launch."""
    texts = [path.read_bytes() for path in sorted((HERE / "data" / "stderr").glob("*.txt"))]
    return [launch for text in texts for launch in re.split(rb"^### .*\n", text, flags=re.MULTILINE) if launch]


class Launches(Target):
    """Whole launches: whatever was said, one reason of the closed set in a sentence."""

    limit_s = 0.2
    STATUSES = (0, 1, 8, 183, 251, 255, -2, -6, -9, -11, -15, -64, -65, 2**31, -(2**31))

    def __init__(self) -> None:
        self.mutator = Mutator(_recordings(), _STDERR, 4 * LONGEST_LINE)

    def feed(self, data: bytes, rng: random.Random) -> None:
        diagnosis = Diagnosis(encrypted=rng.random() < 0.5)
        splitter = LineSplitter()
        for chunk in [*_chunks(data, rng), b"\n"]:
            for line, _ in splitter.feed(chunk):
                message = parse_message(line)
                assert len(message.line) <= len(line) + 2
                is_expected(message)
                diagnosis.hear(message)
            if rng.random() < 0.1:
                _check_failure(diagnosis.late())
        _check_failure(diagnosis.late())
        _check_failure(_end(diagnosis, rng))
        assert len(pickle.dumps([diagnosis.audio_codec, diagnosis.video_codec])) < 300
        assert isinstance(diagnosis.input_open or diagnosis.output_open or diagnosis.wants_patience, bool)


def _end(diagnosis: Diagnosis, rng: random.Random) -> Failure:
    status, for_memory = rng.choice(Launches.STATUSES), rng.random() < 0.5
    return diagnosis.ended(status, flowed=rng.random() < 0.5, killed_for_memory=lambda: for_memory)


def _check_failure(failure: Failure) -> None:
    assert failure.reason.code in tuple(ReasonCode)
    _check_sentence(failure.reason.message)


class Leaks(Target):
    """What ffmpeg says on its way into the log and into the state: with secrets in it anywhere, and out of it nowhere.

    A secret is cut by the longest line, by the pipe, by the longest message and by a reason's own bounds. Where one of
    them cut before it was redacted, a piece of the secret would be left: so no piece may be.
    """

    SECRETS: Mapping[str, str | None] = {
        "kq7x-w9v3-zt4m-pp2d-8s6f": None,
        "live_Q9z7Lw?psk=Tk7mW2xvBq&on=1": None,
        "p@ss/w0rd:Zq7 x'\"K9&#\\": "cam",
        "ключ-🔑-Zq7xÄß€": "cam",
        "Z7": None,
    }
    PIECE = 8
    limit_s = 0.5  # thousands of lines, each looked at for two hundred pieces

    def __init__(self, *, told: bool = True) -> None:
        self.mutator = Mutator(_recordings(), _STDERR, 4 * LONGEST_LINE)
        self._redactor = Redactor()
        written: set[str] = set()
        for secret, user in self.SECRETS.items():
            if told:
                self._redactor.learn(Secret(secret), user=user, keep=True)
            written |= {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
            written.add(json.dumps(secret, ensure_ascii=False)[1:-1])
            written |= {_percent(secret, ""), _percent(secret, "/")}
        self._written = sorted(form for form in written if len(form) >= self.PIECE)
        pieces = {form[at : at + self.PIECE] for form in self._written for at in range(len(form) - self.PIECE + 1)}
        self._piece = re.compile("|".join(map(re.escape, sorted(pieces))))
        self._now = 0.0
        self._journal = Journal(
            self._redactor, level=Level.DEBUG, clock=lambda: 1_800_000_000.0, monotonic=lambda: self._now
        )

    def feed(self, data: bytes, rng: random.Random) -> None:
        if rng.random() < 0.01:
            # Another key, as its owner may set one; the secrets of the configuration stay known.
            self._redactor.learn(f"made-up-key-{rng.randrange(20)}")
        seq = self._journal.last_seq
        diagnosis = Diagnosis(encrypted=False, redactor=self._redactor)
        splitter = LineSplitter()
        for chunk in [*_chunks(self._with_secrets(data, rng), rng), b"\n"]:
            for line, cut in splitter.feed(chunk):
                self._now += rng.expovariate(10)
                message = parse_message(line)
                diagnosis.hear(message, cut=cut)
                if rng.random() < 0.1:
                    self._check(self._redactor.redact(diagnosis.late().reason.message))
                self._journal.add(message.level, Origin.FFMPEG, message.line, cut=cut)
                self._journal.add(rng.choice(tuple(Level)), Origin.FFMPEG, line, cut=cut)
        self._now += rng.expovariate(0.1)
        self._journal.tick()
        self._check(self._redactor.redact(_end(diagnosis, rng).reason.message))
        for entry in self._journal.since(seq):
            assert len(entry.message) <= LONGEST_MESSAGE + 40
            assert entry.message.isprintable()
            self._check(entry.message)
            _read_json(log_json(entry))
        assert len(self._journal.since(0)) <= CAPACITY

    def _with_secrets(self, data: bytes, rng: random.Random) -> bytes:
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(5)))
        parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        text = self._form(rng).join(parts) if rng.random() < 0.5 else b"".join(p + self._form(rng) for p in parts)
        if rng.random() < 0.2:
            # Across the end of the longest line.
            filler = data.translate(None, b"\r\n")[:200] or b"x"
            form = self._form(rng)
            room = LONGEST_LINE - rng.randrange(len(form) + 1)
            text += b"\n" + (filler * (room // len(filler) + 1))[:room] + form + b"x\n"
        if rng.random() < 0.3:
            # Across the end of what a reason takes of a message.
            begin = rng.choice((b"[error] Server error: ", b"[rtsp @ 0x1] [error] method PLAY failed: 454 ("))
            text += b"\n" + begin + b"w" * rng.randrange(125) + b" " + self._form(rng) + b"\n"
        return text

    def _form(self, rng: random.Random) -> bytes:
        return rng.choice(self._written).encode()

    def _check(self, text: str) -> None:
        piece = self._piece.search(text)
        assert piece is None, f"a piece of a secret is left, “{piece and piece.group()}”: {text!r}"


def _percent(text: str, safe: str) -> str:
    plain = string.ascii_letters + string.digits + "_.-~" + safe
    return "".join(c if c in plain else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "payloads": Payloads,
    "config": Settings,
    "intent": Wishes,
    "progress": Reports,
    "classifier": Launches,
    "journal": Leaks,
}


# --- the run --------------------------------------------------------------------------------------------------------


class Finding(Exception):
    """Something that must not be; the message names target, seed, case and the file that holds the input."""


class _TooLong(BaseException):
    """Raised in the middle of a case that does not end; nothing in between may catch it."""


@dataclass(frozen=True)
class Memory:
    """What the process holds: bytes, and blocks of Python's own allocator."""

    rss: int
    blocks: int

    @classmethod
    def now(cls) -> Memory:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * resource.getpagesize(), sys.getallocatedblocks())


@dataclass(frozen=True)
class Figures:
    """What one target was given and what it took."""

    target: str
    fed_bytes: int
    cases: int
    seconds: float
    slowest_ms: float
    slowest_case: int
    first: Memory
    last: Memory

    def __str__(self) -> str:
        megabyte = 1024 * 1024
        return (
            f"{self.target:10} {self.fed_bytes:>10} bytes {self.cases:>7} cases {self.seconds:7.1f} s"
            f"  slowest {self.slowest_ms:7.1f} ms (case {self.slowest_case})"
            f"  RSS {self.first.rss / megabyte:.1f} MB, at the end {self.last.rss / megabyte:.1f} MB"
            f" ({self.last.blocks - self.first.blocks:+} blocks)"
        )


class _Run:
    """One target under one seed."""

    def __init__(self, name: str, target: Target, seed: int, folder: Path) -> None:
        self._name = name
        self._target = target
        self._seed = seed
        self._folder = folder
        self._case = 0
        self._data = b""
        self._fed = 0
        self._slowest = (0.0, 0)
        # The input at work, for the day when nothing of this process can tell any more.
        self._at_work = (folder / f"{name}-{seed}.running").open("wb", buffering=0)

    def to_the_end(self, amount: int, *, watchdog_s: float, last_resort: bool) -> Figures:
        """Feed at least `amount` bytes. Raises `Finding`."""
        began = time.monotonic()
        first: Memory | None = None
        with _alarm(watchdog_s), self._at_work:
            while self._fed < amount:
                self._one(watchdog_s, last_resort=last_resort)
                if first is None and self._fed >= amount * WARM_UP:
                    first = Memory.now()
        last = Memory.now()
        assert first is not None
        if last.rss - first.rss > GROWTH_BYTES or last.blocks - first.blocks > GROWTH_BLOCKS:
            raise self._finding(f"memory grew: {first}, at the end {last}")
        Path(self._at_work.name).unlink()
        slowest, case = self._slowest
        seconds = time.monotonic() - began
        return Figures(self._name, self._fed, self._case, seconds, slowest * 1000, case, first, last)

    def _one(self, watchdog_s: float, *, last_resort: bool) -> None:
        self._case += 1
        # A case depends on nothing but its number: one that takes long twice does not move those after it.
        rng = random.Random(f"{self._seed} {self._name} {self._case}")
        self._data = self._target.mutator.make(rng)
        self._fed += len(self._data)
        header = f"{self._name} seed {self._seed} case {self._case}, {len(self._data)} bytes:\n"
        os.pwrite(self._at_work.fileno(), header.encode() + self._data, 0)
        state = rng.getstate()
        took_s = float("inf")
        for _ in range(LOOKS):
            rng.setstate(state)
            took_s = min(took_s, self._feed(rng, watchdog_s, last_resort=last_resort))
            if took_s <= self._target.limit_s:
                break
        else:
            raise self._finding(f"took {took_s:.2f} s, more than {self._target.limit_s} s")
        self._slowest = max(self._slowest, (took_s, self._case))

    def _feed(self, rng: random.Random, watchdog_s: float, *, last_resort: bool) -> float:
        if last_resort:
            signal.setitimer(signal.ITIMER_PROF, LAST_RESORT_S)
        signal.setitimer(signal.ITIMER_REAL, watchdog_s)
        began = time.process_time()
        try:
            self._target.feed(self._data, rng)
        except _TooLong:
            raise self._finding(f"did not end within {watchdog_s} s") from None
        except Exception as error:
            raise self._finding("".join(traceback.format_exception(error))) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return time.process_time() - began

    def _finding(self, what: str) -> Finding:
        file = self._folder / f"{self._name}-{self._seed}-{self._case}.bin"
        file.write_bytes(self._data)
        return Finding(f"{self._name}, seed {self._seed}, case {self._case}: {what}\nThe input is in {file}")


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    name: str,
    target: Target,
    *,
    amount: int,
    seed: int,
    folder: Path,
    watchdog_s: float = WATCHDOG_S,
    last_resort: bool = False,
) -> Figures:
    """Feed `target` with `amount` bytes. Raises `Finding`; the input that did it is then in `folder`.

    `last_resort`: end the process by SIGPROF where nothing else ends a case; `folder` then holds the input at work.
    """
    return _Run(name, target, seed, folder).to_the_end(amount, watchdog_s=watchdog_s, last_resort=last_resort)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=BYTES, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="yiagent-fuzz-"))
    # Tells where it stood; then the signal does what it does by itself, and ends the process.
    faulthandler.register(signal.SIGPROF, file=2, chain=True)
    print(f"seed {seed}; an input at work or at fault is in {folder}", flush=True)
    for name in options.target or TARGETS:
        try:
            print(fuzz(name, TARGETS[name](), amount=options.bytes, seed=seed, folder=folder, last_resort=True))
        except Finding as finding:
            print(finding)
            return 1
        sys.stdout.flush()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
