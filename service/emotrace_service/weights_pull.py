"""Fetch weights by name: resumable, checked by size and SHA-256, put in place in one step.

Only `emotrace-serve models pull` calls this; the server itself never goes to the network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx

from emotrace_models.weights import WeightFile, WeightsError, WeightSet, sha256_of, verify_file

PART_SUFFIX = ".part"
_SPARE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1 << 18

Progress = Callable[[WeightFile, int], None]  # bytes of that file which are here


class PullFailed(WeightsError):
    """The weights could not be fetched. What arrived is kept where going on from it makes sense."""


def pull(weights: WeightSet, root: Path, client: httpx.Client, progress: Progress) -> Path:
    """Fetch what is missing or broken of `weights`, and give their folder.

    Files that are here and intact are not fetched again. Raises PullFailed.
    """
    directory = weights.directory(root)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in weights.files:
            part = directory / (file.name + PART_SUFFIX)
            if part.is_symlink():  # to be written to, wherever it leads
                part.unlink()
            if _intact(file, directory, weights.name):
                part.unlink(missing_ok=True)
            else:
                _check_room(file, directory)
                _fetch(file, directory, client, progress)
            progress(file, file.size)
    except httpx.HTTPError as error:
        raise PullFailed(
            f"The download broke off ({type(error).__name__}: {error}). "
            "Check the connection and run the command again; it goes on from where it was."
        ) from error
    except OSError as error:
        raise PullFailed(f"{directory} cannot be written: {error.strerror}.") from error
    return directory


def _intact(file: WeightFile, directory: Path, name: str) -> bool:
    try:
        verify_file(file, directory, name)
    except WeightsError:
        return False
    return True


def _check_room(file: WeightFile, directory: Path) -> None:
    here = _part_size(directory / (file.name + PART_SUFFIX))
    needed = file.size - here + _SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise PullFailed(
            f"{file.name} needs {needed // 1_000_000} MB and {directory} has "
            f"{free // 1_000_000} MB left. Make room, or choose another folder with --weights."
        )


def _fetch(file: WeightFile, directory: Path, client: httpx.Client, progress: Progress) -> None:
    part = directory / (file.name + PART_SUFFIX)
    if _part_size(part) >= file.size:  # a whole file here would have been moved: this one is wrong
        part.unlink()
    here = _part_size(part)
    headers = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the plain bytes
    if here:
        headers["Range"] = f"bytes={here}-"
    with client.stream("GET", file.url, headers=headers, follow_redirects=True) as response:
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise PullFailed(
                f"{file.url} answered {response.status_code} {response.reason_phrase}. "
                "Check the address and a proxy in between, then run the command again."
            )
        if not _continues(response, here):
            here = 0
        with part.open("r+b" if here else "wb") as stream:
            stream.seek(here)
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                here += len(chunk)
                if here > file.size:
                    break
                stream.write(chunk)
                progress(file, here)
            stream.flush()
            os.fsync(stream.fileno())
    _accept(file, part, here)


def _continues(response: httpx.Response, here: int) -> bool:
    """Whether the answer goes on at byte `here`, rather than starting again."""
    return response.status_code == httpx.codes.PARTIAL_CONTENT and response.headers.get(
        "content-range", ""
    ).startswith(f"bytes {here}-")


def _accept(file: WeightFile, part: Path, received: int) -> None:
    """Move a finished download to its name, if it is the file that the lock names."""
    if received < file.size:
        raise PullFailed(
            f"{file.name} ended after {received} of {file.size} bytes. "
            "Run the command again; it goes on from there."
        )
    if received > file.size or sha256_of(part) != file.sha256:
        part.unlink()
        raise PullFailed(
            f"{file.name} is not the file that was published: its size or SHA-256 differs from "
            "the lock. It was deleted. Somebody or something in between changed it."
        )
    os.replace(part, part.with_name(file.name))


def _part_size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
