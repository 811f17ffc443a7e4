"""One connection to the broker: a paho-mqtt client, its thread, and what it reports as plain events.

A connection is made, lives and ends; the next one is a new object. So no queue, session or certificate of an old
connection reaches into a new one, and the waiting between two is the link's business alone.

paho's callbacks run in its thread and do one thing: post an event to the asyncio loop (an exception in one would end
the thread while the client still calls itself connected).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from yiagent.commands import MAX_PAYLOAD_BYTES
from yiagent.mqttclient import Client, Outlet, longest_packet_bytes, no_delay, use_ssl
from yiagent.settings import MqttConfig
from yiagent.threads import in_daemon_thread

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode as PahoReasonCode

CONNECT_TIMEOUT_S: Final = 10.0
# Acknowledged messages waiting for a broker that does not answer; beyond, publishing fails instead of piling up.
MOST_QUEUED: Final = 50
# What a message may need for its topic and its properties.
HEADER_BYTES: Final = 512
# For DISCONNECT to leave; a broker that reads no more does not let it.
GOODBYE_S: Final = 1.0
NO_ANSWER: Final = "it takes the connection but does not answer"
CUT: Final = "the connection was lost"


class Ended(Enum):
    """How a connection ended, as far as it matters for the next one."""

    LOST = "lost"
    REFUSED = "refused"
    OLD_PROTOCOL = "old_protocol"
    HUNG_UP = "hung_up"


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is no more, or never was. `message` says why, for a person."""

    how: Ended
    message: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message on a subscribed topic; `payload` is cut just beyond the longest that is taken."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's answer to a subscription, or to a publication at QoS 1 (by MQTT 3.1.1 always a favourable one).

    `verb`: "publish" or "listen", to `topic`.
    """

    verb: str
    topic: str
    allowed: bool


Event = Connected | Closed | Received | Acknowledged


class Connection:
    """One paho client. `post` is called in the loop's thread with each event; after `Closed` comes nothing."""

    def __init__(
        self,
        config: MqttConfig,
        *,
        client_id: str,
        mqtt5: bool,
        will: tuple[str, str] | None,
        loop: asyncio.AbstractEventLoop,
        post: Callable[[Event], None],
    ) -> None:
        self._config = config
        self._mqtt5 = mqtt5
        self._loop = loop
        self._post = post
        self._closed = False
        self._accepted = False
        self._asked: dict[int, tuple[str, str]] = {}
        self._most_bytes: int | None = None
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if mqtt5 else True,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(MOST_QUEUED)
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        if config.username is not None:
            client.username_pw_set(config.username, config.password.reveal() if config.password else None)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_too_long = self._on_too_long
        client.on_socket_open = no_delay
        client.longest_bytes = longest_packet_bytes()
        self._client = client
        self._outlet = Outlet(client)

    @property
    def mqtt5(self) -> bool:
        """Whether this connection speaks MQTT 5 rather than 3.1.1."""
        return self._mqtt5

    @property
    def has_room(self) -> bool:
        """Whether the broker takes what is sent: little of it is still on this machine."""
        return self._outlet.has_room

    def takes(self, payload_bytes: int) -> bool:
        """Whether the broker takes a message this long, as far as it has told (MQTT 5)."""
        return self._most_bytes is None or payload_bytes + HEADER_BYTES <= self._most_bytes

    async def open(self) -> None:
        """Connect. What becomes of it comes as events; never raises."""
        hindrance: str | None
        try:
            hindrance = await in_daemon_thread(self._connect_or_say)
            if hindrance is None:
                self._client.loop_start()
        except Exception as error:
            hindrance = _in_words(error, self._config)
        if hindrance is not None:
            self._emit(Closed(Ended.LOST, hindrance))

    def check_thread(self) -> None:
        """Report the connection as lost where paho's thread has died: publishing would go on, and nothing be heard."""
        thread = getattr(self._client, "_thread", None)
        if self._accepted and not (thread is not None and thread.is_alive()):
            self._deliver(Closed(Ended.LOST, "its thread has ended"))

    async def close(self, *, say_goodbye: bool) -> None:
        """End the connection and its thread. `say_goodbye`: with DISCONNECT, so that the broker sends no last will."""

        def end() -> None:
            with contextlib.suppress(Exception):
                thread = getattr(self._client, "_thread", None)
                if say_goodbye:
                    self._client.disconnect()
                    if thread is not None:
                        thread.join(GOODBYE_S)
            with contextlib.suppress(Exception):
                # paho's thread does not end while something is unacknowledged, and a broker that never answered keeps
                # the socket open.
                sock = self._client.socket()
                if isinstance(sock, socket.socket):
                    sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(Exception):
                self._client.loop_stop()
            with contextlib.suppress(Exception):
                sock = self._client.socket()
                if sock is not None:
                    sock.close()
            # They and the client hold each other, and with them two descriptors until the garbage is collected.
            client = self._client
            client.on_connect = client.on_disconnect = client.on_message = None
            client.on_subscribe = client.on_publish = client.on_too_long = None

        self._closed = True
        await in_daemon_thread(end)

    def subscribe(self, topics: list[str]) -> bool:
        """Subscribe at QoS 1; with MQTT 5 without what is retained (a replayed command would undo the owner's wish).

        False where that could not be said.
        """
        for topic in topics:
            if self._mqtt5:
                _, mid = self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=2))
            else:
                _, mid = self._client.subscribe(topic, qos=1)
            if mid is None:
                return False
            self._asked[mid] = ("listen", topic)
        return True

    def publish(
        self, topic: str, payload: str | bytes, *, qos: int, retain: bool = False, correlation: bytes | None = None
    ) -> paho.MQTTMessageInfo | None:
        """Hand one message to paho's thread; None where it could not be taken."""
        properties = None
        if self._mqtt5 and correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        try:
            data = payload.encode() if isinstance(payload, str) else payload
            info = self._client.publish(topic, data, qos=qos, retain=retain, properties=properties)
        except ValueError:
            return None
        if info.rc != paho.MQTT_ERR_SUCCESS:
            return None
        if qos:
            self._asked[info.mid] = ("publish", topic)
        return info

    def publish_loosely(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish at QoS 0 something that may be lost; only while there `has_room`."""
        info = self.publish(topic, payload, qos=0, retain=retain)
        if info is not None:
            self._outlet.add(info, len(topic) + len(payload))

    def _connect_or_say(self) -> str | None:
        # The error stays in the thread: it holds the frames that it came through, and with them the socket of a
        # connection whose certificate was refused, which nobody else would close before the garbage is collected.
        try:
            self._connect()
        except Exception as error:
            return _in_words(error, self._config)
        return None

    def _connect(self) -> None:
        tls = self._config.tls
        if tls is not None:
            use_ssl()
            # Read anew for each connection: a renewed certificate needs no restart of the agent.
            self._client.tls_set(
                ca_certs=str(tls.ca_file) if tls.ca_file is not None else None,
                certfile=str(tls.cert_file) if tls.cert_file is not None else None,
                keyfile=str(tls.key_file) if tls.key_file is not None else None,
            )
        host, port, keepalive = self._config.host, self._config.port, self._config.keepalive_s
        assert host is not None
        if self._mqtt5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = self._client.longest_bytes
            self._client.connect(host, port, keepalive, clean_start=True, properties=properties)
        else:
            self._client.connect(host, port, keepalive)
        if self._closed and (sock := self._client.socket()) is not None:
            # Given up while the address was being resolved: a half-made session must not push out the next one.
            sock.close()

    # --- paho's thread ---

    def _emit(self, event: Event) -> None:
        # The loop is gone when the agent ends with a connection still talking.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: Event) -> None:
        if self._closed:
            return
        self._closed = isinstance(event, Closed)
        self._post(event)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: PahoReasonCode, properties: Any) -> None:
        if not reason.is_failure:
            self._accepted = True
            self._most_bytes = getattr(properties, "MaximumPacketSize", None)
            self._emit(Connected())
            return
        if reason.getName() == "Unsupported protocol version":
            self._emit(Closed(Ended.OLD_PROTOCOL, "it does not speak MQTT 5"))
            return
        self._emit(Closed(Ended.REFUSED, _refusal(reason.getName())))

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: PahoReasonCode, properties: Any) -> None:
        name = reason.getName()
        # paho's own word too, for a broker that says nothing within the keepalive.
        silent = name == "Keep alive timeout" and not flags.is_disconnect_packet_from_server
        if name == "Session taken over":
            message = "another client uses the same id; is a second agent running with this device.id?"
            self._emit(Closed(Ended.LOST, message))
        elif silent:
            self._emit(Closed(Ended.LOST, "it does not answer any more" if self._accepted else NO_ANSWER))
        elif not self._accepted:
            self._emit(Closed(Ended.HUNG_UP, f"it closed the connection without an answer; {self._suspicion()}"))
        else:
            plain = name in ("Normal disconnection", "Unspecified error")
            self._emit(Closed(Ended.LOST, CUT if plain else f"it said: {name}"))

    def _on_too_long(self) -> None:
        longest_kb = self._client.longest_bytes >> 10
        self._emit(Closed(Ended.LOST, f"it sends a message of more than {longest_kb} kB, which is not taken"))

    def _suspicion(self) -> str:
        """What a broker that hangs up without a word most likely wants."""
        tls = self._config.tls
        if tls is None:
            return "does this port want TLS? (mqtt.tls)"
        if tls.cert_file is None:
            return "does it want a client certificate? (mqtt.tls.cert_file, mqtt.tls.key_file)"
        return "does it accept this client certificate? (mqtt.tls.cert_file)"

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._emit(
            Received(
                topic=message.topic,
                payload=bytes(message.payload[: MAX_PAYLOAD_BYTES + 1]),
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[PahoReasonCode], _: Any) -> None:
        self._acknowledge(mid, allowed=not any(reason.is_failure for reason in reasons))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: PahoReasonCode, properties: Any) -> None:
        self._acknowledge(mid, allowed=not reason.is_failure)

    def _acknowledge(self, mid: int, *, allowed: bool) -> None:
        # Named in the loop's thread: there, whoever asked has noted the number by the time this runs.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._name, mid, allowed)

    def _name(self, mid: int, allowed: bool) -> None:
        asked = self._asked.pop(mid, None)
        if asked is not None:
            self._deliver(Acknowledged(*asked, allowed))


def _refusal(name: str) -> str:
    if name in ("Bad user name or password", "Not authorized"):
        return "it refuses the user name or password (mqtt.username, mqtt.password), or this client"
    return f"it refused the connection: {name}"


def _in_words(error: Exception, config: MqttConfig) -> str:
    """Why a connection could not be made, for the one who can mend it."""
    if isinstance(error, socket.gaierror):
        return "its name does not resolve to an address (mqtt.host)"
    if config.tls is not None and (isinstance(error, ConnectionResetError) or type(error).__name__ == "SSLEOFError"):
        return "no encrypted connection came about; does this port speak TLS? (mqtt.tls)"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing answers at port {config.port} (mqtt.host, mqtt.port)"
    if isinstance(error, TimeoutError):
        return "it does not answer (mqtt.host, mqtt.port)"
    if config.tls is not None and type(error).__module__ == "ssl":
        verify = getattr(error, "verify_message", None)
        if verify:
            return f"its certificate is not accepted: {verify} (mqtt.tls.ca_file)"
        return f"no encrypted connection came about: {getattr(error, 'reason', None) or 'TLS failed'} (mqtt.tls)"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be reached: {error.strerror}"
    return f"it cannot be reached ({type(error).__name__})"
