"""What the card is to do in a camera, from power-on: each in a new camera, and with it what must not happen."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from typing import Any

from tests.camera.figures import differences
from tests.camera.machine import INIT, EmulatedCamera
from tests.camera.scene import DEVICE, PAGE, PATIENCE_S, Scene, text_on
from tests.checking import Checks, expect
from tests.peers.process import wait_until

check: Checks[Scene] = Checks()

PROBLEMS = "yiagent/yiagent-problems.txt"
BAD_BOOTS = "yiagent/bad-boots.txt"
# What the requirements give agent and remux, in kB.
AGENT_ANONYMOUS_KB, AGENT_RSS_KB = 6656, 11264
REMUX_ANONYMOUS_KB, REMUX_RSS_KB = 820, 2560
# Long enough for the agent to settle, and for a share of the processor to say something.
SETTLE_S, LOOK_S = 8.0, 20.0
HEALTHY_S = 75.0


@check
def from_power_on_to_hd(scene: Scene) -> None:
    """The hook runs, the camera starts the stock way, the agent is online, ON brings 720p to the server, OFF ends."""
    with scene.make_camera() as camera:
        scene.wait_until_online(camera)
        scene.measured["power-on to online"] = f"{camera.since_power_on_s:.1f} s"
        camera.wait_for_stock_start()
        _expect_stock(camera)
        time.sleep(SETTLE_S)
        scene.measured["memory the machine could give at rest"] = f"{camera.memory().available_kb} kB"
        _measure(scene, camera, "at rest")
        for channel, width in (("sd", 640), ("hd", 1280)):
            scene.command("channel/set", channel)
            scene.command("stream/set", "ON")
            took = scene.wait_for_media(camera, width=width)
            scene.measured[f"{channel}: command to first media"] = f"{took:.1f} s"
            scene.wait_for_state(camera, lambda state: state.get("phase") == "streaming", "streaming")
            time.sleep(SETTLE_S)
            _measure(scene, camera, f"in {channel}")
            expect(not camera.oom_kills, f"the kernel killed {camera.oom_kills}")
            scene.command("stream/set", "OFF")
            scene.wait_for_state(camera, lambda state: state.get("phase") == "idle", "idle")
        expect(not camera.pids("ffmpeg"), "ffmpeg goes on after OFF")
        _expect_page(scene, camera)


@check
def as_slow_as_the_camera(scene: Scene) -> None:
    """With 4 ns for an instruction, about the camera's speed: by its own clock, how long all of it takes."""
    with scene.make_camera(settings={"stream": {"autostart": True, "channel": "hd"}}, icount=2) as camera:
        scene.wait_until_online(camera, timeout_s=240.0)
        scene.measured["power-on to online"] = f"{_uptime_s(camera):.1f} s"
        scene.wait_for_media(camera, width=1280, timeout_s=240.0)
        scene.measured["power-on to HD at the server, by itself"] = f"{_uptime_s(camera):.1f} s"
        time.sleep(SETTLE_S)
        pids = {name: camera.pids(name)[0] for name in ("python3", "ffmpeg")}
        began, before = _uptime_s(camera), {name: camera.cpu_time(pid).total_s for name, pid in pids.items()}
        busy, everything = _machine_s(camera)
        time.sleep(2 * LOOK_S)
        took = _uptime_s(camera) - began
        for name, pid in pids.items():
            share = (camera.cpu_time(pid).total_s - before[name]) / took
            scene.measured[f"in hd: {name}"] = f"{share:.1%} of the processor"
        busy_after, everything_after = _machine_s(camera)
        share = (busy_after - busy) / (everything_after - everything)
        scene.measured["in hd: all that runs, with the kernel's network"] = f"{share:.1%} of the processor"


def _uptime_s(camera: EmulatedCamera) -> float:
    """The camera's own time since its kernel started."""
    return float(camera.read("/proc/uptime").split()[0])


