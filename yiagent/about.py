"""What this agent is, for whoever asks: its versions, and where its page is."""

from __future__ import annotations

import math
import os
import platform
import time
from typing import Final

from yiagent import __version__
from yiagent.installed import InstalledFfmpeg
from yiagent.interfaces import ANY_ADDRESS, own_address
from yiagent.model import Info
from yiagent.settings import Config

OWN_ADDRESS_S: Final = 60.0


class About:
    """What does not change while the agent runs, but for its address."""

    def __init__(self, config: Config, ffmpeg: InstalledFfmpeg) -> None:
        self._config = config
        self._ffmpeg = ffmpeg
        self._web: str | None = None
        self._looked_at = -math.inf

    def info(self) -> Info:
        """All of it, as it is now."""
        config = self._config
        return Info(
            device=config.device.id,
            name=config.device.name,
            agent=__version__,
            ffmpeg=self._ffmpeg.version,
            python=platform.python_version(),
            machine=os.uname().machine,
            web=self._page_url() if config.web.enabled else None,
        )

    def _page_url(self) -> str:
        # Asked for at every word to the broker; an address changes when the router gives out another one.
        now = time.monotonic()
        if self._web is None or now - self._looked_at > OWN_ADDRESS_S:
            web = self._config.web
            host = own_address() if web.host in ANY_ADDRESS else web.host
            host = f"[{host}]" if ":" in host else host
            self._web = f"{'https' if web.tls is not None else 'http'}://{host}:{web.port}/"
            self._looked_at = now
        return self._web
