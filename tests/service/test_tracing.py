"""Traces: spans of what took time, and nothing of what was said."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
from doubles import Stage, silence, speech
from live import demo_pcm, live_server, pieces, stream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from emotrace_protocol import Event
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.events import EmotionFinal, Failed
from emotrace_protocol.messages import SessionEnd, SessionStart, UtteranceText
from emotrace_service.errors import StartRefused
from emotrace_service.tracing import STAGES, Name, Tracing, load_tracing

CANARY = "zanzibar-7c1f"
NOW = 1_700_000_000_000_000_000
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
async def heard(toy: Path) -> Sequence[Event]:
    """All events of a session with a canary in what was said, and by whom."""
    stage = Stage(toy)
    stage.backend.words = f"secret {CANARY}"
    start = SessionStart(speakers=(f"by {CANARY}",), purpose=CANARY)
    loud = [speech(1.5), silence(1.0)]
    said = UtteranceText(text=CANARY, speaker="B")
    socket = await stage.play(start, *loud, said, *loud, SessionEnd())
    assert CANARY in str(socket.heard)
    assert len(socket.of("emotion.final")) == 3
    return socket.heard


def traced(heard: Sequence[Event]) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, now=lambda: NOW)
    trace = tracing.session("s1")
    for event in heard:
        trace.told(event)
    trace.end("client")
    tracing.close()
    return exporter.get_finished_spans()


def test_a_session_its_utterances_and_their_stages(heard: Sequence[Event]) -> None:
    spans = traced(heard)
    by_id = {span.context.span_id: span for span in spans}
    (session,) = [span for span in spans if span.name == "session"]
    utterances = [span for span in spans if span.name == "utterance"]
    assert [span.attributes["emotrace.utterance"] for span in utterances] == [0, 1, 2]
    assert all(span.parent.span_id == session.context.span_id for span in utterances)
    assert session.attributes == {
        "emotrace.session": "s1",
        "emotrace.resumed": False,
        "emotrace.bundle": "toy",
        "emotrace.channels": 1,
        "emotrace.sample_rate": 16_000,
        "emotrace.utterances": 3,
        "emotrace.end": "client",
    }
    assert {span.context.trace_id for span in spans} == {session.context.trace_id}
    finals = [event for event in heard if isinstance(event, EmotionFinal)]
    for utterance, final in zip(utterances, finals, strict=True):
        stages = [span for span in spans if span.parent == utterance.context]
        names = [span.name for span in stages]
        assert names[0] == "endpointing"
        assert set(names[1:]) <= set(STAGES)
        for span in stages:
            length_ms = (span.end_time - span.start_time) / 1e6
            assert length_ms == pytest.approx(getattr(final.timings, f"{span.name}_ms"), abs=1e-5)
            assert utterance.start_time <= span.start_time <= span.end_time <= utterance.end_time
        whole_ms = (NOW - utterance.start_time) / 1e6
        lag_ms = final.timings.lag_ms + final.timings.endpointing_ms
        assert whole_ms == pytest.approx(lag_ms, abs=1e-3)
        assert utterance.attributes["emotrace.modalities"] == ",".join(final.modalities)
    assert all(span.parent is None or span.parent.span_id in by_id for span in spans)


def test_spans_hold_no_content_and_only_known_attributes(heard: Sequence[Event]) -> None:
    spans = traced(heard)
    labels = heard[0].labels
    assert spans[0].resource.attributes["service.name"] == "emotrace"
    for span in spans:
        assert set(span.attributes) <= set(get_args(Name))
        assert span.events == ()
        told = span.to_json()
        assert CANARY not in told
        assert not any(label in told for label in labels)
        assert "probab" not in told


def test_failed_and_rejected_utterances_are_told_and_a_clients_mistakes_are_not() -> None:
    def failed(code: ErrorCode, utterance: int | None) -> Failed:
        return Failed(
            sequence=0, code=code, message=CANARY, fatal=False, retryable=False, resume=False,
            utterance=utterance,
        )  # fmt: skip

    spans = traced(
        [
            failed(ErrorCode.INFERENCE_FAILED, 4),
            failed(ErrorCode.UTTERANCE_UNKNOWN, 7),
            failed(ErrorCode.MESSAGE_INVALID, None),
        ]
    )
    assert [span.name for span in spans] == ["utterance", "session"]
    assert spans[0].attributes == {"emotrace.utterance": 4, "emotrace.result": "failed"}
    assert CANARY not in spans[0].to_json()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", ENDPOINT: "http://127.0.0.1:1"},
        {ENDPOINT: ""},
        {"OTEL_SERVICE_NAME": "x"},
    ],
)
def test_off_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    assert load_tracing(environ) is None


@pytest.mark.parametrize(
    ("environ", "cure"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "Use otlp"),
        ({ENDPOINT: "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
def test_what_there_is_not_is_refused(environ: dict[str, str], cure: str) -> None:
    with pytest.raises(StartRefused, match=cure):
        load_tracing(environ)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert load_tracing({}) is None
    with pytest.raises(StartRefused, match=r"emotrace\[otel\]"):
        load_tracing({ENDPOINT: "http://127.0.0.1:4318"})


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    program = (
        "import sys, emotrace_service.app, emotrace_service.tracing as tracing;"
        "assert tracing.load_tracing({}) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')"
        " or name.startswith('opentelemetry.exporter')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """What a real collector would get: the path and body of each post."""
    posts: list[tuple[str, bytes]] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Take) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posts
        server.shutdown()
        thread.join()


def test_a_collector_gets_them_by_the_standard_variables(
    heard: Sequence[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (url, posts):
        environ = {
            ENDPOINT: url,
            "OTEL_SERVICE_NAME": "ward-3",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        tracing = load_tracing(environ)
        assert tracing is not None
        trace = tracing.session("s1", resumed=True)
        for event in heard:
            trace.told(event)
        trace.end("lost")
        tracing.close()
    assert {path for path, _ in posts} == {"/v1/traces"}
    assert CANARY.encode() not in b"".join(body for _, body in posts)
    (resource,) = ExportTraceServiceRequest.FromString(posts[0][1]).resource_spans
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert about["service.name"] == "ward-3"
    assert about["deployment.environment"] == "test"
    names = [span.name for span in resource.scope_spans[0].spans]
    assert names.count("utterance") == 3
    assert names[-1] == "session"


async def test_a_server_traces_its_sessions(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio, pcm = demo_pcm(8.0)
    start = SessionStart(audio=audio, speakers=(CANARY, "B"), purpose=CANARY)
    with collector() as (url, posts):
        monkeypatch.setenv(ENDPOINT, url)
        with live_server(toy, workers="threads") as server:
            _, heard, _ = await stream(server, start, pieces(pcm))
    finals = sum(isinstance(event, EmotionFinal) for event in heard)
    (resource,) = ExportTraceServiceRequest.FromString(posts[0][1]).resource_spans
    names = [span.name for span in resource.scope_spans[0].spans]
    assert names.count("utterance") == finals > 0
    assert names[-1] == "session"
    assert CANARY.encode() not in b"".join(body for _, body in posts)
