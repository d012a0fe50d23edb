"""`report`: figures by every group, a page, a card; and nothing in them that names a person."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import toy_bundle
from toy_corpus import toy_corpus

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.predictor import Predictor
from emotrace_training import evaluate_clips, report
from emotrace_training.card import FIGURES, write_card
from emotrace_training.card_data import MADE_OF
from emotrace_training.report_groups import Known, groups
from emotrace_training.report_text import tables_in

COLUMNS = ("file", "speaker", "gender", "emotion", "lang", "intensity", "split")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora of 48 and 12 clips, and a bundle of seven classes that may be asked for four."""
    base = tmp_path_factory.mktemp("report")
    records = toy_corpus(base, sound=True).records
    parts: dict[str, Sequence[object]] = {"one.csv": records[:48], "two.csv": records[48:]}
    for name, part in parts.items():
        with (base / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            for r in part:
                more = ("02" if r.turn else "01", "test") if name == "one.csv" else ("", "")
                sex = "m" if r.speaker.startswith("toy:A") else "female"
                writer.writerow((Path(r.audio).name, r.speaker, sex, r.emotion, "de", *more))
    wide = Bundle.load(toy_bundle(base / "toy", scheme="ekman7"))
    view = View(Calibration({"acoustic": 2.0}, 0.4), DecoderConfig(p0=0.3))
    wide = replace(wide, views={"common4": view})
    replace(wide, card=write_card(wide, MADE_OF["default"])).save(base / "wide")
    dialogues = {
        "sets": {
            "ekman7": {
                "turns": 11, "seeds": [{}, {}],
                "mean": {"audio + text": {"uar": 0.7, "accuracy": 0.8, "f1_weighted": 0.9}},
                "sd": {"audio + text": {"uar": 0.01, "accuracy": 0.02, "f1_weighted": 0.03}},
                "calibration": {"before": 0.2, "after": 0.1},
                "risk": {"70%": 0.05, "100%": 0.15},
                "faithfulness": {"most_contributing": 0.3, "random": 0.05},
            }
        }
    }  # fmt: skip
    (base / "dialogues.json").write_text(json.dumps(dialogues))
    return base


@pytest.fixture(scope="module")
def out(folder: Path, invoke) -> Path:
    invoke(
        report.command, "--bundle", folder / "wide", "--labels", f"one={folder / 'one.csv'}",
        "--labels", f"two={folder / 'two.csv'}", "--dialogues", folder / "dialogues.json",
        "--out", folder / "out", "--update-card",
    )  # fmt: skip
    return folder / "out"


def test_the_figures_are_those_of_evaluate_clips(folder: Path, out: Path, invoke) -> None:
    found = json.loads((out / "report.json").read_text())
    assert list(found["label_sets"]) == ["ekman7", "common4"]
    for scheme, one in found["label_sets"].items():
        for corpus in ("one", "two"):
            same = json.loads(
                invoke(
                    evaluate_clips.command, "--labels", folder / f"{corpus}.csv", "--root", folder,
                    "--bundle", folder / "wide", "--scheme", scheme, "--json",
                )
            )  # fmt: skip
            figures = one["groups"]["corpus"][corpus]
            assert figures["count"] == same["counts"]["used"]
            if scheme == "ekman7":  # for fewer labels fewer clips are heard before
                assert figures["confusion"] == same["confusion"]
                for metric in ("uar", "accuracy", "ece"):
                    assert figures[metric] == pytest.approx(same[metric]), metric


def test_every_group_has_its_clips(out: Path) -> None:
    whole = json.loads((out / "report.json").read_text())
    found = whole["label_sets"]["ekman7"]
    assert set(found["groups"]) == {
        "corpus", "sex", "language", "length", "signal to noise", "intensity",
    }  # fmt: skip
    for buckets in found["groups"].values():
        assert sum(one["count"] for one in buckets.values()) == found["all"]["count"] == 60
        matrices = [np.array(one["confusion"]) for one in buckets.values()]
        assert np.sum(matrices, axis=0).tolist() == found["all"]["confusion"]
    assert set(found["groups"]["sex"]) == {"male", "female"}
    assert set(found["groups"]["language"]) == {"German"}
    assert set(found["groups"]["intensity"]) == {"normal", "strong", "not stated"}
    assert whole["label_sets"]["common4"]["all"]["count"] == 48
    assert whole["corpora"]["one"]["split"] == "test"
    corpora = found["groups"]["corpus"].values()
    assert found["mean_of_corpora"]["uar"] == pytest.approx(
        np.mean([one["uar"] for one in corpora])
    )


def test_page_and_card(folder: Path, out: Path) -> None:
    page, card = (out / "report.html").read_text(), (out / "card.md").read_text()
    assert page.count("data:image/png;base64") == 6
    for words in ("By intensity", "By signal to noise", "By part", "DailyDialog", "tower of voice"):
        assert words in page
    assert "src='http" not in page
    for words in ("### ekman7", "### common4", "0.700 ± 0.010", "| sex: male |", "Acted speech"):
        assert words in card
    assert "Not evaluated" not in card
    assert Bundle.load(folder / "wide").card == card, "--update-card"
    assert card.count(FIGURES) == 1
    everything = page + card + (out / "report.json").read_text()
    for secret in ("Ses01", "toy:A0", str(folder), ".wav"):
        assert secret not in everything


def test_at_most_so_many_clips(folder: Path, invoke, tmp_path: Path) -> None:
    invoke(
        report.command, "--bundle", folder / "wide", "--labels", f"one={folder / 'one.csv'}",
        "--most", 7, "--out", tmp_path,
    )  # fmt: skip
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["corpora"]["one"]["used"] == 7
    assert found["dialogues"] is None


def test_what_cannot_be_measured_is_named(folder: Path, invoke, tmp_path: Path) -> None:
    base = ("--bundle", folder / "wide", "--out", tmp_path)
    assert "none of emodb" in invoke(report.command, *base, "--data", tmp_path, code=1)
    assert "write NAME=FILE" in invoke(report.command, *base, "--labels", "x", code=2)
    table = f"one={folder / 'one.csv'}"
    (tmp_path / "no.json").write_text("{")
    told = invoke(
        report.command, *base, "--labels", table, "--most", 1, "--dialogues", tmp_path / "no.json",
        code=1,
    )  # fmt: skip
    assert "no.json: is no report" in told


def test_length_and_noise_are_measured(folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    t = np.arange(32_000) / 16_000
    voice = np.where(t % 0.5 < 0.25, np.sin(2 * np.pi * 150 * t), 0.0)
    for name, level in (("loud.wav", 0.1), ("soft.wav", 0.001)):
        soundfile.write(
            tmp_path / name, 0.3 * voice + level * noise.standard_normal(32_000), 16_000
        )
    (tmp_path / "l.csv").write_text("file,speaker,emotion\nloud.wav,x,sad\nsoft.wav,x,sad\n")
    bundle = Bundle.load(folder / "wide")
    heard = report.hear_corpora(bundle, {"t": tmp_path / "l.csv"}, None, None, False, 0)
    assert [one.seconds for one in heard.known] == [2.0, 2.0]
    levels = sorted(one.snr_db for one in heard.known if one.snr_db is not None)
    assert levels[0] < 12 < 30 < levels[1]
    assert Predictor(bundle).labels[heard.predictions[0].logits.argmax()] in bundle.labels.names


def test_buckets() -> None:
    clips = [Known("c", {"sex": "F"}, 1.5, 9.9), Known("c", {}, 7.0, None), Known("c", {}, 0.5, 30)]
    found = groups(clips)
    assert list(found["length"]) == ["under 1.5 s", "1.5 to 2.5 s", "from 5 s"]
    assert list(found["signal to noise"]) == ["under 10 dB", "from 30 dB", "no background"]
    assert found["sex"]["not stated"].tolist() == [1, 2]
    assert "language" not in found, "nobody states it"


def test_tables_are_found_in_markdown() -> None:
    text = "words\n\n| a | b |\n|---|---|\n| 1 | x-y |\n\nmore\n\n| c |\n|---|\n| 2 |\n"
    assert tables_in(text) == [[["a", "b"], ["1", "x-y"]], [["c"], ["2"]]]
