"""What brokers do. The stream is never touched by it, and when the broker is back, all is republished and true."""

from __future__ import annotations

import json
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.faults.row import row
from tests.faults.scene import DEVICE, Held, NotHeld, Scene
from tests.peers.broken_servers import BrokenServer, GarbageServer, SilentServer
from tests.peers.broker import Listener, Message
from tests.peers.certificates import Certificates, KeyPair
from tests.peers.ports import free_port
from tests.peers.process import PeerError
from tests.peers.proxy import Proxy

GROUP = "broker"

# The agent waits 0.3 to 1.0 of 2, 4, 8 … 60 s between two tries.
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 60.0
SHORTEST_PART: Final = 0.3
# To connect and publish everything; and the second in which our own listener comes back.
CONNECTING_S: Final = 1.0
# A broker that takes the connection has so long to say something.
ANSWER_S: Final = 15.0
OBEYED_WITHIN_S: Final = 2.0
DEFAULT_KEEPALIVE_S: Final = 30
# A row that does not want the connection to end by its keepalive.
LONG_KEEPALIVE_S: Final = 300
GAP_S: Final = 3.0
# What one and the same agent takes more, from one moment to another, without anything piling up.
RSS_ROOM_KB: Final = 4_096
KEPT: Final = ("availability", "info", "state")
ANOTHER_PASSWORD: Final = "another-made-up-password"


def longest_wait_s(away_s: float) -> float:
    """The longest of the agent's waits that can be under way when the broker was away for so long."""
    wait_s = FIRST_WAIT_S
    waited_s = SHORTEST_PART * wait_s
    while waited_s <= away_s and wait_s < LONGEST_WAIT_S:
        wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
        waited_s += SHORTEST_PART * wait_s
    return wait_s


def back_within_s(away_s: float) -> float:
    """By when all is republished to a broker that was away for so long."""
    return longest_wait_s(away_s) + CONNECTING_S


@contextmanager
def untouched(scene: Scene) -> Iterator[None]:
    """Whatever is done within: the same ffmpeg, media that never stands still for 3 s, no phase but `streaming`."""
    remux = scene.remux
    position = scene.listener.position
    launches = scene.agent.full_log_text.count("Starting: ")
    began = time.monotonic()
    yield
    # The last gap may have begun just now.
    time.sleep(1.0)
    ended = time.monotonic()
    if scene.agent.ffmpegs() != [remux] or scene.agent.full_log_text.count("Starting: ") != launches:
        raise NotHeld("ffmpeg was replaced")
    moment = began
    gap_s = GAP_S * scene.slack
    while moment + gap_s <= ended:
        if scene.witness.received_at(moment + gap_s) <= scene.witness.received_at(moment):
            raise NotHeld(f"media stood still for {gap_s:g} s, {moment - began:.1f} s after the beginning")
        moment += 0.5
    phases = {json.loads(message.payload)["phase"] for message in on(scene, "state", position) if message.payload}
    if phases - {"streaming"}:
        raise NotHeld(f"phases were told: {phases}")
    took_s = round(ended - began, 1)
    scene.held.append(Held("the stream untouched all the while", "before the fault", took_s, took_s))


def on(scene: Scene, name: str, after: int) -> list[Message]:
    """What was heard on one of the agent's topics from a position on."""
    topic = scene.agent.topic(name)
    return [message for message in scene.listener.messages[after:] if message.topic == topic]


def expect_told(scene: Scene, words: str, *, within_s: float) -> None:
    """The words stand in what the agent writes to its console: the broker is not there to hear them."""
    scene.expect_true(lambda: words in scene.agent.log_text, f"told: “{words}”", within_s=within_s)


def expect_no_flood(scene: Scene, most: int) -> None:
    """A broker's absence costs so many warnings at the most, however long it lasts."""
    lines = [line for line in scene.agent.log_text.splitlines() if " WARNING " in line and "MQTT broker" in line]
    # At this log level the journal counts what owners do not see.
    lines = [line for line in lines if "(repeated " not in line]
    if len(lines) > most:
        raise NotHeld("more lines than one owner wants to read:\n" + "\n".join(lines))


