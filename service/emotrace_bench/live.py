"""Paced dialogues against a running server: how long after the end of speech the estimate comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emotrace_bench.charts import Lines
from emotrace_bench.live_client import FRAME_MS, Heard, Load, run
from emotrace_bench.live_server import LiveServer
from emotrace_bench.result import Ratio, Result, Table, Value
from emotrace_bench.scenario import Scenario, scenario

STAGES = ("queue", "transcription", "encoding", "fusion", "decoding")
BEYOND_MS = 150  # the bar: p95
BLOCKED_S = 0.02
RAMP_S = 5.0
OVERLOAD = 3  # times what is admitted


@dataclass(frozen=True, slots=True)
class Run:
    """One number of dialogues. beyond_ms: of all finals. busy: cores that the server used. late:
    how often the event loop was by more than BLOCKED_S; blocked: and others had not the cores."""

    load: Load
    heard: tuple[Heard, ...]
    beyond_ms: tuple[float, ...]
    grew_ms: float
    busy: float
    late: int
    blocked: int
    memory_mib: float | None

    @property
    def admitted(self) -> list[Heard]:
        return [one for one in self.heard if one.refused is None]

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.beyond_ms, q)) if self.beyond_ms else float("nan")


def measure(
    server: LiveServer,
    dialogues: Sequence[int],
    *,
    seconds: float,
    share: float,
    interim: bool,
    overload: bool,
    seed: int,
) -> Result:
    """dialogues: rising numbers of live dialogues, each a run. share: of the time with speech.
    overload: besides, three times as many dialogues as the server lets in."""
    sound = scenario(server.demo(), share, seed)
    runs = [one_run(server, sound, n, seconds, interim) for n in dialogues]
    ratios = [
        Ratio(
            f"p99 at {runs[-1].load.clients} dialogues / p99 at {runs[0].load.clients}",
            runs[-1].percentile(99) / runs[0].percentile(99),
            None,
            most=4,
            aim=2,
        )
    ]
    tables = [_latencies(runs), _stages(runs), _service(runs)]
    notes = [_told(runs[-1], sound)]
    if overload:
        crowd = one_run(server, sound, OVERLOAD * _fitting(server), seconds, interim)
        calm = one_run(server, sound, len(crowd.admitted), seconds, interim)
        tables.append(_overload(crowd, calm))
        ratios += [
            Ratio(
                f"p99 of the {len(crowd.admitted)} admitted of {crowd.load.clients} / p99 of {who}",
                crowd.percentile(99) / other.percentile(99),
                None,
                most=1.5,
                aim=1.2,
            )
            for who, other in (
                ("as many without the others", calm),
                (f"{runs[0].load.clients}", runs[0]),
            )
        ]
    return Result(
        benchmark="live",
        settings={
            "dialogues": ",".join(map(str, dialogues)),
            "seconds": seconds,
            "speech share": round(sound.speech_share, 3),
            "channels": int(sound.samples.shape[1]),
            "message, ms": FRAME_MS,
            "interim": interim,
        },
        seed=seed,
        tables=tuple(tables),
        ratios=tuple(ratios),
        notes=tuple(notes),
        charts=(
            Lines(
                "From the end of speech to emotion.final, beyond the endpointer's wait",
                "live dialogues",
                "ms",
                {
                    f"p{q}": tuple((float(r.load.clients), r.percentile(q)) for r in runs)
                    for q in (50, 95, 99)
                },
            ),
        ),
    )


def one_run(
    server: LiveServer, sound: Scenario, clients: int, seconds: float, interim: bool
) -> Run:
    load = Load(clients, seconds, RAMP_S, interim, RAMP_S)
    before, began_s = server.metrics(), server.processor_s()
    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        heard = tuple(runner.run(run(server.stream_url, sound, load)))
    after = server.metrics()
    took_s = server.processor_s() - began_s
    pairs = [pair for one in heard for pair in zip(one.arrived_s, one.beyond_ms, strict=True)]
    return Run(
        load,
        heard,
        tuple(ms for _, ms in pairs),
        _growth(pairs, seconds),
        took_s / (seconds + RAMP_S),
        _over("emotrace_loop_lag_seconds", after) - _over("emotrace_loop_lag_seconds", before),
        _over("emotrace_loop_held_seconds", after) - _over("emotrace_loop_held_seconds", before),
        server.memory_mib(),
    )


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The clients must not be what is late: as the server, they run on uvloop if it is there."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _growth(pairs: list[tuple[float, float]], seconds: float) -> float:
    """How much later finals come in the last third than in the first, median, ms."""
    first = [ms for at, ms in pairs if at < seconds / 3]
    last = [ms for at, ms in pairs if at > seconds * 2 / 3]
    return float(np.median(last) - np.median(first)) if first and last else float("nan")


def _over(name: str, metrics: dict[str, float]) -> int:
    """How often what this histogram holds was more than BLOCKED_S."""
    within = metrics.get(f'{name}_bucket{{le="{BLOCKED_S}"}}', 0.0)
    return int(metrics.get(f"{name}_count", 0.0) - within)


def _fitting(server: LiveServer) -> int:
    """About how many dialogues the server lets in, by what it says that one costs."""
    share = server.metrics()["emotrace_session_share"]
    budget = server.metrics()["emotrace_compute_budget"]
    return max(1, int(budget / share))


def _latencies(runs: Sequence[Run]) -> Table:
    rows = tuple(
        (
            one.load.clients,
            len(one.beyond_ms),
            *(round(one.percentile(q), 1) for q in (50, 95, 99)),
            one.percentile(95) <= BEYOND_MS,
            round(one.grew_ms, 1),
            *_interim(one),
        )
        for one in runs
    )
    return Table(
        "End of speech to emotion.final beyond the endpointer's wait, ms",
        (
            "dialogues",
            "finals",
            "p50",
            "p95",
            "p99",
            f"p95 within {BEYOND_MS}",
            "grew by",
            "first interim: audio, p95",
            "clock, p50",
            "clock, p95",
        ),
        rows,
    )


def _interim(one: Run) -> tuple[Value, ...]:
    """Of each utterance's first interim estimate: after how much sound, and when it came."""
    found = [pair for heard in one.heard for pair in heard.first_interim_ms]
    if not found:
        return None, None, None
    sound, clock = np.array(found).T
    return tuple(
        round(float(np.percentile(of, q))) for of, q in ((sound, 95), (clock, 50), (clock, 95))
    )


