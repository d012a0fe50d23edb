"""Watch: what a server says of itself, from one scrape to the next, for whoever runs it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emotrace_clients.exposition import Scrape, quantile, since

WINDOW_S = 60.0  # for what is told of the last minute
LEVELS = (
    "everything is served",
    "interim estimates are left out",
    "interim estimates and pictures are left out",
    "interim estimates and pictures are left out, and nobody new is let in",
)
CPU = ("process_cpu_seconds_total", "emotrace_compute_processor_seconds")


@dataclass(frozen=True, slots=True)
class Spread:
    """Times in seconds. count: of how many; p50, p95: None where there were none."""

    count: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A server now. `lag`, `queue`, `loop_lag` are of the last minute, or since the server began
    where it has been watched for less than two scrapes; so are `finals`, `rejected`, `failed`.

    busy_cores: processor time a second of time; None at the first scrape. session_share, budget: of
    the machine. refusals: errors sent since the server began, and in the last minute, by code.
    """

    ready: bool
    reason: str | None
    bundle: str
    backend: str
    modalities: Mapping[str, str | None]  # why not, or None where it is live
    sessions: int
    session_share: float | None
    budget: float | None
    busy_cores: float | None
    memory_bytes: float | None
    level: int
    lag: Spread
    queue: Spread
    loop_lag: Spread
    finals: int
    rejected: int
    failed: int
    refusals: Mapping[str, tuple[int, int]]

    @property
    def level_words(self) -> str:
        return LEVELS[min(self.level, len(LEVELS) - 1)]


class Watch:
    """Keeps the scrapes of the last minute."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Scrape]] = deque()

    def push(self, now_s: float, ready: Mapping[str, Any], scrape: Scrape) -> Status:
        """now_s: of a clock that does not go back. ready: what /readyz said."""
        while len(self._kept) > 1 and now_s - self._kept[0][0] > WINDOW_S:
            self._kept.popleft()
        if self._kept and _began(scrape) != _began(self._kept[-1][1]):
            self._kept.clear()  # another process: its counters began anew
        before = self._kept[-1] if self._kept else None
        self._kept.append((now_s, scrape))
        first = self._kept[0][1] if before else None
        reason = ready.get("reason")
        return Status(
            ready=bool(ready.get("ready")),
            reason=None if reason is None else str(reason),
            bundle=str(ready.get("bundle", "")),
            backend=str(ready.get("backend", "")),
            modalities=_modalities(ready),
            sessions=int(scrape.value("emotrace_sessions") or 0),
            session_share=scrape.value("emotrace_session_share"),
            budget=scrape.value("emotrace_compute_budget"),
            busy_cores=None if before is None else _busy(before, (now_s, scrape)),
            memory_bytes=scrape.value("process_resident_memory_bytes"),
            level=int(scrape.value("emotrace_degraded_level") or 0),
            lag=_spread(scrape, first, "emotrace_stage_seconds", stage="lag"),
            queue=_spread(scrape, first, "emotrace_queued_audio_seconds"),
            loop_lag=_spread(scrape, first, "emotrace_loop_lag_seconds"),
            finals=_counted(scrape, first, "emotrace_utterances_total", result="final"),
            rejected=_counted(scrape, first, "emotrace_utterances_total", result="rejected"),
            failed=_counted(scrape, first, "emotrace_utterances_total", result="failed"),
            refusals=_refusals(scrape, first),
        )


def _began(scrape: Scrape) -> float | None:
    return scrape.value("process_start_time_seconds")


def _modalities(ready: Mapping[str, Any]) -> dict[str, str | None]:
    told = ready.get("modalities")
    return {
        str(one.get("modality")): None if one.get("live") else str(one.get("reason") or "off")
        for one in (told if isinstance(told, list) else [])
        if isinstance(one, dict)
    }


def _busy(before: tuple[float, Scrape], now: tuple[float, Scrape]) -> float | None:
    passed_s = now[0] - before[0]
    used = sum((now[1].value(name) or 0) - (before[1].value(name) or 0) for name in CPU)
    return max(0.0, used) / passed_s if passed_s > 0 else None


def _spread(scrape: Scrape, first: Scrape | None, name: str, **labels: str) -> Spread:
    buckets = scrape.buckets(name, **labels)
    if first is not None:
        buckets = since(buckets, first.buckets(name, **labels))
    count = int(max(buckets.values(), default=0))
    return Spread(count, quantile(0.5, buckets), quantile(0.95, buckets))


def _counted(scrape: Scrape, first: Scrape | None, name: str, **labels: str) -> int:
    earlier = 0.0 if first is None else first.value(name, **labels) or 0.0
    return int((scrape.value(name, **labels) or 0.0) - earlier)


def _refusals(scrape: Scrape, first: Scrape | None) -> dict[str, tuple[int, int]]:
    name = "emotrace_refusals_total"
    return {
        code: (int(one.value), 0 if first is None else _counted(scrape, first, name, code=code))
        for one in scrape.of(name)
        if one.value > 0 and (code := one.labels.get("code"))
    }