def come_back(
    scene: Scene, act: Callable[[], object], what: str, *, within_s: float, forgot: bool = False, is_away: bool = True
) -> None:
    """Mend the broker; then `online`, info and state are published, true and retained, and a command is obeyed.

    `forgot`: the broker came back empty, so what it replays to a listener that was away itself is new as well.
    `is_away`: the agent has to connect anew.
    """
    position = scene.listener.position
    connections = scene.agent.log_text.count("Connected to the MQTT broker")
    scene.mend(act, what)

    def republished() -> bool:
        heard = {m.topic: m.payload for m in scene.listener.messages[position:] if forgot or not m.retain}
        return heard.get(scene.agent.topic("availability")) == b"online" and all(
            heard.get(scene.agent.topic(name)) for name in KEPT
        )

    if is_away:
        scene.expect_true(republished, "online, info and state republished", within_s=within_s)
        connected = [line for line in scene.agent.log_text.splitlines() if "Connected to the MQTT broker" in line]
        if len(connected) <= connections or "(MQTT 5)" not in connected[-1]:
            raise NotHeld(f"it does not speak MQTT 5 any more: {connected[-1:]}")
    expect_truth(scene)


def expect_truth(scene: Scene) -> None:
    """What the broker keeps is so, and a command is obeyed and told within its time."""
    scene.listener.wait_until_subscribed()
    # What the old connection left on its way, its last will too, has arrived by then.
    time.sleep(1.0)
    kept = retained(scene)
    if kept.get("availability") != "online":
        raise NotHeld(f"it is kept as {kept.get('availability')!r} although it is online")
    if "info" not in kept or json.loads(kept["info"])["device"] != DEVICE:
        raise NotHeld(f"this info is kept: {kept.get('info')}")
    state = json.loads(kept.get("state", "{}"))
    if (state.get("stream"), state.get("phase"), state.get("reason")) != ("ON", "streaming", None):
        raise NotHeld(f"this state is kept while it streams: {state}")
    expect_obeyed(scene, "auto" if state["channel"] == "sd" else "sd")


def expect_obeyed(scene: Scene, channel: str) -> None:
    """Of a camera with one channel the other name of the same is wanted: told at once, and no reason to restart."""
    scene.strike(lambda: scene.publish("channel/set", channel), "a command")
    scene.expect_state(lambda state: bool(state["channel"] == channel), "obeyed and told", within_s=OBEYED_WITHIN_S)


def retained(scene: Scene) -> dict[str, str]:
    """What the broker keeps of the agent, as one hears who comes new; by the topics' last words."""
    password = scene.broker.users["listener"]
    root = scene.agent.topic("")
    late = Listener(scene.broker.port, f"{root}#", username="listener", password=password)
    with late:
        # Retained messages come before anything else; by the first live one all have come.
        with suppress(PeerError):
            late.wait_for(lambda message: not message.retain, 3.0)
        return {m.topic.removeprefix(root): m.text for m in late.messages if m.retain}


def through_a_proxy(scene: Scene, proxy: Proxy | None = None, **mqtt: object) -> Proxy:
    """Have the agent, and it alone, take a way to the broker that can misbehave."""
    proxy = scene.use(proxy or Proxy(scene.broker.port))
    scene.config["mqtt"] = {"port": proxy.port, **mqtt}
    return proxy


# --- away ---


@row(GROUP, "killed, back empty after 1 s", quick=True)
def killed(scene: Scene) -> None:
    """The broker dies and is back at once with nothing of what it had kept."""
    scene.go_live()
    with untouched(scene):
        scene.strike(scene.broker.kill, "killed")
        expect_told(scene, "Lost the MQTT broker", within_s=1)
        time.sleep(1)
        come_back(scene, scene.broker.start, "started", within_s=back_within_s(1), forgot=True)


@row(GROUP, "away for 20 s, back empty")
def away(scene: Scene) -> None:
    """The broker is away for so long that the waits have grown; its whole absence costs two lines."""
    scene.go_live()
    with untouched(scene):
        scene.strike(scene.broker.kill, "killed")
        expect_told(scene, "nothing answers at port", within_s=FIRST_WAIT_S + 1)
        scene.expect_untouched(20 - FIRST_WAIT_S)
        come_back(scene, scene.broker.start, "started", within_s=back_within_s(20), forgot=True)
    expect_no_flood(scene, 2)


