"""A server in folders of its own; by strace, what it opens for writing, and whom it speaks to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

READY_S = 120.0
WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE")
NETWORK = ("connect", "sendto")
TRACED = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,mknod,mknodat,truncate,shmget,connect,sendto"
)


@dataclass
class Server:
    """A process in folders of its own."""

    root: Path
    process: subprocess.Popen[bytes]
    pid: int
    url: str = ""

    @property
    def log(self) -> bytes:
        return (self.root / "log").read_bytes()

    @property
    def pids(self) -> list[int]:
        """Of the server and all processes that it started."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        return found

    def files(self) -> list[Path]:
        """All that there is in its folders for work, home and temporary files."""
        places = [self.root / name for name in ("work", "home", "tmp")]
        return [path for place in places for path in place.rglob("*")]

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Name and line of each call to the system that strace was asked for."""
        traces = [trace.read_text(errors="replace") for trace in self.root.glob("trace.*")]
        lines = [line for trace in traces for line in trace.splitlines()]
        return [(line.partition("(")[0], line) for line in lines if line[:3] not in ("+++", "---")]

    def written(self) -> list[str]:
        """What was opened for writing, or made."""
        return [
            line
            for call, line in self.calls
            if call not in NETWORK
            and not (call.startswith("open") and not any(flag in line for flag in WRITES))
            and not re.search(r"\) += -1 ", line)
        ]

    def called(self) -> list[str]:
        """Whom it spoke to, or tried to, beyond its own processes."""
        return [
            line for call, line in self.calls if call in NETWORK and "sa_family=AF_INET" in line
        ]


def traced_by(strace: int) -> int:
    """The process that strace started; it has tried itself out with others before."""
    (child,) = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()
    return int(child)


def may_trace() -> bool:
    """Whether strace is there, and may look."""
    program = shutil.which("strace")
    if program is None:
        return False
    return subprocess.run([program, "-f", "true"], capture_output=True).returncode == 0


@contextmanager
def served(root: Path, *, traced: bool = False, **settings: str) -> Iterator[Server]:
    """A server as `emotrace-serve` starts it, ready; it is ended as a signal does it."""
    for name in ("work", "home", "tmp"):
        (root / name).mkdir()
    strace = ["strace", "-ff", "--seccomp-bpf", "-qq", "-e", f"trace={TRACED}", "-e", "signal=none"]
    prefix = [*strace, "-o", str(root / "trace")] if traced else []
    environ = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **settings,
    }
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "emotrace_service", "--port", "0"],
            cwd=root / "work",
            env=environ,
            stdout=log,
            stderr=log,
        )
    server = Server(root, process, process.pid)
    try:
        end = time.monotonic() + READY_S
        while not (ready := re.search(rb"ready at (http://\S+)/", server.log)):
            assert process.poll() is None, server.log
            assert time.monotonic() < end, server.log
            time.sleep(0.05)
        if traced:
            server.pid = traced_by(process.pid)
        server.url = ready[1].decode()
        yield server
        os.kill(server.pid, signal.SIGTERM)
        assert process.wait(60) == 0, server.log
    finally:
        if process.poll() is None:
            for pid in (server.pid, process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(10)
