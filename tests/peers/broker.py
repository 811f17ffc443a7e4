"""A real MQTT broker, something that listens to it, and an old broker that speaks only MQTT 3.1.1."""

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.peers.certificates import Certificates, KeyPair
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, PeerError, find_program
from tests.peers.proxy import Proxy

CONNECT_TIMEOUT_S = 5.0
WAIT_TIMEOUT_S = 5.0


class Broker(Peer):
    """mosquitto on 127.0.0.1; anonymous unless `users` are given; a restart forgets everything unless `persistent`."""

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl_text: str = "",
        tls: Certificates | None = None,
        server_certificate: KeyPair | None = None,
        require_client_certificate: bool = False,
        persistent: bool = False,
        extra_lines: Sequence[str] = (),
    ) -> None:
        super().__init__("mosquitto", folder)
        self.port = free_port()
        self.users = dict(users or {})
        self.tls = tls
        self._acl_text = acl_text
        self._server_certificate = server_certificate
        self._require_client_certificate = require_client_certificate
        self._persistent = persistent
        self._extra_lines = list(extra_lines)

    def command(self) -> list[str]:
        """Write the configuration anew, and run mosquitto in the foreground."""
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join(self._configuration()) + "\n")
        return [find_program("mosquitto"), "-c", f"{configuration}"]

    def is_ready(self) -> bool:
        """It accepts connections."""
        return accepts(self.port)

    def reload(self) -> None:
        """Let it read users and ACL again, without closing a connection."""
        self._configuration()
        os.kill(self.pid, signal.SIGHUP)

    def _configuration(self) -> list[str]:
        lines = [f"listener {self.port} 127.0.0.1", "log_type all", "log_dest stderr"]
        if os.geteuid() == 0:
            # It would become the user mosquitto, who may not read this folder.
            lines.append("user root")
        if self._persistent:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        if self.users:
            lines.append(f"password_file {self._write_password_file()}")
        lines.append(f"allow_anonymous {str(not self.users).lower()}")
        if self._acl_text:
            lines.append(f"acl_file {self._write_private('acl', self._acl_text)}")
        if self.tls is not None:
            pair = self._server_certificate or self.tls.server
            lines += [f"cafile {self.tls.ca_file}", f"certfile {pair.cert_file}", f"keyfile {pair.key_file}"]
            lines.append(f"require_certificate {str(self._require_client_certificate).lower()}")
        return lines + self._extra_lines

    def _write_password_file(self) -> Path:
        path = self._write_private("passwords", "")
        for user, word in self.users.items():
            # Not -U, which hashes a whole file at once: it cuts passwords at a colon.
            command = [find_program("mosquitto_passwd"), "-b", f"{path}", user, word]
            subprocess.run(command, check=True, capture_output=True)
        return path

    def _write_private(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path


@dataclass(frozen=True)
class Message:
    """A message as it arrived; `retain` says that the broker had kept it from before the subscription."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at_s: float
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()


class Listener:
    """An MQTT client that records all it hears and can publish; a context manager that enters subscribed."""

    def __init__(
        self,
        port: int,
        topic_filter: str = "#",
        *,
        host: str = "127.0.0.1",
        username: str = "",
        password: str = "",
        tls: Certificates | None = None,
        client_certificate: KeyPair | None = None,
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
    ) -> None:
        self._address = (host, port)
        self._topic_filter = topic_filter
        self._protocol = protocol
        self._changed = threading.Condition()
        self._messages: list[Message] = []
        self._subscribed = False
        self._refused = ""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_socket_open = _send_at_once
        self._client.on_disconnect = self._on_disconnect
        self._client.reconnect_delay_set(1, 1)
        if username:
            self._client.username_pw_set(username, password)
        if tls is not None:
            context = ssl.create_default_context(cafile=f"{tls.ca_file}")
            if client_certificate is not None:
                context.load_cert_chain(client_certificate.cert_file, client_certificate.key_file)
            self._client.tls_set_context(context)

    @property
    def messages(self) -> list[Message]:
        """All that was heard so far, in order."""
        with self._changed:
            return list(self._messages)

    @property
    def position(self) -> int:
        """How much was heard so far; give it as `after` to `wait_for` to skip that."""
        with self._changed:
            return len(self._messages)

    def on(self, topic: str) -> list[Message]:
        """All that was heard on one topic so far, in order."""
        return [message for message in self.messages if message.topic == topic]

    def wait_for(
        self,
        predicate: Callable[[Message], bool],
        timeout_s: float = WAIT_TIMEOUT_S,
        what: str = "a message",
        *,
        after: int = 0,
    ) -> Message:
        """Return the first message, from position `after` on, that the predicate accepts; past ones count too."""
        deadline = time.monotonic() + timeout_s
        seen = after
        with self._changed:
            while True:
                for message in self._messages[seen:]:
                    if predicate(message):
                        return message
                seen = max(seen, len(self._messages))
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    heard = "\n".join(
                        f"  {message.topic} {message.payload[:200]!r}" for message in self._messages[-20:]
                    )
                    raise PeerError(f"waited {timeout_s:g} s in vain for {what}; heard last:\n{heard}")

    def wait_for_topic(self, topic: str, timeout_s: float = WAIT_TIMEOUT_S, *, after: int = 0) -> Message:
        """Return the first message on this topic."""
        return self.wait_for(lambda message: message.topic == topic, timeout_s, f"a message on {topic}", after=after)

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str = "",
        correlation_data: bytes = b"",
    ) -> None:
        """Publish, and return when the broker has taken it."""
        properties = None
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho left it untyped
            if response_topic:
                properties.ResponseTopic = response_topic
            if correlation_data:
                properties.CorrelationData = correlation_data
        sent = self._client.publish(topic, payload, qos, retain, properties)
        sent.wait_for_publish(WAIT_TIMEOUT_S)
        if not sent.is_published():
            raise PeerError(f"the broker did not take a message on {topic}")

    def start(self) -> Self:
        """Connect and subscribe; raise PeerError when the broker refuses either."""
        self._client.connect(*self._address, keepalive=30)
        self._client.loop_start()
        with self._changed:
            done = self._changed.wait_for(lambda: self._subscribed or bool(self._refused), CONNECT_TIMEOUT_S)
            refused = self._refused
        if refused or not done:
            self.stop()
            raise PeerError(f"the broker does not let the listener in: {refused or 'no answer'}")
        return self

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def wait_until_subscribed(self, timeout_s: float = 10.0) -> None:
        """Return when it is connected and subscribed, as it will be again after the broker was away."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._subscribed, timeout_s):
                raise PeerError("the listener did not come back")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Called on paho's thread

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._note(refused=str(reason))
        else:
            client.subscribe(self._topic_filter, qos=1)

    def _on_subscribe(
        self, _client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        failed = [str(reason) for reason in reasons if reason.is_failure]
        self._note(subscribed=not failed, refused=" ".join(failed))

    def _on_disconnect(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._note(refused=self._refused or str(reason))

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        heard = Message(
            topic=message.topic,
            payload=bytes(message.payload),
            qos=message.qos,
            retain=message.retain,
            at_s=time.monotonic(),
            properties={} if properties is None else _as_dict(properties),
        )
        with self._changed:
            self._messages.append(heard)
            self._changed.notify_all()

    def _note(self, *, subscribed: bool = False, refused: str = "") -> None:
        with self._changed:
            self._subscribed = subscribed
            self._refused = refused
            self._changed.notify_all()


def _as_dict(properties: Properties) -> dict[str, Any]:
    names = ("ResponseTopic", "CorrelationData", "MessageExpiryInterval", "ContentType", "PayloadFormatIndicator")
    present = {name: getattr(properties, name) for name in names if hasattr(properties, name)}
    if hasattr(properties, "UserProperty"):
        present["UserProperty"] = list(properties.UserProperty)
    return present


class OldBrokerProxy(Proxy):
    """A proxy that makes a broker seem to speak MQTT 3.1.1 only.

    A CONNECT of level 5 gets what such brokers answer, CONNACK with return code 1; or, if `silent`, no answer at all.
    """

    REFUSAL = bytes.fromhex("20020001")

    def __init__(self, target_port: int, *, silent: bool = False) -> None:
        super().__init__(target_port)
        self.silent = silent
        self.levels: list[int] = []

    def admit(self, client: socket.socket) -> bytes | None:
        """Take the first packet, and refuse it if it is a CONNECT of level 5."""
        packet = _read_packet(client)
        level = _connect_level(packet)
        self.levels.append(level)
        if level != 5:
            return packet
        if not self.silent:
            client.sendall(self.REFUSAL)
        return None


def _read_packet(client: socket.socket) -> bytes:
    """Read one whole packet; OSError if it does not come in time, or not whole."""
    client.settimeout(CONNECT_TIMEOUT_S)
    header = _read_exactly(client, 1)
    length = 0
    for shift in (0, 7, 14, 21):
        header += _read_exactly(client, 1)
        length |= (header[-1] & 0x7F) << shift
        if header[-1] < 0x80:
            break
    packet = header + _read_exactly(client, length)
    client.settimeout(None)
    return packet


def _read_exactly(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        received = client.recv(length - len(data))
        if not received:
            raise ConnectionError("the client went away in the middle of a packet")
        data += received
    return data


def _connect_level(packet: bytes) -> int:
    """Give the protocol level that a CONNECT packet asks for; 0 if it is none."""
    # Type and a length of one to four bytes, then "MQTT" behind its own length, then the level.
    _, name, rest = packet.partition(b"\x00\x04MQTT")
    return rest[0] if packet[0] == 0x10 and name and rest else 0


def _send_at_once(_client: paho.Client, _data: object, connection: Any) -> None:
    """Nagle's algorithm would hold a command back for 40 ms while an acknowledgement is under way."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
