"""The envelope that every benchmark hands over."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from emotrace_bench.charts import Bars, Lines
from emotrace_bench.drawing import PlotUnavailable, draw
from emotrace_bench.result import Ratio, Result, Table, deliver, sentence, shown

BARS = Bars("parts", "ms", {"one": {"a": 1.0, "b": 2.0}, "other": {"b": 3.0}})
LINES = Lines("growth", "turn", "ms", {"ours": ((10.0, 1.0), (100.0, 1.1))})
RESULT = Result(
    benchmark="made up",
    settings={"rounds": 3, "way": "both"},
    seed=7,
    tables=(Table("times", ("way", "ms"), (("ours", 1.25), ("theirs", None))),),
    ratios=(Ratio("theirs / ours", 4.0, 1e-6, least=2.5, aim=4.0), Ratio("growth", 1.2, None)),
    notes=("Nothing was measured.",),
    charts=(BARS, LINES),
)


def test_the_document_says_what_and_where_and_how(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "result.json"
    deliver(RESULT, out, None)
    written = json.loads(out.read_text())
    assert written["benchmark"] == "made up"
    assert written["settings"] == {"rounds": 3, "way": "both"}
    assert (written["seed"], written["quick"]) == (7, False)
    assert written["tables"] == [
        {"title": "times", "rows": [{"way": "ours", "ms": 1.25}, {"way": "theirs", "ms": None}]}
    ]
    assert [one["met"] for one in written["ratios"]] == [True, None]
    assert written["ratios"][0]["difference"] == 1e-6
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["memory_gib"] > 0
    assert {"torch", "numpy"} <= set(written["machine"]["libraries"])
    assert written["commit"]
    assert written["command"]


def test_a_quick_result_meets_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = Result("made up", {}, 0, (), (Ratio("slow", 1.0, None, least=2.0),), quick=True)
    deliver(quick, tmp_path / "quick.json", None)
    assert json.loads((tmp_path / "quick.json").read_text())["ratios"][0]["met"] is None
    printed = capsys.readouterr().out
    assert "NOT met" not in printed
    assert "no figure of it counts" in printed


@pytest.mark.parametrize(
    ("value", "least", "most", "met"),
    [
        (2.5, 2.5, None, True),
        (2.4, 2.5, None, False),
        (1.1, None, 1.1, True),
        (1.2, None, 1.1, False),
        (9.9, None, None, None),
    ],
)
def test_a_ratio_knows_its_bar(
    value: float, least: float | None, most: float | None, met: bool | None
) -> None:
    assert Ratio("r", value, None, least=least, most=most).met is met


def test_a_ratio_is_printed_with_the_difference_of_the_outputs() -> None:
    told = sentence(RESULT.ratios[0], True)
    assert told == (
        "theirs / ours: 4 (at least 2.5, aim 4: met); largest difference of logits 1.0e-06"
    )
    assert "NOT met" in sentence(RESULT.ratios[0], False)
    assert "difference" not in sentence(RESULT.ratios[1], None)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1234.5, "1,234"), (0.01234, "0.0123"), (True, "True")]
)
def test_values_as_they_are_shown(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_a_table_wants_a_value_a_column() -> None:
    with pytest.raises(ValueError, match="2 values for 1 columns"):
        Table("t", ("one",), ((1, 2),))


def test_charts_become_one_picture(tmp_path: Path) -> None:
    draw((BARS, LINES), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(PlotUnavailable, match=r"emotrace\[bench\]"):
        draw((BARS,), tmp_path / "plot.png")


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlotUnavailable, match="nothing"):
        draw((), tmp_path / "plot.png")
