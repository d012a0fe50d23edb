"""A server seen from outside: its metrics read, its last minute told, and where it is down."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from answering import answering_to
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from rich.console import Console

from emotrace_clients.errors import ServerUnreachable
from emotrace_clients.exposition import Scrape, quantile, since
from emotrace_clients.watch_view import line, screen, watch
from emotrace_clients.watching import CPU, Spread, Status, Watch
from emotrace_service.metrics import Metrics as ServerMetrics

READY = {
    "ready": True,
    "reason": None,
    "bundle": "default",
    "backend": "local",
    "modalities": [
        {"modality": "acoustic", "live": True, "reason": None},
        {"modality": "lexical", "live": False, "reason": "There is no transcriber."},
    ],
}


class Metrics:
    """What of a server's metrics is watched, in the library that the server uses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge = {"registry": self.registry}
        self.sessions = Gauge("emotrace_sessions", "", **gauge)
        self.share = Gauge("emotrace_session_share", "", **gauge)
        self.budget = Gauge("emotrace_compute_budget", "", **gauge)
        self.level = Gauge("emotrace_degraded_level", "", **gauge)
        self.began = Gauge("process_start_time_seconds", "", **gauge)
        self.cpu = Counter("process_cpu_seconds", "", **gauge)
        self.compute = Gauge("emotrace_compute_processor_seconds", "", **gauge)
        self.memory = Gauge("process_resident_memory_bytes", "", **gauge)
        self.refusals = Counter("emotrace_refusals", "", ["code"], **gauge)
        self.utterances = Counter("emotrace_utterances", "", ["result"], **gauge)
        buckets = (0.01, 0.02, 0.05, 0.1, 1.0)
        self.stages = Histogram("emotrace_stage_seconds", "", ["stage"], buckets=buckets, **gauge)
        self.queued = Histogram("emotrace_queued_audio_seconds", "", buckets=buckets, **gauge)
        self.loop = Histogram("emotrace_loop_lag_seconds", "", buckets=buckets, **gauge)

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()

    @property
    def scrape(self) -> Scrape:
        return Scrape(self.text)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_what_the_library_writes_is_read() -> None:
    registry = CollectorRegistry()
    odd = Counter("odd", 'with "quotes" and \\ backslash', ["name"], registry=registry)
    odd.labels('a "quoted", {braced} \\ name\nof two lines').inc(2.5)
    Gauge("empty", "", ["name"], registry=registry)
    Gauge("endless", "", registry=registry).set(math.inf)
    scrape = Scrape(generate_latest(registry).decode())
    assert scrape.value("odd_total", name='a "quoted", {braced} \\ name\nof two lines') == 2.5
    assert scrape.value("endless") == math.inf
    assert scrape.value("empty") is None
    assert scrape.of("nothing") == []


@pytest.mark.parametrize("text", ["<html><body>", '{"ready": true}', "a b c d"])
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Prometheus"):
        Scrape(text)


