"""How much memory is held, against which limit, and what is done about it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from doubles import Stage

from emotrace_protocol.messages import SessionEnd, SessionStart
from emotrace_service import making_room
from emotrace_service.headroom import CLOSE_SHARE, LEAVE_AFTER_S, OPEN_SHARE, Headroom
from emotrace_service.making_room import MakingRoom
from emotrace_service.memory import PROCESSES, Memory, memory

MEBIBYTE = 1024 * 1024
# It shares what it holds with a child of its own.
HOLDER = f"""
import os, sys
held = bytearray({100 * MEBIBYTE})
child = os.fork()
if child:
    print('there', flush=True)
sys.stdin.read()
if child:
    os.wait()
"""
STARTER = f"""
import subprocess, sys
with subprocess.Popen([sys.executable, '-c', {HOLDER!r}], stdin=subprocess.PIPE) as child:
    sys.stdin.read()
"""


def test_the_door_closes_and_opens_where_it_is_clear() -> None:
    state, closed = Headroom(), []
    for now, share in enumerate((0.84, CLOSE_SHARE, 0.84, OPEN_SHARE, 0.79, 0.84)):
        state = state.advance(float(now), share)
        closed.append(state.closed)
    assert closed == [False, True, True, True, False, False]


def test_a_tenth_leaves_every_few_seconds_while_it_is_too_much() -> None:
    state = Headroom().advance(0.0, 0.9)
    assert state.leaving(LEAVE_AFTER_S - 0.1, 11) == 0
    state = state.advance(LEAVE_AFTER_S, 0.9)
    assert [state.leaving(LEAVE_AFTER_S, guests) for guests in (0, 1, 10, 11)] == [0, 1, 1, 2]
    state = state.left(LEAVE_AFTER_S)
    assert state.leaving(LEAVE_AFTER_S + 0.1, 11) == 0
    assert state.leaving(2 * LEAVE_AFTER_S, 11) == 2
    below = state.advance(2 * LEAVE_AFTER_S, 0.84)
    assert below.closed
    assert below.leaving(9 * LEAVE_AFTER_S, 11) == 0


linux = pytest.mark.skipif(not PROCESSES.exists(), reason="it is not Linux")


@linux
def test_processes_of_processes_count_and_what_they_share_counts_once() -> None:
    before = memory(None)
    assert before is not None
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        during = memory(before.limit // 2)
        child.stdin.close()
    after = memory(None)
    assert during is not None
    assert after is not None
    assert during.limit == before.limit // 2
    assert 100 * MEBIBYTE < during.held - before.held < 170 * MEBIBYTE
    assert after.held - before.held < 50 * MEBIBYTE


GIBIBYTE = 1024 * MEBIBYTE
ROLLUP = """5500-7ffd ---p 00000000 00:00 0    [rollup]
Rss:              90 kB
Pss_Anon:         8 kB
Pss_File:         50 kB
Pss_Shmem:        4 kB
"""
UNIFIED = {"memory.max": f"{GIBIBYTE}\n", "memory.current": f"{900 * MEBIBYTE}\n"}
FIRST = {
    "memory.limit_in_bytes": f"{GIBIBYTE}\n",
    "memory.usage_in_bytes": f"{900 * MEBIBYTE}\n",
}
INACTIVE = f"inactive_file {100 * MEBIBYTE}\ntotal_inactive_file {100 * MEBIBYTE}\n"
NEAR = Memory(800 * MEBIBYTE, GIBIBYTE)


@linux
@pytest.mark.parametrize(
    ("line", "folder", "files", "found"),
    [
        ("0::/", "", UNIFIED, NEAR),
        ("0::/a.slice/b.service", "a.slice", UNIFIED, NEAR),
        ("0::/../../elsewhere", "", UNIFIED, NEAR),
        ("0::/", "", UNIFIED | {"memory.max": "max\n"}, None),
        ("4:memory:/kubepods/pod1", "memory/kubepods", FIRST, NEAR),
        ("4:cpu,memory:/not/shown/here", "memory", FIRST, NEAR),
        ("4:memory:/", "memory", FIRST | {"memory.limit_in_bytes": f"{2**63 - 4096}\n"}, None),
        ("3:cpuset:/", "cpuset", FIRST, None),
    ],
)
def test_the_limit_of_a_group_counts_wherever_it_stands(
    tmp_path: Path, line: str, folder: str, files: dict[str, str], found: Memory | None
) -> None:
    """Files as the kernel writes them, in a tree of their own."""
    processes, groups = tmp_path / "proc", tmp_path / "cgroup"
    this = processes / str(os.getpid())
    (this / "task").mkdir(parents=True)
    (this / "smaps_rollup").write_text(ROLLUP)
    (processes / "self").symlink_to(this)
    (this / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    (groups / folder).mkdir(parents=True)
    for name, text in (files | {"memory.stat": INACTIVE}).items():
        (groups / folder / name).write_text(text)
    own = Memory(12 * 1_024, 64 * GIBIBYTE)
    assert memory(own.limit, processes, groups) == (found or own)


def test_where_nothing_is_counted_nothing_is_known(tmp_path: Path) -> None:
    assert memory(GIBIBYTE, tmp_path, tmp_path) is None


@dataclass(eq=False)
class Talker:
    """As much of a session as the door sees."""

    moves: bool
    name: str = "talker"
    active: float = 0.0
    bundle: str | None = None
    told: list[str] = field(default_factory=list)

    def go_away(self, why: str) -> None:
        self.told.append(why)

    def degrade(self, level: int) -> None: ...


def test_the_newest_that_can_go_elsewhere_go_and_only_where_there_is_room(toy: Path) -> None:
    stage = Stage(toy)
    making = MakingRoom(stage.serving)
    talkers = [Talker(moves=number != 18) for number in range(20)]
    with ExitStack() as here:
        for one in talkers:
            here.enter_context(stage.serving.admitted(one))
        for second in range(10):
            making.look(Memory(90, 100), float(second))
        assert not any(one.told for one in talkers), "there is nowhere to go"
        stage.serving.room_elsewhere = True
        making.look(Memory(90, 100), 10.0)
        making.look(Memory(90, 100), 11.0)
        assert [number for number, one in enumerate(talkers) if one.told] == [17, 19]
        assert stage.metric("emotrace_sessions_moved_total") == 2
        making.look(Memory(80, 100), 30.0)
        assert stage.serving.short_of_memory
        making.look(Memory(79, 100), 31.0)
    assert not stage.serving.short_of_memory
    assert sum(len(one.told) for one in talkers) == 2


@pytest.mark.parametrize(("counts", "closes"), [((0.95, 0.5), False), ((0.95, 0.9), True)])
async def test_too_much_is_counted_twice(
    toy: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[float, ...], closes: bool
) -> None:
    """A process that is being started holds for a moment what its parent holds."""
    serving = Stage(toy).serving
    shares = iter(counts)
    monkeypatch.setattr(
        making_room, "memory", lambda _: Memory(int(100 * next(shares, counts[-1])), 100)
    )
    watching = asyncio.create_task(MakingRoom(serving).run())
    await asyncio.sleep(3 * making_room.AGAIN_S)
    assert serving.short_of_memory is closes
    watching.cancel()


def test_it_is_ready_for_newcomers_unless_another_is(toy: Path) -> None:
    serving = Stage(toy).serving
    serving.ready = True
    serving.run_short(True)
    assert serving.receives
    assert not serving.has_room
    serving.room_elsewhere = True
    assert not serving.receives
    serving.run_short(False)
    assert serving.receives
    assert serving.has_room


async def test_the_ladder_and_memory_close_the_same_door(toy: Path) -> None:
    stage = Stage(toy)
    for short, level, comes_in in (
        (True, 0, False), (True, 3, False), (False, 3, False), (True, 2, False), (False, 2, True),
    ):  # fmt: skip
        stage.serving.run_short(short)
        stage.serving.degrade(level)
        socket = await stage.play(SessionStart(), SessionEnd())
        assert ([event.code for event in socket.of("error")] == []) is comes_in
