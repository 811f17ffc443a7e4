"""What servers do, and the way to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.faults.row import row
from tests.faults.scene import NotHeld, Scene
from tests.harness import State
from tests.peers.broken_servers import BrokenServer, GarbageServer, HangUpServer, PlaintextServer, SilentServer
from tests.peers.certificates import Certificates, KeyPair
from tests.peers.namespace import reappear, vanish
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer

GROUP = "server"

# With a query, as Facebook and nginx's own users have them.
RIGHT_KEY: Final = "made-up-right-key?psk=made-up-token"
# The camera's HD with its sound, as it goes out: about 1080 kbit/s.
HD_BYTES_PER_S: Final = 135_000
# What a launch takes at the most to be refused, or to have media at the server.
LAUNCH_S: Final = 3.0
# The back-off's waits, as long as their jitter makes them.
WAITS_S: Final = (1.25, 2.5, 5.0, 10.0)
LONGEST_WAIT_S: Final = 18.75
# From the agent's start to a failed launch: Python, a look at ffmpeg, one at the camera, and the launch.
START_S: Final = 5.0


# --- away ---


@row(GROUP, "killed, back after 4 s", quick=True)
def killed(scene: Scene) -> None:
    """The server dies, its connections with it, and is started again."""
    _killed(scene, away_s=4)


@row(GROUP, "killed, away for a minute")
def killed_for_a_minute(scene: Scene) -> None:
    """The server is away for a minute, which costs knocks but no launch, and one line in the log."""
    _killed(scene, away_s=60)


@row(GROUP, "killed under RTMPS, back after 4 s")
def killed_under_rtmps(scene: Scene) -> None:
    """The encrypted server dies and is started again."""
    _encrypted(scene, lambda certificates: certificates.server)
    _killed(scene, away_s=4)


@row(GROUP, "absent at the start", quick=True)
def absent_at_start(scene: Scene) -> None:
    """The agent starts without its server: one launch, one line, and on air when it comes."""
    scene.server.kill()
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=START_S, word="server")
    scene.expect_state(_is_knocking, "waited for by knocking", within_s=START_S + 2)
    scene.let_pass(6)
    scene.expect_cheap(lines=1)
    scene.mend(scene.server.start, "started")
    scene.expect_on_air(within_s=3)


@row(GROUP, "vanished for 4 s", isolated=True)
def vanished_for_a_moment(scene: Scene) -> None:
    """The server's machine loses its network for a moment: the connection outlives it, and so does ffmpeg."""
    scene.go_live()
    remux = scene.remux
    scene.strike(lambda: vanish(scene.server.port), "vanished")
    scene.let_pass(4)
    scene.mend(lambda: reappear(scene.server.port), "reappeared")
    # The kernel sends again at intervals that double: up to 3.2 s later here.
    scene.expect_media(within_s=5)
    scene.expect_untouched(5)
    _same(scene, remux)


@row(GROUP, "vanished for 30 s", isolated=True)
def vanished(scene: Scene) -> None:
    """The way to the server swallows all for 30 s, and the server drops the stream of which nothing comes any more."""
    scene.server = scene.use(RtmpServer(scene.folder / "server", idle_s=10))
    _only_hd(scene)
    scene.go_live()
    scene.strike(lambda: vanish(scene.server.port), "vanished")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect("stalled", "stalled", within_s=13, word="server")
    scene.expect_state(_is_knocking, "waited for by knocking", within_s=30)
    scene.let_pass(30)
    scene.mend(lambda: reappear(scene.server.port), "reappeared")
    scene.expect_on_air(within_s=3, anew=True)


