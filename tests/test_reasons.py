"""What is missing is said, and where it is set the stream starts; faults and their reasons are in `tests/faults`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.harness import AgentProcess, latest_state, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.process import wait_until

DEVICE = "reasons-test"
PATIENCE_S = 40.0
KEY = "made-up-key"


def test_not_configured_says_what_is_missing(tmp_path: Path, any_broker: Broker) -> None:
    """ON without server, then without key, says which; setting them starts by itself."""
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(any_broker.port, f"yiagent/{DEVICE}/#"))
        start = listener.position
        config = {"device": {"id": DEVICE}}
        agent = stack.enter_context(AgentProcess(tmp_path, broker_port=any_broker.port, config=config))
        agent.wait_until_online(listener, after=start)
        after = listener.position
        listener.publish(agent.topic("stream/set"), "ON")
        state = wait_for_state(listener, lambda state: bool(state["phase"] == "failed"), after=after)
        assert state["reason"]["code"] == "not_configured"
        assert "server/set" in state["reason"]["message"]
        listener.publish(agent.topic("server/set"), "rtmp://127.0.0.1/live")
        wait_for_state(listener, lambda state: "key/set" in (state["reason"] or {"message": ""})["message"])
        listener.publish(agent.topic("key/set"), KEY)
        wait_until(
            lambda: (latest_state(listener) or {"phase": ""})["phase"] in ("starting", "backing_off"),
            PATIENCE_S,
            "a start",
        )