@row(GROUP, "restarted ten times in 30 s")
def restarted_again_and_again(scene: Scene) -> None:
    """A broker that never stays up; then it does."""
    scene.go_live()
    with untouched(scene):

        def flap() -> None:
            for _ in range(10):
                scene.broker.restart()
                time.sleep(3)

        scene.strike(flap, "restarted ten times")
        come_back(scene, scene.broker.restart, "restarted for good", within_s=back_within_s(30), forgot=True)
    expect_no_flood(scene, 12)


@row(GROUP, "frozen for 20 s")
def frozen(scene: Scene) -> None:
    """The broker stands still for longer than its keepalive and takes connections without a word; then it goes on."""
    scene.config["mqtt"] = {"keepalive_s": 5}
    scene.go_live()
    with untouched(scene):
        scene.strike(scene.broker.freeze, "frozen")
        # A ping after 5 s, and 5 s for its answer.
        expect_told(scene, "Lost the MQTT broker", within_s=12)
        time.sleep(8)
        # A connection waits for its answer by then.
        come_back(scene, scene.broker.thaw, "thawed", within_s=FIRST_WAIT_S + CONNECTING_S)


@row(GROUP, "frozen for a moment")
def frozen_for_a_moment(scene: Scene) -> None:
    """The broker stands still for less than its keepalive: the same connection goes on."""
    scene.go_live()
    with untouched(scene):
        scene.strike(scene.broker.freeze, "frozen")
        time.sleep(3)
        come_back(scene, scene.broker.thaw, "thawed", within_s=1, is_away=False)
    if "Lost the MQTT broker" in scene.agent.log_text:
        raise NotHeld("the connection did not outlive a freeze of 3 s")


# --- not let in ---


@row(GROUP, "password wrong at the start, then right")
def password_wrong_at_the_start(scene: Scene) -> None:
    """The broker does not let the agent in: the stream runs all the same, and the agent comes in once it may."""
    scene.broker.users["agent"] = ANOTHER_PASSWORD
    scene.broker.restart()
    _ = scene.camera, scene.witness, scene.listener
    scene.strike(scene.agent.start, "started with a wrong password")
    expect_told(scene, "it refuses the user name or password (mqtt.username, mqtt.password)", within_s=3)
    scene.expect_media(within_s=6)
    with untouched(scene):
        scene.expect_untouched(5)
        scene.broker.users["agent"] = scene.broker_password
        # Nothing of the agent is kept, for it was never in.
        come_back(scene, scene.broker.reload, "password made right", within_s=back_within_s(12))
    expect_no_flood(scene, 1)


@row(GROUP, "password changed under a live connection by a restart")
def password_changed(scene: Scene) -> None:
    """The broker comes back with another password for the agent, which is told; then with the right one."""
    scene.go_live()
    with untouched(scene):
        scene.broker.users["agent"] = ANOTHER_PASSWORD
        scene.strike(scene.broker.restart, "password changed")
        expect_told(scene, "it refuses the user name or password (mqtt.username, mqtt.password)", within_s=4)
        scene.expect_untouched(3)
        scene.broker.users["agent"] = scene.broker_password
        come_back(scene, scene.broker.reload, "password made right", within_s=back_within_s(8), forgot=True)
    expect_no_flood(scene, 2)


@row(GROUP, "password changed under a live connection by a reload")
def password_changed_by_reload(scene: Scene) -> None:
    """The broker reads another password for the agent and puts it out, which is told; then it reads the right one."""
    scene.go_live()
    with untouched(scene):
        scene.broker.users["agent"] = ANOTHER_PASSWORD
        scene.strike(scene.broker.reload, "password changed")
        expect_told(scene, "it refuses the user name or password (mqtt.username, mqtt.password)", within_s=4)
        scene.broker.users["agent"] = scene.broker_password
        come_back(scene, scene.broker.reload, "password made right", within_s=back_within_s(4))
    expect_no_flood(scene, 2)


@row(GROUP, "refusing connections for 8 s")
def refusing(scene: Scene) -> None:
    """The connection is cut, and new ones are closed as soon as they are made."""
    proxy = through_a_proxy(scene)
    scene.go_live()
    with untouched(scene):

        def refuse() -> None:
            proxy.refuse()
            proxy.cut()

        scene.strike(refuse, "refusing")
        expect_told(scene, "it closed the connection without an answer", within_s=FIRST_WAIT_S + 1)
        scene.expect_untouched(5)
        come_back(scene, proxy.accept, "accepting", within_s=back_within_s(8))
    expect_no_flood(scene, 2)


