"""A real Home Assistant beside the demo's agent, check by check. `scripts/test-homeassistant` runs this."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.checking import say
from tests.homeassistant import checks, owner
from tests.homeassistant.checking import check
from tests.homeassistant.root import Root
from tests.homeassistant.stand import standing
from tests.peers.process import PeerError

# What brings the checks, in this order.
PARTS = (checks, owner)


def main() -> int:
    """Run all checks, or those whose names hold a word; 1 where one did not hold."""
    parser = argparse.ArgumentParser(prog="scripts/test-homeassistant", description=__doc__)
    parser.add_argument("words", nargs="*", help="only the checks whose names hold one of these, and the first")
    options = parser.parse_args()
    began = time.monotonic()
    root = Root.default()
    try:
        root.make()
        with (
            tempfile.TemporaryDirectory(prefix="yiagent-homeassistant-") as folder,
            standing(root, Path(folder), say) as stand,
        ):
            failed = check.run(
                stand,
                options.words,
                begins=1,
                after=lambda held: stand.expect_silence() if held else stand.forget_complaints(),
            )
    except PeerError as error:
        say(f"it could not begin: {error}")
        return 1
    verdict = f"{failed} did not hold" if failed else "all held"
    say(f"\n{len(check)} checks, {verdict}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
