"""Sealed files: read with the key alone, and whatever is changed in them is noticed."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from recording_keys import KEY

from emotrace_service.sealing import (
    Sealer,
    Unsealable,
    Unsealer,
    load_private_key,
    load_public_key,
    read_label,
)


def sealed(*chunks: bytes, end: bool = True) -> bytes:
    sealer = Sealer(KEY.public_key(), b"label")
    last = len(chunks) - 1
    parts = [sealer.seal(chunk, last=end and at == last) for at, chunk in enumerate(chunks)]
    return sealer.opening + b"".join(parts)


def unsealed(content: bytes, key: X25519PrivateKey = KEY) -> tuple[list[bytes], bool]:
    unsealer = Unsealer(io.BytesIO(content), key)
    return list(unsealer.chunks()), unsealer.complete


CHUNKS = (b"one", b"", b"three" * 10)


def test_what_was_sealed_is_read_with_the_key_alone() -> None:
    content = sealed(*CHUNKS)
    assert unsealed(content) == (list(CHUNKS), True)
    assert read_label(io.BytesIO(content)) == b"label", "for which no key is needed"
    assert b"three" not in content
    with pytest.raises(Unsealable, match="another key"):
        unsealed(content, X25519PrivateKey.generate())
    assert content != sealed(*CHUNKS), "each file has a key of its own"


def test_every_flipped_bit_is_noticed() -> None:
    content = sealed(*CHUNKS)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        try:
            chunks, complete = unsealed(bytes(changed))
        except Unsealable:
            continue
        assert not complete, place
        assert chunks == list(CHUNKS)[: len(chunks)], place


def test_every_missing_end_is_noticed_and_what_is_whole_is_read() -> None:
    content = sealed(*CHUNKS)
    read = 0
    for size in range(len(sealed()), len(content)):
        chunks, complete = unsealed(content[:size])
        assert not complete
        assert chunks == list(CHUNKS)[: len(chunks)]
        read = max(read, len(chunks))
    assert read == len(CHUNKS) - 1
    for size in range(len(sealed())):
        with pytest.raises(Unsealable):
            unsealed(content[:size])
    assert unsealed(sealed(*CHUNKS, end=False)) == (list(CHUNKS), False)


def test_chunks_that_are_missing_moved_doubled_or_added_are_noticed() -> None:
    sealer = Sealer(KEY.public_key(), b"label")
    one, two, three = (sealer.seal(chunk, last=chunk == b"3") for chunk in (b"1", b"2", b"3"))
    for wrong in ([two, three], [one, three], [two, one, three], [one, one, two, three]):
        with pytest.raises(Unsealable):
            unsealed(sealer.opening + b"".join(wrong))
    with pytest.raises(Unsealable):
        unsealed(sealer.opening + one + two + three + two)


def test_keys_are_pem_files_as_openssl_writes_them(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run([openssl, "genpkey", "-algorithm", "X25519", "-out", private], check=True)
    subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
    sealer = Sealer(load_public_key(public), b"")
    content = sealer.opening + sealer.seal(b"x", last=True)
    assert unsealed(content, load_private_key(private)) == ([b"x"], True)
    with pytest.raises(Unsealable, match="openssl"):
        load_public_key(private)
    with pytest.raises(Unsealable, match="no private"):
        load_private_key(public)
