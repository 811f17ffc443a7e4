"""What is wished: in the messages that come, and in the file that keeps it."""

from __future__ import annotations

import random

from tests.fuzz.corpus import JSON, MARKER, MARKER_BYTES, SPACELESS
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Sentences, Target, read_json
from yiagent.agent import empty_snapshot
from yiagent.commands import MAX_PAYLOAD_BYTES, Change, Refused, Restart, TakeSnapshot, parse_command, parse_request
from yiagent.intent import MAX_FILE_BYTES, IntentUnreadable, parse_intent, render_intent
from yiagent.model import Channel
from yiagent.payloads import answer_json, refusal_json
from yiagent.redact import Secret
from yiagent.urls import check_key, parse_server


class Payloads(Target):
    """Every command, and `request`, takes it or refuses it."""

    COMMANDS = ("stream/set", "url/set", "server/set", "key/set", "channel/set", "restart/set", "snapshot/set")
    limit_s = 0.1

    def __init__(self) -> None:
        key = SPACELESS
        corpus = [
            b"ON",
            b"OFF",
            b"sd",
            b"auto",
            b"PRESS",
            MARKER_BYTES,
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
        self.mutator = Mutator(corpus, JSON, 2 * MAX_PAYLOAD_BYTES)
        self._sentences = Sentences()
        self._snapshot = empty_snapshot(Channel.AUTO)

    def feed(self, data: bytes, rng: random.Random) -> None:
        for name in (*self.COMMANDS, data[:64].decode("utf-8", "replace")):
            try:
                _check_command(parse_command(name, data))
            except Refused as refused:
                self._sentences.take(refused.message)
                read_json(refusal_json(self._snapshot, command=name, refused=refused))
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
        read_json(answer_json(self._snapshot, transaction=transaction, refused=answer))


class Wishes(Target):
    """The intent's file: an intent that survives being written again, or the one exception."""

    def __init__(self) -> None:
        corpus = [
            b'{"version":1}',
            b'{"version":1,"stream":"ON","server":"rtmp://h/app","key":"' + SPACELESS + b'","channel":"hd"}',
            b'{"version":1,"key":["' + SPACELESS + b'"],"server":{"' + SPACELESS + b'":1}}',
            b'{\n "version": 1,\n "stream": "OFF",\n "server": null,\n "key": null,\n "channel": null\n}\n',
            '{"version":1,"stream":"ON"}'.encode("utf-16"),
            '{"version":1,"stream":"ON"}'.encode("utf-32-be"),
        ]
        self.mutator = Mutator(corpus, JSON, MAX_FILE_BYTES + 100)
        self._sentences = Sentences()

    def feed(self, data: bytes, rng: random.Random) -> None:
        try:
            intent = parse_intent(data)
        except IntentUnreadable as error:
            self._sentences.take(str(error))
            return
        _check_wish(intent.server, intent.key)
        assert parse_intent(render_intent(intent)) == intent


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
