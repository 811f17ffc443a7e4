"""Secrets in what ffmpeg says."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Mapping

from tests.fuzz.corpus import STDERR, recordings
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Target, read_json
from tests.fuzz.targets_ffmpeg import any_end, chunks
from yiagent.diagnosis import Diagnosis
from yiagent.model import Level, Origin
from yiagent.payloads import log_json
from yiagent.progress import LONGEST_LINE, LineSplitter, parse_message
from yiagent.redact import Redactor, Secret
from yiagent.store import CAPACITY, LONGEST_MESSAGE, Journal


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
        self.mutator = Mutator(recordings(), STDERR, 4 * LONGEST_LINE)
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
        for chunk in [*chunks(self._with_secrets(data, rng), rng), b"\n"]:
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
        self._check(self._redactor.redact(any_end(diagnosis, rng).reason.message))
        for entry in self._journal.since(seq):
            assert len(entry.message) <= LONGEST_MESSAGE + 40
            assert entry.message.isprintable()
            self._check(entry.message)
            read_json(log_json(entry))
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
