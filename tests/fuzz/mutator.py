"""Makes inputs that nobody wrote of such as somebody did."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.fuzz.corpus import ANYWHERE


@dataclass(frozen=True)
class Mutator:
    """Makes inputs of at most `longest` bytes out of `corpus` and `tokens`."""

    corpus: Sequence[bytes]
    tokens: Sequence[bytes]
    longest: int

    def make(self, rng: random.Random) -> bytes:
        """One input; now and then a real one, and now and then one that nobody meant."""
        if rng.random() < 0.05:
            return rng.randbytes(rng.randrange(min(self.longest, 2000)))
        data = rng.choice(self.corpus)
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 8))):
            data = rng.choice(_MUTATIONS)(self, data, rng)
        return data[: self.longest]

    def token(self, rng: random.Random) -> bytes:
        """Something nasty."""
        return rng.choice(ANYWHERE if rng.random() < 0.4 else self.tokens)


def _slice(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(rng.paretovariate(0.7)))


def _flip(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _delete(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:start] + data[end:]


def _truncate(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _duplicate(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[start:end] + data[at:]


def _insert(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + made.token(rng) + data[at:]


def _replace(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:start] + made.token(rng) + data[end:]


def _splice(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(made.corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeat(made: Mutator, data: bytes, rng: random.Random) -> bytes:
    """What is repeated often enough shows time that grows faster than the input."""
    start, end = _slice(data, rng)
    word = made.token(rng) if rng.random() < 0.5 else data[start:end][:40]
    if rng.random() < 0.3:
        word += made.token(rng)
    # Mostly some, now and then as much as there may be.
    length = int(made.longest ** (rng.uniform(0.8, 1) if rng.random() < 0.08 else rng.uniform(0.2, 0.6)))
    times = min(length // max(1, len(word)), made.longest)
    return data[:start] + word * times + data[end:]


_MUTATIONS: Final = (_flip, _delete, _truncate, _duplicate, _insert, _replace, _splice, _repeat)