@row(GROUP, "vanished for 30 s, the old stream held on to", isolated=True)
def vanished_and_holding(scene: Scene) -> None:
    """The same with a server that takes the old stream for alive, and the new one for another's, until TCP tells it."""
    _only_hd(scene)
    scene.go_live()
    scene.strike(lambda: vanish(scene.server.port), "vanished")
    scene.expect("stalled", "stalled", within_s=13, word="server")
    scene.let_pass(30)
    scene.mend(lambda: reappear(scene.server.port), "reappeared")
    scene.expect("backing_off", "sink_rejected", within_s=LAUNCH_S + 3, word="in use")
    # The kernel sends the old connection's last bytes again at intervals that double.
    scene.expect_true(lambda: _publishing_s(scene) < 30, "the end of the old stream", within_s=60)
    if "failed" in scene.phases():
        raise NotHeld(f"it was given up: {scene.phases()}")
    scene.mend(lambda: None, "the end of the old stream")
    # It answered all the while, and refused: the longest wait of the back-off.
    scene.expect_on_air(within_s=LONGEST_WAIT_S + LAUNCH_S, anew=True)


@row(GROUP, "vanished before the start", isolated=True)
def vanished_before_start(scene: Scene) -> None:
    """The agent starts while no packet comes back from its server: one launch, one line, on air when it answers."""
    vanish(scene.server.port)
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=START_S + 15, word="server")
    scene.let_pass(40)
    scene.expect_cheap(lines=1)
    scene.mend(lambda: reappear(scene.server.port), "reappeared")
    scene.expect_on_air(within_s=3)


# --- standing still ---


@row(GROUP, "frozen", quick=True)
def frozen(scene: Scene) -> None:
    """The server's process stands still; its kernel goes on acknowledging until its buffers are full."""
    _only_hd(scene)
    scene.go_live()
    scene.strike(scene.server.freeze, "frozen")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect("stalled", "stalled", within_s=13, word="server")
    scene.mend(scene.server.thaw, "thawed")
    scene.expect_on_air(within_s=3)


@row(GROUP, "frozen for 40 s")
def frozen_for_long(scene: Scene) -> None:
    """The server stands still for 40 s, in which ffmpeg is replaced and hangs anew: on air as soon as it is thawed."""
    _only_hd(scene)
    scene.go_live()
    scene.strike(scene.server.freeze, "frozen")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect("stalled", "stalled", within_s=13, word="server")
    _thawed_after(scene, 40)


@row(GROUP, "frozen for 40 s under SD with silence")
def frozen_under_silence(scene: Scene) -> None:
    """The same at a third of the bit rate, with a generated sound track that ffmpeg could write for ever."""
    scene.camera.set_audio("none")
    scene.go_live()
    scene.strike(scene.server.freeze, "frozen")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect("stalled", "stalled", within_s=13, word="server")
    _thawed_after(scene, 40)


@row(GROUP, "frozen for 90 s")
def frozen_through_launches(scene: Scene) -> None:
    """The server stands still while several launches hang and are ended: none is left behind, nothing is given up."""
    scene.go_live()
    scene.strike(scene.server.freeze, "frozen")
    scene.expect("stalled", "stalled", within_s=13, word="server")
    scene.expect("backing_off", "sink_unreachable", within_s=60)
    scene.let_pass(90)
    _never_given_up(scene)
    if (running := len(scene.agent.ffmpegs())) != 1:
        raise NotHeld(f"{running} ffmpegs run")
    _thawed_after(scene, 90)


@row(GROUP, "frozen before the start")
def frozen_before_start(scene: Scene) -> None:
    """The agent starts against a server that accepts and says nothing: told in time, on air when it is thawed."""
    scene.config["stream"] = {"start_timeout_s": 10}
    scene.server.freeze()
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=10 + START_S, word="server")
    _thawed_after(scene, 25)


# --- refusing ---


@row(GROUP, "wrong key", quick=True)
def wrong_key(scene: Scene) -> None:
    """The server's `on_publish` refuses the key: a person must act, and sends the right one."""
    server = _checking(scene)
    scene.key = "made-up-wrong-key"
    scene.start_in_vain("failed", "sink_rejected", within_s=START_S, word="stream key")
    scene.further_secrets.append(scene.key)
    scene.key = server.key
    scene.mend(lambda: scene.publish("key/set", server.key), "the right key")
    scene.expect_on_air(within_s=3)


