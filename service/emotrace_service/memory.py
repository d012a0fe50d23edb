"""How much memory the server and its processes hold, and how much they may, as Linux counts it.

Two kinds of limits hold at once: one for the processes (a setting, or what the machine has), and
that of each control group that they are in, where others may be too. What counts is the one that
is nearest. Files that the kernel may drop count for neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
# Of a control group: its limit, what it holds, and what of that are files not lately used.
UNIFIED = ("memory.max", "memory.current", "inactive_file")
FIRST_VERSION = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
NO_LIMIT = "max"


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes."""

    held: int
    limit: int

    @property
    def share(self) -> float:
        return self.held / self.limit


def memory(limit: int | None, processes: Path = PROCESSES, groups: Path = GROUPS) -> Memory | None:
    """What is nearest to its limit; None where nothing is counted. limit: of this process and those
    that it started; None: what the machine has."""
    found = [*_of_processes(limit, processes), *_of_groups(processes, groups)]
    return max(found, key=lambda one: one.share, default=None)


def held_by(process: int, processes: Path = PROCESSES) -> int:
    """Bytes of a process and those that it started, and theirs, which no file can give back; what
    they share counts once. Raises OSError where there is no such process."""
    folder = processes / str(process)
    lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) for name, size, *_ in map(str.split, lines)}
    held = (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"]) * 1_024
    for thread in (folder / "task").iterdir():
        children = ""
        with suppress(OSError):  # the thread ended meanwhile
            children = (thread / "children").read_text()
        for child in children.split():
            with suppress(OSError):  # or the child
                held += held_by(int(child), processes)
    return held


def _of_processes(limit: int | None, processes: Path) -> Iterator[Memory]:
    """Of this process and those that it started."""
    with suppress(OSError, KeyError):  # not shown, or by an older kernel
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Memory(held_by(os.getpid(), processes), limit or machine)


def _of_groups(processes: Path, groups: Path) -> Iterator[Memory]:
    """Of each group that this process is in, and those around it, which has a limit."""
    own = processes / "self" / "cgroup"
    for line in own.read_text().splitlines() if own.exists() else ():
        _number, controllers, path = line.split(":", 2)
        if not controllers:
            top, files = groups, UNIFIED
        elif "memory" in controllers.split(","):
            top, files = groups / "memory", FIRST_VERSION
        else:
            continue
        folder = top.joinpath(*[part for part in path.split("/") if part not in ("", "..")])
        while True:
            with suppress(OSError):  # it has no such files, or is not shown here
                if (found := _of_group(folder, *files)) is not None:
                    yield found
            if folder == top:
                break
            folder = folder.parent


def _of_group(folder: Path, limit: str, held: str, spare: str) -> Memory | None:
    """None: it has no limit. Raises OSError."""
    text = (folder / limit).read_text().strip()
    if text == NO_LIMIT:
        return None
    counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return Memory(int((folder / held).read_text()) - int(counts[spare]), int(text))
