"""`calibrate`: what a site's labels change, what they leave, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import toy_bundle
from toy_corpus import toy_corpus

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.labels import SCHEMES
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality
from emotrace_training import recalibrate
from emotrace_training.clip_features import hear, predictions
from emotrace_training.labelled_clips import read_labels
from emotrace_training.metrics import risk_coverage
from emotrace_training.site_calibration import (
    Rows,
    abstention_threshold,
    left_out,
    recalibrated,
)
from emotrace_training.site_data import folds_of, read_site
from emotrace_training.vector_scaling import Scaling

SOUND = (Modality.ACOUSTIC,)
COLUMNS = ("file", "speaker", "emotion", "text", "from", "to", "split")


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 utterances of 6 speakers, 24 an emotion: halves of the toy corpus's clips; and a bundle
    of seven classes that may be asked for four."""
    base = tmp_path_factory.mktemp("site")
    rows = [
        (Path(r.audio).name, r.speaker, r.emotion, r.text, first, first + 0.1, "")
        for r in toy_corpus(base, sound=True).records
        for first in (0.0, 0.1)
    ]
    write_table(base / "labels.csv", rows)
    wide = Bundle.load(toy_bundle(base / "toy", scheme="ekman7"))
    view = View(Calibration({"acoustic": 0.4}, 0.9), DecoderConfig(p0=0.3))
    replace(wide, views={"common4": view}, version="7").save(base / "wide")
    return base


@pytest.fixture(scope="module")
def done(folder: Path, invoke) -> dict[str, object]:
    arguments = ("--labels", folder / "labels.csv", "--root", folder, "--bundle", folder / "wide")
    told = invoke(recalibrate.command, *arguments, "--words", "-o", folder / "b2")
    report = json.loads((folder / "b2" / "report" / "report.json").read_text())
    return {"told": told, "report": report}


def test_the_new_bundle_is_the_old_one_with_other_probabilities(folder: Path, done) -> None:
    old, new = Bundle.load(folder / "wide"), Bundle.load(folder / "b2")
    assert (new.name, new.version) == ("toy-site", "7+site")
    for one, other in zip((*old.encoders, old.fusion), (*new.encoders, new.fusion), strict=True):
        for key, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[key])
    sets = {"acoustic", "lexical", "acoustic+lexical"}
    assert set(new.calibration.temperatures) == set(new.calibration.biases) == sets
    assert new.calibration != old.calibration
    assert new.views["common4"].calibration != old.views["common4"].calibration
    assert new.views["common4"].decoder == old.views["common4"].decoder
    assert len(new.views["common4"].calibration.biases["acoustic"]) == 4


def test_the_report_is_of_speakers_left_out(done) -> None:
    report = done["report"]
    assert report["utterances"]["fear"] == 24
    assert sum(report["utterances"].values()) == 120
    assert (report["speakers"], report["folds"], report["folds_by"]) == (6, 5, "speaker")
    for one in report["compared"]:
        before, after = one["figures"]["before"], one["figures"]["after"]
        assert before["count"] == after["count"] == sum(one["utterances"].values())
        # The toy's logits mean nothing and are sharp: being less sure is the right lesson.
        assert after["nll"] < before["nll"]
        assert after["ece"] < before["ece"]
    assert [one["label_set"] for one in report["compared"]] == ["ekman7"] * 3 + ["common4"] * 3


def test_the_card_and_page_have_figures_and_no_content(folder: Path, done) -> None:
    card = Bundle.load(folder / "b2").card
    page = (folder / "b2" / "report" / "report.html").read_text()
    assert "## Recalibrated on site" in card
    assert "120 labelled utterances of 6 speakers" in card
    assert "| ekman7 | acoustic+lexical | after | 120 |" in card
    assert page.count("data:image/png;base64") == 6 * 4
    assert "http" not in page.replace("https://", "").split("<main>")[1]
    everything = card + page + json.dumps(done["report"])
    for secret in ("Ses01", "what a lovely day", "toy:A0", str(folder), "labels.csv"):
        assert secret not in everything


def test_doing_it_again_replaces_the_section(folder: Path, invoke, tmp_path: Path) -> None:
    arguments = ("--labels", folder / "labels.csv", "--root", folder, "--bundle", folder / "b2")
    invoke(recalibrate.command, *arguments, "-o", tmp_path / "b3")
    again = Bundle.load(tmp_path / "b3")
    assert again.name == "toy-site"
    assert again.card.count("## Recalibrated on site") == 1
    kept = Bundle.load(folder / "b2").calibration.temperatures["lexical"]
    assert again.calibration.temperatures["lexical"] == kept, "no words were given this time"


def test_the_posterior_served_is_the_fitted_one(folder: Path, done) -> None:
    """What `after` would be of everybody is what the new bundle says of the same clips."""
    new = Predictor(Bundle.load(folder / "b2"))
    clips, _ = read_labels(folder / "labels.csv", "all")
    heard = hear(new, clips[:20], range(20), folder, 0)
    old = predictions(Predictor(Bundle.load(folder / "wide")), heard.features)
    rule = new.bundle.calibration
    fitted = Scaling(rule.temperatures["acoustic"], rule.biases["acoustic"])
    expected = fitted.posterior(np.stack([one.logits for one in old]))
    found = np.stack([one.posterior for one in predictions(new, heard.features)])
    assert found == pytest.approx(expected)


