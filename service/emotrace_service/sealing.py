"""Files that whoever writes them cannot read: sealed to a public key, a chunk at a time.

    magic | length, label | file key, sealed by HPKE | length, chunk | length, chunk | ...

The file key is drawn anew for each file and sealed to an X25519 key by HPKE (RFC 9180). Chunks are
ChaCha20-Poly1305 with their number as nonce, and a mark on the last, so that none can be changed,
left out or moved unseen (the STREAM construction). The label can be read by everybody, and changed
by nobody. What is appended is whole up to the last whole chunk, whenever writing stops.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

MAGIC = b"emotrace sealed 1\n"
MAX_LABEL = 4_096
MAX_CHUNK = 8 * 1024 * 1024
TAG = 16
SEALED_KEY = 32 + 32 + TAG  # an ephemeral public key, and the file key with its tag
MAKE_KEYS = (
    "Make a pair with `openssl genpkey -algorithm X25519 -out key.pem` and "
    "`openssl pkey -in key.pem -pubout -out public.pem`, and keep key.pem on another machine"
)

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_LENGTH = struct.Struct(">I")


class Unsealable(ValueError):
    """A key or a sealed file that is of no use. The message says why."""


def load_public_key(path: Path) -> X25519PublicKey:
    """Of a PEM file. Raises Unsealable, OSError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise Unsealable(f"{path} holds no public X25519 key (PEM). {MAKE_KEYS}.")
    return key


def load_private_key(path: Path, password: str | None = None) -> X25519PrivateKey:
    """Of a PEM file. Raises Unsealable, OSError; TypeError where it needs a password."""
    try:
        key = load_pem_private_key(path.read_bytes(), password.encode() if password else None)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise Unsealable(f"{path} holds no private X25519 key (PEM), or the password is wrong.")
    return key


class Sealer:
    """Of one file. opening: its first bytes."""

    def __init__(self, key: X25519PublicKey, label: bytes) -> None:
        file_key = ChaCha20Poly1305.generate_key()
        self._cipher = ChaCha20Poly1305(file_key)
        self._number = 0
        head = MAGIC + _LENGTH.pack(len(label)) + label
        self.opening = head + _SUITE.encrypt(file_key, key, head)

    def seal(self, chunk: bytes, *, last: bool = False) -> bytes:
        """What to append to the file."""
        sealed = self._cipher.encrypt(_nonce(self._number, last), chunk, None)
        self._number += 1
        return _LENGTH.pack(len(sealed)) + sealed


def read_label(file: BinaryIO) -> bytes:
    """The label, which needs no key; the file then stands at the sealed key. Raises Unsealable."""
    if file.read(len(MAGIC)) != MAGIC:
        raise Unsealable("It is no sealed file.")
    return _exactly(file, _read_length(file, MAX_LABEL))


class Unsealer:
    """Reads a sealed file. complete: whether its end was read, and is the end that was written."""

    def __init__(self, file: BinaryIO, key: X25519PrivateKey) -> None:
        """Raises Unsealable."""
        self.label = read_label(file)
        self.complete = False
        self._file = file
        head = MAGIC + _LENGTH.pack(len(self.label)) + self.label
        try:
            self._cipher = ChaCha20Poly1305(_SUITE.decrypt(_exactly(file, SEALED_KEY), key, head))
        except (InvalidTag, ValueError):
            raise Unsealable("It was sealed to another key, or its head was changed.") from None

    def chunks(self) -> Iterator[bytes]:
        """All whole chunks, in order. Raises Unsealable where one was changed or is missing."""
        number = 0
        while True:
            length = self._file.read(_LENGTH.size)
            if len(length) < _LENGTH.size:
                return
            size = _LENGTH.unpack(length)[0]
            if size > MAX_CHUNK:
                raise Unsealable(f"Chunk {number} was changed.")
            sealed = self._file.read(size)
            if len(sealed) < size:
                return  # its writing was interrupted
            chunk = self._open(number, sealed, last=False)
            if chunk is None:
                chunk = self._open(number, sealed, last=True)
                self.complete = not self._file.read(1)
                if chunk is None or not self.complete:
                    raise Unsealable(
                        f"Chunk {number} was changed, or what comes before it is missing."
                    )
            yield chunk
            if self.complete:
                return
            number += 1

    def _open(self, number: int, sealed: bytes, *, last: bool) -> bytes | None:
        try:
            return self._cipher.decrypt(_nonce(number, last), sealed, None)
        except InvalidTag:
            return None


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _read_length(file: BinaryIO, most: int) -> int:
    length: int = _LENGTH.unpack(_exactly(file, _LENGTH.size))[0]
    if length > most:
        raise Unsealable("Its head was changed.")
    return length


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Unsealable("Its head is not whole.")
    return data
