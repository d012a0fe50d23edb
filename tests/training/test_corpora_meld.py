"""MELD with media: the tree in miniature with its traps, and the real tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from corpus_trees import film, meld

from emotrace_training.corpora.loading import Settings
from emotrace_training.corpora.meld_records import read_meld
from emotrace_training.manifests import (
    ManifestError,
    dialogues_of,
    read_manifest,
    read_sound,
    write_manifest,
)

ZERO = Settings(on_missing="zero")
FAULTS = {
    "EndTime not after StartTime": 1, "empty media file": 1, "film without a row": 1,
    "missing media": 1, "stray film": 1,
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return meld(tmp_path)


def test_12_11_meld_tree(tree: Path, tmp_path: Path) -> None:
    loaded = read_meld(tree, Settings())
    assert len(loaded.records) == 3 * 2 * 3 - 2
    assert loaded.counts() == FAULTS
    assert loaded.notes == {"hidden files left out": 1}
    assert Counter(r.split for r in loaded.records) == {"train": 4, "valid": 6, "test": 6}
    places = {fault.kind: (fault.place, fault.detail) for fault in loaded.faults}
    films = tree / "train_splits"
    table = tree / "train_sent_emo.csv"
    assert places["missing media"] == (f"{table}:5", str(films / "dia7_utt0.mp4"))
    assert places["empty media file"] == (f"{table}:6", str(films / "dia7_utt1.mp4"))
    assert places["stray film"][0].endswith("final_videos_testdia7_utt1.mp4")
    assert places["film without a row"][0].endswith("dia9_utt4.mp4")
    write_manifest(tmp_path / "m.jsonl", loaded.records)
    assert read_manifest(tmp_path / "m.jsonl", ("train", "valid", "test")) == loaded.records


def test_a_line_without_film_may_stay_as_words(tree: Path) -> None:
    loaded = read_meld(tree, ZERO)
    assert len(loaded.records) == 18
    assert loaded.counts() == FAULTS
    mute = [r.id for r in loaded.records if r.file is None]
    assert mute == ["train_dia7_utt0", "train_dia7_utt1"]
    assert all(r.flags == ("no_audio",) for r in loaded.records if r.file is None)


def test_words_speakers_and_times(tree: Path) -> None:
    records = {r.id: r for r in read_meld(tree, Settings()).records}
    for split in ("train", "valid", "test"):  # dev is in cp1252
        assert records[f"{split}_dia0_utt0"].text == "Oh my God, he's lost it."
        assert records[f"{split}_dia0_utt1"].text == '"Fine"...'
        assert records[f"{split}_dia0_utt3"].text == "You can't - no."
    assert {r.speaker for r in records.values()} == {
        "meld:Ross", "meld:The Interviewer", "meld:Joey_2",
    }  # fmt: skip
    third = records["train_dia0_utt3"]
    assert (third.turn, third.start_s, third.end_s) == (2, 0.941, 1.341)
    assert (third.emotion, third.label_raw) == ("anger", "anger")
    assert third.file == third.video
    reversed_ = records["valid_dia7_utt3"]
    assert reversed_.flags == ("bad_times",)
    assert reversed_.end_s == pytest.approx(reversed_.start_s + reversed_.seconds, abs=1e-3)


def test_the_sound_of_a_film(tree: Path) -> None:
    record = read_meld(tree, Settings()).records[0]
    sound = read_sound(record)
    assert record.seconds == pytest.approx(0.4, abs=0.05)
    assert len(sound) == pytest.approx(6_400, abs=800)
    assert 0.02 < sound[1_000:5_000].std() < 0.1


def test_a_clip_far_too_long_is_cut_and_flagged(tree: Path) -> None:
    long = film(tree / "train_splits" / "dia0_utt1.mp4", seconds=2.0)
    loaded = read_meld(tree, Settings(longest_s=1.0))
    assert loaded.counts() == {**FAULTS, "clip too long, cut": 1}
    record = next(r for r in loaded.records if r.file == long.as_posix())
    assert (record.span, record.video_span, record.seconds) == ((0.0, 1.0), (0.0, 1.0), 1.0)
    assert record.flags == ("too_long",)
    assert len(read_sound(record)) == 16_000


def test_what_is_broken_in_tables_and_films(tree: Path) -> None:
    (tree / "train_splits" / "dia0_utt0.mp4").write_bytes(b"no film at all")
    film(tree / "train_splits" / "dia0_utt1.mp4", sound=False)
    table = tree / "train_sent_emo.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines.append(lines[3])
    lines.append(lines[3].replace("00:16:17,000", "soon"))
    lines.append(lines[3].replace(",0,3,", ",zero,3,"))
    lines[3] = lines[3].replace("anger", "zeal")
    table.write_text("\n".join(lines), encoding="utf-8")
    (tree / "dev_sent_emo.csv").unlink()
    loaded = read_meld(tree, Settings())
    assert loaded.counts() == {
        "empty media file": 1, "film without a row": 1, "missing media": 1, "stray film": 1,
        "missing table of a split": 1, "row cannot be read": 2, "unknown label": 1,
        "unreadable media": 2, "utterance stands twice": 1,
    }  # fmt: skip
    zeal = next(r for r in loaded.records if r.label_raw == "zeal")
    assert zeal.emotion == "unknown"


def test_tables_alone(tree: Path) -> None:
    for media in tree.glob("*/*"):
        media.unlink()
    for folder in [path for path in tree.iterdir() if path.is_dir()]:
        folder.rmdir()
    with pytest.raises(ManifestError, match=r"no folder train_splits.*--on-missing zero"):
        read_meld(tree, Settings())
    loaded = read_meld(tree, ZERO)
    assert len(loaded.records) == 18
    assert loaded.counts() == {"EndTime not after StartTime": 1, "no folder of media": 3}


# models.md 9.2: dialogues, utterances, then neutral, joy, surprise, anger, sadness, disgust, fear.
COUNTS = {
    "train": (1_038, 9_989, 4_710, 1_743, 1_205, 1_109, 683, 271, 268),
    "valid": (114, 1_109, 470, 163, 150, 153, 111, 22, 40),
    "test": (280, 2_610, 1_256, 402, 281, 345, 208, 68, 50),
}
NAMES = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
SPEAKERS = {1: 96, 2: 463, 3: 264, 4: 215}  # of the training dialogues; 4 stands for more too


def test_12_11_meld_counts(shared: Path) -> None:
    loaded = read_meld(shared / "data" / "text" / "meld", ZERO)
    assert loaded.counts() == {"EndTime not after StartTime": 1, "no folder of media": 3}
    assert loaded.notes["rows that begin before the row above"] == 31
    for split, (dialogues, utterances, *labels) in COUNTS.items():
        records = [r for r in loaded.records if r.split == split]
        assert (len(dialogues_of(records)), len(records)) == (dialogues, utterances)
        found = Counter(r.label_raw for r in records)
        assert [found[name] for name in NAMES] == labels
    train = dialogues_of(r for r in loaded.records if r.split == "train")
    assert ("meld", "train_dia60") not in train
    assert Counter(min(len({r.speaker for r in d}), 4) for d in train.values()) == SPEAKERS
    assert all(r.text.isascii() or set(r.text) & set("éó") for r in loaded.records)