def _machine_s(camera: EmulatedCamera) -> tuple[float, float]:
    """What its processor has been busy, and what it has been at all."""
    ticks = [int(word) for word in camera.read("/proc/stat").splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


@check
def power_on_while_on_air_is_back_by_itself(scene: Scene) -> None:
    """The wish survives a power cut: live again with no command."""
    with scene.make_camera(settings={"stream": {"autostart": True}}) as camera:
        scene.wait_for_media(camera, width=1280, timeout_s=120.0)
        camera.power_cycle()
        scene.wait_for_media(camera, width=1280, timeout_s=120.0)
        scene.measured["power-on to media"] = f"{camera.since_power_on_s:.1f} s"


@check
def nothing_but_tmp_and_the_card_is_written(scene: Scene) -> None:
    """Every file outside /tmp and the card is the same as in a camera that never saw the card."""
    with scene.make_camera() as camera:
        scene.wait_until_online(camera)
        camera.wait_for_stock_start()
        before = camera.files()
        scene.command("stream/set", "ON")
        scene.wait_for_media(camera)
        scene.command("stream/set", "OFF")
        scene.wait_for_state(camera, lambda state: state.get("phase") == "idle", "idle")
        after = camera.files()
    expect(not differences(before, after), f"{differences(before, after)}")
    stock_only = _stock_files(scene)
    expect(not differences(stock_only, after), f"against a stock start-up: {differences(stock_only, after)}")
    scene.measured["files compared"] = f"{len(after)}"


def _stock_files(scene: Scene) -> Any:
    camera = scene.make_camera()
    camera.card.remove("test/equip_test.sh")
    with camera:
        camera.wait_for_stock_start()
        camera.wait_until(lambda: "start ok!" in camera.log_text, PATIENCE_S, "the end of the stock start-up")
        return camera.files()


@check
def a_pulled_card_and_a_killed_agent(scene: Scene) -> None:
    """The camera goes on without the card, and the agent with it when it is back; a killed agent is started again."""
    with scene.make_camera(settings={"stream": {"autostart": True}}) as camera:
        scene.wait_for_media(camera, timeout_s=120.0)
        agent = camera.pids("python3")[0]
        position, began = scene.listener.position, time.monotonic()
        camera.run(f"kill -9 {agent}")
        scene.wait_until_online(camera, after=position)
        scene.wait_for_media(camera)
        scene.measured["killed: media again after"] = f"{time.monotonic() - began:.1f} s"
        position = scene.listener.position
        camera.pull_card()
        wait_until(lambda: not camera.pids("python3") and not camera.pids("ffmpeg"), PATIENCE_S, "the agent to end")
        _expect_stock(camera)
        began = time.monotonic()
        camera.insert_card()
        scene.wait_until_online(camera, after=position)
        scene.wait_for_media(camera)
        scene.measured["card back: media again after"] = f"{time.monotonic() - began:.1f} s"
        expect(camera.boots == 1, "the camera has rebooted")


@check
def a_full_tmp_and_no_memory(scene: Scene) -> None:
    """With /tmp full the agent obeys; when memory runs out it is not the camera's own programs that die for it."""
    with scene.make_camera(settings={"stream": {"autostart": True}}) as camera:
        scene.wait_for_media(camera, timeout_s=120.0)
        camera.fill_tmp()
        scene.command("stream/set", "OFF")
        scene.wait_for_state(camera, lambda state: state.get("phase") == "idle", "idle with a full /tmp")
        scene.command("stream/set", "ON")
        scene.wait_for_media(camera)
        camera.empty_tmp()
        position, began = scene.listener.position, time.monotonic()
        camera.eat_memory()
        killed = [name for _, name in camera.oom_kills]
        expect(killed, "the kernel has killed nothing")
        expect("rmm" not in killed, f"the kernel killed {killed}")
        _expect_stock(camera)
        if not camera.pids("python3"):
            scene.wait_until_online(camera, after=position)
        scene.wait_for_media(camera)
        took = time.monotonic() - began
        scene.measured["no memory"] = f"killed {', '.join(killed)}; media again {took:.1f} s after it began"


@check
def hd_that_does_not_fit_is_sd(scene: Scene) -> None:
    """Where the vendor's programs leave too little for HD, `auto` goes on in SD and says why."""
    with scene.make_camera(settings={"stream": {"autostart": True}}, processes={"rmm": 12800}) as camera:
        scene.wait_for_media(camera, width=640, timeout_s=150.0)
        topic = f"yiagent/{DEVICE}/log"
        line = scene.listener.wait_for(
            lambda message: message.topic == topic and "going on in SD" in message.text,
            *(PATIENCE_S, "why it is SD"),
            after=scene.since,
        )
        scene.measured["why"] = json.loads(line.payload)["message"]
        _expect_stock(camera)
        scene.measured["memory it could give"] = f"{camera.memory().available_kb} kB"


@check
def faults_of_the_configuration_stand_on_the_card(scene: Scene) -> None:
    """What is wrong is told to whoever opens the card on a PC; after three such boots the agent is off."""
    camera = scene.make_camera(settings={"stream": {"channel": "4k"}})
    for boot in range(1, 4):
        with camera:
            camera.wait_for_stock_start()
            _wait_for_file(camera, PROBLEMS, "stream.channel")
            _wait_for_file(camera, BAD_BOOTS, f"{boot}")
    told = text_on(camera.card, PROBLEMS)
    expect("did you mean" in told or "must be one of" in told, told)
    scene.measured["yiagent-problems.txt"] = told.strip().splitlines()[0]
    with camera:
        camera.wait_for_stock_start()
        _wait_for_file(camera, PROBLEMS, "started 3 times")
        expect(not camera.pids("python3"), "the agent runs in spite of three bad boots")
    # The owner mends both.
    camera.card.write("yiagent/yiagent.yaml", scene.configuration({}).encode())
    camera.card.remove(BAD_BOOTS)
    position = scene.listener.position
    with camera:
        scene.wait_until_online(camera, after=position)
        camera.wait_until(
            lambda: not camera.ask(f"ls /home/hd1/{PROBLEMS}").output.startswith("/"),
            HEALTHY_S,
            "the problems to be gone",
        )
    expect(BAD_BOOTS not in camera.card.names(), "a healthy minute does not take the count back")


@check
def disabled_unknown_or_strange_it_starts_the_stock_way(scene: Scene) -> None:
    """DISABLE, an unknown firmware, a start-up that is not as known: the camera as ever, and a word on the card."""
    unknown = {"/home/version": "version=9.9.9.9Z_202601010000\n"}
    strange = {"/home/init.sh": INIT.read_text().replace("\texit\n", "\techo no exit\n")}
    for name, files, flash, words in (
        ("DISABLE", {"yiagent/DISABLE.txt": ""}, {}, "there is a file DISABLE"),
        ("unknown firmware", {}, unknown, "9.9.9.9Z"),
        ("strange start-up", {}, strange, "not as yiagent knows it"),
    ):
        camera = scene.make_camera(files, flash=flash)
        with camera:
            camera.wait_for_stock_start()
            _wait_for_file(camera, PROBLEMS, words)
            expect(not camera.pids("python3"), f"{name}: the agent runs")
            _expect_stock(camera)
        scene.measured[name] = text_on(camera.card, PROBLEMS).strip()
    with scene.make_camera({"yiagent/ALLOW_UNKNOWN": ""}, flash=unknown) as camera:
        scene.wait_until_online(camera)
        scene.measured["ALLOW_UNKNOWN"] = "online"


@check
def without_an_rtsp_server_it_says_so(scene: Scene) -> None:
    """The owner has to bring one: until then the reason says that nothing answers there."""
    nobody = {"hd": "rtsp://127.0.0.1/ch0_0.h264", "sd": "rtsp://127.0.0.1/ch0_1.h264"}
    with scene.make_camera(settings={"source": nobody, "stream": {"autostart": True}}) as camera:
        scene.wait_until_online(camera)
        scene.wait_for_state(camera, lambda state: state.get("reason"), "a reason")
        reason = scene.said("state")["reason"]
        expect(reason["code"] == "source_unreachable", f"{reason}")
        scene.measured["reason"] = reason["message"]


@check
def swap_and_stopped_programs_where_the_owner_says_so(scene: Scene) -> None:
    """A swap file on the card; programs of the vendor's that make room for HD, and are there again afterwards."""
    options = "swap_mb = 8   # a little\r\nstop_for_hd = log_server led_ctl rmm\r\n"
    with scene.make_camera({"yiagent/camera.txt": options}) as camera:
        scene.wait_until_online(camera)
        camera.wait_for_stock_start()
        expect("/swap" in camera.read("/proc/swaps"), camera.read("/proc/swaps"))
        commands = {name: camera.read(f"/proc/{camera.pids(name)[0]}/cmdline") for name in ("log_server", "led_ctl")}
        scene.command("channel/set", "hd")
        scene.command("stream/set", "ON")
        scene.wait_for_media(camera)
        wait_until(lambda: not camera.pids("log_server") and not camera.pids("led_ctl"), PATIENCE_S, "room for HD")
        expect(camera.pids("rmm"), "rmm was stopped")
        scene.command("channel/set", "sd")
        for name, command in commands.items():
            pid = camera.wait_for_process(name)
            expect(camera.read(f"/proc/{pid}/cmdline") == command, f"{name} is not as it was")


# --- what they are made of ---


def _expect_stock(camera: EmulatedCamera) -> None:
    """All that the stock start-up starts is there, and the camera has not rebooted."""
    camera.wait_for_stock_start()
    expect(camera.boots == 1, "the camera has rebooted")


def _measure(scene: Scene, camera: EmulatedCamera, when: str) -> None:
    began, cpu = time.monotonic(), {}
    for name in ("python3", "ffmpeg"):
        for pid in camera.pids(name)[:1]:
            cpu[name] = (pid, camera.cpu_time(pid).total_s)
    time.sleep(LOOK_S)
    for name, most_anonymous, most_rss in (
        ("python3", AGENT_ANONYMOUS_KB, AGENT_RSS_KB),
        ("ffmpeg", REMUX_ANONYMOUS_KB, REMUX_RSS_KB),
    ):
        if name not in cpu:
            continue
        pid, before = cpu[name]
        memory = camera.process_memory(pid)
        share = (camera.cpu_time(pid).total_s - before) / (time.monotonic() - began)
        what = "agent" if name == "python3" else "ffmpeg"
        scene.measured[f"{when}: {what}"] = (
            f"{memory.anonymous_kb} kB anonymous, {memory.rss_kb} kB Rss (most {memory.peak_rss_kb}), {share:.1%} CPU"
        )
        expect(memory.anonymous_kb <= most_anonymous, f"{when} {what}: {memory}")
        expect(memory.rss_kb <= most_rss, f"{when} {what}: {memory}")


def _expect_page(scene: Scene, camera: EmulatedCamera) -> None:
    """The page answers, with the password that stands on the card."""
    password = camera.read("/home/hd1/yiagent/state/web-password").strip()
    request = urllib.request.Request(f"http://127.0.0.1:{camera.port_of(PAGE)}/")
    login = base64.b64encode(f"yiagent:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        page = answer.read()
    expect(b"<!doctype html>" in page[:200].lower(), "the page is none")
    scene.measured["the page"] = f"{len(page) / 1000:.0f} kB in {time.monotonic() - began:.1f} s"


def _wait_for_file(camera: EmulatedCamera, name: str, words: str) -> None:
    camera.wait_for_output(f"cat /home/hd1/{name}", words, 120.0)
