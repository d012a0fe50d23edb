"""Who may use the server: keys, of which it knows only digests.

A key is 256 random bits, so that a plain SHA-256 of it is enough: there is nothing to guess. Its
holder keeps it on a server of theirs; a browser gets a ticket (emotrace_service.tickets).
"""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotrace_service.errors import StartRefused

KEY_PREFIX = "emk_"
KEY_BYTES = 32
DEFAULT_SESSIONS = 10
BEARER = "bearer "
# What people put secrets into by mistake; an address ends in logs and histories.
QUERY_NAMES = frozenset(
    {"token", "key", "api_key", "apikey", "access_token", "ticket", "auth", "authorization"}
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever was let in. name: of the key. sessions: that may be open at once."""

    name: str
    sessions: int


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sessions: Annotated[int, Field(ge=1, le=10_000)] = DEFAULT_SESSIONS


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Annotated[tuple[_Entry, ...], Field(min_length=1)]


class Keys:
    """All that serve."""

    def __init__(self, entries: Iterable[tuple[str, Caller]]) -> None:
        self._callers = tuple(entries)

    @classmethod
    def load(cls, path: Path) -> Keys:
        """From a TOML file of `[[keys]]` with `name`, `sha256` and `sessions`.

        Raises StartRefused where it cannot be read, with the entry at fault.
        """
        try:
            file = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise StartRefused(f"The file of keys {path} cannot be read: {error}.") from None
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise StartRefused(f"The file of keys {path}: {where}: {fault['msg']}.") from None
        names = [entry.name for entry in file.keys]
        if len(set(names)) < len(names):
            raise StartRefused(f"The file of keys {path}: two keys have one name.")
        return cls((entry.sha256, Caller(entry.name, entry.sessions)) for entry in file.keys)

    def find(self, key: str) -> Caller | None:
        """Takes as long for any key."""
        digest = digest_of(key)
        found = None
        for known, caller in self._callers:
            if secrets.compare_digest(digest, known):
                found = caller
        return found

    def named(self, name: str) -> Caller | None:
        """Of a ticket, whose key may have been taken away meanwhile."""
        return next((caller for _, caller in self._callers if caller.name == name), None)

    @property
    def seal(self) -> bytes:
        """A secret that all servers with the same keys share."""
        return hashlib.sha256("\n".join(known for known, _ in self._callers).encode()).digest()


def new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def entry(name: str, key: str, sessions: int) -> str:
    """What to append to the file of keys."""
    return f'[[keys]]\nname = "{name}"\nsha256 = "{digest_of(key)}"\nsessions = {sessions}\n'


def bearer(authorization: str | None) -> str | None:
    """What the header `Authorization` gives; None: nothing that is meant for us."""
    if authorization is None or not authorization.lower().startswith(BEARER):
        return None
    return authorization[len(BEARER) :].strip()


def in_query(names: Iterable[str]) -> bool:
    """Whether an address has a secret in it, by the names of its parameters."""
    return any(name.lower() in QUERY_NAMES for name in names)
