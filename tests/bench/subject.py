"""The agent as it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera

PATIENCE_S = 30.0
DEVICE = "bench"
TOPIC = f"yiagent/{DEVICE}"


@contextmanager
def agent_on(
    folder: Path,
    broker: Broker,
    listener: Listener,
    camera: LiveCamera,
    ffmpeg: Path | str = "ffmpeg",
    *,
    config: Mapping[str, Any] | None = None,
) -> Iterator[AgentProcess]:
    """An agent that is online and was commanded nothing yet. `config`: sections that take the place of these."""
    folder.mkdir(exist_ok=True)
    whole = {
        "device": {"id": DEVICE},
        "source": {"hd": camera.hd_url, "sd": camera.sd_url},
        "stream": {"audio": "copy"},
        "telemetry": {"interval_s": 5},
        "ffmpeg": f"{ffmpeg}",
        **(config or {}),
    }
    start = listener.position
    with AgentProcess(folder, broker_port=broker.port, config=whole) as agent:
        agent.wait_until_online(listener, after=start)
        yield agent
