"""Numbers that nobody can foresee and no secret hangs on: agents of one household must not all act in one instant.

Python's `random` takes 0.1 MB of a camera's memory for what four bytes do.
"""

from __future__ import annotations

import os
from typing import Final

_BYTES: Final = 4


def between(low: float, high: float) -> float:
    """A number from `low` to `high`, each as likely as any other."""
    return low + (high - low) * int.from_bytes(os.urandom(_BYTES)) / (256**_BYTES - 1)
