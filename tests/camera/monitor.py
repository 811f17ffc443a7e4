"""What is done to the machine from outside: qemu's monitor, by its JSON protocol."""

import json
from pathlib import Path
from typing import Any, Final

from tests.camera.sockets import connect
from tests.peers.process import PeerError

ANSWER_TIMEOUT_S: Final = 20.0


class Monitor:
    """A connection to a running qemu."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path, ANSWER_TIMEOUT_S)
        self._lines = self._socket.makefile("rb")
        self._read()  # its greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Give a command and return its answer; PeerError where it is refused."""
        wish = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._socket.sendall(json.dumps(wish).encode() + b"\n")
        while True:
            message = self._read()
            if "error" in message:
                raise PeerError(f"qemu, {command}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def close(self) -> None:
        """End the connection; the machine runs on."""
        self._lines.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise PeerError("qemu closed its monitor")
        return dict(json.loads(line))
