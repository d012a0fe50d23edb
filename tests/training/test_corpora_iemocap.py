"""IEMOCAP: the tree in miniature with its traps, the derived tables where they are there."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corpus_trees import iemocap, tone

from emotrace_models.labels import SCHEMES
from emotrace_training.corpora.iemocap import read_iemocap
from emotrace_training.corpora.iemocap_derived import read_iemocap_derived
from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.manifests import (
    ManifestError,
    dialogues_of,
    read_manifest,
    read_sound,
    write_manifest,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return iemocap(tmp_path)


def turns(loaded: Loaded, dialogue: str, order: str = "start") -> list[str]:
    found = dialogues_of(loaded.records, order)["iemocap", dialogue]
    return [record.id.removeprefix(f"{dialogue}_") for record in found]


def test_12_11_iemocap_tree(tree: Path, tmp_path: Path) -> None:
    loaded = read_iemocap(tree, Settings())
    assert len(loaded.records) == 4 * 6 + 2  # and the turn XX, and the line without a name
    assert loaded.counts() == {"missing session": 3}
    assert loaded.notes == {
        "hidden files left out": 4,
        "turns that begin before the one before ends": 1,
        "turns that the transcript puts after a later one": 1,
    }
    assert Counter(r.label_raw for r in loaded.records) == {
        "neu": 5, "ang": 4, "hap": 2, "exc": 3, "sad": 3, "fru": 2, "xxx": 1, "sur": 1, "fea": 1,
        "dis": 1, "oth": 1, "": 2,
    }  # fmt: skip
    assert len({r.speaker for r in loaded.records}) == 4
    assert all((r.file is None) == (r.label_raw == "") for r in loaded.records)
    write_manifest(tmp_path / "m.jsonl", loaded.records)
    assert read_manifest(tmp_path / "m.jsonl") == loaded.records
    assert read_sound(loaded.records[0]).shape == (4_800,)


def test_who_speaks_is_in_the_turn_not_in_the_dialogue(tree: Path) -> None:
    records = {r.id: r for r in read_iemocap(tree, Settings()).records}
    first = records["Ses01M_script01_1b_F000"]
    assert (first.speaker, first.gender, first.dialogue) == (
        "iemocap:Ses01F", "female", "Ses01M_script01_1b",
    )  # fmt: skip
    # The actor with the markers, M here, sits on the left.
    assert (first.crop, records["Ses01M_script01_1b_M000"].crop) == ("right", "left")
    assert first.video_span == (0.0, 0.9)
    swapped = {r.id: r for r in read_iemocap(tree, Settings(marked="right")).records}
    assert swapped[first.id].crop == "left"


def test_votes_become_shares_of_the_evaluators_alone(tree: Path) -> None:
    record = read_iemocap(tree, Settings()).records[0]
    assert record.scores == {"anger": 0.5, "frustration": 0.25, "neutral": 0.25}


def test_time_order_and_transcript_order(tree: Path) -> None:
    loaded = read_iemocap(tree, Settings())
    assert turns(loaded, "Ses02M_impro02") == ["F000", "M000", "F001", "M001", "F002", "M002"]
    assert turns(loaded, "Ses02M_impro02", "transcript") == [
        "F000", "F001", "M000", "M001", "F002", "M002",
    ]  # fmt: skip
    # A line without a name has no time: it stays behind the line that it follows.
    assert turns(loaded, "Ses01F_impro01") == [
        "F000", "M000", "line003", "F001", "M001", "F002", "M002",
    ]  # fmt: skip
    flags = {r.id: r.flags for r in loaded.records if r.flags}
    assert flags == {
        "Ses01F_impro01_line003": ("no_time", "no_label", "no_audio"),
        "Ses02F_impro05a_MXX0": ("no_label", "no_audio"),
    }


def test_every_fault_is_counted_with_its_place(tree: Path) -> None:
    wav = tree / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    (wav / "Ses01F_impro01_F000.wav").unlink()
    (wav / "Ses01F_impro01_F001.wav").write_bytes(b"")
    (wav / "Ses01F_impro01_F002.wav").write_bytes(b"RIFF")
    labels = tree / "Session1" / "dialog" / "EmoEvaluation" / "Ses01M_script01_1b.txt"
    lines = labels.read_text().splitlines()
    lines[2] = lines[2].replace("neu", "zeal")
    lines += [lines[9], "[0.1 - x]", "[7.0000 - 8.0000]\tSes01M_script01_1b_M009\tang\t[1, 1, 1]"]
    labels.write_text("\n".join(lines))
    tone(tree / "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_M009.wav")
    spoken = tree / "Session2" / "dialog" / "transcriptions" / "Ses02M_impro02.txt"
    spoken.write_text(
        spoken.read_text() + "gibberish\nSes02M_impro02_M007 [009.0000-009.5000]: Well.\n"
    )
    (tree / "Session2" / "dialog" / "avi" / "DivX" / "Ses02M_impro02.avi").unlink()
    expected = {
        "missing media": 2, "empty media file": 1, "unreadable media": 1, "missing session": 3,
        "unknown label": 1, "turn stands twice": 1, "label line cannot be read": 1,
        "labelled turn without transcript": 1, "transcribed turn without label": 1,
        "transcript line cannot be read": 1,
    }  # fmt: skip
    loaded = read_iemocap(tree, Settings())
    assert loaded.counts() == expected
    assert len(loaded.records) == 26 - 3 + 2
    zeal = next(f for f in loaded.faults if f.kind == "unknown label")
    assert (zeal.place, zeal.detail) == (f"{labels}:3", "'zeal'")
    kept = read_iemocap(tree, Settings(on_missing="zero"))
    assert kept.counts() == expected
    assert len(kept.records) == 26 + 2
    mute = next(r for r in kept.records if r.id == "Ses01F_impro01_F000")
    assert (mute.file, mute.seconds, mute.flags) == (None, 0.0, ("no_audio",))


def test_the_wrong_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Session1/dialog/EmoEvaluation.*5 x missing session"):
        read_iemocap(tmp_path, Settings())


# models.md 9.1: session -> ang, hap, exc, neu, sad, fru, sur, fea, dis, oth, xxx.
PER_SESSION = {
    "Ses01": (229, 135, 143, 384, 194, 280, 25, 12, 1, 1, 415),
    "Ses02": (137, 117, 210, 362, 197, 325, 17, 9, 0, 1, 436),
    "Ses03": (240, 135, 151, 320, 305, 382, 28, 2, 1, 0, 572),
    "Ses04": (327, 65, 238, 258, 143, 481, 19, 7, 0, 1, 564),
    "Ses05": (170, 143, 299, 384, 245, 381, 18, 10, 0, 0, 520),
}
RAW = ("ang", "hap", "exc", "neu", "sad", "fru", "sur", "fea", "dis", "oth", "xxx")


def test_12_11_iemocap_derived_counts(shared: Path) -> None:
    loaded = read_iemocap_derived(shared / "data" / "iemocap_derived", Settings())
    records = loaded.records
    assert loaded.faults == []
    assert len(records) == 10_039
    dialogues = dialogues_of(records)
    assert len(dialogues) == 151
    lengths = [len(found) for found in dialogues.values()]
    assert (min(lengths), max(lengths)) == (24, 167)
    assert np.mean(lengths) == pytest.approx(66.5, abs=0.05)
    for session, counts in PER_SESSION.items():
        found = Counter(r.label_raw for r in records if r.dialogue.startswith(session))
        assert tuple(found[name] for name in RAW) == counts
    assert len({r.speaker for r in records}) == 10
    assert all(r.file is None and r.text for r in records)


@pytest.mark.parametrize(
    ("scheme", "improvised", "sessions"),
    [
        ("iemocap4", False, (942, 813, 1_000, 793, 942)),
        ("iemocap4m", False, (1_085, 1_023, 1_151, 1_031, 1_241)),
        ("iemocap4", True, (2_280,)),
        ("iemocap6", False, (7_380,)),
    ],
)
def test_12_11_iemocap_subsets(
    shared: Path, scheme: str, improvised: bool, sessions: tuple[int, ...]
) -> None:
    records = read_iemocap_derived(shared / "data" / "iemocap_derived", Settings()).records
    counts = Counter(
        r.dialogue[:5]
        for r in records
        if SCHEMES[scheme].project(r.emotion) and (not improvised or "impro" in r.dialogue)
    )
    if len(sessions) == 1:
        assert counts.total() == sessions[0]
    else:
        assert tuple(counts[name] for name in PER_SESSION) == sessions


def test_12_11_iemocap_order_and_overlap(shared: Path) -> None:
    """The transcript runs against time in 126 places; 71 % of turns overlap the one before."""
    records = read_iemocap_derived(shared / "data" / "iemocap_derived", Settings()).records
    inverted = sum(
        a.start_s > b.start_s
        for found in dialogues_of(records, "transcript").values()
        for a, b in pairwise(found)
    )
    assert inverted == 126
    overlaps = [
        b.start_s < a.end_s for found in dialogues_of(records).values() for a, b in pairwise(found)
    ]
    assert np.mean(overlaps) == pytest.approx(0.71, abs=0.005)
