"""The owner's settings: the YAML that he wrote, and his password files."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.corpus import MARKER, MARKER_BYTES, SPACELESS, TESTS, YAML
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Sentences, Target, check_sentence
from yiagent.config import MAX_FILE_BYTES, ConfigError, load_config, parse_config
from yiagent.redact import Secret
from yiagent.settings import Config


class Settings(Target):
    """The loader, from a file as `yiagent check` reads it, and with password files that hold anything."""

    limit_s = 2.0  # twice 64 KiB of YAML that is nothing but keys

    def __init__(self) -> None:
        example = (TESTS.parent / "config" / "yiagent.yaml").read_bytes()
        quoted = b'"' + MARKER_BYTES + b'"'
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
            full % (SPACELESS, SPACELESS, quoted, quoted),
            bare,
            *(camera + b"\n" + section + b"\n" for section in sections),
            b"source: {sd: rtsp://camera/a}\n" + quoted + b": {" + quoted + b": " + quoted + b"}\n",
            b"source: {sd: rtsp://camera/a}\nmqtt: {" + quoted + b": 1, " + quoted + b": 2}\n",
            "source: {sd: rtsp://camera/a}\n".encode("utf-16"),
        ]
        self.mutator = Mutator(corpus, (*YAML, quoted), MAX_FILE_BYTES + 100)
        self._sentences = Sentences()
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
            if Secret(MARKER) in passwords and data.count(MARKER_BYTES) == 1:
                assert MARKER not in repr(config)
            return
        assert 0 < len(faults) <= len(data) + 10
        for fault in faults:
            # What is said is one of so many sentences; where it is said may name a setting.
            self._sentences.take(fault.message)
            check_sentence(f"{fault}")
