"""What `scripts/bench start` reads, sends and reckons; the figures themselves are shown by running it."""

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.bench.commander import Commander, publish_packet
from tests.bench.contenders import Contender
from tests.bench.go2rtc import configuration
from tests.bench.start import rotated, until_phase
from tests.bench.watched import WatchedFfmpeg
from tests.bench.witness import published_bytes
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import PeerError

# As nginx-rtmp 1.1.4 writes it: one stream with a publisher, one that is only watched.
STATISTICS = b"""
<rtmp><bytes_in>2907560</bytes_in><server><application><name>live</name><live>
<stream>
<name>plain</name>
<time>2500</time><bw_in>0</bw_in>
<bytes_in>136813</bytes_in>
<client><id>2415</id><dropped>0</dropped><publishing/><active/></client>
<meta><video><width>1280</width></video></meta>
<nclients>1</nclients>
<publishing/>
<active/>
</stream>
<stream>
<name>watched</name>
<time>0</time><bw_in>0</bw_in>
<bytes_in>0</bytes_in>
<client><id>2416</id><dropped>0</dropped></client>
<nclients>1</nclients>
</stream>
</live></application></server></rtmp>
"""


class _Named(Contender):
    def prepare(self) -> None: ...

    def begin(self) -> float:
        return 0.0

    def end(self) -> None: ...


def test_a_stream_counts_while_somebody_publishes_it() -> None:
    """Neither all that nginx ever got, nor what is only watched."""
    assert published_bytes(STATISTICS) == {"plain": 136813}
    assert published_bytes(b"<rtmp></rtmp>") == {}


@pytest.mark.parametrize(
    ("phase", "clock_s", "wait_s"), [(0.5, 10.0, 1.0), (0.5, 10.75, 0.25), (0.5, 11.25, 1.75), (0.0, 13.5, 0.5)]
)
def test_a_run_begins_at_its_part_of_the_group(phase: float, clock_s: float, wait_s: float) -> None:
    """In the next group where this one's moment has passed."""
    assert until_phase(phase, 2.0, clock_s) == pytest.approx(wait_s)


def test_a_camera_tells_from_when_its_keyframes_are_counted(tmp_path: Path) -> None:
    """Anew with each start, by the clock that all processes share."""
    before = time.monotonic()
    with LiveCamera(tmp_path, gop_s=1.0) as camera:
        began = camera.clock_began_s
        assert before < began < time.monotonic()
        camera.restart()
        assert began < camera.clock_began_s < time.monotonic()
        camera.ahead_s = 3600.0
        camera.restart()
        assert began - 3600 < camera.clock_began_s < began


def test_each_run_has_another_contender_first() -> None:
    """And none is left out."""
    contenders: list[Contender] = [_Named(name, name) for name in "abc"]
    order = ["".join(contender.title for contender in rotated(contenders, run)) for run in range(4)]
    assert order == ["abc", "bca", "cab", "abc"]


def test_a_publication_as_bytes() -> None:
    """Also one whose length takes two bytes (MQTT 3.1.1, 2.2.3)."""
    assert publish_packet("a/b", "ON") == b"\x30\x07\x00\x03a/bON"
    assert publish_packet("t", "x" * 200)[:3] == bytes([0x30, 203 & 127 | 128, 1])


def test_a_commander_is_understood_by_a_real_broker(tmp_path: Path) -> None:
    """Whoever listens has the command, and the sender had it back after it left."""
    with Broker(tmp_path) as broker, Listener(broker.port, "a/#") as listener:
        with Commander(broker.port, "a/b") as commander:
            sent = commander.send("ON")
        assert listener.wait_for_topic("a/b").text == "ON"
    assert sent.heard_s > sent.at_s


def test_the_start_of_a_watched_program_is_told(tmp_path: Path) -> None:
    """A look at the file is no start of it."""
    with WatchedFfmpeg(tmp_path) as program:
        began = time.monotonic()
        program.path.stat()
        with pytest.raises(PeerError, match="was not started"):
            program.started_after(began, 0.05)
        subprocess.run([program.path, "-version"], stdout=subprocess.DEVNULL, check=True)
        assert began < program.started_after(began, 5.0) < time.monotonic()
    assert not program.path.exists()


def test_go2rtc_publishes_by_itself_only_where_it_is_to() -> None:
    """And listens on loopback alone."""
    waits = yaml.safe_load(configuration("rtsp://camera", None, 1984))
    assert "publish" not in waits
    assert waits["streams"] == {"camera": ["rtsp://camera"]}
    assert [waits[part]["listen"] for part in ("api", "rtsp", "webrtc", "srtp")] == ["127.0.0.1:1984", "", "", ""]
    assert yaml.safe_load(configuration("rtsp://camera", "rtmp://server/live/key", 1))["publish"] == {
        "camera": ["rtmp://server/live/key"]
    }