@row(GROUP, "full: no connection is left for the agent")
def full(scene: Scene) -> None:
    """Another client takes the last connection that the broker allows; then it leaves."""
    # The agent, our listener, and one who asks what is kept.
    scene.broker_lines.append("max_connections 3")
    proxy = through_a_proxy(scene)
    scene.go_live()
    with untouched(scene):
        password = scene.broker.users["listener"]
        others: list[Listener] = []

        def take_its_place() -> None:
            proxy.cut()
            # The agent waits longer than this before it comes again.
            time.sleep(0.2)
            # mosquitto does not count to exactly what it was told.
            with suppress(PeerError):
                while True:
                    others.append(Listener(scene.broker.port, "-", username="listener", password=password).start())

        def leave() -> None:
            while others:
                others.pop().stop()

        scene.at_end(leave)
        scene.strike(take_its_place, "full")
        expect_told(scene, "it closed the connection without an answer", within_s=FIRST_WAIT_S + 1)
        scene.expect_untouched(5)
        come_back(scene, leave, "a place is free", within_s=back_within_s(8))
    expect_no_flood(scene, 2)


@row(GROUP, "an access list that takes away the right to publish")
def rights_to_publish_taken(scene: Scene) -> None:
    """The agent may not say its state any more, which is told; when it may again, what it could not say is said."""
    acl = scene.folder / "acl"
    everything = "user agent\ntopic readwrite #\nuser listener\ntopic readwrite #\n"
    acl.write_text(everything)
    acl.chmod(0o600)
    scene.broker_lines.append(f"acl_file {acl}")
    scene.go_live()
    with untouched(scene):

        def take_away() -> None:
            acl.write_text("user agent\ntopic read #\nuser listener\ntopic readwrite #\n")
            scene.broker.reload()
            time.sleep(0.5)
            scene.publish("channel/set", "sd")

        scene.strike(take_away, "taken away")
        expect_told(scene, f"does not let this user publish to yiagent/{DEVICE}/state", within_s=3)
        scene.expect_untouched(3)

        def give_back() -> None:
            acl.write_text(everything)
            scene.broker.reload()

        scene.mend(give_back, "given back")
        scene.expect_state(
            lambda state: bool(state["channel"] == "sd"), "what could not be said is said", within_s=LONGEST_WAIT_S
        )
        expect_truth(scene)


@row(GROUP, "an access list without the agent at a restart")
def rights_gone_at_a_restart(scene: Scene) -> None:
    """The broker comes back empty and with no right left for the agent; when it has its rights again, all is said."""
    acl = scene.folder / "acl"
    everything = "user agent\ntopic readwrite #\nuser listener\ntopic readwrite #\n"
    acl.write_text(everything)
    acl.chmod(0o600)
    scene.broker_lines.append(f"acl_file {acl}")
    scene.go_live()
    with untouched(scene):

        def take_away() -> None:
            acl.write_text("user listener\ntopic readwrite #\n")
            scene.broker.restart()

        scene.strike(take_away, "taken away")
        expect_told(scene, f"does not let this user publish to yiagent/{DEVICE}/availability", within_s=5)
        scene.expect_untouched(3)
        position = scene.listener.position

        def give_back() -> None:
            acl.write_text(everything)
            scene.broker.reload()

        scene.mend(give_back, "given back")
        scene.expect_true(
            lambda: {m.topic for m in scene.listener.messages[position:]} >= {*map(scene.agent.topic, KEPT)},
            "online, info and state republished",
            within_s=LONGEST_WAIT_S,
        )
        expect_truth(scene)


# --- slow ---


@row(GROUP, "slow: 500 bytes a second")
def slow(scene: Scene) -> None:
    """The way to the broker carries 500 bytes a second, enough for the usual samples: nothing is lost or late."""
    proxy = through_a_proxy(scene, keepalive_s=DEFAULT_KEEPALIVE_S)
    scene.config["telemetry"] = {"interval_s": 5}
    scene.go_live()
    with untouched(scene):
        scene.strike(lambda: proxy.limit(500), "slow")
        position = scene.listener.position
        scene.expect_untouched(35)
        expect_fresh(scene, position, 5)
        expect_obeyed(scene, "sd")
        if "Lost the MQTT broker" in scene.agent.log_text:
            raise NotHeld("a slow way is a way: the connection was given up")
        come_back(scene, lambda: proxy.limit(0), "fast again", within_s=1, is_away=False)


