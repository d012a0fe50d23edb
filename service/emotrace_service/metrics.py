"""Metrics, in Prometheus' text format at /metrics. Every label has a closed set of values."""

from __future__ import annotations

from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from emotrace_models.speech_gate import Rejection
from emotrace_models.types import Modality
from emotrace_protocol.errors import DoubtCode, ErrorCode

STAGES = (
    "queue", "detection", "appraisal", "transcription", "encoding", "fusion", "decoding", "lag",
)  # fmt: skip
WORK = ("detect", "appraise", "sense", "read", "predict", "prepare", "transcribe", "shadow")
# of connections: a session whose connection is lost may go on by another
ENDS = ("client", "idle", "error", "going_away", "vanished", "lost", "taken_over", "deleted")
SHADOW_RESULTS = ("same", "other", "dropped", "failed")
CHANGES = ("changed", "unchanged", "refused")
FORBIDDEN = "origin_forbidden"  # a refusal that is no error of the protocol
WEBHOOK_RESULTS = ("delivered", "refused", "failed", "dropped", "undelivered", "deleted")
PAGE_S = 0.1
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """One registry a server, so that two in one process (tests) do not mix."""

    def __init__(self) -> None:
        self._page: bytes | None = None
        self._page_made = 0.0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # processor time, memory, open files
        self.sessions = Gauge("emotrace_sessions", "Sessions that are open", registry=self.registry)
        self.session_ends = Counter(
            "emotrace_session_ends", "Sessions over", ["reason"], registry=self.registry
        )
        self.utterances = Counter(
            "emotrace_utterances", "Utterances by result", ["result"], registry=self.registry
        )
        self.rejections = Counter(
            "emotrace_rejections", "Utterances that were no speech", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self.doubts = Counter(
            "emotrace_doubts", "Doubts about final estimates", ["code"], registry=self.registry
        )
        self.interims = Counter(
            "emotrace_interims", "Interim estimates by result", ["result"], registry=self.registry
        )
        self.foresights = Counter(
            "emotrace_foresights",
            "Utterances by what became of the estimate made before their end was sure",
            ["result"],
            registry=self.registry,
        )
        self.compute = Counter(
            "emotrace_compute_seconds", "Time of compute threads", ["work"],
            registry=self.registry,
        )  # fmt: skip
        self.compute_processor = Gauge(
            "emotrace_compute_processor_seconds", "Processor time of the compute processes",
            registry=self.registry,
        )  # fmt: skip
        self.threads_given_up = Counter(
            "emotrace_threads_given_up", "Compute threads whose batch did not end",
            registry=self.registry,
        )  # fmt: skip
        self.stages = Histogram(
            "emotrace_stage_seconds",
            "Time of one stage; lag is from the arrival of an utterance's last audio to its event",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.refusals = Counter(
            "emotrace_refusals", "Errors sent to clients", ["code"], registry=self.registry
        )
        self.modalities = Gauge(
            "emotrace_modality_live", "1 where a modality is live", ["modality"],
            registry=self.registry,
        )  # fmt: skip
        self.queued_audio = Histogram(
            "emotrace_queued_audio_seconds",
            "Audio that waited in a session's queue when more was taken from it",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.heard_s = 0.0  # a plain number, since it is read each second
        self.loop_lag = Histogram(
            "emotrace_loop_lag_seconds",
            "How late the event loop was, sampled every 10 ms",
            buckets=_LAGS,
            registry=self.registry,
        )
        self.loop_held = Histogram(
            "emotrace_loop_held_seconds",
            "The same without the time in which others had the cores",
            buckets=_LAGS,
            registry=self.registry,
        )
        self.level = Gauge(
            "emotrace_degraded_level", "What is left out now: 0 nothing", registry=self.registry
        )
        self.memory = Gauge(
            "emotrace_memory_bytes", "Memory that counts towards the nearest limit",
            registry=self.registry,
        )  # fmt: skip
        self.memory_limit = Gauge(
            "emotrace_memory_limit_bytes", "That limit: of the server's processes, or of a group",
            registry=self.registry,
        )  # fmt: skip
        self.memory_short = Gauge(
            "emotrace_memory_short", "1 while nobody new comes in for want of memory",
            registry=self.registry,
        )  # fmt: skip
        self.moved = Counter(
            "emotrace_sessions_moved", "Sessions sent to another server for want of memory",
            registry=self.registry,
        )  # fmt: skip
        self.budget = Gauge(
            "emotrace_compute_budget", "Share of the machine that sessions may take",
            registry=self.registry,
        )  # fmt: skip
        self.session_share = Gauge(
            "emotrace_session_share", "Share of the machine that a session takes",
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "emotrace_batch_size", "Utterances computed together", buckets=_SIZES,
            registry=self.registry,
        )  # fmt: skip
        self.webhook = Counter(
            "emotrace_webhook_events", "Events for the webhook by result", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.webhook_retries = Counter(
            "emotrace_webhook_retries", "Posts to the webhook that were repeated",
            registry=self.registry,
        )  # fmt: skip
        self.webhook_waiting = Gauge(
            "emotrace_webhook_waiting", "Events that wait to be posted", registry=self.registry
        )
        self.shadow = Counter(
            "emotrace_shadow_utterances",
            "Final estimates by what the shadow made of them; dropped, failed: sessions that it "
            "gave up",
            ["result"],
            registry=self.registry,
        )
        self.shadow_distance = Histogram(
            "emotrace_shadow_distance",
            "Half the sum of what the shadow's probabilities of an utterance differ by, 0 to 1",
            buckets=_SHARES,
            registry=self.registry,
        )
        self.bundle_changes = Counter(
            "emotrace_bundle_changes", "Times the bundles were read again, by result", ["result"],
            registry=self.registry,
        )  # fmt: skip
        for result in SHADOW_RESULTS:
            self.shadow.labels(result)
        for result in CHANGES:
            self.bundle_changes.labels(result)
        for reason in ENDS:
            self.session_ends.labels(reason)
        for result in ("final", "failed", "rejected"):
            self.utterances.labels(result)
        for rejection in get_args(Rejection):
            self.rejections.labels(rejection)
        for doubt in DoubtCode:
            self.doubts.labels(doubt.value)
        for result in ("sent", "early", "skipped", "withheld"):
            self.interims.labels(result)
        for result in ("used", "late", "none", "dropped"):
            self.foresights.labels(result)
        for result in WEBHOOK_RESULTS:
            self.webhook.labels(result)
        for work in WORK:
            self.compute.labels(work)
        for stage in STAGES:
            self.stages.labels(stage)
        for code in (*ErrorCode, FORBIDDEN):
            self.refusals.labels(str(code))
        for modality in Modality:
            self.modalities.labels(modality.value).set(0)

    def page(self, now: float) -> bytes:
        """`text`, made ten times a second at most: it takes the event loop some milliseconds, and
        whoever reaches the server may ask for it. now: in seconds of a clock that goes on."""
        if self._page is None or now - self._page_made >= PAGE_S:
            self._page, self._page_made = self.text(), now
        return self._page

    def text(self) -> bytes:
        return generate_latest(self.registry)