@given(
    values=st.lists(st.floats(0.0, 0.999), min_size=1, max_size=200),
    share=st.sampled_from([0.5, 0.95]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    bounds = (0.01, 0.05, 0.1, 0.5, 1.0, math.inf)
    buckets = {bound: float(sum(value <= bound for value in values)) for bound in bounds}
    found = quantile(share, buckets)
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    upper = next(bound for bound in bounds if true <= bound)
    lower = max([0.0, *(bound for bound in bounds if bound < upper)])
    assert found is not None
    assert lower <= found <= upper


def test_quantiles_at_the_edges() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None
    assert quantile(0.5, {1.0: 0.0, math.inf: 3.0}) == 1.0, "above the last bound, that bound"
    assert quantile(0.5, {1.0: 2.0, 2.0: 4.0, math.inf: 4.0}) == 1.0
    assert since({1.0: 5.0}, {1.0: 3.0}) == {1.0: 2.0}
    assert since({1.0: 1.0}, {1.0: 3.0}) == {1.0: 1.0}, "the server began anew"


def test_the_last_minute_is_told_and_not_what_was_before(metrics: Metrics) -> None:
    seen = Watch()
    metrics.sessions.set(3)
    metrics.share.set(0.02)
    metrics.budget.set(0.7)
    metrics.refusals.labels("capacity").inc(4)
    metrics.refusals.labels("internal")
    for _ in range(100):
        metrics.stages.labels("lag").observe(0.9)
    metrics.utterances.labels("final").inc(100)
    first = seen.push(0.0, READY, metrics.scrape)
    assert first.busy_cores is None
    assert first.lag.count == 100, "the first look has nothing to compare with"
    assert first.refusals == {"capacity": (4, 0)}
    metrics.cpu.inc(1.5)
    metrics.compute.set(1.0)
    metrics.refusals.labels("capacity").inc()
    metrics.refusals.labels("rate_limited").inc(2)
    for _ in range(10):
        metrics.stages.labels("lag").observe(0.015)
    metrics.utterances.labels("final").inc(10)
    second = seen.push(2.0, READY, metrics.scrape)
    assert second.busy_cores == pytest.approx(1.25)
    assert (second.lag.count, second.finals) == (10, 10)
    assert second.lag.p50 == pytest.approx(0.015)
    assert second.refusals == {"capacity": (5, 1), "rate_limited": (2, 2)}
    assert second.sessions == 3
    later = seen.push(100.0, READY, metrics.scrape)
    assert later.lag.count == 0
    assert later.lag.p95 is None


def test_a_server_that_began_anew_is_looked_at_anew(metrics: Metrics) -> None:
    seen = Watch()
    metrics.began.set(1)
    metrics.cpu.inc(100)
    metrics.utterances.labels("final").inc(9)
    seen.push(0.0, READY, metrics.scrape)
    anew = Metrics()
    anew.began.set(2)
    anew.utterances.labels("final").inc(1)
    status = seen.push(1.0, READY, anew.scrape)
    assert status.busy_cores is None
    assert status.finals == 1


def status(**changed: Any) -> Status:
    nothing = Spread(0, None, None)
    fields: dict[str, Any] = {
        "ready": True,
        "reason": None,
        "bundle": "default",
        "backend": "local",
        "modalities": {"acoustic": None, "lexical": "There is no \x1b[31mtranscriber."},
        "sessions": 3,
        "session_share": 0.02,
        "budget": 0.7,
        "busy_cores": 1.25,
        "memory_bytes": 2.0**30,
        "level": 0,
        "lag": Spread(10, 0.015, 0.042),
        "queue": nothing,
        "loop_lag": nothing,
        "finals": 10,
        "rejected": 1,
        "failed": 0,
        "refusals": {"capacity": (5, 1)},
    }
    return Status(**{**fields, **changed})


def shown(what: Status) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as captured:
        console.print(screen("ws://here/v1/stream", what))
    return captured.get()


def test_the_screen_says_it_in_words() -> None:
    told = shown(status())
    for part in (
        "ready",
        "voice",
        "live",
        "off: There is no \N{REPLACEMENT CHARACTER}[31mtranscriber.",
        "3 open; about 35 that are heard fit",
        "1.2 cores busy, 1.0 GiB; sessions take at most 6 % of the machine, and may take 70 %",
        "level 0: everything is served",
        "p50 15 ms, p95 42 ms from the end",
        "10 estimated, 1 no speech, 0 failed",
        "capacity 5 (+1)",
    ):
        assert part in told, part
    assert "\x1b" not in told
    warming = shown(status(ready=False, reason="The models are warming up.", level=3, refusals={}))
    assert "not ready: The models are warming up." in warming
    assert "level 3: interim estimates and pictures are left out, and nobody new" in warming
    assert "none" in warming


def test_a_line_has_the_same_figures() -> None:
    told = line(status())
    assert "\n" not in told
    assert "\x1b" not in told
    for part in (
        "ready",
        "sessions 3",
        "cores 1.2",
        "p50 15 ms p95 42 ms",
        "capacity=5",
        "level 0",
    ):
        assert part in told, part
    assert "not ready (The models are warming up.)" in line(
        status(ready=False, reason="The models are warming up.")
    )


class Enough(Exception):
    """Ends an endless watch."""


def sleeps(looks: int) -> Any:
    left: Iterator[None] = iter([None] * (looks - 1))

    def sleep(seconds: float) -> None:
        try:
            next(left)
        except StopIteration:
            raise Enough from None

    return sleep


def test_in_a_pipe_each_look_is_a_line_and_a_server_that_is_down_too(metrics: Metrics) -> None:
    out = io.StringIO()
    metrics.sessions.set(7)
    answers = {
        "/readyz": (200, json.dumps(READY).encode()),
        "/metrics": (200, metrics.text.encode()),
    }
    with answering_to(lambda path: answers.get(path, (404, b""))) as url:
        console = Console(file=out, width=40)
        with pytest.raises(Enough):
            watch(url, 1.0, console, sleeps(2), once=False)
        answers.pop("/metrics")
        with pytest.raises(Enough):
            watch(url, 1.0, console, sleeps(1), once=False)
    with pytest.raises(Enough):
        watch(url, 1.0, console, sleeps(1), once=False)
    first, second, third, fourth = out.getvalue().splitlines()
    assert "sessions 7" in first
    assert "sessions 7" in second
    assert "gives no metrics (HTTP 404)" in third
    assert "connection refused" in fourth
    assert "Trying again" in fourth


def test_a_single_look_fails_where_nothing_answers() -> None:
    with pytest.raises(ServerUnreachable, match="connection refused"):
        watch("ws://127.0.0.1:9/v1/stream", 1.0, Console(), sleeps(1), once=True)


def test_on_a_terminal_the_screen_is_drawn_again(metrics: Metrics) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=120)
    answers = {
        "/readyz": (503, json.dumps({**READY, "ready": False, "reason": "Warming up."}).encode()),
        "/metrics": (200, metrics.text.encode()),
    }
    with answering_to(answers.__getitem__) as url, pytest.raises(Enough):
        watch(url, 1.0, console, sleeps(2), once=False)
    assert out.getvalue().count("not ready: Warming up.") >= 2


def test_the_servers_metrics_have_every_name_that_is_read() -> None:
    there = Scrape(ServerMetrics().text().decode())
    for name in ("emotrace_sessions", "emotrace_session_share", "emotrace_compute_budget", *CPU):
        assert there.value(name) is not None, name
    for name in ("emotrace_degraded_level", "process_resident_memory_bytes"):
        assert there.value(name) is not None, name
    assert there.value("process_start_time_seconds") is not None
    assert there.value("emotrace_refusals_total", code="capacity") == 0
    for result in ("final", "rejected", "failed"):
        assert there.value("emotrace_utterances_total", result=result) == 0
    assert there.buckets("emotrace_stage_seconds", stage="lag")
    for name in ("emotrace_queued_audio_seconds", "emotrace_loop_lag_seconds"):
        assert there.buckets(name), name
