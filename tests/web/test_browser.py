"""The page in a real Chromium, used as its owner would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.ports import free_port
from tests.peers.rtmp import RtmpServer
from tests.web.browser import (
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    SMALLEST,
    Visit,
    faults_of_access,
    page_agent,
    page_url,
    started,
    visit,
)

KEY = "made-up-page-key"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for all tests here."""
    with started() as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera) -> Iterator[AgentProcess]:
    """An agent that was commanded nothing yet, with pictures."""
    with page_agent(tmp_path / tmp_path.name, any_broker, any_camera, snapshot={"enabled": True}) as running:
        yield running


@pytest.fixture
def guest(browser: Browser, agent: AgentProcess) -> Iterator[Visit]:
    """A window on that agent's page, not loaded yet."""
    with visit(browser, agent) as window:
        yield window


@pytest.fixture
def page(guest: Visit) -> Page:
    """The page, loaded and live."""
    return guest.open()


def phase(page: Page, name: str) -> None:
    """Wait until the page says so, large."""
    expect(page.locator("#phase")).to_have_text(name, timeout=2 * PATIENCE_MS)


def go_live(page: Page, server: RtmpServer, key: str = KEY) -> None:
    """Fill in where to, and start, as a visitor does."""
    page.fill("#server", server.url())
    page.fill("#key", key)
    page.click("#toggle")
    phase(page, "On air")


# --- coming in ---


def test_a_first_visit_asks_for_the_password_and_shows_nothing_without(browser: Browser, agent: AgentProcess) -> None:
    """Without the password there is no page; with it there is one, in one request, and live."""
    with visit(browser, agent, login=False) as stranger:
        answer = stranger.context.request.get(stranger.url)
        assert answer.status == 401
        assert "Front door" not in answer.text()
        with pytest.raises(PlaywrightError, match="INVALID_AUTH"):
            stranger.page.goto(stranger.url)
    with visit(browser, agent) as owner:
        page = owner.open()
        expect(page).to_have_title("Front door")
        phase(page, "Off")
        assert [url for url in owner.requests if "/api/" not in url] == [owner.url]
        assert all(url.startswith(owner.url) for url in owner.requests)


def test_it_is_the_page_of_this_agent(page: Page, agent: AgentProcess) -> None:
    """It names the device and its versions, and asks for what is missing."""
    expect(page.locator("h1")).to_have_text("Front door")
    expect(page.locator("#about")).to_contain_text(f"{agent.config['device']['id']}, yiagent ")
    expect(page.locator("#advice")).to_contain_text("Fill in server and stream key")
    expect(page.locator("#key-state")).to_have_text("not set")


# --- commanding ---


def test_set_and_start_and_stop(page: Page, agent: AgentProcess, any_server: RtmpServer, any_broker: Broker) -> None:
    """What is typed is sent with the start, all at once; the page tells of the stream, and ends it."""
    with Listener(any_broker.port, agent.topic("#")) as listener:
        go_live(page, any_server)
        assert any_server.wait_for_stream(KEY).publishing
        expect(page.locator("#key")).to_have_value("")
        expect(page.locator("#key-state")).to_have_text("set")
        expect(page.locator("#fact-channel")).to_have_text("HD (auto)")
        expect(page.locator("#fact-sent")).to_have_text(re.compile(r"\d+ kB|MB"))
        expect(page.locator("#now-stream")).to_have_text(re.compile(r"\d bit/s|bit/s"))
        page.click("#toggle")
        phase(page, "Off")
        wait_for_state(listener, lambda state: state["stream"] == "OFF" and state["phase"] == "idle")
    assert KEY not in page.content()


