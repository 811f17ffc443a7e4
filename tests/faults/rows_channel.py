"""What `channel: auto` makes of an uplink that does not carry HD."""

from __future__ import annotations

from tests.faults.row import row
from tests.faults.scene import Scene
from tests.peers.proxy import Proxy

GROUP = "channel auto"
# The camera's HD is about 1080 kbit/s, its SD about 460.
HD_BYTES_PER_S = 1_080_000 // 8


def live_in_hd(scene: Scene) -> Proxy:
    """On air in HD, over an uplink that can be made slow."""
    proxy = Proxy(scene.server.port, buffer_bytes=16_384)
    proxy.start()
    scene.at_end(proxy.stop)
    scene.config["source"] = {"hd": scene.camera.hd_url, "sd": scene.camera.sd_url}
    scene.config["destination"] = {"server": f"rtmp://127.0.0.1:{proxy.port}/live"}
    scene.go_live()
    scene.expect_state(lambda state: state["active_channel"] == "hd", "HD", within_s=20)
    return proxy


@row(GROUP, "the uplink carries two thirds of HD", quick=True)
def slow_uplink(scene: Scene) -> None:
    """It is told as slow, then SD goes on in its place, with the reason in the log; a wish for HD is a wish for HD."""
    proxy = live_in_hd(scene)
    scene.strike(lambda: proxy.limit(HD_BYTES_PER_S * 2 // 3), "slow")
    scene.expect("streaming", "uplink_slow", within_s=7)
    scene.expect_state(
        lambda state: (state["phase"], state["active_channel"], state["reason"]) == ("streaming", "sd", None),
        "streaming sd",
        within_s=22,
    )
    scene.expect_log("channel auto: going on in SD", within_s=22)
    scene.expect_untouched(5)
    scene.strike(lambda: scene.publish("channel/set", "hd"), "channel/set hd")
    scene.expect_state(lambda state: state["active_channel"] == "hd", "HD", within_s=10)


@row(GROUP, "the uplink recovers")
def uplink_recovers(scene: Scene) -> None:
    """A minute after the step down HD is tried, and held where it is carried."""
    proxy = live_in_hd(scene)
    scene.strike(lambda: proxy.limit(HD_BYTES_PER_S * 2 // 3), "slow")
    scene.expect_state(lambda state: state["active_channel"] == "sd", "SD", within_s=22)
    scene.mend(lambda: proxy.limit(0), "fast again")
    scene.expect_log("trying HD again", within_s=65)
    scene.expect_state(
        lambda state: (state["phase"], state["active_channel"]) == ("streaming", "hd"), "streaming hd", within_s=75
    )
    scene.expect_untouched(15)


@row(GROUP, "frozen server")
def frozen_server(scene: Scene) -> None:
    """A server that stands still takes no bit rate at all: that is a stall, and HD is launched again."""
    # No proxy between: it would go on taking what the server does not.
    scene.config["source"] = {"hd": scene.camera.hd_url, "sd": scene.camera.sd_url}
    scene.go_live()
    scene.strike(scene.server.freeze, "frozen")
    scene.expect("stalled", "stalled", within_s=13)
    scene.expect("starting", "stalled", within_s=25)
    scene.mend(scene.server.thaw, "thawed")
    scene.expect_media(within_s=3)
    scene.expect_state(
        lambda state: (state["phase"], state["active_channel"]) == ("streaming", "hd"), "streaming hd", within_s=5
    )
