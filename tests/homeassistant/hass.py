"""Home Assistant as a peer: a process with a configuration of the test's own, its REST and WebSocket interfaces."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.homeassistant.root import VENV, Root
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, PeerError

PASSWORD = "made-up"
START_S = 120.0
ANSWER_S = 20.0
# What makes a house of it, and nothing that would speak to a network: no discovery of devices, no cloud, no alerts.
CONFIGURATION = """
homeassistant:
  name: Home
  time_zone: Europe/Berlin
  latitude: 52.5
  longitude: 13.4
  unit_system: metric
  packages: !include_dir_named packages
frontend:
config:
history:
logbook:
recorder:
  commit_interval: 0
sun:
person:
schedule:
input_boolean:
  somebody:
    name: Somebody
  plug:
    name: Plug
    initial: true
automation: !include automations.yaml
logger:
  default: warning
"""

Json = dict[str, Any]


class HomeAssistant(Peer):
    """`hass` in its root, on 127.0.0.1 alone, onboarded, with an owner whose token `call` and `rest` use."""

    def __init__(self, root: Root, folder: Path) -> None:
        super().__init__("homeassistant", folder)
        self.port = free_port()
        self.token = ""
        self._root = root
        self._inside = f"/srv/{self.port}"
        self.config = Path(f"{root.folder}{self._inside}")
        self._configure()

    def command(self) -> list[str]:
        """Run it where its configuration is."""
        command = [f"{VENV}/bin/hass", "--skip-pip", "--config", self._inside]
        path = f"{VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self._root.inside(["/usr/bin/env", "-i", f"PATH={path}", "HOME=/root", "LANG=C.UTF-8", *command])

    def is_ready(self) -> bool:
        """It answers."""
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.port}"

    def check_config(self) -> list[str]:
        """The complaints of its own `check_config`; none where it is content."""
        command = [f"{VENV}/bin/hass", "--script", "check_config", "--config", self._inside]
        done = subprocess.run(self._root.inside(command), capture_output=True, text=True)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        # It says where it looks, and (because nothing is installed meanwhile) that it does without.
        return [line for line in lines if "Testing configuration at" not in line and "pip installation" not in line]

    def forget(self) -> None:
        """Remove all that it has written."""
        shutil.rmtree(self.config, ignore_errors=True)

    # --- what it is told ---

    def onboard(self) -> None:
        """Make its owner, with a token that lasts."""
        client_id = f"{self.url}/"
        owner = {"client_id": client_id, "name": "Owner", "username": "owner", "password": PASSWORD, "language": "en"}
        code = self._request("POST", "/api/onboarding/users", owner)["auth_code"]
        form = {"client_id": client_id, "grant_type": "authorization_code", "code": code}
        self.token = self._request("POST", "/auth/token", form, as_form=True)["access_token"]
        wish = {"type": "auth/long_lived_access_token", "client_name": "tests", "lifespan": 30}
        self.token = self.call(wish)

    def add_mqtt(self, port: int) -> None:
        """Add the MQTT integration as its owner would, by the broker's address alone."""
        flow = self.rest("POST", "/api/config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": False})
        answers = {"broker": "127.0.0.1", "port": port}
        while flow["type"] != "create_entry":
            if flow["type"] == "menu":
                step: Json = {"next_step_id": "broker"}
            elif flow["type"] == "form" and not flow.get("errors"):
                step = _answers(flow["data_schema"], answers)
            else:
                raise PeerError(f"the MQTT integration is not added: {flow}")
            flow = self.rest("POST", f"/api/config/config_entries/flow/{flow['flow_id']}", step)

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the REST interface; what it answers."""
        return self._request(method, path, body)

    def picture(self, entity_id: str) -> bytes:
        """The picture of a camera entity."""
        request = urllib.request.Request(f"{self.url}/api/camera_proxy/{entity_id}")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return bytes(answer.read())

    def _request(self, method: str, path: str, body: Any, *, as_form: bool = False) -> Any:
        data = None
        if body is not None:
            data = urllib.parse.urlencode(body).encode() if as_form else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        if not as_form:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise PeerError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None

    # --- what it knows ---

    @contextmanager
    def line(self) -> Iterator[Line]:
        """A WebSocket connection, logged in."""
        with connect(f"ws://127.0.0.1:{self.port}/api/websocket", max_size=None) as socket:
            line = Line(socket)
            line.log_in(self.token)
            yield line

    def call(self, wish: Json) -> Any:
        """One command of the WebSocket interface; its result."""
        with self.line() as line:
            return line.call(wish)

    def act(self, service: str, entity_id: str, **data: Any) -> None:
        """Call a service such as `switch.turn_on` for one entity."""
        domain, name = service.split(".")
        self.rest("POST", f"/api/services/{domain}/{name}", {"entity_id": entity_id, **data})

    def states(self) -> dict[str, Json]:
        """All states by entity id."""
        return {state["entity_id"]: state for state in self.rest("GET", "/api/states")}

    def entities(self, platform: str = "mqtt") -> dict[str, Json]:
        """All entities of one integration by id, as the registry has them."""
        found = self.call({"type": "config/entity_registry/list"})
        return {entity["entity_id"]: entity for entity in found if entity["platform"] == platform}

    def devices(self) -> list[Json]:
        """All devices that the MQTT integration has brought."""
        entries = {entry["entry_id"] for entry in self.call({"type": "config_entries/get", "domain": "mqtt"})}
        found = self.call({"type": "config/device_registry/list"})
        return [device for device in found if entries & set(device["config_entries"])]

    def recorded(self) -> set[str]:
        """Every state and attribute that its database keeps."""
        with closing(sqlite3.connect(f"file:{self.config}/home-assistant_v2.db?mode=ro", uri=True)) as database:
            states = database.execute("SELECT state FROM states").fetchall()
            attributes = database.execute("SELECT shared_attrs FROM state_attributes").fetchall()
        return {str(value) for (value,) in (*states, *attributes)}

    def wait_for(self, condition: Callable[[dict[str, Json]], object], timeout_s: float, what: str) -> float:
        """Return when its states meet the condition: after how many seconds."""
        began = time.monotonic()
        states: dict[str, Json] = {}
        while time.monotonic() - began < timeout_s:
            with suppress(OSError, PeerError):
                states = self.states()
                if condition(states):
                    return time.monotonic() - began
            time.sleep(0.1)
        ours = [f"{name}={state['state']}" for name, state in sorted(states.items()) if name in self.entities()]
        raise PeerError(f"waited {timeout_s:g} s in vain for {what}; its states: {', '.join(ours)}")

    def wait_until_up(self) -> None:
        """Return when it has started all of its parts."""
        self.wait_until(self._is_running, START_S, "Home Assistant to be up")

    def _is_running(self) -> bool:
        with suppress(OSError, PeerError):
            return bool(self.rest("GET", "/api/config")["state"] == "RUNNING")
        return False

    # --- its beginning ---

    def _configure(self) -> None:
        storage = self.config / ".storage"
        storage.mkdir(parents=True)
        # In an older form that it knows how to bring up to date, which the present one would not survive.
        self._store("http", 1, {"server_host": ["127.0.0.1"], "server_port": self.port})
        self._store("onboarding", 4, {"done": ["core_config", "analytics", "integration"]})
        (self.config / "configuration.yaml").write_text(CONFIGURATION)
        (self.config / "automations.yaml").write_text("[]\n")
        (self.config / "packages").mkdir()

    def _store(self, name: str, version: int, data: Mapping[str, Any]) -> None:
        document = {"version": version, "minor_version": 1, "key": name, "data": data}
        (self.config / ".storage" / name).write_text(json.dumps(document))


class Line:
    """One WebSocket connection to Home Assistant."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def log_in(self, token: str) -> None:
        """Show the token. Raises `PeerError` where it is not taken."""
        self._receive()
        self._socket.send(json.dumps({"type": "auth", "access_token": token}))
        if (answer := self._receive())["type"] != "auth_ok":
            raise PeerError(f"Home Assistant does not let in: {answer}")

    def call(self, wish: Json) -> Any:
        """One command; its result. Raises `PeerError` with its own words."""
        self._number += 1
        self._socket.send(json.dumps({**wish, "id": self._number}))
        while True:
            answer = self._receive()
            if answer.get("id") == self._number and answer["type"] == "result":
                if not answer["success"]:
                    raise PeerError(f"{wish['type']}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> Json:
        message: Json = json.loads(self._socket.recv(timeout=ANSWER_S))
        return message


def _answers(fields: list[Json], answers: Json) -> Json:
    """What is given for the fields of a form: what is known, and what it proposes for what it needs."""
    given: Json = {}
    for field in fields:
        name = field["name"]
        if field.get("type") == "expandable":
            given[name] = _answers(field["schema"], answers)
        elif name in answers:
            given[name] = answers[name]
        elif field.get("required"):
            options = field["selector"].get("select", {}).get("options", [False])
            given[name] = field.get("default", options[0])
    return given
