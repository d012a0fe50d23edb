"""Paced dialogues: the speech that was asked for is sent, and what is told was measured."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live import DEMO, live_server

from emotrace_bench.live import measure
from emotrace_bench.live_client import FRAME_MS, Load, run
from emotrace_bench.live_server import LiveServer
from emotrace_bench.result import Result
from emotrace_bench.scenario import scenario
from emotrace_bench.sessions import open_sessions


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_dialogue_gets_the_share_of_speech_that_was_asked_for(share: float) -> None:
    sound = scenario(DEMO.read_bytes(), share, seed=0)
    frame = int(0.032 * sound.rate)
    whole = sound.samples[: len(sound.samples) // frame * frame].astype(np.float64) / 32_768
    level = np.sqrt(np.square(whole.reshape(-1, frame, 2)).mean(axis=1))
    assert (level > 0.003).any(axis=1).mean() == pytest.approx(share, abs=0.02)
    assert sound.speech_share == pytest.approx(share, abs=0.01)


def test_all_of_it_is_sent() -> None:
    sound = scenario(DEMO.read_bytes(), 0.4, seed=0)
    hop = sound.rate * FRAME_MS // 1_000
    messages = sound.messages(FRAME_MS)
    assert len(messages) == len(sound.samples) // hop
    assert b"".join(messages) == sound.samples[: len(messages) * hop].tobytes()


def test_more_speech_than_there_is_is_refused() -> None:
    file = io.BytesIO()
    tone = np.sin(np.arange(48_000) / 10) * 0.3
    soundfile.write(file, tone, 16_000, format="WAV")
    with pytest.raises(ValueError, match="cannot be brought to 40%"):
        scenario(file.getvalue(), 0.4, seed=0)


def test_live_dialogues_are_measured(toy: Path) -> None:
    with live_server(toy, compute_budget=100) as server:
        result = measure(
            LiveServer(server.url, None),
            [1, 2],
            seconds=14.0,
            share=0.6,
            interim=True,
            overload=False,
            seed=0,
        )
    latencies = rows(result, "End of speech")
    assert [row["dialogues"] for row in latencies] == [1, 2]
    assert all(row["finals"] >= 1 for row in latencies)
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] < 60_000 for row in latencies)
    service = rows(result, "The server")
    assert [row["let in"] for row in service] == [1, 2]
    assert all(row["lost"] == row["errors"] == 0 for row in service)


def test_who_is_refused_is_told_when_to_come_again(toy: Path) -> None:
    sound = scenario(DEMO.read_bytes(), 0.6, seed=0)
    with live_server(toy, max_sessions=2) as server:
        heard = asyncio.run(run(server.stream_url, sound, Load(5, 8.0, 0.0)))
    refused = [one for one in heard if one.refused is not None]
    assert len(refused) == 3, [(one.refused, one.errors, one.utterances) for one in heard]
    assert {one.refused for one in refused} == {"capacity"}
    assert all(one.retry_after_ms for one in refused)


def test_idle_sessions_are_counted(toy: Path) -> None:
    with live_server(toy, compute_budget=100) as server:
        rows_ = asyncio.run(open_sessions(LiveServer(server.url, os.getpid()), [1, 5]))
        assert server.metric("emotrace_session_ends_total", reason="vanished") <= 5
    assert [count for count, *_ in rows_] == [1, 5]
    assert all(mib > 0 and ms > 0 for _, mib, ms, _ in rows_)


def rows(result: Result, title: str) -> list[dict[str, float]]:
    (table,) = [table for table in result.tables if table.title.startswith(title)]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]  # type: ignore[arg-type]
