"""The card of sd/build in the camera of sd/emulator, check by check. `scripts/test-camera` runs this."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.camera.checks import check
from tests.camera.machine import built
from tests.camera.scene import built_card, scene
from tests.checking import say
from tests.peers.process import PeerError


def main() -> int:
    """Run all checks, or those whose names hold a word; 1 where one did not hold."""
    parser = argparse.ArgumentParser(prog="scripts/test-camera", description=__doc__)
    parser.add_argument("words", nargs="*", help="only the checks whose names hold one of these")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        built()
        card = built_card()
        with tempfile.TemporaryDirectory(prefix="yiagent-camera-") as folder, scene(Path(folder)) as everything:
            size = sum(path.stat().st_size for path in card.rglob("*") if path.is_file())
            say(f"the card: {size / 1e6:.1f} MB in {sum(path.is_file() for path in card.rglob('*'))} files")
            failed = check.run(everything, options.words)
    except PeerError as error:
        say(f"it could not begin: {error}")
        return 1
    verdict = f"{failed} did not hold" if failed else "all held"
    say(f"\n{len(check)} checks, {verdict}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
