"""Real corpora: raw names against the shared tables, and models.md section 9 where one has them.

`EMOTRACE_CORPORA` names a folder that holds whole corpora under the names that `prepare` knows;
what is not there is skipped.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from emotrace_training.corpora.emodb import read_emodb
from emotrace_training.corpora.iemocap import read_iemocap
from emotrace_training.corpora.iemocap_derived import read_iemocap_derived
from emotrace_training.corpora.loading import Settings
from emotrace_training.corpora.ravdess import read_ravdess
from emotrace_training.manifests import Record, dialogues_of
from emotrace_training.prepare import CORPORA

ZERO = Settings(on_missing="zero")


def said(record: Record) -> tuple[object, ...]:
    return record.id, record.speaker, record.gender, record.emotion, record.text


def test_12_11_names_of_emodb_agree_with_its_table(shared: Path, tmp_path: Path) -> None:
    known = read_emodb(shared / "data" / "emodb", Settings()).records
    (tmp_path / "wav").symlink_to((shared / "data" / "emodb" / "audio").resolve())
    loaded = read_emodb(tmp_path, Settings())
    assert loaded.faults == []
    assert sorted(map(said, loaded.records)) == sorted(map(said, known))
    seconds = {record.id: record.seconds for record in known}
    assert all(r.seconds == pytest.approx(seconds[r.id], abs=2e-3) for r in loaded.records)


def test_12_11_names_of_ravdess_agree_with_its_table(shared: Path, tmp_path: Path) -> None:
    known = read_ravdess(shared / "data" / "ravdess_speech", Settings()).records
    for record in known:
        folder = tmp_path / f"Actor_{record.id[-2:]}"
        folder.mkdir(exist_ok=True)
        (folder / Path(record.audio).name).symlink_to(Path(record.audio).resolve())
    loaded = read_ravdess(tmp_path, Settings())
    assert loaded.faults == []
    assert sorted(map(said, loaded.records)) == sorted(map(said, known))


def test_12_11_all_of_iemocap_laid_out_anew(shared: Path, tmp_path: Path) -> None:
    """The derived tables written as the label files and transcripts that they were taken from."""
    known = read_iemocap_derived(shared / "data" / "iemocap_derived", Settings()).records
    for (_, dialogue), turns in dialogues_of(known, "transcript").items():
        folder = tmp_path / f"Session{dialogue[4]}" / "dialog"
        for name in ("EmoEvaluation", "transcriptions"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        by_gender = sorted(turns, key=lambda r: (r.gender, r.turn))
        labels = [
            f"[{r.start_s:.4f} - {r.end_s:.4f}]\t{r.id}\t{r.label_raw}\t[2.5, 2.5, 2.5]\n"
            for r in by_gender
        ]
        said = [f"{r.id} [{r.start_s:08.4f}-{r.end_s:08.4f}]: {r.text}\n" for r in turns]
        header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        (folder / "EmoEvaluation" / f"{dialogue}.txt").write_text(header + "".join(labels))
        (folder / "transcriptions" / f"{dialogue}.txt").write_text("".join(said))
    loaded = read_iemocap(tmp_path, ZERO)
    assert loaded.counts() == {"missing media": 10_039, "no folder of films": 5}

    def plain(records: list[Record]) -> list[tuple[object, ...]]:
        return sorted(
            (r.id, r.dialogue, r.turn, r.start_s, r.end_s, r.speaker[-6:], r.emotion, r.text)
            for r in records
        )

    assert plain(loaded.records) == plain(known)
    assert Counter(r.emotion for r in loaded.records) == IEMOCAP


EMODB = {
    "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "sadness": 62,
    "neutral": 79,
}  # fmt: skip
RAVDESS = {"neutral": 96, **dict.fromkeys(
    ("calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"), 192
)}  # fmt: skip
CREMA_D = {"neutral": 1_087, **dict.fromkeys(
    ("anger", "disgust", "fear", "happiness", "sadness"), 1_271
)}  # fmt: skip
IEMOCAP = {
    "anger": 1_103, "happiness": 595, "excitement": 1_041, "neutral": 1_708, "sadness": 1_084,
    "frustration": 1_849, "surprise": 107, "fear": 40, "disgust": 2, "other": 3, "unknown": 2_507,
}  # fmt: skip
MELD = {
    "neutral": 6_436, "happiness": 2_308, "surprise": 1_636, "anger": 1_607, "sadness": 1_002,
    "disgust": 361, "fear": 358,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("emodb", EMODB), ("ravdess", RAVDESS), ("crema_d", CREMA_D), ("iemocap", IEMOCAP),
        ("meld", MELD),
    ],
)  # fmt: skip
@pytest.mark.long
def test_12_11_whole_corpora(name: str, labels: dict[str, int]) -> None:
    folder, read = CORPORA[name]
    path = Path(os.environ.get("EMOTRACE_CORPORA", "")) / folder
    if "EMOTRACE_CORPORA" not in os.environ or not path.is_dir():
        pytest.skip(f"no {folder} in $EMOTRACE_CORPORA")
    records = read(path, ZERO).records
    assert Counter(r.emotion for r in records if r.label_raw) == labels
