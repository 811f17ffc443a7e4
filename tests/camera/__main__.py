"""An emulated camera to try things in, or what it is good for, shown. `sd/emulator/run` runs this."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.camera.machine import HOST, EmulatedCamera
from tests.camera.trial import trial
from tests.peers.process import PeerError


def main() -> int:
    """Run what is asked for; 1 where it did not hold."""
    parser = argparse.ArgumentParser(prog="sd/emulator/run", description=__doc__)
    parser.add_argument("--card", type=Path, metavar="FOLDER", help="put this folder's content on its card")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave its card and its console's log here")
    parser.add_argument("--port", type=int, default=8080, help="a port of the camera to reach from here (%(default)s)")
    parser.add_argument("--try", dest="trial", action="store_true", help="show what the emulated camera is good for")
    options = parser.parse_args()
    try:
        if options.trial:
            trial()
            return 0
        with tempfile.TemporaryDirectory(prefix="yiagent-camera-") as temporary:
            folder = options.keep or Path(temporary)
            use(EmulatedCamera(folder, card=options.card, forward=(options.port,)), options.port)
    except (PeerError, AssertionError) as error:
        print(f"not so: {error}", file=sys.stderr)
        return 1
    return 0


def use(camera: EmulatedCamera, port: int) -> None:
    """Run the commands that are typed, until there are no more."""
    with camera:
        print(f"The camera has power. Its console: {camera.log_file}", file=sys.stderr)
        print(f"It finds this machine at {HOST}; its port {port} is 127.0.0.1:{camera.port_of(port)}.", file=sys.stderr)
        print("Commands run in its shell, a line each; end with Ctrl-D.", file=sys.stderr)
        for line in sys.stdin:
            answer = camera.ask(line.strip(), timeout_s=3600.0)
            print(answer.output, flush=True)
            if answer.status:
                print(f"status {answer.status}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