@row(GROUP, "unknown application", quick=True)
def unknown_application(scene: Scene) -> None:
    """The server has no such application: a person must act."""
    _destination(scene, scene.server.url("no-such-application"))
    scene.start_in_vain("failed", "sink_rejected", within_s=START_S, word="application")


@row(GROUP, "key refused, then accepted at a press", quick=True)
def key_accepted_later(scene: Scene) -> None:
    """The key is enabled on the server after it was refused, and the owner presses restart."""
    server = _checking(scene)
    server.refuse_key()
    scene.start_in_vain("failed", "sink_rejected", within_s=START_S, word="stream key")
    server.accept_key()
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "press")
    scene.expect_on_air(within_s=3)


@row(GROUP, "closed, and its key refused for 10 s")
def key_refused_for_a_while(scene: Scene) -> None:
    """A key that was taken before is refused for a while, as behind a broken connection: no person need act."""
    server = _checking(scene)
    scene.go_live()
    name = scene.key.partition("?")[0]
    server.refuse_key()
    scene.strike(lambda: server.drop_publisher(name, "checked"), "closed and refused")
    scene.expect("backing_off", "sink_rejected", within_s=LAUNCH_S + WAITS_S[0])
    scene.let_pass(10)
    _never_given_up(scene)
    scene.mend(server.accept_key, "accepted")
    # It answers all the while, so this is the back-off: the fourth wait by now.
    scene.expect_on_air(within_s=WAITS_S[3] + LAUNCH_S)


@row(GROUP, "refusing at the first write", quick=True)
def refused_at_first_write(scene: Scene) -> None:
    """The server opens the stream and closes it at its first video: the key, most likely, but no person need act."""
    _destination(scene, scene.server.url("denied"))
    scene.start_in_vain("backing_off", "sink_rejected", within_s=START_S, word="key")
    scene.expect_state(lambda state: state["attempt"] == 2, "a second try", within_s=START_S + WAITS_S[0] + LAUNCH_S)
    _never_given_up(scene)


# --- closing ---


@row(GROUP, "closing every 20 s")
def closing(scene: Scene) -> None:
    """A server that closes each stream after 20 s: back at once each time, since each launch was a good one."""
    scene.go_live()
    start = scene.listener.position
    for _ in range(4):
        scene.expect_untouched(20)
        scene.strike(lambda: scene.server.drop_publisher(scene.key), "closed")
        scene.expect_state(lambda state: _code(state) == "sink_closed", "sink_closed", within_s=3)
        scene.expect_on_air(within_s=3, anew=True)
    if "failed" in scene.phases(after=start):
        raise NotHeld("it was given up")


@row(GROUP, "closing right away, five times")
def closing_at_once(scene: Scene) -> None:
    """A server that closes each stream as soon as it has begun: the waits grow, and it is never given up."""
    scene.go_live()
    start = scene.listener.position
    # Its run so far was short, so the first wait counts from the launch.
    for wait_s in WAITS_S:
        scene.strike(lambda: scene.server.drop_publisher(scene.key), "closed")
        scene.expect_state(lambda state: _code(state) == "sink_closed", "sink_closed", within_s=3)
        scene.expect_on_air(within_s=wait_s + LAUNCH_S, anew=True)
    scene.strike(lambda: scene.server.drop_publisher(scene.key), "closed")
    began = scene.expect("backing_off", "sink_closed", within_s=3)
    if began["attempt"] != len(WAITS_S) + 1:
        raise NotHeld(f"attempt {began['attempt']} after {len(WAITS_S) + 1} closed streams")
    # 15 s less the jitter of a quarter, counted from the launch, whose stream ran for some seconds until it was closed.
    scene.let_pass(6)
    if scene.phases()[-1] != "backing_off":
        raise NotHeld(f"the fifth wait is over after 6 s: {scene.phases()}")
    if "failed" in scene.phases(after=start):
        raise NotHeld("it was given up")
    scene.expect_on_air(within_s=LONGEST_WAIT_S + LAUNCH_S, anew=True)


