"""Who may use the page: HTTP Basic, compared in constant time, with a limit on wrong tries. Pure.

Ten wrong tries a minute from one address; then nothing is answered there until the oldest is a minute old.
"""

from __future__ import annotations

import binascii
import hmac
import ipaddress
from base64 import b64decode
from collections import OrderedDict, deque
from enum import Enum
from typing import Final

from yiagent.redact import Secret
from yiagent.settings import PAGE_USER

REALM: Final = "yiagent"
MOST_TRIES: Final = 10
WINDOW_S: Final = 60.0
# Addresses that are remembered at once; a network of attackers pushes the longest quiet one out.
MOST_ADDRESSES: Final = 256


class Verdict(Enum):
    """What becomes of a request."""

    IN = "the password is right"
    ASKED = "none was given"
    WRONG = "it is not right"
    LOCKED = "too many wrong ones came from this address"


class Login:
    """Knows the password and who tried others. `now` is monotonic seconds."""

    def __init__(self, password: Secret) -> None:
        self._expected = f"{PAGE_USER}:{password.reveal()}".encode()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def judge(self, address: str, authorization: str | None, now: float) -> Verdict:
        """Judge the header `Authorization` of a request from `address`."""
        place = _place(address)
        if self.locked_s(address, now) > 0:
            return Verdict.LOCKED
        if authorization is None:
            return Verdict.ASKED
        if hmac.compare_digest(_credentials(authorization), self._expected):
            return Verdict.IN
        tries = self._wrong.setdefault(place, deque(maxlen=MOST_TRIES))
        self._wrong.move_to_end(place)
        tries.append(now)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        return Verdict.WRONG

    def locked_s(self, address: str, now: float) -> float:
        """For how long nothing is answered to `address`; 0: it may try."""
        tries = self._wrong.get(_place(address))
        if tries is None:
            return 0.0
        while tries and now - tries[0] >= WINDOW_S:
            tries.popleft()
        if not tries:
            del self._wrong[_place(address)]
            return 0.0
        return WINDOW_S - (now - tries[0]) if len(tries) == MOST_TRIES else 0.0


def _credentials(authorization: str) -> bytes:
    """`user:password` of an HTTP Basic header; nothing that could be right for any other."""
    scheme, _, word = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(word.strip().encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _place(address: str) -> str:
    """What counts as one address: of IPv6 the /64, of which a household, or one attacker, has all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()