@row(GROUP, "slower than what there is to say")
def slower_than_what_is_said(scene: Scene) -> None:
    """The way carries 500 bytes a second, a quarter of the samples: some are left out, and what arrives is fresh."""
    # The proxy itself holds next to nothing back: what is late is late on the agent's side.
    proxy = through_a_proxy(scene, Proxy(scene.broker.port, buffer_bytes=4096), keepalive_s=LONG_KEEPALIVE_S)
    scene.config["telemetry"] = {"interval_s": 0.2}
    scene.go_live()
    before_kb = scene.memory_kb()
    with untouched(scene):
        scene.strike(lambda: proxy.limit(500), "slow")
        scene.expect_untouched(85)
        scene.expect_memory(before_kb, RSS_ROOM_KB)
        position = scene.listener.position
        scene.expect_untouched(5)
        expect_fresh(scene, position, 60)
        come_back(scene, lambda: proxy.limit(0), "fast again", within_s=1, is_away=False)


def expect_fresh(scene: Scene, position: int, most_s: float) -> None:
    """Telemetry has come since then, and none of it was older than this when it came."""
    ages = telemetry_ages_s(scene, position)
    if not ages:
        raise NotHeld("no telemetry comes any more")
    if max(ages) > most_s:
        raise NotHeld(f"telemetry comes {max(ages):.0f} s late")
    scene.held.append(Held("the oldest sample to come", "when it was taken", most_s, max(ages)))


def telemetry_ages_s(scene: Scene, position: int) -> list[float]:
    """How old each sample was when it arrived."""
    now, wall = time.monotonic(), datetime.now(UTC).timestamp()
    return [
        wall - (now - message.at_s) - datetime.fromisoformat(json.loads(message.payload)["ts"]).timestamp()
        for message in on(scene, "telemetry", position)
    ]


@row(GROUP, "stops reading for 40 s while the connection stands")
def stops_reading(scene: Scene) -> None:
    """Nothing is read from the connection, which stands: nothing piles up, and the latest is told when it is read."""
    proxy = through_a_proxy(scene, keepalive_s=LONG_KEEPALIVE_S)
    scene.config["telemetry"] = {"interval_s": 0.2}
    scene.go_live()
    # Its first minute's growth is not the fault's.
    scene.expect_untouched(5)
    before_kb = scene.memory_kb()
    with untouched(scene):
        scene.strike(proxy.freeze, "not read")
        scene.expect_untouched(40)
        scene.expect_memory(before_kb, RSS_ROOM_KB)
        come_back(scene, proxy.thaw, "read again", within_s=1, is_away=False)
        position = scene.listener.position
        time.sleep(2)
        expect_fresh(scene, position, 5)


@row(GROUP, "does not read while 200 changes are commanded", quick=True)
def does_not_read_but_commands(scene: Scene) -> None:
    """The broker acknowledges nothing while commands still come: nothing piles up, and the last state is told."""
    proxy = through_a_proxy(scene, keepalive_s=LONG_KEEPALIVE_S)
    scene.go_live()
    before_kb = scene.memory_kb()
    with untouched(scene):
        topic = scene.agent.topic("channel/set")

        def command() -> None:
            proxy.deafen()
            for number in range(200):
                # At QoS 0: of those that want an acknowledgement, the broker sends only twenty ahead.
                scene.listener.publish(topic, "sd" if number % 2 == 0 else "auto", qos=0)
                # Each is a state of its own, rather than one that the next has overtaken.
                time.sleep(0.02)
            scene.listener.publish(topic, "sd", qos=0)

        scene.strike(command, "not read, 201 commands")
        scene.expect_true(lambda: wish(scene) == "sd", "the last command obeyed", within_s=60)
        scene.expect_memory(before_kb, RSS_ROOM_KB)
        position = scene.listener.position
        scene.mend(proxy.hear, "read again")
        time.sleep(3)
        states = on(scene, "state", position)
        if not states or json.loads(states[-1].payload)["channel"] != "sd":
            raise NotHeld(f"the last state told of {len(states)} is not what is so: {states[-1:]}")
        expect_truth(scene)


