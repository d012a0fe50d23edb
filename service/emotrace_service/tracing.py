"""Traces for OpenTelemetry, where the standard variables OTEL_* ask for them; else nothing of it is
even imported.

    session ─┬─ utterance ─┬─ endpointing
             │             └─ queue, transcription, encoding, fusion, decoding
             └─ utterance ...

Spans hold sizes, times and results from closed sets: never words, labels, numbers of an estimate or
a speaker's name. The lengths of stages are measured where they ran, in other processes too; they
are laid end to end, so their places are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, TypeAlias

from emotrace_protocol import events
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.events import Event
from emotrace_service.errors import StartRefused

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
STAGES = ("queue", "transcription", "encoding", "fusion", "decoding")
FAILURES = (ErrorCode.INFERENCE_FAILED, ErrorCode.UTTERANCE_INCOMPLETE)
FLUSH_MS = 3_000

Name: TypeAlias = Literal[
    "emotrace.session",
    "emotrace.resumed",
    "emotrace.bundle",
    "emotrace.channels",
    "emotrace.sample_rate",
    "emotrace.utterances",
    "emotrace.end",
    "emotrace.utterance",
    "emotrace.result",
    "emotrace.modalities",
    "emotrace.foreseen",
    "emotrace.speech_ms",
]
Value: TypeAlias = str | int | bool


def load_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """None: the environment asks for no traces. Raises StartRefused where it asks for what there is
    not."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    endpoint = any(environ.get(name) for name in ENDPOINTS)
    if disabled or exporter == "none" or not (endpoint or exporter):
        return None
    if exporter not in ("", "otlp"):
        raise StartRefused(f"OTEL_TRACES_EXPORTER is {exporter!r}. Use otlp, or none.")
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise StartRefused(
            f"Traces are sent by http/protobuf only, and {protocol!r} is asked for. Unset "
            f"{PROTOCOLS[1]}, and name the collector's port for HTTP (4318 as a rule)."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise StartRefused(
            "The environment asks for traces (OTEL_*), and OpenTelemetry is not installed: "
            "pip install 'emotrace[otel]', or unset these variables."
        ) from None
    return Tracing(OTLPSpanExporter())


class Tracing:
    """Of one server. exporter: where spans go, from a thread of its own; the standard variables
    say how many wait, which are left out, and the service's name. now: nanoseconds since 1970."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = {"service.name": "emotrace", "service.version": version("emotrace")}
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create(service).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._now = now

    def session(self, name: str, *, resumed: bool = False) -> SessionTrace:
        """A session on one connection begins."""
        return SessionTrace(self._provider, name, resumed, self._now)

    def close(self) -> None:
        """Send what waits, for a few seconds at most. Blocks."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


class SessionTrace:
    """Of one session on one connection: its events become spans as they are told."""

    def __init__(
        self, provider: TracerProvider, name: str, resumed: bool, now: Callable[[], int]
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer = provider.get_tracer("emotrace")
        self._now = now
        self._span = self._tracer.start_span("session", start_time=now())
        self._context = set_span_in_context(self._span)
        self._within = set_span_in_context
        self._utterances = 0
        _describe(self._span, "emotrace.session", name)
        _describe(self._span, "emotrace.resumed", resumed)

    def told(self, event: Event) -> None:
        """Takes note of any event."""
        if isinstance(event, events.EmotionFinal):
            self._estimated(event)
        elif isinstance(event, events.SpeechRejected):
            now = self._now()
            span = self._utterance(event.utterance, "rejected", now)
            _describe(span, "emotrace.speech_ms", event.end_ms - event.start_ms)
            span.end(now)
        elif isinstance(event, events.Failed):
            if event.code in FAILURES and event.utterance is not None:
                now = self._now()
                self._utterance(event.utterance, "failed", now).end(now)
        elif isinstance(event, events.SessionStarted):
            _describe(self._span, "emotrace.bundle", event.bundle.name)
            _describe(self._span, "emotrace.channels", event.audio.channels)
            _describe(self._span, "emotrace.sample_rate", event.audio.sample_rate)

    def end(self, reason: str) -> None:
        """The session is over on this connection. reason: of a closed set."""
        _describe(self._span, "emotrace.utterances", self._utterances)
        _describe(self._span, "emotrace.end", reason)
        self._span.end(self._now())

    def _estimated(self, event: events.EmotionFinal) -> None:
        timings, now = event.timings, self._now()
        waited = _ns(timings.endpointing_ms)
        begun = now - _ns(timings.lag_ms) - waited
        span = self._utterance(event.utterance, "final", begun)
        _describe(span, "emotrace.speech_ms", event.end_ms - event.start_ms)
        _describe(span, "emotrace.modalities", ",".join(event.modalities))
        _describe(span, "emotrace.foreseen", timings.foreseen)
        self._stage(span, "endpointing", begun, waited)
        # An estimate that was foreseen was made while the endpointer still waited.
        place = begun if timings.foreseen else begun + waited
        for stage in STAGES:
            length = _ns(getattr(timings, f"{stage}_ms"))
            if length:
                self._stage(span, stage, place, length)
                place += length
        span.end(max(now, place))

    def _utterance(
        self, index: int, result: Literal["final", "rejected", "failed"], begun: int
    ) -> Span:
        self._utterances += 1
        span = self._tracer.start_span("utterance", self._context, start_time=begun)
        _describe(span, "emotrace.utterance", index)
        _describe(span, "emotrace.result", result)
        return span

    def _stage(self, utterance: Span, name: str, begun: int, length: int) -> None:
        context = self._within(utterance)
        self._tracer.start_span(name, context, start_time=begun).end(begun + length)


def _describe(span: Span, name: Name, value: Value) -> None:
    """The only place that sets attributes: their names are a closed set."""
    span.set_attribute(name, value)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)
