"""Opening films and compressed sound from a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer


@contextmanager
def open_container(file: Path) -> Iterator[InputContainer]:
    """Raises av.FFmpegError, OSError. A playlist among the files, which would name other files and
    addresses, leads nowhere."""
    with (
        file.open("rb") as source,
        av.open(source, "r", options={"protocol_whitelist": "none"}) as container,
    ):
        yield container
