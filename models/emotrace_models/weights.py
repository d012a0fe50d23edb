"""Weights that do not ship with the package: which there are, and whether what lies here is intact.

`weights.lock.json` names every file with its size and SHA-256, at a fixed revision of its source,
and the licence of each set. A set lies in a folder of its own, with nothing beside its files, no
links and no pipes. Nothing here goes to the network; `emotrace-serve models pull` fetches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from emotrace_models import strict_json
from emotrace_models.sealed_files import (
    NAME,
    SHA256,
    FileAbsent,
    FileRefused,
    check_sealed,
    strangers,
)

LOCK_PATH = Path(__file__).with_name("weights.lock.json")
LOCK_VERSION = 1

Kind = Literal["transcriber", "face detector"]


class WeightsError(RuntimeError):
    """Weights that cannot be used. The message names the cause and the cure."""


class WeightsUnknown(WeightsError):
    """The lock names no such weights."""


class WeightsMissing(WeightsError):
    """A file of the weights is not here."""


class WeightsCorrupted(WeightsError):
    """A file of the weights is here and is not the one that the lock names."""


class LockInvalid(WeightsError):
    """The lock file itself cannot be read."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file: its name, where it comes from, its size in bytes and its SHA-256 in hex."""

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WeightSet:
    """The files that make one model. They lie together in a folder of the same name."""

    name: str
    description: str
    licence: str
    source: str
    revision: str
    files: tuple[WeightFile, ...]
    kind: Kind

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def directory(self, root: Path) -> Path:
        """Their folder under `root`."""
        return root / self.name


def load_lock(path: Path = LOCK_PATH) -> dict[str, WeightSet]:
    """All weights that the lock names. Raises LockInvalid."""
    try:
        document = strict_json.parse(path.read_bytes())
        if document["version"] != LOCK_VERSION:
            raise ValueError(f"version {document['version']} is not {LOCK_VERSION}")
        return {name: _weight_set(name, one) for name, one in document["weights"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LockInvalid(
            f"{path.name} cannot be read: {error!r}. Install the package again."
        ) from error


def _weight_set(name: str, document: Mapping[str, Any]) -> WeightSet:
    files = tuple(_weight_file(one) for one in document["files"])
    if not NAME.fullmatch(name) or not files or document["kind"] not in get_args(Kind):
        raise ValueError(f"the weights {name!r} have no proper name or kind, or no files")
    return WeightSet(
        name=name,
        description=document["description"],
        licence=document["licence"],
        source=document["source"],
        revision=document["revision"],
        files=files,
        kind=document["kind"],
    )


def _weight_file(document: Mapping[str, Any]) -> WeightFile:
    file = WeightFile(**document)
    if not (NAME.fullmatch(file.name) and SHA256.fullmatch(file.sha256) and file.size > 0):
        raise ValueError(f"the file {file.name!r} has no proper name, size or SHA-256")
    return file


def of_kind(lock: Mapping[str, WeightSet], kind: Kind) -> dict[str, WeightSet]:
    """Those of the lock that are of this kind, in its order."""
    return {name: one for name, one in lock.items() if one.kind == kind}


def find_weights(name: str, lock: Mapping[str, WeightSet]) -> WeightSet:
    """The weights of this name. Raises WeightsUnknown, with the names there are."""
    if name not in lock:
        raise WeightsUnknown(f"There are no weights {name!r}; there are {', '.join(sorted(lock))}.")
    return lock[name]


def is_present(weights: WeightSet, root: Path) -> bool:
    """Whether all files are here with the right sizes. Cheap; `verify` reads them."""
    directory = weights.directory(root)
    return all(_size(directory / file.name) == file.size for file in weights.files)


def verify(weights: WeightSet, root: Path) -> Path:
    """The weights' folder, after reading every byte of it.

    Raises WeightsMissing or WeightsCorrupted, with the file's name.
    """
    directory = weights.directory(root.resolve())
    if directory.is_symlink():
        raise WeightsCorrupted(
            f"{directory} is a link. Put the folder itself there, or name its own with --weights."
        )
    for file in weights.files:
        verify_file(file, directory, weights.name)
    if others := strangers(directory, {file.name for file in weights.files}):
        raise WeightsCorrupted(
            f"{directory / others[0]} is no file of {weights.name}, and a library might read it. "
            "Take it away."
        )
    return directory


def verify_file(file: WeightFile, directory: Path, weights_name: str) -> None:
    """Check one file's place, size and SHA-256. Raises WeightsMissing or WeightsCorrupted."""
    try:
        check_sealed(directory, file.name, file.size, file.sha256)
    except FileAbsent as error:
        raise WeightsMissing(f"{error}. {_cure(weights_name)}") from error
    except FileRefused as error:
        raise WeightsCorrupted(f"{error}. {_cure(weights_name)}") from error


def _cure(weights_name: str) -> str:
    return f"Run: emotrace-serve models pull {weights_name}"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
