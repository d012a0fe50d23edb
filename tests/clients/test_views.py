"""What the three views print for the same session."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console
from scripted_server import final, started

from emotrace_clients.lines import JsonLines, PlainLines
from emotrace_clients.progress import FileProgress, position
from emotrace_clients.terminal import LiveView
from emotrace_protocol import NOTICE, ErrorCode, Event, ProtocolError, decode_event
from emotrace_protocol.estimates import Affect
from emotrace_protocol.events import (
    EmotionInterim,
    EmotionRevised,
    Failed,
    Heartbeat,
    MarkerReached,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechRejected,
    SpeechStarted,
    Totals,
    TranscriptFinal,
    Warned,
)
from emotrace_protocol.messages import AudioFormat, SessionStart

START = SessionStart(audio=AudioFormat(channels=2), speakers=("Ann", "Ben"), transcription="off")
TOTALS = Totals(
    audio_ms=2_000,
    audio_bytes=1,
    messages=1,
    utterances=2,
    finals=1,
    revisions=1,
    rejected=1,
    failed=0,
    events=1,
)
SPEECH = {"utterance": 0, "speaker": "Ann", "start_ms": 0}
CLICK = {"utterance": 1, "speaker": "Ben", "start_ms": 1_000}
SEVEN = ("neutral", "surprise", "fear", "sadness", "happiness", "disgust", "anger")
FINAL = final(
    0,
    "Ann",
    doubts=("noise",),
    affect=Affect(valence=-0.25, arousal=0.57),
    abstained=False,
    decoder=final().decoder.model_copy(update={"label": "happiness"}),
)
INTERIM = {
    key: value
    for key, value in final(0, "Ann").model_dump().items()
    if key in EmotionInterim.model_fields and key != "type"
}
EVENTS: tuple[Event, ...] = (
    SessionStarted(
        sequence=0,
        **started(START) | {"label_sets": {"ekman7": SEVEN, "common4": ("anger", "happiness")}},
    ),
    SpeechStarted(sequence=1, **SPEECH),
    EmotionInterim(**INTERIM),
    SpeechEnded(sequence=3, **SPEECH, end_ms=900, reason="silence"),
    TranscriptFinal(
        sequence=4, **SPEECH, end_ms=900, text="Go \x1b[31maway!", language=None, source="client"
    ),
    FINAL,
    SpeechStarted(sequence=6, **CLICK),
    TranscriptFinal(
        sequence=6, **CLICK, end_ms=1_400, text="Thank you.", language=None, source="server"
    ),
    SpeechRejected(sequence=6, **CLICK, end_ms=1_400, reason="noise"),
    EmotionRevised(
        sequence=6,
        **SPEECH,
        end_ms=900,
        previous="anger",
        label="happiness",
        posterior={"anger": 0.3, "happiness": 0.7},
        cause=2,
    ),
    Warned(sequence=7, code="backpressure", message="Slow down."),
    Failed(sequence=8, **ProtocolError(ErrorCode.INFERENCE_FAILED, "It failed.").fields()),
    MarkerReached(sequence=9, id="m", audio_ms=1_000),
    Heartbeat(sequence=10, audio_ms=1_000),
    SessionEnded(sequence=11, reason="client", totals=TOTALS),
)
TOLD = (
    "Label sets to choose from: ekman7, common4.",
    "doubtful: noisy",
    "valence -0.2 arousal +0.6",
    "0:01.0-0:01.4  Ben  no estimate: noise, not speech",
    "What was no speech has no estimate: 1 utterance.",
    "Not used: words (off)",
    NOTICE,
    "0:00.0",
    "Ann",
    "anger",
    "80 %",
    "in dialogue: happiness",
    "Ann's voice spoke for anger (+0.7)",
    "without words",
    "Go \N{REPLACEMENT CHARACTER}[31maway!",
    "Ann at 0:00.0: anger → happiness, after utterance 2 was heard",
    "Slow down.",
    "It failed.",
    "2.0 s of sound",
)


def terminal(colour: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=200,
        force_terminal=True,
        color_system="truecolor" if colour else None,
        legacy_windows=False,
    )
    return console, out


def test_plain_lines_say_everything_once_and_a_line_each() -> None:
    lines: list[str] = []
    view = PlainLines(lines.append)
    for event in EVENTS:
        view.show(event)
    text = "\n".join(lines)
    for told in TOLD:
        assert told in text, told
    assert sum(NOTICE in line for line in lines) == 1
    assert all("\n" not in line and "\x1b" not in line for line in lines)
    assert sum("why:" in line for line in lines) == 1
    assert "Thank you" not in text, "words heard in noise are not shown"


def test_json_lines_are_the_events() -> None:
    lines: list[str] = []
    view = JsonLines(lines.append)
    for event in EVENTS:
        view.show(event)
    assert tuple(decode_event(line) for line in lines) == EVENTS


@pytest.mark.parametrize("colour", [True, False])
def test_the_terminal_says_the_same_with_and_without_colour(colour: bool) -> None:
    console, out = terminal(colour)
    with LiveView(console) as view:
        for event in EVENTS:
            view.show(event)
    text = "".join(part for part in _without_codes(out.getvalue()))
    for told in TOLD:
        assert told in text, told
    assert "\x1b[31maway" not in out.getvalue()


def test_the_footer_shows_who_speaks_and_how_loud() -> None:
    console, _ = terminal(False)
    view = LiveView(console, hint="Ctrl-C ends the session")
    for event in EVENTS[:3]:
        view.show(event)
    view.levels_dbfs = (-12.0, -60.0)
    with console.capture() as captured:
        console.print(view._footer())
    ann, ben, hint = captured.get().splitlines()[-3:]
    assert "-12 dB" in ann
    assert "speaking so far anger" in ann
    assert "80 %" in ann
    assert "-60 dB" in ben
    assert "silent" in ben
    assert "Ctrl-C" in hint


def test_the_footer_forgets_what_was_no_speech() -> None:
    console, _ = terminal(False)
    view = LiveView(console)
    for event in EVENTS:
        view.show(event)
        with console.capture() as captured:
            console.print(view._footer())
        if isinstance(event, SpeechStarted):
            assert "speaking" in captured.get()
        elif isinstance(event, SpeechRejected):
            assert "speaking" not in captured.get()


def test_seven_labels_line_up() -> None:
    console, out = terminal(False)
    with LiveView(console) as view:
        view.show(SessionStarted(sequence=0, **started(START) | {"labels": SEVEN}))
        for number, label in enumerate(SEVEN):
            posterior = {name: 0.4 if name == label else 0.1 for name in SEVEN}
            estimate = {"label": label, "posterior": posterior, "abstained": number % 2 == 1}
            explanation = FINAL.explanation.model_copy(update={"contributions": ()})
            view.show(final(number, "Ann", **estimate, explanation=explanation))
    shown = [line for line in out.getvalue().splitlines() if "█" in line]
    assert len(shown) == len(SEVEN)
    assert len({line.index("█") for line in shown}) == 1
    assert [label in line for label, line in zip(SEVEN, shown, strict=True)] == [True] * 7
    assert ["unsure" in line for line in shown] == [False, True] * 3 + [False]


def test_notes_of_the_client_reach_every_view(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    PlainLines(lines.append).note("It broke \x1b[31moff.")
    assert lines == ["note  It broke \N{REPLACEMENT CHARACTER}[31moff."]
    JsonLines(lines.append).note("It broke off.")
    assert len(lines) == 1, "lines of JSON are events"
    assert capsys.readouterr().err == "It broke off.\n"
    console, out = terminal(False)
    with LiveView(console) as view:
        view.note("It broke off.")
    assert "! It broke off." in out.getvalue()


def test_the_footer_shows_how_far_a_file_has_come() -> None:
    console, _ = terminal(False)
    view = LiveView(console)
    progress = FileProgress(120.0, console)
    view.progress = progress.bar
    blocks = progress.counted(iter([np.zeros((16_000, 1), np.float32)] * 65), 16_000)
    for _ in range(64):
        next(blocks)
    with console.capture() as captured:
        console.print(view._footer())
    assert "1:03 of 2:00 sent" in captured.get()
    assert "left" in captured.get()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (59.9, "0:59"), (65, "1:05"), (7_325, "2:02:05")]
)
def test_positions_in_a_recording(seconds: float, told: str) -> None:
    assert position(seconds) == told


def _without_codes(text: str) -> list[str]:
    return re.split(r"\x1b\[[0-9;?]*[A-Za-z]", text)
