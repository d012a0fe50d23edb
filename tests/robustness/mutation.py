"""Inputs that nobody would send, made from those that somebody does. Same seed, same inputs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
TOKEN = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"|-?\d+(?:\.\d+)?|true|false|null')
VALUES = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e9",
    b'""',
    b'"x"',
    b"[]",
    b"{}",
    b'["a","b"]',
    b'{"a":1}',
]
NUMBERS = [
    str(number).encode()
    for number in (
        *(0, -1, 1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)),
        *("1e308", "1e999", "-0.0", "0.1", "NaN", "Infinity", "1" * 400),
    )
]
BYTES = [0, 1, 0x7F, 0x80, 0xFE, 0xFF, *b'"\\{}[]:,\n']
WORDS = [
    *(b'{"type":', b'"type":"session.start"', b'"\\ud800"', b'"\\u0000"', b"null", b"true", b"[]"),
    *(b"{}", b'""', b"[" * 20, b'{"a":' * 20, b"../", b"\r\n", b"\x1b[31m", b"A" * 300),
    *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xae", b"\0" * 8, b"\xff" * 8),
    *(number.to_bytes(4, "little") for number in (0, 1, 2**31 - 1, 2**31, 2**32 - 1)),
]
MOST_BYTES = 8_192  # of an input: longer ones cost time and tell nothing more


class Mutator:
    """Changes inputs. words: what inputs of the kind consist of, to be put into others."""

    def __init__(self, seed: int, words: Sequence[bytes] = ()) -> None:
        self._random = random.Random(seed)
        self._words = [*words, *WORDS]
        self._changes: list[Callable[[bytes, bytes], bytes]] = [
            self._flip,
            self._flip,
            self._overwrite,
            self._insert,
            self._word,
            self._word,
            self._delete,
            self._repeat,
            self._number,
            self._token,
            self._token,
            self._token,
            self._splice,
            self._truncate,
        ]

    def mutated(self, inputs: Sequence[bytes]) -> bytes:
        """One of them, changed in one to six places."""
        pick = self._random
        data = inputs[pick.randrange(len(inputs))]
        for _ in range(1 + int(pick.random() ** 2 * 6)):
            change = self._changes[pick.randrange(len(self._changes))]
            data = change(data, inputs[pick.randrange(len(inputs))])
        return data[:MOST_BYTES]

    def _place(self, data: bytes) -> int:
        # Headers are at the beginning.
        return int(self._random.random() ** 2 * (len(data) + 1))

    def _flip(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        if at >= len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]

    def _overwrite(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        return data[:at] + bytes([self._random.choice(BYTES)]) + data[at + 1 :]

    def _insert(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        return data[:at] + self._random.randbytes(self._random.randrange(1, 9)) + data[at:]

    def _word(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        word = self._random.choice(self._words)
        return data[:at] + word + data[at + self._random.choice((0, len(word))) :]

    def _delete(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        return data[:at] + data[at + self._random.randrange(1, 17) :]

    def _repeat(self, data: bytes, _: bytes) -> bytes:
        at = self._place(data)
        piece = data[at : at + self._random.randrange(1, 33)]
        return data[:at] + piece * self._random.choice((2, 3, 20)) + data[at:]

    def _number(self, data: bytes, _: bytes) -> bytes:
        found = list(NUMBER.finditer(data, 0, 2_048))
        if not found:
            return self._word(data, b"")
        place = self._random.choice(found)
        return data[: place.start()] + self._random.choice(NUMBERS) + data[place.end() :]

    def _token(self, data: bytes, other: bytes) -> bytes:
        """Another value, or a name or value of another input, where one of JSON stands."""
        found = list(TOKEN.finditer(data, 0, 2_048))
        if not found:
            return self._flip(data, b"")
        place = self._random.choice(found)
        theirs = TOKEN.findall(other, 0, 2_048)
        value = self._random.choice(theirs if theirs and self._random.random() < 0.5 else VALUES)
        return data[: place.start()] + value + data[place.end() :]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        return data[: self._place(data)] + other[self._place(other) :]

    def _truncate(self, data: bytes, _: bytes) -> bytes:
        return data[: self._place(data)]