# --- slow ---


@row(GROUP, "half the bit rate")
def half_the_bit_rate(scene: Scene) -> None:
    """The way to the server carries half of HD for 20 s: told, carried on, and told when it is over."""
    _slow(scene, 1 / 2)


@row(GROUP, "a third of the bit rate")
def a_third_of_the_bit_rate(scene: Scene) -> None:
    """The way to the server carries a third of HD: slow, not frozen."""
    _slow(scene, 1 / 3, seconds=40)


# --- no server of RTMP ---


@row(GROUP, "answering garbage")
def garbage(scene: Scene) -> None:
    """Something answers that is no RTMP server, and goes on listening."""
    scene.config["stream"] = {"start_timeout_s": 4}
    _broken(scene, GarbageServer())
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=4 + START_S, word="server")


@row(GROUP, "silent", quick=True)
def silent(scene: Scene) -> None:
    """Something accepts and never answers."""
    scene.config["stream"] = {"start_timeout_s": 4}
    _broken(scene, SilentServer())
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=4 + START_S, word="server")


@row(GROUP, "hanging up at connect", quick=True)
def hanging_up(scene: Scene) -> None:
    """Something accepts and closes at once, as a service does that is starting; then the server is there."""
    broken = _broken(scene, HangUpServer())
    scene.start_in_vain("backing_off", "sink_unreachable", within_s=START_S, word="server")
    scene.server = RtmpServer(scene.folder / "server")
    scene.server.port = broken.port
    broken.stop()
    scene.mend(lambda: scene.use(scene.server), "a real one")
    # It answered before, so this is the back-off: the second wait at the most.
    scene.expect_on_air(within_s=WAITS_S[1] + LAUNCH_S)


# --- TLS ---


@row(GROUP, "certificate expired, then renewed", quick=True)
def certificate_expired(scene: Scene) -> None:
    """A certificate out of date is never taken; renewed, the stream begins by itself."""
    certificates = _encrypted(scene, lambda certificates: certificates.expired)
    scene.start_in_vain("backing_off", "sink_tls", within_s=START_S, word="certificate")
    renewed = RtmpServer(scene.folder / "renewed", tls=[certificates.server])
    renewed.rtmps_ports = scene.server.rtmps_ports
    scene.server.stop()
    scene.server = renewed
    scene.mend(lambda: scene.use(renewed), "renewed")
    scene.expect_on_air(within_s=WAITS_S[1] + LAUNCH_S)


@row(GROUP, "certificate for another name", quick=True)
def certificate_of_another(scene: Scene) -> None:
    """A certificate for another host is never taken."""
    _encrypted(scene, lambda certificates: certificates.other_host)
    scene.start_in_vain("backing_off", "sink_tls", within_s=START_S, word="certificate")


@row(GROUP, "certificate not trusted", quick=True)
def certificate_of_a_stranger(scene: Scene) -> None:
    """A certificate that nobody vouches for is never taken."""
    _encrypted(scene, lambda certificates: certificates.stranger)
    scene.start_in_vain("backing_off", "sink_tls", within_s=START_S, word="certificate")


@row(GROUP, "no TLS on the port", quick=True)
def no_tls(scene: Scene) -> None:
    """A server that answers in plain text where rtmps was asked for."""
    _broken(scene, PlaintextServer(), "rtmps")
    scene.start_in_vain("backing_off", "sink_tls", within_s=START_S, word="TLS")


@row(GROUP, "silent behind rtmps")
def silent_behind_rtmps(scene: Scene) -> None:
    """An RTMP server on the port that rtmps was asked for waits for ever, and so does ffmpeg."""
    scene.config["stream"] = {"start_timeout_s": 4}
    _broken(scene, SilentServer(), "rtmps")
    scene.start_in_vain("backing_off", "sink_tls", within_s=4 + START_S, word="TLS")


# --- names ---