def test_a_label_set_with_too_few_labels_is_left_as_it_was(
    folder: Path, invoke, tmp_path: Path
) -> None:
    clips, _ = read_labels(folder / "labels.csv", "all")
    four = [c for c in clips if c.emotion in SCHEMES["common4"].names][:45]
    fear = [c for c in clips if c.emotion == "fear"][:20]
    rows = [(c.file, c.speaker, c.emotion, "", *c.span, "") for c in (*four, *fear)]
    table = write_table(tmp_path / "few.csv", rows)
    arguments = ("--labels", table, "--root", folder, "--bundle", folder / "wide")
    told = invoke(recalibrate.command, *arguments, "-o", tmp_path / "b2")
    assert "common4: too few labels, left as it was" in told
    new, old = Bundle.load(tmp_path / "b2"), Bundle.load(folder / "wide")
    assert new.views["common4"].calibration == old.views["common4"].calibration
    assert "acoustic" in new.calibration.biases


def test_what_cannot_be_done_is_refused_with_a_cure(folder: Path, invoke, tmp_path: Path) -> None:
    clips, _ = read_labels(folder / "labels.csv", "all")

    def refused(rows: Sequence[Sequence[object]], *more: object, code: int = 1) -> str:
        table = write_table(tmp_path / "bad.csv", rows)
        arguments = ("--labels", table, "--root", folder, "--bundle", folder / "wide")
        out = tmp_path / "never"
        told = invoke(recalibrate.command, *arguments, "-o", out, *more, code=code)
        assert not out.exists()
        return told

    rows = [(c.file, c.speaker, c.emotion, "", *c.span, "") for c in clips]
    assert "49 labelled utterances can be used, and at least 50" in refused(rows[:49])
    gone = [("gone.wav", *row[1:]) for row in rows[:30]]
    told = refused([*gone, *rows[:40]])
    assert "30 cannot be read" in told
    assert "bad.csv:" in told
    strange = [*rows[:60], (rows[0][0], "x", "bliss", "", "", "", "")]
    told = refused(strange)
    assert f"bad.csv:{len(strange) + 1}: no emotion is called 'bliss'" in told
    assert "--label 'bliss=NAME'" in told
    bored = [(*row[:2], "boredom", *row[3:]) for row in rows[:60]]
    told = refused([*bored, *rows[:20]])
    assert "most labels are none of ekman7" in told
    assert "fine-tune" in told
    one = [(*row[:2], "anger", *row[3:]) for row in rows[:60]]
    assert "too few of two classes or more" in refused(one)
    assert "NAME=MEANING" in refused(rows, "--label", "x", code=2)
    assert "no emotion is called 'nothing'" in refused(rows, "--label", "x=nothing", code=2)


def test_labels_can_be_said_to_mean_something_and_test_rows_are_not_used(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "l.csv",
        [
            ("a.wav", "x", "cheerful", "", "", "", "train"),
            ("b.wav", "x", "sad", "", "", "", "test"),
            ("c.wav", "x", "unknown", "", "", "", ""),
        ],
    )
    assert [c.emotion for c in read_site(table, None, {"cheerful": "happiness"})] == ["happiness"]
    assert [c.emotion for c in read_site(table, "test", {})] == ["sadness"]


def test_no_speaker_is_in_two_folds() -> None:
    speakers = ["a"] * 40 + ["b"] * 10 + ["c"] * 9 + ["d"] * 8 + list("efghij")
    folds, by_speaker = folds_of(speakers)
    assert by_speaker
    assert set(folds) == set(range(5))
    for speaker in set(speakers):
        assert len({f for f, s in zip(folds, speakers, strict=True) if s == speaker}) == 1
    folds, by_speaker = folds_of(["a"] * 6 + ["b"] * 6)
    assert not by_speaker
    assert np.bincount(folds).tolist() == [3, 3, 2, 2, 2]


def test_a_left_out_row_has_no_part_in_its_own_posterior() -> None:
    noise = np.random.default_rng(0)
    logits, folds = noise.normal(0, 3, (90, 3)), np.arange(90) % 3
    truth = noise.integers(0, 3, 90)
    before = Scaling(1.0, (0.0, 0.0, 0.0))
    first = left_out(logits, truth, folds, before)
    other = np.where(folds == 1, (truth + 1) % 3, truth)
    again = left_out(logits, other, folds, before)
    assert again[folds == 1] == pytest.approx(first[folds == 1])
    assert again[folds != 1] != pytest.approx(first[folds != 1])


def test_the_threshold_follows_its_rule() -> None:
    """Ten utterances, the surest six right, then wrong and right in turn: 4 of 10 are wrong... the
    largest share with at most half of that is taken."""
    confidence = np.linspace(0.95, 0.55, 10)
    posterior = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.array([0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
    curve = risk_coverage(posterior, truth)
    assert curve.risk_at(1.0) == pytest.approx(0.3)
    threshold = abstention_threshold(curve)
    assert threshold == pytest.approx(confidence[7]), "1 of 8 is within half of 3 of 10"
    always_wrong = risk_coverage(posterior, np.ones(10, dtype=int))
    assert abstention_threshold(always_wrong) == pytest.approx(confidence[4]), "half in any case"
    right = risk_coverage(posterior, np.zeros(10, dtype=int))
    assert abstention_threshold(right) == pytest.approx(confidence[9]), "nothing to gain"


def test_nothing_is_fitted_to_one_class() -> None:
    rows = Rows(np.zeros((60, 4), np.float32), ("anger",) * 60, np.arange(60) % 5)
    assert recalibrated(SCHEMES["common4"], Calibration(), {SOUND: rows}) is None
