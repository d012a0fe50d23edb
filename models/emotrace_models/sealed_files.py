"""Files of a folder that somebody else may have filled: read only as what was promised.

A file is opened without following a link and without waiting for a pipe, its size is known before
a byte of it is read, and what was read is used only if its SHA-256 is the one expected.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of bundles, weights and their files
SHA256 = re.compile(r"[0-9a-f]{64}")

_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # those that the system has
    _FLAGS |= getattr(os, _name, 0)


class FileRefused(ValueError):
    """A file that is not what was promised. The message names the file, not the cure."""


class FileAbsent(FileRefused):
    """There is no such file."""


@contextmanager
def opened(folder: Path, name: str) -> Iterator[BufferedReader]:
    """The file `name` that lies in `folder` itself. Raises FileAbsent, FileRefused."""
    path = folder / name
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
        raise FileRefused(f"{name!r} names no file of {folder}: files lie in their own folder")
    if path.is_symlink():
        raise FileRefused(f"{path} is a link: files lie in their own folder and are no links")
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise FileAbsent(f"{path} is missing") from None
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileRefused(f"{path} is no plain file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def read_at_most(folder: Path, name: str, limit: int) -> bytes:
    """The whole file, of `limit` bytes at most. Raises FileAbsent, FileRefused."""
    with opened(folder, name) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise FileRefused(f"{folder / name} has {size} bytes; at most {limit} are read")
        return stream.read(size)


def read_sealed(folder: Path, name: str, size: int, sha256: str) -> bytes:
    """The whole file, of this size in bytes and this SHA-256. Raises FileAbsent, FileRefused."""
    with opened(folder, name) as stream:
        _check_size(stream, folder / name, size)
        data = stream.read(size)
    _check_digest(hashlib.sha256(data).hexdigest(), folder / name, sha256)
    return data


def check_sealed(folder: Path, name: str, size: int, sha256: str) -> None:
    """`read_sealed` that keeps nothing, for large files that a library opens by itself."""
    with opened(folder, name) as stream:
        _check_size(stream, folder / name, size)
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    _check_digest(found, folder / name, sha256)


def strangers(folder: Path, expected: Collection[str]) -> list[str]:
    """What lies in `folder` besides the names expected. Raises FileRefused."""
    try:
        return sorted(set(os.listdir(folder)) - set(expected))
    except OSError as error:
        raise FileRefused(f"{folder} cannot be read: {error.strerror}") from error


def _check_size(stream: BufferedReader, path: Path, size: int) -> None:
    found = os.fstat(stream.fileno()).st_size
    if found != size:
        raise FileRefused(f"{path} has {found} bytes, not {size}")


def _check_digest(found: str, path: Path, sha256: str) -> None:
    if found != sha256:
        raise FileRefused(f"{path} is not the file that was published (SHA-256 differs)")