def test_a_refusal_stands_at_its_field(page: Page, agent: AgentProcess) -> None:
    """In words beside the field that caused it; what was typed stays, and nothing was changed."""
    before = agent.intent_bytes()
    page.fill("#server", "http://example.com/live")
    page.click("#save")
    expect(page.locator("#server-error")).to_contain_text("must begin with rtmp:// or rtmps://")
    expect(page.locator("#server")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#server")).to_be_focused()
    expect(page.locator("#server")).to_have_value("http://example.com/live")
    assert agent.intent_bytes() == before
    page.fill("#server", "rtmp://127.0.0.1/live")
    expect(page.locator("#server-error")).to_have_text("")
    page.fill("#key", "k" * 300)
    page.click("#toggle")
    expect(page.locator("#key-error")).to_contain_text("longer than 255 characters")
    phase(page, "Off")
    assert agent.intent_bytes() == before


def test_a_whole_url_is_cut_into_server_and_key(page: Page) -> None:
    """As servers show it to be copied; it can be put back, and then stays whole."""
    page.fill("#server", "rtmp://127.0.0.1/live/abc-123?s_bl=1")
    page.press("#server", "Tab")
    expect(page.locator("#server")).to_have_value("rtmp://127.0.0.1/live")
    expect(page.locator("#key")).to_have_value("abc-123?s_bl=1")
    expect(page.locator("#server-note")).to_contain_text("moved to the stream key")
    page.click("#uncut")
    expect(page.locator("#server")).to_have_value("rtmp://127.0.0.1/live/abc-123?s_bl=1")
    expect(page.locator("#key")).to_have_value("")
    page.press("#server", "Tab")
    expect(page.locator("#server")).to_have_value("rtmp://127.0.0.1/live/abc-123?s_bl=1")


def test_common_servers_fill_the_url(page: Page) -> None:
    """And say where the key is found; nothing is sent before it is saved."""
    page.select_option("#preset", label="YouTube")
    expect(page.locator("#server")).to_have_value("rtmps://a.rtmps.youtube.com/live2")
    expect(page.locator("#preset-help")).to_contain_text("YouTube Studio")
    expect(page.locator("#key")).to_be_focused()
    page.fill("#key", KEY)
    page.click("#save")
    expect(page.locator("#saved")).to_have_text("Saved.")
    expect(page.locator("#advice")).to_contain_text("rtmps://a.rtmps.youtube.com/live2")
    expect(page.locator("#key-state")).to_have_text("set")
    page.reload()
    expect(page.locator("#preset option:checked")).to_have_text("YouTube")


def test_typing_is_never_overwritten(page: Page, agent: AgentProcess, any_broker: Broker) -> None:
    """Whatever comes in meanwhile; what nobody has touched follows."""
    page.fill("#server", "rtmp://127.0.0.1/typ")
    page.fill("#key", "half a ke")
    page.check("[name=channel][value=sd]")
    with Listener(any_broker.port, agent.topic("#")) as listener:
        listener.publish(agent.topic("url/set"), "rtmp://127.0.0.1/other/other-key")
        listener.publish(agent.topic("channel/set"), "hd")
        expect(page.locator("#key-state")).to_have_text("set")
        expect(page.locator("#fact-channel")).to_have_text("HD")
    expect(page.locator("#server")).to_have_value("rtmp://127.0.0.1/typ")
    expect(page.locator("#key")).to_have_value("half a ke")
    expect(page.locator("[name=channel][value=sd]")).to_be_checked()
    page.click("#discard")
    expect(page.locator("#server")).to_have_value("rtmp://127.0.0.1/other")
    expect(page.locator("#key")).to_have_value("")
    expect(page.locator("[name=channel][value=hd]")).to_be_checked()


def test_an_action_shows_that_it_is_under_way(page: Page) -> None:
    """Until the agent has answered; and a second press meanwhile does nothing."""
    held = []
    page.route("**/api/request", lambda route: held.append(route))
    page.fill("#server", "rtmp://127.0.0.1/live")
    page.click("#save")
    expect(page.locator("#save")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#save")).to_have_text("Saving…")
    page.click("#save")
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#save")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#saved")).to_have_text("Saved.")


def test_an_agent_that_does_not_answer_a_command_is_told(page: Page) -> None:
    """And what was typed stays."""
    page.route("**/api/request", lambda route: route.abort())
    page.fill("#key", KEY)
    page.click("#save")
    expect(page.locator("#settings-error, #key-error").filter(has_text="did not answer")).to_have_count(1)
    expect(page.locator("#key")).to_have_value(KEY)


def test_the_channel_is_chosen(page: Page, any_server: RtmpServer) -> None:
    """The stream restarts once, in the other channel."""
    go_live(page, any_server)
    page.check("[name=channel][value=sd]")
    page.click("#save")
    expect(page.locator("#saved")).to_contain_text("restarts once")
    expect(page.locator("#fact-channel")).to_have_text("SD")
    phase(page, "On air")
    assert any_server.wait_for_stream(KEY).publishing


# --- why not ---


def test_why_not_and_what_to_do_stand_at_the_top(page: Page, agent: AgentProcess, any_broker: Broker) -> None:
    """The same words as on the broker, and what to do about it; a try can be had at once."""
    page.fill("#server", f"rtmp://127.0.0.1:{free_port()}/live")
    page.fill("#key", KEY)
    page.click("#toggle")
    phase(page, "Not on air")
    with Listener(any_broker.port, agent.topic("state")) as listener:
        state = wait_for_state(listener, lambda state: state["reason"] is not None)
    expect(page.locator("#reason")).to_have_text(state["reason"]["message"])
    expect(page.locator("#advice")).to_have_text(re.compile("Check the server URL"))
    expect(page.locator("#countdown")).to_have_text(re.compile("Starts when|Next try in|Trying again"))
    expect(page.locator("#restart")).to_have_text("Try now")
    page.click("#restart")
    expect(page.locator("#status-error")).to_have_text("")
    expect(page.locator("#fact-wanted")).to_have_text("live")


def test_the_next_try_is_counted_down(browser: Browser, tmp_path: Path, any_server: RtmpServer) -> None:
    """In `failed`, where only a person can mend it: here no ffmpeg."""
    with (
        page_agent(tmp_path / "counted", None, ffmpeg=str(tmp_path / "no-ffmpeg")) as agent,
        visit(browser, agent) as guest,
    ):
        page = guest.open()
        page.fill("#server", any_server.url())
        page.fill("#key", KEY)
        page.click("#toggle")
        phase(page, "Not on air")
        expect(page.locator("#reason")).to_contain_text("There is no program")
        expect(page.locator("#countdown")).to_have_text(re.compile(r"Next try in \d min( \d+ s)?\."))
        shown = page.locator("#countdown").inner_text()
        expect(page.locator("#countdown")).not_to_have_text(shown)


# --- log, chart, picture ---


def test_the_log_is_live_and_can_be_filtered_paused_copied_and_saved(
    browser: Browser, agent: AgentProcess, any_broker: Broker, tmp_path: Path
) -> None:
    """Times are those of the visitor; what was paused is not lost."""
    with visit(browser, agent, permissions=["clipboard-read", "clipboard-write"]) as guest:
        page = guest.open()
        expect(page.locator("#lines li").first).to_contain_text("yiagent ")
        time = page.locator("#lines time").first
        stamp = time.get_attribute("datetime") or ""
        berlin = page.evaluate("at => new Date(at).toLocaleTimeString('en-GB', {timeZone: 'Europe/Berlin'})", stamp)
        expect(time).to_have_text(berlin)
        with Listener(any_broker.port, agent.topic("#")) as listener:
            listener.publish(agent.topic("channel/set"), "4k")
            expect(page.locator("#lines .warning")).to_contain_text("Refused channel/set")
            page.select_option("#level", label="warnings and errors")
            expect(page.locator("#lines .info").first).to_be_hidden()
            page.click("#pause")
            listener.publish(agent.topic("stream/set"), "LOUDER")
            expect(page.locator("#log-note")).to_have_text("Paused; 1 newer")
            expect(page.locator("#lines .warning")).to_have_count(1)
            page.click("#pause")
            expect(page.locator("#lines .warning")).to_have_count(2)
        page.click("#copy")
        expect(page.locator("#log-note")).to_have_text("2 lines copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert len(copied.splitlines()) == 2
        assert "WARNING agent: Refused channel/set" in copied
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "saved.log")
        assert (tmp_path / "saved.log").read_text() == copied


def test_a_log_line_cannot_become_markup(page: Page, agent: AgentProcess, any_broker: Broker) -> None:
    """What a server says is text, whatever it holds."""
    with Listener(any_broker.port, agent.topic("#")) as listener:
        listener.publish(agent.topic("server/set"), "rtmp://127.0.0.1/live")
        listener.publish(agent.topic("<img src=x onerror=alert(1)>/set"), "x")
        expect(page.locator("#lines").get_by_text("<img src=x onerror=alert(1)>")).to_have_count(1)
    assert page.locator("#lines img").count() == 0


def test_the_chart_shows_what_flows_by_pointer_and_by_key(page: Page, any_server: RtmpServer) -> None:
    """Three lines, units, a value where one points, and the same for who uses keys."""
    go_live(page, any_server)
    expect(page.locator("#plot path.stream")).to_have_attribute("d", re.compile("L"))
    expect(page.locator("#plot")).to_contain_text(re.compile("[kM]bit/s"))
    expect(page.locator("#plot")).to_contain_text("−10 min")
    for name in ("stream", "upload", "download"):
        expect(page.locator(f"#now-{name}")).to_have_text(re.compile(r"[\d.]+ [kM]bit/s|–"))
    expect(page.locator("#chart-at")).to_have_text("Now")
    page.locator("#chart").hover(position={"x": 300, "y": 60})
    expect(page.locator("#chart-at")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    expect(page.locator("#plot .cursor")).to_have_count(1)
    page.mouse.move(5, 5)
    expect(page.locator("#chart-at")).to_have_text("Now")
    page.locator("#chart").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#chart-said")).to_have_text(re.compile(r"\d\d:\d\d:\d\d: stream"))
    page.keyboard.press("Escape")
    expect(page.locator("#chart-at")).to_have_text("Now")


def test_the_chart_has_its_history_after_a_reload_and_shows_a_gap_as_a_gap(guest: Visit) -> None:
    """A page that is opened late knows the ten minutes before; where nothing was measured, no line is drawn."""
    rows = [[age, 800, 900, 20] for age in range(580, 400, -5)] + [[age, 700, None, 20] for age in range(300, 0, -5)]
    guest.page.route("**/api/history", lambda route: route.fulfill(json={"points": rows}))
    page = guest.open()
    expect(page.locator("#plot path.stream")).to_have_attribute("d", re.compile(r"^M[^M]+M[^M]+"))
    drawn = page.locator("#plot path.upload").get_attribute("d") or ""
    assert drawn.count("L") < 40
    assert (page.locator("#plot path.stream").get_attribute("d") or "").count("L") > 90


def test_a_picture_of_what_is_sent(page: Page, any_server: RtmpServer) -> None:
    """Taken by itself once it is live, and anew by a press."""
    go_live(page, any_server)
    image = page.locator("#image")
    expect(image).to_be_visible(timeout=PATIENCE_MS)
    assert image.evaluate("image => image.naturalWidth") == 1280
    first = image.get_attribute("src")
    expect(page.locator("#picture-at")).to_have_text(re.compile(r"Taken at \d\d:\d\d:\d\d"))
    page.click("#take")
    expect(image).not_to_have_attribute("src", first or "", timeout=PATIENCE_MS)
    expect(page.locator("#picture-error")).to_have_text("")


def test_pictures_that_are_off_are_said_to_be(browser: Browser, tmp_path: Path) -> None:
    """With what to do, and without a button that does nothing."""
    with page_agent(tmp_path / "plain", None) as agent, visit(browser, agent) as guest:
        page = guest.open()
        expect(page.locator("#picture-text")).to_contain_text("snapshot.enabled: true")
        expect(page.locator("#take")).to_be_hidden()


# --- away and back ---


def test_an_agent_that_is_restarted_under_an_open_page(page: Page, agent: AgentProcess) -> None:
    """The page says that it is away, and is live again by itself; the log is the new agent's, from its first line."""
    page.fill("#key", "being typed")
    agent.kill9()
    expect(page.locator("body")).to_have_class("lost")
    phase(page, "Not reachable")
    expect(page.locator("#link")).to_contain_text("does not answer")
    agent.start()
    expect(page.locator("body")).to_have_class("heard", timeout=2 * PATIENCE_MS)
    phase(page, "Off")
    expect(page.locator("#lines li").filter(has_text="yiagent 0")).to_have_count(1)
    expect(page.locator("#key")).to_have_value("being typed")


def test_a_changed_password_is_told_and_nothing_is_tried_in_vain(guest: Visit, agent: AgentProcess) -> None:
    """A page that went on trying would lock its own visitor out."""
    page = guest.open()
    agent.config["web"]["password"] = "another made-up one"
    agent.restart()
    expect(page.locator("#link")).to_contain_text("The password has changed", timeout=2 * PATIENCE_MS)
    count = len(guest.requests)
    page.wait_for_timeout(1500)
    assert len(guest.requests) == count


def test_the_broker_is_away_and_is_mended_from_the_page(browser: Browser, tmp_path: Path) -> None:
    """Its own answer at the place; the mended one is connected to, kept, and can be taken back."""
    with Broker(tmp_path / "broker", users={"owner": "broker-password"}) as broker:
        agent = page_agent(tmp_path / "mended", None, mqtt={"host": "127.0.0.1", "port": free_port()})
        with agent, visit(browser, agent) as guest:
            page = guest.open()
            expect(page.locator("#broker-note")).to_contain_text("The MQTT broker is away: nothing answers at port")
            expect(page.locator("#broker-status")).to_contain_text("Not connected")
            page.fill("#broker-port", "70000")
            page.click("#broker-connect")
            expect(page.locator("#broker-port-error")).to_contain_text("from 1 to 65535")
            page.fill("#broker-port", str(broker.port))
            page.fill("#broker-username", "owner")
            page.fill("#broker-password", "wrong")
            page.click("#broker-connect")
            expect(page.locator("#broker-error")).to_contain_text("refuses the user name or password")
            expect(page.locator("#broker-save")).to_be_visible()
            assert not (agent.state_dir / "broker.json").exists()
            page.fill("#broker-password", "broker-password")
            page.click("#broker-connect")
            expect(page.locator("#broker-answer")).to_contain_text("The broker lets this agent in")
            expect(page.locator("#broker-status")).to_contain_text("Connected to 127.0.0.1")
            expect(page.locator("#broker-note")).to_be_hidden()
            expect(page.locator("#broker-password-state")).to_have_text("set")
            assert json.loads((agent.state_dir / "broker.json").read_text())["port"] == broker.port
            page.click("#broker-reset")
            expect(page.locator("#broker-status")).to_contain_text("Not connected")
            expect(page.locator("#broker-port")).not_to_have_value(str(broker.port))
            assert not (agent.state_dir / "broker.json").exists()


# --- for everyone ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE, SMALLEST], ids=["desktop", "phone", "320px"])
def test_nothing_stands_in_anybodys_way(
    browser: Browser, agent: AgentProcess, any_server: RtmpServer, scheme: str, size: dict[str, int]
) -> None:
    """axe-core finds nothing: off, with faults shown, and on air; nothing has to be scrolled sideways."""
    with visit(browser, agent, viewport=size, color_scheme=scheme, reduced_motion="reduce") as guest:
        # The checker is put into the page from outside, which the page's policy rightly forbids.
        page = guest.open()
        assert faults_of_access(page) == []
        page.fill("#server", "nonsense")
        page.click("#save")
        expect(page.locator("#server-error")).not_to_have_text("")
        assert faults_of_access(page) == []
        go_live(page, any_server)
        assert faults_of_access(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) is (scheme == "dark")


def test_by_keyboard_alone(page: Page, any_server: RtmpServer) -> None:
    """Everything is reached by Tab in the order of the page, and goes live without a pointer."""
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement?.id || document.activeElement?.value || ''"))
        if reached[-1] == "lines":
            break
    assert reached[0] == ""
    for control in ("toggle", "chart", "preset", "server", "key", "key-show", "save", "level", "pause", "lines"):
        assert control in reached, (control, reached)
    page.locator("#server").focus()
    page.keyboard.type(any_server.url())
    page.keyboard.press("Tab")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_have_text("Saved.")
    page.locator("#toggle").focus()
    page.keyboard.press("Enter")
    phase(page, "On air")


def test_nothing_moves_while_live_data_comes_in(browser: Browser, agent: AgentProcess, any_server: RtmpServer) -> None:
    """No layout shift from the first paint on, on a phone, through going live and all the samples after it."""
    with visit(browser, agent, viewport=PHONE) as guest:
        guest.page.add_init_script(
            """window.shifts = [];
            new PerformanceObserver((list) => {
              for (const entry of list.getEntries()) {
                if (!entry.hadRecentInput) window.shifts.push(...entry.sources.map((source) => source.node?.id));
              }
            }).observe({type: 'layout-shift', buffered: true});"""
        )
        page = guest.open()
        go_live(page, any_server)
        expect(page.locator("#image")).to_be_visible()
        expect(page.locator("#plot path.stream")).to_have_attribute("d", re.compile("L.*L.*L"))
        assert page.evaluate("() => window.shifts") == []


def test_a_page_that_nobody_sees_lets_go_of_the_agent(guest: Visit) -> None:
    """After a minute in the background it closes its connection, and it is live at once when it is looked at again."""
    guest.page.clock.install()
    page = guest.open()
    hidden = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => HIDDEN})"
    page.evaluate(hidden.replace("HIDDEN", "true"))
    page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange')); }")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/api/events")):
        page.clock.run_for(61_000)
    page.evaluate(hidden.replace("HIDDEN", "false"))
    with page.expect_request("**/api/events"):
        page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange')); }")
    expect(page.locator("body")).to_have_class("heard")


def test_the_policy_of_the_page_is_kept(guest: Visit, agent: AgentProcess) -> None:
    """A script that gets into the page all the same is not run, and no other host is asked."""
    page = guest.open()
    page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.injected = true';
          document.body.append(script);
          document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.injected = true">');
          return fetch('http://127.0.0.1:9/').catch(() => null);
        }"""
    )
    assert page.evaluate("() => window.injected") is None
    assert any("Content Security Policy" in text for text in guest.complaints)
    guest.complaints.clear()
    assert page_url(agent) in guest.requests
