"""An ffmpeg that writes ten thousand lines a second floods neither the broker nor the agent."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.process import wait_until
from yiagent.logfeed import LOG_BURST, LOG_PER_S

DEVICE = "flood-test"
PATIENCE_S = 30.0


def test_log_lines_come_no_faster_than_the_limit_and_commands_still_act(tmp_path: Path, any_broker: Broker) -> None:
    """Towards MQTT the log is rate-limited, what is left out is told, and OFF is obeyed meanwhile."""
    config = {
        "device": {"id": DEVICE},
        "destination": {"server": "rtmp://127.0.0.1:1/live", "key": "made-up"},
        "stream": {"autostart": True, "audio": "copy"},
        "ffmpeg": f"{Path(__file__).parent / 'children' / 'talks_without_end.py'}",
    }
    with Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener:
        start = listener.position
        began = time.monotonic()
        with AgentProcess(tmp_path, broker_port=any_broker.port, config=config) as agent:

            def lines() -> list[str]:
                heard = [m for m in listener.messages[start:] if m.topic == agent.topic("log")]
                return [json.loads(m.payload)["message"] for m in heard]

            wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
            wait_until(lambda: len(lines()) > LOG_BURST + 10, PATIENCE_S, "more than a burst of lines")
            assert len(lines()) <= LOG_BURST + LOG_PER_S * (time.monotonic() - began) + 1
            wait_until(lambda: any("left out" in line for line in lines()), PATIENCE_S, "word of what was left out")
            after = listener.position
            listener.publish(agent.topic("stream/set"), "OFF")
            wait_for_state(listener, lambda state: bool(state["phase"] == "idle"), PATIENCE_S, after=after)