def wish(scene: Scene) -> str:
    """The channel that stands in the agent's file."""
    with suppress(ValueError, KeyError):
        return str(json.loads(scene.agent.intent_bytes() or b"")["channel"])
    return ""


# --- another one in its place ---


@row(GROUP, "back with a certificate of another authority")
def certificate_of_a_stranger(scene: Scene) -> None:
    """The broker comes back with a certificate of a stranger: told in words; with the right one it is well."""
    another_certificate(scene, lambda certificates: certificates.stranger, "its certificate is not accepted: ")


@row(GROUP, "back with another host's certificate")
def certificate_of_another_host(scene: Scene) -> None:
    """The broker comes back with another host's certificate: told in words; with the right one it is well."""
    another_certificate(scene, lambda certificates: certificates.other_host, "certificate is not valid for '127.0.0.1'")


@row(GROUP, "back with a certificate that has expired")
def certificate_expired(scene: Scene) -> None:
    """The broker comes back with a certificate of the past: told in words; with the right one it is well."""
    another_certificate(scene, lambda certificates: certificates.expired, "certificate has expired")


def another_certificate(scene: Scene, wrong: Callable[[Certificates], KeyPair], words: str) -> None:
    """A broker with TLS for the agent; our own ears take a port beside it."""
    certificates = Certificates(scene.folder / "certificates")
    port = free_port()
    pair = KeyPair(scene.folder / "broker.crt", scene.folder / "broker.key")
    install(certificates.server, pair)
    scene.broker_lines += [
        f"listener {port} 127.0.0.1",
        *(f"cafile {certificates.ca_file}", f"certfile {pair.cert_file}", f"keyfile {pair.key_file}"),
    ]
    scene.config["mqtt"] = {"port": port, "tls": {"ca_file": f"{certificates.ca_file}"}}
    scene.go_live()
    with untouched(scene):

        def comes_back_with(other: KeyPair) -> Callable[[], None]:
            def act() -> None:
                install(other, pair)
                scene.broker.restart()

            return act

        wrong_pair = wrong(certificates)
        scene.strike(comes_back_with(wrong_pair), "another certificate")
        expect_told(scene, words, within_s=FIRST_WAIT_S + 2)
        right = comes_back_with(certificates.server)
        come_back(scene, right, "the right certificate", within_s=back_within_s(5), forgot=True)
    expect_no_flood(scene, 3)


def install(pair: KeyPair, place: KeyPair) -> None:
    """Copy a certificate and its key to where the broker looks for them."""
    shutil.copy(pair.cert_file, place.cert_file)
    shutil.copy(pair.key_file, place.key_file)


@row(GROUP, "takes the connection but says nothing")
def silent(scene: Scene) -> None:
    """Something else has the broker's address: it takes connections and never answers, which is told."""
    proxy = through_a_proxy(scene, keepalive_s=DEFAULT_KEEPALIVE_S)
    stranger = scene.use(SilentServer())
    scene.go_live()
    with untouched(scene):
        scene.strike(lambda: lead_to(proxy, stranger.port), "silent")
        expect_told(scene, "it takes the connection but does not answer", within_s=FIRST_WAIT_S + ANSWER_S + 1)
        # The connection under way may have to be given up first.
        within_s = ANSWER_S + back_within_s(2)
        come_back(scene, lambda: lead_to(proxy, scene.broker.port, cut=False), "the broker", within_s=within_s)
    expect_no_flood(scene, 2)


@row(GROUP, "answers with garbage")
def garbage(scene: Scene) -> None:
    """Something else has the broker's address and answers noise: told, never believed, and no harm done."""
    proxy = through_a_proxy(scene, keepalive_s=DEFAULT_KEEPALIVE_S)
    stranger = scene.use(GarbageServer())
    scene.go_live()
    before_kb = scene.memory_kb()
    with untouched(scene):
        scene.strike(lambda: lead_to(proxy, stranger.port), "garbage")
        expect_told(scene, "Cannot connect to the MQTT broker", within_s=FIRST_WAIT_S + ANSWER_S + 1)
        scene.expect_memory(before_kb, RSS_ROOM_KB)
        within_s = ANSWER_S + back_within_s(18)
        come_back(scene, lambda: lead_to(proxy, scene.broker.port, cut=False), "the broker", within_s=within_s)
    expect_no_flood(scene, 3)


