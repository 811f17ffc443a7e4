"""What comes in by the page: the heads of requests, logins, and the broker that is set there."""

from __future__ import annotations

import random

from tests.fuzz.corpus import JSON, MARKER_BYTES, SPACELESS
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Sentences, Target
from yiagent.brokerchoice import ChoiceUnreadable, parse_choice, read_choice, render_choice
from yiagent.commands import MAX_PAYLOAD_BYTES, Refused
from yiagent.redact import Secret
from yiagent.settings import DiscoveryConfig, MqttConfig
from yiagent.web.head import LONGEST_BODY, LONGEST_HEAD, MOST_HEADERS, BadRequest, check_piece, parse_head
from yiagent.web.login import Login, Verdict
from yiagent.web.origin import foreign, own_names

HTTP = (b"\r\n", b"\n", b"\r", b"\0", b": ", b" ", b"HTTP/1.1", b"Content-Length", b"Transfer-Encoding", b"Host", b"/")


class Heads(Target):
    """A head is taken in one way or refused; where it is refused early, it is refused late too."""

    limit_s = 0.1

    def __init__(self) -> None:
        corpus = [
            b"GET / HTTP/1.1\r\nHost: camera",
            b"POST /api/request HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1",
            b"GET /api/log?since=5 HTTP/1.0\r\nAuthorization: Basic " + SPACELESS,
            b"GET /api/events HTTP/1.1\r\nHost: [::1]:80\r\nLast-Event-ID: 0a1b-17\r\nSec-Fetch-Site: none",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nOrigin: http://a",
            b"GET / HTTP/1.1\r\nHost: " + MARKER_BYTES,
        ]
        self.mutator = Mutator(corpus, HTTP, LONGEST_HEAD + 100)
        self._sentences = Sentences()
        self._login = Login(Secret("made-up"))
        self._names = own_names("camera", ("lan",))

    def feed(self, data: bytes, rng: random.Random) -> None:
        try:
            head = parse_head(data)
        except BadRequest as refused:
            self._sentences.take(f"{refused.status} {refused.message}")
            return
        check_piece(data)
        assert 0 <= head.content_length <= LONGEST_BODY
        assert len(head.headers) <= MOST_HEADERS
        assert head.target.startswith("/")
        assert head.target.isascii()
        assert all(value.isprintable() or "\t" in value or not value.isascii() for value in head.headers.values())
        assert self._login.judge("192.0.2.1", head.headers.get("authorization"), 0.0) is not Verdict.IN
        problem = foreign(head.headers, self._names)
        if problem is not None:
            self._sentences.take(problem)


class Brokers(Target):
    """The page's JSON and the file that keeps it: a choice that survives being written again, or a refusal."""

    def __init__(self) -> None:
        corpus = [
            b"{}",
            b'{"host":"broker","port":1883,"username":"u","password":"' + SPACELESS + b'","tls":true}',
            b'{"version":1,"host":"::1","port":8883,"username":null,"password":null,"tls":false}',
            b'{"host":["' + SPACELESS + b'"],"' + SPACELESS + b'":1}',
        ]
        self.mutator = Mutator(corpus, JSON, MAX_PAYLOAD_BYTES + 100)
        self._sentences = Sentences()
        discovery = DiscoveryConfig(enabled=True, prefix="homeassistant")
        self._current = MqttConfig("broker", 1883, "u", Secret("made-up"), None, "yiagent", 30, discovery)

    def feed(self, data: bytes, rng: random.Random) -> None:
        try:
            choice = parse_choice(data, self._current)
        except Refused as refused:
            self._sentences.take(refused.message)
        else:
            assert read_choice(render_choice(choice)) == choice
            if (choice.host, choice.port) != ("broker", 1883):
                assert choice.password != self._current.password
        try:
            kept = read_choice(data)
        except ChoiceUnreadable as problem:
            self._sentences.take(str(problem))
        else:
            assert read_choice(render_choice(kept)) == kept
