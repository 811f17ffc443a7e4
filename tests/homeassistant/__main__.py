"""A real Home Assistant beside the demo's agent, check by check. `scripts/test-homeassistant` runs this."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.homeassistant import checks, owner
from tests.homeassistant.checking import CHECKS
from tests.homeassistant.root import Root
from tests.homeassistant.stand import Stand, standing
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
            standing(root, Path(folder), _say) as stand,
        ):
            failed = _run(stand, options.words)
    except PeerError as error:
        _say(f"it could not begin: {error}")
        return 1
    verdict = f"{failed} did not hold" if failed else "all held"
    _say(f"\n{len(CHECKS)} checks, {verdict}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _run(stand: Stand, words: list[str]) -> int:
    failed = 0
    for number, check in enumerate(CHECKS):
        name = check.__name__.replace("_", " ")
        if number and words and not any(word in name for word in words):
            continue
        began = time.monotonic()
        stand.measured.clear()
        try:
            check(stand)
            stand.expect_silence()
        except (PeerError, OSError, LookupError, ValueError) as error:
            failed += 1
            _say(f"✗ {name}\n  {type(error).__name__}: {error}")
            stand.complaints()
        else:
            _say(f"✓ {name} ({time.monotonic() - began:.1f} s)")
        for what, figure in stand.measured.items():
            _say(f"    {what}: {figure}")
    return failed


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