@row(GROUP, "name unknown", quick=True)
def name_unknown(scene: Scene) -> None:
    """The server's name does not resolve; the owner corrects it."""
    _destination(scene, "rtmp://no-such-host.invalid/live")
    scene.start_in_vain("backing_off", "sink_dns", within_s=START_S, word="name")
    right = scene.server.url()
    scene.mend(lambda: scene.publish("server/set", right), "corrected")
    scene.expect_on_air(within_s=3)


# --- what they have in common ---


def _killed(scene: Scene, *, away_s: float) -> None:
    scene.go_live()
    scene.strike(scene.server.kill, "killed")
    scene.expect("backing_off", "sink_unreachable", within_s=3)
    scene.expect_state(_is_knocking, "waited for by knocking", within_s=4)
    scene.let_pass(away_s)
    # One for the stream's end, one for the server's absence.
    scene.expect_cheap(lines=2)
    scene.mend(scene.server.start, "started")
    scene.expect_on_air(within_s=3)


def _thawed_after(scene: Scene, seconds: float) -> None:
    scene.let_pass(seconds)
    scene.mend(scene.server.thaw, "thawed")
    scene.expect_on_air(within_s=3, anew=True)
    scene.expect_untouched(3)


def _slow(scene: Scene, share: float, *, seconds: float = 20) -> None:
    _only_hd(scene)
    proxy = scene.use(Proxy(scene.server.port, buffer_bytes=16_384))
    _destination(scene, f"rtmp://127.0.0.1:{proxy.port}/live")
    scene.go_live()
    remux = scene.remux
    scene.strike(lambda: proxy.limit(HD_BYTES_PER_S * share), "slow")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect_untouched(seconds)
    if scene.phases() != ["streaming"]:
        raise NotHeld(f"slow was taken for more: {scene.phases()}")
    scene.mend(lambda: proxy.limit(0), "fast")
    scene.expect("streaming", within_s=10)
    _same(scene, remux)


def _same(scene: Scene, remux: Any) -> None:
    if scene.agent.ffmpegs() != [remux]:
        raise NotHeld("ffmpeg was replaced")


def _never_given_up(scene: Scene) -> None:
    if "failed" in scene.phases():
        raise NotHeld(f"it was given up: {scene.phases()}")


def _code(state: State) -> str | None:
    reason = state["reason"]
    return None if reason is None else str(reason["code"])


def _publishing_s(scene: Scene) -> float:
    stream = scene.server.stream(scene.key)
    return stream.publishing_s if stream is not None and stream.publishing else 0.0


def _is_knocking(state: State) -> bool:
    return state["phase"] == "backing_off" and state["retry_at"] is None


def _only_hd(scene: Scene) -> None:
    """About 1 Mbit/s, and nothing to step down to."""
    scene.config["source"] = {"hd": scene.camera.hd_url, "sd": None}


def _destination(scene: Scene, server: str) -> None:
    scene.config["destination"] = {"server": server}


def _checking(scene: Scene) -> RtmpServer:
    """A server that takes the one right key, which is the agent's."""
    scene.key = RIGHT_KEY
    scene.server = scene.use(RtmpServer(scene.folder / "server", key=RIGHT_KEY))
    _destination(scene, scene.server.url("checked"))
    return scene.server


def _encrypted(scene: Scene, choose: Callable[[Certificates], KeyPair]) -> Certificates:
    """A server behind TLS with this certificate, and an agent that trusts the authority of most of them."""
    certificates = Certificates(scene.folder / "certificates")
    scene.server = scene.use(RtmpServer(scene.folder / "server", tls=[choose(certificates)]))
    _destination(scene, scene.server.url(tls=True))
    scene.agent.environment["SSL_CERT_FILE"] = f"{certificates.ca_file}"
    return certificates


def _broken(scene: Scene, broken: BrokenServer, scheme: str = "rtmp") -> BrokenServer:
    _destination(scene, f"{scheme}://127.0.0.1:{broken.port}/live")
    return scene.use(broken)