def _stages(runs: Sequence[Run]) -> Table:
    """Medians. A foreseen estimate was made while the endpointer waited: only its lag was felt."""
    rows: list[tuple[Value, ...]] = []
    for one in runs:
        timings = [timing for heard in one.heard for timing in heard.timings]
        if not timings:
            continue
        lag = np.array([timing["lag_ms"] for timing in timings])
        rows.append(
            (
                one.load.clients,
                round(float(np.median([t["endpointing_ms"] for t in timings])), 1),
                *(
                    round(float(np.median([t[f"{stage}_ms"] for t in timings])), 2)
                    for stage in STAGES
                ),
                round(float(np.mean([t["foreseen"] for t in timings])), 3),
                round(float(np.median(lag)), 1),
                round(float(np.percentile(lag, 99)), 1),
                round(float(np.median(np.array(one.beyond_ms) - lag)), 1),
            )
        )
    return Table(
        "Where the time goes, medians, ms",
        (
            "dialogues",
            "endpointing",
            *STAGES,
            "share foreseen",
            "lag in the server",
            "p99",
            "network",
        ),
        tuple(rows),
    )


def _service(runs: Sequence[Run]) -> Table:
    return Table(
        "The server",
        (
            "dialogues",
            "let in",
            "cores used",
            f"loop late by over {BLOCKED_S * 1000:.0f} ms",
            "and not for want of a core",
            "memory, MiB",
            "interims",
            "degraded to",
            "errors",
            "lost",
        ),
        tuple(
            (
                one.load.clients,
                len(one.admitted),
                round(one.busy, 2),
                one.late,
                one.blocked,
                None if one.memory_mib is None else round(one.memory_mib),
                sum(heard.interims for heard in one.heard),
                max((heard.degraded for heard in one.heard), default=0),
                sum(len(heard.errors) for heard in one.heard),
                sum(heard.lost for heard in one.heard),
            )
            for one in runs
        ),
    )


def _overload(crowd: Run, calm: Run) -> Table:
    refused = [one for one in crowd.heard if one.refused is not None]
    return Table(
        f"{OVERLOAD} times as many as fit",
        (
            "",
            "came",
            "let in",
            "p50",
            "p95",
            "p99",
            "refused in ms, p99",
            "retry after, ms",
            "lost",
        ),
        tuple(
            (
                name,
                one.load.clients,
                len(one.admitted),
                *(round(one.percentile(q), 1) for q in (50, 95, 99)),
                round(float(np.percentile([r.refused_ms for r in turned], 99)), 1)
                if turned
                else None,
                min((r.retry_after_ms or 0 for r in turned), default=None),
                sum(heard.lost for heard in one.heard),
            )
            for name, one, turned in (("crowd", crowd, refused), ("the admitted alone", calm, []))
        ),
    )


def _told(last: Run, sound: Scenario) -> str:
    return (
        f"Each dialogue: {sound.samples.shape[1]} channels at {sound.rate} Hz in messages of "
        f"{FRAME_MS} ms, somebody speaking for {sound.speech_share:.0%} of the time, no "
        f"transcription. Clients and server share the machine. {last.load.clients} dialogues came "
        f"within {RAMP_S:g} s, which are not counted."
    )
