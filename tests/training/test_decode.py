"""`emotrace-train decode`: any score file of the documented form, and what is wrong with others."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from emotrace_training.decode import command

CLASSES = ("ang", "hap", "neu")
HEADER = ("utt", "dialog", "order", "speaker", "session", "label")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def table() -> list[dict[str, str]]:
    """Two sessions of two dialogues; each speaker keeps to a label, so p0 is low."""
    return [
        {"utt": f"{d}-{t}", "dialog": f"d{d}", "order": str(t), "speaker": "AB"[t % 2],
         "session": f"s{d % 2}", "label": ("ang", "neu", "xxx")[2 if t == 7 else t % 2]}
        for d in range(4) for t in range(8)
    ]  # fmt: skip


def write(
    folder: Path, rows: list[dict[str, str]], header: tuple[str, ...] = HEADER, **arrays: Any
) -> list[str]:
    """Files of the rows and their scores -> the options that name them."""
    noise = np.random.default_rng(0)
    content: dict[str, Any] = {
        "utt": np.array([row["utt"] for row in reversed(rows)]),
        "classes": np.array(CLASSES),
        "logits": noise.normal(size=(len(rows), len(CLASSES))).astype(np.float32),
    }
    content = {k: v for k, v in (content | arrays).items() if v is not None}
    np.savez(folder / "scores.npz", **content)
    with (folder / "utterances.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return ["--logits", str(folder / "scores.npz"), "--utterances", str(folder / "utterances.csv")]


def run(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def report(app: typer.Typer, *arguments: str) -> dict[str, Any]:
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_report(app: typer.Typer, tmp_path: Path) -> None:
    found = report(app, *write(tmp_path, table()), "--out", str(tmp_path / "labels.csv"))
    assert (found["dialogues"], found["turns"], found["count"]) == (4, 32, 28)
    assert found["outside_class_set"] == {"xxx": 4}
    assert np.array(found["confusion"]).sum() == 28
    assert found["settings"]["columns"]["order"] == "order"
    # per fold: two dialogues with 6 pairs of turns each, in which B changes once, to xxx
    assert found["settings"]["p0"] == {"s0": 3 / 12, "s1": 3 / 12}
    with (tmp_path / "labels.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = {row["utt"]: row["label"] for row in table()}
    right = [row["decoded"] == truth[row["utt"]] for row in rows if truth[row["utt"]] != "xxx"]
    assert sum(right) / len(right) == pytest.approx(found["accuracy"])
    alone = [row["classifier"] == truth[row["utt"]] for row in rows if truth[row["utt"]] != "xxx"]
    assert sum(alone) / len(alone) == pytest.approx(found["classifier"]["accuracy"])


def test_order_and_join_do_not_depend_on_the_files_order(app: typer.Typer, tmp_path: Path) -> None:
    rows = table()
    options = write(tmp_path, rows)
    before = report(app, *options)
    with (tmp_path / "utterances.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["order"], row["dialog"])))
    assert report(app, *options) == before


def test_decoding_helps_where_speakers_keep_their_emotion(app: typer.Typer, tmp_path: Path) -> None:
    rows = table()
    truth = np.array([CLASSES.index(row["label"]) if row["label"] in CLASSES else 2
                      for row in reversed(rows)])  # fmt: skip
    logits = np.random.default_rng(3).normal(size=(len(rows), 3)) + 1.0 * np.eye(3)[truth]
    found = report(app, *write(tmp_path, rows, logits=logits), "--p0", "0.1")
    assert found["accuracy"] > found["classifier"]["accuracy"]
    assert found["settings"]["p0_source"] == "given"
    assert found["revisions"]["labels_rewritten"] > 0
    twice = report(app, *write(tmp_path, rows, logits=logits), "--p0", "0.1", "--passes", "2")
    assert twice["revisions"] is None


def test_labels_as_numbers_names_or_projected(app: typer.Typer, tmp_path: Path) -> None:
    numbers = {"ang": "0", "neu": "2.0", "xxx": "-1"}
    names = {"ang": "Anger", "neu": "neutral", "xxx": "frustrated"}
    reports = []
    for spelling in ({k: k for k in names}, numbers, names):
        rows = [{**row, "label": spelling[row["label"]]} for row in table()]
        reports.append(report(app, *write(tmp_path, rows), "--p0", "0.3"))
    assert reports[0]["confusion"] == reports[1]["confusion"] == reports[2]["confusion"]

    four = np.array(["hap", "sad", "ang", "neu"])
    logits = np.random.default_rng(1).normal(size=(32, 4))
    rows = [{**row, "label": {"xxx": "excited"}.get(row["label"], row["label"])} for row in table()]
    options = write(tmp_path, rows, classes=four, logits=logits)
    assert report(app, *options, "--scheme", "iemocap4")["count"] == 28
    assert report(app, *options, "--scheme", "iemocap4m")["count"] == 32


def test_other_names_of_arrays_and_columns(app: typer.Typer, tmp_path: Path) -> None:
    header = ("id", "scene", "n", "who", "part", "gold")
    rows = [dict(zip(header, row.values(), strict=True)) | {"utt": row["utt"]} for row in table()]
    logits = np.random.default_rng(0).normal(size=(32, 3))
    options = write(tmp_path, rows, header=header, logits=None, z=logits)
    named = report(
        app, *options, "--key", "z", "--utt-column", "id", "--dialog-column", "scene",
        "--order-column", "n", "--speaker-column", "who", "--label-column", "gold",
        "--fold-column", "part",
    )  # fmt: skip
    plain = report(app, *write(tmp_path, table(), logits=logits))
    assert named["confusion"] == plain["confusion"]


def test_unknown_speakers_and_unscored_dialogues(app: typer.Typer, tmp_path: Path) -> None:
    rows = [{**row, "speaker": "" if row["dialog"] == "d1" else row["speaker"]} for row in table()]
    scored = [row["utt"] for row in rows if row["dialog"] != "d3"]
    options = write(tmp_path, rows, utt=np.array(scored), logits=np.zeros((24, 3)))
    found = report(app, *options, "--p0", "0.3")
    assert (found["dialogues"], found["dialogues_without_scores"], found["turns"]) == (3, 1, 24)


def test_table_for_people(app: typer.Typer, tmp_path: Path) -> None:
    result = run(app, *write(tmp_path, table()))
    assert result.exit_code == 0
    assert "28 labelled of 32 turns" in result.stdout
    assert "classifier alone" in result.stdout


@pytest.mark.parametrize(("arrays", "options", "message"), [
    ({"logits": None}, [], "scores.npz has no array logits; it has utt, classes"),
    ({}, ["--key", "other"], "no array other"),
    ({"logits": np.zeros((31, 3))}, [], "logits is float64 of shape (31, 3)"),
    ({"logits": np.full((32, 3), "x")}, [], "need numbers"),
    ({"logits": np.full((32, 3), np.nan)}, [], "logits of 3-7 is not finite"),
    ({"logits": np.full((32, 3), 1 / 3)}, [], "holds probabilities, not logits"),
    ({"utt": np.array(["a"] * 32)}, [], "names an utterance twice"),
    ({"utt": np.array([f"a{i}" for i in range(32)])}, [], "lacks 32 utterances of the score file"),
    ({"utt": np.array([{}] * 32)}, [], "is not an .npz file of plain arrays"),
    ({}, ["--scheme", "six"], "no scheme is called 'six'; there are iemocap4"),
    ({}, ["--scheme", "iemocap4"], "label sets differ: missing ['sadness']"),
    ({}, ["--speaker-column", "who"], "has no column who (it has utt, dialog"),
    ({}, ["--label-column", "speaker"], "no decoded utterance has a label among ang, hap, neu"),
    ({}, ["--fold-column", "order"], "dialogue 'd0' lies in more than one fold"),
    ({}, ["--p0", "1.5"], "p0 is a probability"),
    ({}, ["--alpha", "0"], "alpha is a positive number"),
    ({}, ["--temperature", "0"], "a temperature is a positive number"),
    ({}, ["--commit"], "commit needs a lag"),
    ({}, ["--passes", "2", "--lag", "2"], "a second pass has no lag"),
    ({}, ["--logits", "nowhere.npz"], "nowhere.npz: No such file"),
    ({}, ["--utterances", "nowhere.csv"], "nowhere.csv: No such file"),
])  # fmt: skip
def test_what_is_refused(
    app: typer.Typer, tmp_path: Path, arrays: dict[str, Any], options: list[str], message: str
) -> None:
    result = run(app, *write(tmp_path, table(), **arrays), *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


@pytest.mark.parametrize(("field", "value", "message"), [
    ("order", "first", "utterances.csv, line 3, column order: 'first' is not a number"),
    ("order", "nan", "line 3, column order: 'nan' is not a number"),
    ("utt", "0-0", "line 3, column utt: '0-0' occurs twice"),
    ("label", "3", "line 3, column label: 3 is no class index; there are 3 classes"),
    ("label", "0.5", "line 3, column label: 0.5 is no class index"),
    ("dialog", "d1", "lies in more than one fold"),
])  # fmt: skip
def test_a_wrong_cell_is_named(
    app: typer.Typer, tmp_path: Path, field: str, value: str, message: str
) -> None:
    rows = table()
    rows[1][field] = value
    result = run(app, *write(tmp_path, rows, utt=np.array([row["utt"] for row in table()])))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_row_cut_short_or_a_file_that_is_no_table(app: typer.Typer, tmp_path: Path) -> None:
    options = write(tmp_path, table())
    file = tmp_path / "utterances.csv"
    file.write_text(file.read_text(encoding="utf-8") + "3-8,d3,8\n", encoding="utf-8")
    assert "line 34: the row is cut short" in run(app, *options).stderr
    file.write_bytes(b"utt\xff\n")
    assert "is not a CSV in UTF-8" in run(app, *options).stderr
    (tmp_path / "scores.npz").write_bytes(b"PK\x03\x04 cut")
    assert "is not an .npz file" in run(app, *options).stderr


def test_a_dialogue_scored_in_part(app: typer.Typer, tmp_path: Path) -> None:
    utts = np.array([row["utt"] for row in table()][1:])
    result = run(app, *write(tmp_path, table(), utt=utts, logits=np.zeros((31, 3))))
    assert "1 of 8 turns of dialogue 'd0' have no scores, '0-0' first" in result.stderr


def test_no_fold_to_leave_out(app: typer.Typer, tmp_path: Path) -> None:
    header = tuple(name for name in HEADER if name != "session")
    options = write(tmp_path, table(), header=header)
    assert "name one with --fold-column, or give --p0" in run(app, *options).stderr
    assert run(app, *options, "--p0", "0.4").exit_code == 0
    changing = [{**row, "label": CLASSES[i // 2 % 3]} for i, row in enumerate(table())]
    assert "p0: 12 pairs of turns with" in run(app, *write(tmp_path, changing)).stderr


@pytest.mark.parametrize(("options", "uar", "accuracy"), [
    (["--beam", "5", "--passes", "2"], 0.7102, 0.6948),
    (["--beam", "10"], 0.7115, 0.6968),
    (["--beam", "10", "--lag", "2"], 0.7114, 0.6957),
])  # fmt: skip
def test_the_public_scores(
    app: typer.Typer, shared: Path, options: list[str], uar: float, accuracy: float
) -> None:
    folder = shared / "data" / "iemocap_derived"
    found = report(
        app, "--logits", str(folder / "iaan_logits4.npz"), "--key", "logits",
        "--utterances", str(folder / "utterances.csv"), *options,
    )  # fmt: skip
    assert (found["uar"], found["accuracy"]) == pytest.approx((uar, accuracy), abs=3e-4)
    alone = found["classifier"]
    assert (alone["uar"], alone["accuracy"]) == pytest.approx((0.6719, 0.6525), abs=5e-5)
    assert (found["turns"], found["count"]) == (10_039, 5_531)
