"""What a target is, and what several of them check."""

from __future__ import annotations

import json
import random
import re
from typing import Final

from tests.fuzz.corpus import MARKER
from tests.fuzz.mutator import Mutator

# Far more than all sentences there are: what repeats nothing of its input cannot say more than these.
MOST_MESSAGES: Final = 200
LONGEST_SENTENCE: Final = 400


class Target:
    """What is fed, and what must be so for every input. `limit_s`: processor time one case may take."""

    limit_s: float = 0.25
    mutator: Mutator

    def feed(self, data: bytes, rng: random.Random) -> None:
        """One case. Whatever it raises is a finding."""
        raise NotImplementedError


class Sentences:
    """The messages of one kind of refusal: bounded, printable, and repeating nothing of what was refused."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def take(self, message: str) -> None:
        """One more of them. Raises `AssertionError` where it is not as they must be."""
        # But for a line's number and a character's name.
        self._seen.add(re.sub(r"\d+|'[^']{1,10}'|\"'\"", "#", message))
        check_sentence(message)
        assert len(self._seen) <= MOST_MESSAGES, f"so many messages repeat their input, this one too: {message}"


def check_sentence(text: str) -> None:
    """What is said to people is of a bounded length, can be printed and repeats no secret."""
    assert 0 < len(text) <= LONGEST_SENTENCE, f"a message of {len(text)} characters: {text[:200]}"
    assert text.isprintable(), f"a message that cannot be printed: {text!r}"
    assert MARKER not in text, f"a message that repeats a secret: {text}"
    assert MARKER.replace(" ", "") not in text, f"a message that repeats a secret: {text}"


def read_json(text: str) -> None:
    """What goes over the wire is one line of JSON, an object, and can be encoded."""
    assert isinstance(json.loads(text.encode()), dict)
    assert "\n" not in text
