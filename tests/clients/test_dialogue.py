"""Events into a picture of the dialogue, and that picture as tables, documents and a figure."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from scripted_server import final_fields, started

from emotrace_clients import Dialogue
from emotrace_clients.errors import ExtraMissing, SourceError
from emotrace_clients.event_files import read_events
from emotrace_protocol import NOTICE, ErrorCode, Event, ProtocolError, encode
from emotrace_protocol.estimates import Affect
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    Failed,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechRejected,
    SpeechStarted,
    Totals,
    TranscriptFinal,
)
from emotrace_protocol.messages import AudioFormat, SessionStart

NAMES = ("Ann", "=HYPERLINK(1)")
START = SessionStart(audio=AudioFormat(channels=2), speakers=NAMES)
TOTALS = Totals(
    audio_ms=9_000,
    audio_bytes=1,
    messages=1,
    utterances=5,
    finals=3,
    revisions=2,
    rejected=1,
    failed=1,
    events=1,
)


def events() -> list[Event]:
    """Two utterances and a turn without sound, the first revised twice; noise; a failure."""
    number = count()
    told: list[Event] = []

    def tell(kind: type[Event], **fields: Any) -> None:
        told.append(kind(sequence=next(number), **fields))

    def place(utterance: int, speaker: str) -> dict[str, Any]:
        return {"utterance": utterance, "speaker": speaker, "start_ms": 1_000 * utterance}

    tell(SessionStarted, **started(START))
    for utterance, speaker in ((0, NAMES[0]), (1, NAMES[1])):
        where = place(utterance, speaker)
        end = {"end_ms": 1_000 * utterance + 900}
        tell(SpeechStarted, **where)
        fields = final_fields(utterance, speaker)
        interim = {key: fields[key] for key in EmotionInterim.model_fields if key in fields}
        tell(EmotionInterim, **{**interim, "end_ms": end["end_ms"] - 300})
        tell(SpeechEnded, **where, **end, reason="silence")
        text = ("Hello", "+49 is <b>my</b> number")[utterance]
        tell(TranscriptFinal, **where, **end, text=text, language=None, source="client")
        affect = Affect(valence=-0.4, arousal=0.3)
        tell(EmotionFinal, **{**fields, "affect": affect, "doubts": ("noise", "clipping")})
    for label, cause in (("happiness", 1), ("anger", 2)):
        shares = (
            {"anger": 0.3, "happiness": 0.7} if cause == 1 else {"anger": 0.6, "happiness": 0.4}
        )
        tell(
            EmotionRevised,
            **place(0, NAMES[0]),
            end_ms=900,
            previous="anger" if cause == 1 else "happiness",
            label=label,
            posterior=shares,
            cause=cause,
        )
    where = {**place(2, "Bot"), "end_ms": 2_000}
    tell(TranscriptFinal, **where, text="I see.", language=None, source="client")
    tell(EmotionFinal, **{**final_fields(2, "Bot", abstained=True), "end_ms": 2_000})
    where = place(3, NAMES[0])
    tell(SpeechStarted, **where)
    tell(SpeechEnded, **where, end_ms=3_400, reason="silence")
    tell(TranscriptFinal, **where, end_ms=3_400, text="Thanks!", language=None, source="server")
    tell(SpeechRejected, **where, end_ms=3_400, reason="noise")
    tell(SpeechStarted, **place(4, NAMES[0]))
    tell(SpeechEnded, **place(4, NAMES[0]), end_ms=4_900, reason="silence")
    error = ProtocolError(ErrorCode.INFERENCE_FAILED, "It failed.", utterance=4)
    tell(Failed, **error.fields())
    tell(SessionEnded, reason="client", totals=TOTALS)
    return told


def test_utterances_with_all_that_is_known_of_them() -> None:
    dialogue = Dialogue.from_events(events())
    first, second, turn, noise, failed = dialogue.utterances
    assert (first.number, first.speaker, first.start_ms, first.end_ms) == (0, "Ann", 0, 900)
    assert (first.words, first.state) == ("Hello", "estimated")
    assert (first.label, first.confidence, first.abstained) == ("anger", 0.8, False)
    assert first.posterior == {"anger": 0.8, "happiness": 0.2}
    assert first.label_in_dialogue == "anger"
    assert first.posterior_in_dialogue == {"anger": 0.6, "happiness": 0.4}
    assert [one.cause for one in first.revisions] == [1, 2]
    assert first.revised
    assert not second.revised
    assert first.doubts == ("noise", "clipping")
    assert first.missing == ("lexical",)
    assert first.affect == Affect(valence=-0.4, arousal=0.3)
    (reason,) = first.reasons
    assert (reason.utterance, reason.speaker, reason.modality, reason.gate) == (
        *(0, "Ann"),
        *("acoustic", 0.5),
    )
    assert reason.weight == pytest.approx(0.7)
    assert (turn.speaker, turn.words, turn.start_ms, turn.end_ms) == ("Bot", "I see.", 2_000, 2_000)
    assert (noise.state, noise.rejected, noise.words) == ("rejected", "noise", "")
    assert (noise.label, noise.label_in_dialogue, noise.confidence) == (None, None, None)
    assert (failed.state, failed.label) == ("failed", None)
    assert failed.failed is not None
    assert "It failed" in failed.failed
    assert dialogue.speakers == (*NAMES, "Bot")
    assert dialogue.totals == TOTALS


def test_a_revision_is_the_last_word_as_soon_as_it_comes() -> None:
    told = events()
    at = next(n for n, event in enumerate(told) if isinstance(event, EmotionRevised))
    dialogue = Dialogue.from_events(told[:at])
    assert dialogue.utterances[0].label_in_dialogue == "anger"
    dialogue.add(told[at])
    assert dialogue.utterances[0].label_in_dialogue == "happiness"
    assert dialogue.utterances[0].posterior_in_dialogue == {"anger": 0.3, "happiness": 0.7}


def test_it_can_be_looked_at_after_every_event() -> None:
    dialogue = Dialogue()
    states: list[str] = []
    for event in events():
        dialogue.add(event)
        dialogue.to_csv()
        json.loads(dialogue.to_json())
        assert dialogue._repr_html_()
        assert repr(dialogue)
        if dialogue.utterances:
            one = dialogue.utterances[0]
            if not states or states[-1] != one.state:
                states.append(one.state)
            if isinstance(event, EmotionInterim) and event.utterance == 0:
                assert one.interim == event
                assert one.end_ms == 600
    assert states == ["speaking", "waiting", "estimated"]
    assert dialogue.events == events()


def test_rows_for_spreadsheets_hold_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    text = Dialogue.from_events(events()).to_csv(path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert path.read_text(encoding="utf-8-sig").replace("\r\n", "\n") == text.replace("\r\n", "\n")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["speaker"] for row in rows] == ["Ann", "'=HYPERLINK(1)", "Bot", "Ann", "Ann"]
    assert rows[1]["text"] == "'+49 is <b>my</b> number"
    assert rows[0]["valence"] == "-0.4", "a number is a number"
    for row in rows:
        for value in row.values():
            assert not re.match(r"[=+@\t\r\n]|-(?![\d.])", value)
    assert (rows[0]["label"], rows[0]["label_in_dialogue"], rows[0]["revised_from"]) == (
        *("anger", "anger"),
        "happiness",
    )
    assert [row["outcome"] for row in rows] == [*["estimated"] * 3, "rejected", "failed"]
    assert [row["unsure"] for row in rows] == ["false", "false", "true", "", ""]
    assert (rows[0]["p_anger"], rows[3]["p_anger"]) == ("0.8", "")


@pytest.mark.parametrize("sign", "=+-@\t\r\n＝＋－＠")
def test_no_sign_begins_a_formula(sign: str) -> None:
    told = events()
    spoken = next(n for n, event in enumerate(told) if isinstance(event, TranscriptFinal))
    told[spoken] = told[spoken].model_copy(update={"text": f"{sign}1+1"})
    (row, *_) = csv.DictReader(io.StringIO(Dialogue.from_events(told).to_csv(), newline=""))
    assert row["text"] == f"'{sign}1+1"


def test_the_columns_are_those_of_the_browser_page(root: Path) -> None:
    script = (root / "clients/emotrace_clients/browser/exports.js").read_text()
    fields = re.search(r"function fields\(.*?return \{(.*?)\n  \};", script, re.DOTALL)
    assert fields is not None
    names = re.findall(r"^    (\w+)(?:[:,])", fields[1], re.MULTILINE)
    rows = csv.reader(io.StringIO(Dialogue.from_events(events()).to_csv()))
    assert next(rows) == [*names, "p_anger", "p_happiness"]


def test_json_has_the_notice_a_row_an_utterance_and_all_events(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    dialogue = Dialogue.from_events(events())
    dialogue.to_json(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["notice"] == NOTICE
    assert data["bundle"]["name"] == "toy"
    assert data["utterances"][1]["text"] == "+49 is <b>my</b> number"
    assert len(data["events"]) == len(events())
    assert read_events(path) == events()


def test_markup_of_others_is_text_in_a_notebook() -> None:
    html = Dialogue.from_events(events())._repr_html_()
    assert "<b>" not in html
    assert "+49 is &lt;b&gt;my&lt;/b&gt; number" in html
    assert "↺ anger (was happiness)" in html
    assert "noise, not speech" in html
    assert NOTICE in html


def test_an_empty_dialogue_is_one_too() -> None:
    dialogue = Dialogue()
    assert dialogue.utterances == ()
    assert dialogue.to_csv() == ""
    assert "nobody yet" in repr(dialogue)
    assert json.loads(dialogue.to_json())["utterances"] == []


@pytest.mark.parametrize(
    ("package", "method", "extra"),
    [("pandas", "to_dataframe", "pandas"), ("matplotlib", "plot", "plot")],
)
def test_without_an_extra_its_name_is_told(
    monkeypatch: pytest.MonkeyPatch, package: str, method: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "emotrace_clients.plotting", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraMissing, match=rf"{package}.*emotrace\[{extra}\]"):
        getattr(Dialogue.from_events(events()), method)()


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="needs pandas")
def test_a_data_frame_has_numbers_where_there_are_numbers() -> None:
    frame = Dialogue.from_events(events()).to_dataframe()
    assert list(frame.index) == [0, 1, 2, 3, 4]
    assert frame["label_in_dialogue"].tolist()[:3] == ["anger"] * 3
    assert frame["confidence"].dtype.kind == "f"
    assert frame["confidence"].mean() == pytest.approx(0.8)
    assert frame.loc[1, "speaker"] == "=HYPERLINK(1)", "it is no spreadsheet"
    assert Dialogue().to_dataframe().empty


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_the_figure_shows_each_utterance_in_its_speakers_lane() -> None:
    from matplotlib.patches import Rectangle

    figure = Dialogue.from_events(events()).plot()
    lanes = figure.axes[:-1]
    assert [axis.get_ylabel() for axis in lanes] == [*NAMES, "Bot"]
    bars = [[one for one in axis.patches if isinstance(one, Rectangle)] for axis in lanes]
    assert [len(lane) for lane in bars] == [3, 1, 1]
    assert bars[0][0].get_height() == pytest.approx(0.8)
    assert (bars[0][0].get_x(), bars[0][0].get_width()) == pytest.approx((0.0, 0.9))
    assert bars[2][0].get_hatch() is not None, "unsure is hatched"
    written = [[text.get_text() for text in axis.texts] for axis in lanes]
    assert written == [["An", "↺An"], ["An", "An"], ["An?", "An"]], (
        "letters, and the word of the dialogue"
    )
    shares = {tuple(line.get_ydata()) for line in figure.axes[-1].lines}
    assert {(-0.4,), (0.3,)} <= shares
    told = " ".join(text.get_text() for text in figure.texts)
    assert NOTICE in told
    assert "An anger" in told
    assert "↺ revised" in told
    assert figure._repr_png_().startswith(b"\x89PNG")
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    assert b"<svg" in picture.getvalue()


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_part_of_a_dialogue_and_none_at_all_can_be_drawn() -> None:
    figure = Dialogue.from_events(events()).plot(start_ms=900, end_ms=1_950)
    assert figure.axes[0].get_xlim() == (0.9, 1.95)
    assert [len(axis.patches) for axis in figure.axes[:3]] == [1, 1, 0]
    assert Dialogue().plot().axes


def test_events_come_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [encode(event) for event in events()]
    lines.insert(3, '{"type": "weather", "sequence": 3, "rain": true}')  # of a newer server
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_events(path) == events()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("", "holds no events"),
        ("hello", "event 1: .* not JSON"),
        ('{"type": "heartbeat", "sequence": 0, "audio_ms": 1}', "event 1: it begins no session"),
        ('{"a": 1}', "event 1"),
        ("TWICE", "event 2: it begins a second session"),
    ],
)
def test_what_is_no_file_of_events_is_said(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "events.jsonl"
    if text is not None:
        path.write_text("\n".join([encode(events()[0])] * 2) if text == "TWICE" else text)
    with pytest.raises(SourceError, match=told):
        read_events(path)
