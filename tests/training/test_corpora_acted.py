"""Acted corpora as their owners lay them out: EmoDB, RAVDESS, CREMA-D, nEMO in miniature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_trees import crema_d, emodb, film, nemo, ravdess

from emotrace_training.corpora.crema_d import read_crema_d
from emotrace_training.corpora.emodb import read_emodb
from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.nemo import read_nemo
from emotrace_training.corpora.ravdess import read_ravdess
from emotrace_training.manifests import (
    ManifestError,
    Record,
    read_manifest,
    read_sound,
    write_manifest,
)

ZERO = Settings(on_missing="zero")
NAME = "name is none of the corpus"
POINTER = "Git LFS pointer in place of media"


def by_id(loaded: Loaded) -> dict[str, Record]:
    return {record.id: record for record in loaded.records}


@pytest.mark.parametrize(
    ("make", "read", "records", "zero", "faults", "notes"),
    [
        (emodb, read_emodb, 14, 15, {POINTER: 1, NAME: 1}, {"hidden files left out": 1}),
        (
            ravdess, read_ravdess, 17, 18,
            {POINTER: 1, NAME: 3, "silent film without its sound": 1}, {"songs left out": 1},
        ),
        (
            crema_d, read_crema_d, 13, 15,
            {POINTER: 1, NAME: 1, "media known to be faulty": 3, "missing media": 1}, {},
        ),
        (
            nemo, read_nemo, 11, 12,
            {"media without a row": 1, "missing media": 1, "unknown label": 1}, {},
        ),
    ],
    ids=["emodb", "ravdess", "crema_d", "nemo"],
)  # fmt: skip
def test_12_11_acted_trees(
    tmp_path: Path,
    make: Callable[[Path], Path],
    read: Callable[[Path, Settings], Loaded],
    records: int,
    zero: int,
    faults: dict[str, int],
    notes: dict[str, int],
) -> None:
    tree = make(tmp_path)
    loaded = read(tree, Settings())
    assert len(loaded.records) == records
    assert loaded.counts() == faults
    assert loaded.notes == notes
    assert all(r.file and r.seconds == pytest.approx(0.3, abs=0.15) for r in loaded.records)
    assert len({r.speaker for r in loaded.records}) == 2
    write_manifest(tmp_path / "m.jsonl", loaded.records)
    assert read_manifest(tmp_path / "m.jsonl") == loaded.records
    sound = next(r for r in loaded.records if r.audio.endswith(".wav"))
    assert len(read_sound(sound)) == pytest.approx(4_800, abs=2)
    kept = read(tree, ZERO)
    assert kept.counts() == faults
    mute = [r for r in kept.records if r.file is None]
    assert len(kept.records) == zero
    assert all("no_audio" in r.flags for r in mute)


def test_emodb_a_is_fear(tmp_path: Path) -> None:
    records = by_id(read_emodb(emodb(tmp_path), Settings()))
    assert {i[5]: r.emotion for i, r in records.items()} == {
        "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness",
        "T": "sadness", "N": "neutral",
    }  # fmt: skip
    first = records["03a01Aa"]
    assert (first.speaker, first.gender, first.label_raw) == ("emodb:03", "male", "A")
    assert records["08a01Aa"].gender == "female"
    assert first.text.startswith("Der Lappen")


def test_ravdess_joins_the_takes_of_sound_and_film(tmp_path: Path) -> None:
    records = by_id(read_ravdess(ravdess(tmp_path), Settings()))

    def media(identifier: str) -> tuple[str | None, str | None]:
        record = records[identifier]
        return tuple(Path(f).name if f else None for f in (record.file, record.video))

    both = "01-01-05-02-02-02-01"
    assert media("03-01-03-01-01-01-01") == (
        "03-01-03-01-01-01-01.wav", "01-01-03-01-01-01-01.mp4",
    )  # fmt: skip
    assert media("03-01-04-01-01-01-01") == (
        "03-01-04-01-01-01-01.wav", "02-01-04-01-01-01-01.mp4",
    )  # fmt: skip
    assert media(both) == (f"{both}.mp4", f"{both}.mp4")
    assert records[both].flags == ("strong",)
    assert records[both].text == "Dogs are sitting by the door."
    assert (records[both].gender, records["03-01-02-01-01-01-02"].gender) == ("male", "female")
    assert len(read_sound(records[both])) == pytest.approx(6_400, abs=800)
    silent = by_id(read_ravdess(tmp_path / "RAVDESS", ZERO))["02-01-06-02-02-02-01"]
    assert (silent.file, silent.flags) == (None, ("strong", "no_audio"))


@pytest.mark.parametrize(
    ("votes", "angry", "afraid", "neutral"),
    [
        ("intended", ("anger", "ANG"), ("fear", "FEA"), 2),
        ("both", ("unknown", "A:D"), ("sadness", "S"), 2),
        ("face", ("anger", "A"), ("fear", "F"), 2),
        ("voice", ("neutral", "N"), ("neutral", "N"), 12),
    ],
)
def test_crema_d_label_is_intended_or_perceived(
    tmp_path: Path, votes: str, angry: tuple[str, str], afraid: tuple[str, str], neutral: int
) -> None:
    loaded = read_crema_d(crema_d(tmp_path), Settings(votes=votes))
    records = by_id(loaded)
    tied, wrong = records["1001_DFA_ANG_XX"], records["1001_DFA_FEA_XX"]
    assert (tied.emotion, tied.label_raw) == angry
    assert (wrong.emotion, wrong.label_raw) == afraid
    assert Counter(r.emotion for r in loaded.records)["neutral"] == neutral
    assert loaded.notes["tied votes"] == ("tied" in tied.flags) == (votes == "both")
    # The clip of another sentence has no votes: counted where they are the label.
    assert loaded.counts().get("clip without votes", 0) == (votes != "intended")


def test_crema_d_media(tmp_path: Path) -> None:
    tree = crema_d(tmp_path)
    records = by_id(read_crema_d(tree, Settings()))
    assert records["1001_DFA_ANG_XX"].scores == {"anger": 0.5, "disgust": 0.5}
    assert records["1001_DFA_HAP_XX"].video is not None
    assert records["1064_IEO_DIS_MD"].video is None
    assert {r.gender for r in records.values()} == {"male", "female"}
    for table in ("VideoDemographics.csv", "processedResults/summaryTable.csv"):
        (tree / table).unlink()
    for file in (tree / "VideoFlash").iterdir():
        file.unlink()
    (tree / "VideoFlash").rmdir()
    bare = read_crema_d(tree, Settings())
    assert bare.counts() == {
        POINTER: 1, NAME: 1, "media known to be faulty": 1, "no folder of films": 1,
        "no table of actors": 1,
    }  # fmt: skip
    with pytest.raises(ManifestError, match="summaryTable"):
        read_crema_d(tree, Settings(votes="both"))


def test_nemo_words_and_padded_speakers(tmp_path: Path) -> None:
    records = by_id(read_nemo(nemo(tmp_path), Settings()))
    record = records["WR0_surprised_1"]
    assert (record.speaker, record.gender, record.emotion) == ("nemo:WR0", "male", "surprise")
    assert record.text == "Zażółć gęślą jaźń."


def test_a_film_without_sound_is_no_audio(tmp_path: Path) -> None:
    tree = ravdess(tmp_path)
    film(tree / "Video_Speech_Actor_01" / "Actor_01" / "01-01-05-02-02-02-01.mp4", sound=False)
    loaded = read_ravdess(tree, Settings())
    assert loaded.counts()["unreadable media"] == 1
    assert len(loaded.records) == 16
