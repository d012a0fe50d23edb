"""A key of recordings, and the files in which an operator has it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

KEY = X25519PrivateKey.generate()


def pem_pair(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """Its private and its public part."""
    private, public = folder / "key.pem", folder / "public.pem"
    how = NoEncryption() if password is None else BestAvailableEncryption(password)
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, spki))
    return private, public