class NoisyServer(BrokenServer):
    """Says that it accepts an MQTT 5 client, and then sends noise: other noise each time, the same at every run."""

    ACCEPTED = bytes.fromhex("2003000000")

    def serve(self, client: socket.socket) -> None:
        """Send it, and wait for the client's end."""
        client.recv(1024)
        client.sendall(self.ACCEPTED + random.Random(self.accepted).randbytes(65536))
        while client.recv(1024):
            pass


@row(GROUP, "accepts, and sends garbage again and again")
def garbage_once_accepted(scene: Scene) -> None:
    """Something else has the broker's address, takes the agent in, and sends noise: each time the agent tries anew."""
    proxy = through_a_proxy(scene)
    stranger = scene.use(NoisyServer())
    scene.go_live()
    before_kb = scene.memory_kb()
    with untouched(scene):
        scene.strike(lambda: lead_to(proxy, stranger.port), "garbage")
        scene.expect_true(lambda: stranger.accepted >= 5, "tried again and again", within_s=90)
        scene.expect_memory(before_kb, RSS_ROOM_KB)
        come_back(scene, lambda: lead_to(proxy, scene.broker.port), "the broker", within_s=back_within_s(90))


class EndlessPacketServer(BrokenServer):
    """Says that it accepts an MQTT 5 client, and then sends one message of 268 million bytes."""

    ACCEPTED = bytes.fromhex("2003000000")
    LONGEST = bytes.fromhex("30ffffff7f")

    def serve(self, client: socket.socket) -> None:
        """Send for as long as the client reads."""
        client.recv(1024)
        client.sendall(self.ACCEPTED + self.LONGEST)
        while True:
            client.sendall(bytes(65536))


@row(GROUP, "sends a message without end")
def endless_message(scene: Scene) -> None:
    """Something else has the broker's address and sends one message of 268 MB: a small machine has not that much."""
    proxy = through_a_proxy(scene)
    stranger = scene.use(EndlessPacketServer())
    scene.go_live()
    before_kb = scene.memory_kb()
    with untouched(scene):
        scene.strike(lambda: lead_to(proxy, stranger.port), "endless")
        most_kb = 0.0
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            most_kb = max(most_kb, scene.memory_kb())
            time.sleep(0.05)
        # The agent tells brokers that it takes 16 MB at the most, and holds a message twice for a moment.
        if most_kb - before_kb > 2.5 * 16 * 1024:
            raise NotHeld(f"the agent grew from {before_kb / 1024:.0f} to {most_kb / 1024:.0f} MB")
        scene.held.append(Held(f"memory: {most_kb - before_kb:+.0f} kB (at most 40 MB)", "endless", 0.0, 0.0))
        come_back(scene, lambda: lead_to(proxy, scene.broker.port), "the broker", within_s=back_within_s(10))


def lead_to(proxy: Proxy, port: int, *, cut: bool = True) -> None:
    """From now on something else has the address; `cut`: the connections that stand are cut."""
    proxy.target_port = port
    if cut:
        proxy.cut()


@row(GROUP, "another client takes the agent's id again and again")
def taken_over(scene: Scene) -> None:
    """A second client with the agent's id puts it out whenever it has come in: told as what it is; then it leaves."""
    scene.go_live()
    with untouched(scene):
        intruder = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"yiagent-{DEVICE}", protocol=MQTTProtocolVersion.MQTTv5
        )
        intruder.username_pw_set("agent", scene.broker_password)
        intruder.reconnect_delay_set(1, 1)

        def leave() -> None:
            intruder.disconnect()
            intruder.loop_stop()

        def take_over() -> None:
            intruder.connect("127.0.0.1", scene.broker.port)
            intruder.loop_start()

        scene.strike(take_over, "taken over")
        scene.at_end(leave)
        # mosquitto 2.0 does not say it, so the first time looks like any other loss; the second, soon after, does not.
        expect_told(scene, "is a second agent running with this device.id?", within_s=2 * FIRST_WAIT_S + 2)
        scene.expect_untouched(15)
        come_back(scene, leave, "the other one is gone", within_s=back_within_s(16))
    told = [line for line in scene.agent.log_text.splitlines() if " WARNING " in line and "second agent" in line]
    if len(told) > 4:
        raise NotHeld("told too often:\n" + "\n".join(told))
