"""mosquitto as the files in config/ make it: only addresses, ports, passwords and folders are replaced."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers.broker import Listener
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, find_program

CONFIG = Path(__file__).resolve().parents[2] / "config"


def replaced(text: str, replacements: Mapping[str, str]) -> str:
    """Replace every pattern; each must be there, so that a renamed line in the file cannot slip through the test."""
    for pattern, replacement in replacements.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, f"nothing matches {pattern}"
    return text


class ShippedBroker(Peer):
    """mosquitto as config/mosquitto.conf and config/mosquitto.acl make it, for the users in `passwords`.

    `bridge_to`: with config/mosquitto-bridge.conf, to the hub at that port. `with_bridge_rules`: it is a hub,
    with the ACL's example for such a bridge.
    """

    BRIDGE_USER = "north"

    def __init__(
        self,
        folder: Path,
        passwords: Mapping[str, str],
        *,
        bridge_to: int | None = None,
        bridge_password: str = "",
        with_bridge_rules: bool = False,
    ) -> None:
        super().__init__("mosquitto", folder)
        self.port = free_port()
        self.passwords = dict(passwords)
        self.bridge_to = bridge_to
        self.bridge_password = bridge_password
        self._with_bridge_rules = with_bridge_rules

    def command(self) -> list[str]:
        """Write the configuration anew, and run mosquitto in the foreground."""
        passwords = self._private("passwords", "".join(f"{user}:{word}\n" for user, word in self.passwords.items()))
        subprocess.run([find_program("mosquitto_passwd"), "-U", passwords], check=True, capture_output=True)
        acl = self._private("acl", self._rules())
        text = replaced(
            (CONFIG / "mosquitto.conf").read_text(),
            {
                r"^listener 1883$": f"listener {self.port} 127.0.0.1",
                r"^password_file /etc/mosquitto/yiagent\.passwd$": f"password_file {passwords}",
                r"^acl_file /etc/mosquitto/yiagent\.acl$": f"acl_file {acl}",
            },
        )
        if os.geteuid() == 0:
            text += "\nuser root\n"  # else it becomes the user mosquitto, who may not read this folder
        if self.bridge_to is not None:
            text += replaced(
                (CONFIG / "mosquitto-bridge.conf").read_text(),
                {
                    r"^address \S+:1883$": f"address 127.0.0.1:{self.bridge_to}",
                    r"^remote_password \S+$": f"remote_password {self.bridge_password}",
                },
            )
        return [find_program("mosquitto"), "-c", f"{self._private('mosquitto.conf', text)}"]

    def is_ready(self) -> bool:
        """It accepts connections."""
        return accepts(self.port)

    def client(self, user: str, topic_filter: str = "#") -> Listener:
        """One who listens as that user."""
        return Listener(self.port, topic_filter, username=user, password=self.passwords[user])

    def _rules(self) -> str:
        rules = (CONFIG / "mosquitto.acl").read_text()
        if not self._with_bridge_rules:
            return rules
        # The example in the comments, as its owner would take it in.
        return replaced(rules, {rf"^# (user {self.BRIDGE_USER})\n# (topic .*)\n# (topic .*)$": r"\1\n\2\n\3"})

    def _private(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch()
        path.chmod(0o600)
        path.write_text(text)
        return path
