"""Agents of other frameworks whose user is the demo's Ann, and whose page and example run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import soundfile
from eventually import eventually

from emotrace_clients.demo import shipped
from emotrace_clients.integrations.listener import Listener
from emotrace_clients.turns import read_turns

ROOT = Path(__file__).parents[1]
PIECE_MS = 20
TAIL_MS = 700  # of silence after a turn, in which the server hears its end
ANN = [turn for turn in read_turns(shipped.TURNS) if turn.speaker == "Ann"]


class Agent(Protocol):
    """A running agent. replies: its answers, as they come."""

    listener: Listener
    replies: asyncio.Queue[str]

    async def take(self, piece: bytes, rate: int) -> None:
        """Sound of the user, s16le of one channel."""


async def talk(agent: Agent, count: int) -> list[str]:
    """Ann's first turns at the pace at which they are heard, each after the answer to the last."""
    samples, rate = soundfile.read(shipped.AUDIO, dtype="int16")
    size = rate * PIECE_MS // 1_000
    said, heard = [], 0
    for turn in ANN[:count]:
        until = (turn.end_ms + TAIL_MS) * rate // 1_000
        for at in range(heard, until, size):
            await agent.take(samples[at : min(at + size, until), 0].tobytes(), rate)
            await eventually(
                lambda: not agent.listener.connected or agent.listener._sound_bytes < 32_000
            )
        heard = until
        said.append(await asyncio.wait_for(agent.replies.get(), 120))
    return said


async def until_up(listener: Listener) -> None:
    """The first sound connects; a test that looks at every turn waits for that."""
    listener.hear(bytes(2), 16_000)
    await eventually(lambda: listener.connected)


def page_code(framework: str) -> str:
    """What docs/voice-agents.md says to write for a framework."""
    page = (ROOT / "docs/voice-agents.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (block,) = [one for one in blocks if f"integrations.{framework}" in one]
    return str(block)


def python(*arguments: str) -> str:
    """What a program says. Fails where it does."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_example(name: str, *arguments: str) -> None:
    """An example of clients/examples plays the demo: each turn of Ann's is answered."""
    told = python(str(ROOT / "clients/examples" / name), *arguments)
    said = [line for line in told.splitlines() if line.startswith("Ann: ")]
    assert said == [f"Ann: {turn.text}" for turn in ANN]
    assert told.count("Agent: ") == len(ANN)
    assert '"User"' in told
