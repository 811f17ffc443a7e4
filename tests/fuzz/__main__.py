"""Hostile bytes for everything that reads what others wrote: `python -m tests.fuzz [--bytes N] [--seed N] [target …]`.

Each target gets so many bytes, made of real inputs by a mutator; the same seed makes the same inputs. A finding (an
exception that escapes, a wrong result, a case that takes too long, memory that grows) ends the run with status 1: it is
printed with its target, seed and case, and its input is kept in a file.
"""

from __future__ import annotations

import argparse
import faulthandler
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.run import Finding, fuzz
from tests.fuzz.table import TARGETS

BYTES: Final = 10_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=BYTES, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="yiagent-fuzz-"))
    # Tells where it stood; then the signal does what it does by itself, and ends the process.
    faulthandler.register(signal.SIGPROF, file=2, chain=True)
    print(f"seed {seed}; an input at work or at fault is in {folder}", flush=True)
    for name in options.target or TARGETS:
        try:
            print(fuzz(name, TARGETS[name](), amount=options.bytes, seed=seed, folder=folder, last_resort=True))
        except Finding as finding:
            print(finding)
            return 1
        sys.stdout.flush()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
