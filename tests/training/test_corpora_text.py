"""The text corpora: dialects of each file, labels, and that nothing of MELD's tests leaks in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emotrace_models.labels import UnknownLabel
from emotrace_training.corpora.dailydialog import prepare_dailydialog
from emotrace_training.corpora.emorynlp import (
    SHARED_CHARACTERS,
    prepare_emorynlp,
    without_shared,
)
from emotrace_training.corpora.goemotions import prepare_goemotions, read_goemotions
from emotrace_training.corpora.meld import prepare_meld
from emotrace_training.dialogues import CorpusUnreadable, TextDialogue, plain
from emotrace_training.text_corpora import read_comments, read_dialogues

MELD = """Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode
1,"Oh my God, he’s lost it. He’s totally lost it.",Phoebe,sadness,negative,0,0,4,7
2,What?,The Interviewer,surprise,negative,0,2,4,7
3,Fine.,Phoebe,joy,positive,7,0,4,8
"""
EMORY = """Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode
"Oh my God, he's lost it... He's totally lost it!",['Phoebe Buffay'],Sad,1,1,4,7
What?,"['Ross Geller', 'Joey Tribbiani']",Mad,2,1,4,7
Hm.,['Joey Tribbiani'],Powerful,2,2,4,7
"""


def meld(folder: Path, text: str = MELD, encoding: str = "utf-8") -> list[TextDialogue]:
    (folder / "dev_sent_emo.csv").write_bytes(text.encode(encoding))
    return prepare_meld(folder, "dev")


def emory(folder: Path, text: str = EMORY) -> list[TextDialogue]:
    (folder / "emorynlp_train_final.csv").write_text(text, encoding="utf-8")
    return prepare_emorynlp(folder, "train")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_meld_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    first, second = meld(tmp_path, encoding=encoding)
    assert first.id == "meld-dev-0"
    assert [(line.speaker, line.label) for line in first.lines] == [
        ("Phoebe", "sadness"),
        ("The Interviewer", "surprise"),
    ]
    assert first.lines[0].text == "Oh my God, he’s lost it. He’s totally lost it."
    assert second.lines[0].label == "happiness"
    assert (first.group, second.group) == ("friends-4-7", "friends-4-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Utterance,Speaker\nHi,A\n", "no column Emotion, Dialogue_ID, Season, Episode"),
        (MELD + "4,cut", "row 5 is cut short"),
    ],
)
def test_meld_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusUnreadable, match=message):
        meld(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusUnreadable, match=r"train_sent_emo\.csv: No such file"):
        prepare_meld(tmp_path, "train")
    with pytest.raises(CorpusUnreadable, match=r"labels\.txt: No such file"):
        prepare_goemotions(tmp_path, "train")


def test_an_unknown_emotion_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownLabel, match="'grumpiness'"):
        meld(tmp_path, MELD.replace("sadness", "grumpiness"))


def test_emorynlp_speakers_labels_and_groups(tmp_path: Path) -> None:
    first, second = emory(tmp_path)
    assert first.lines[0].label == "sadness"
    assert [line.speaker for line in second.lines] == [
        "Ross Geller & Joey Tribbiani",
        "Joey Tribbiani",
    ]
    assert [line.label for line in second.lines] == ["anger", "other"]
    assert first.group == second.group == "friends-4-7"
    with pytest.raises(CorpusUnreadable, match="no list of speakers"):
        emory(tmp_path, EMORY.replace("['Phoebe Buffay']", "Phoebe"))


def test_scenes_that_repeat_a_line_are_dropped_whole(tmp_path: Path) -> None:
    scenes = emory(tmp_path)
    kept = without_shared(scenes, meld(tmp_path))
    assert [scene.id for scene in kept] == ["emorynlp-train-4-7-2"]  # "What?" is too short to count


def test_dailydialog_knows_its_misspellings(tmp_path: Path) -> None:
    rows = "dialog,turn,speaker,emotion,text\ntr_1,1,A,happines,Great !\ntr_1,2,B,sad,Oh .\n"
    (tmp_path / "train.csv").write_text(rows)
    (dialogue,) = prepare_dailydialog(tmp_path, "train")
    assert [line.label for line in dialogue.lines] == ["happiness", "sadness"]


def test_goemotions_keeps_comments_of_one_ekman_group(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("joy\nlove\nanger\nneutral\n")
    (tmp_path / "dev.tsv").write_text("a b\t0,1\tid1\nc\t1,2\tid2\nd\t3\tid3\n")
    found = prepare_goemotions(tmp_path, "dev")
    assert [d.lines[0].label for d in found] == ["happiness", "neutral"]
    assert [c.groups for c in read_goemotions(tmp_path, "dev")] == [
        ("happiness",), ("anger", "happiness"), ("neutral",),
    ]  # fmt: skip
    (tmp_path / "dev.tsv").write_text("a b\t0,9\tid1\n")
    with pytest.raises(CorpusUnreadable, match="row 1 is not text, labels, id"):
        prepare_goemotions(tmp_path, "dev")


def test_folds_are_stable_and_never_cut_a_group() -> None:
    dialogues = [TextDialogue(str(i), "c", f"group {i // 3}", ()) for i in range(90)]
    folds = [d.fold(3) for d in dialogues]
    assert set(folds) == {0, 1, 2}
    assert all(len({folds[3 * i + j] for j in range(3)}) == 1 for i in range(30))
    assert folds[::3][:6] == [2, 1, 0, 1, 0, 0]


def test_the_real_corpora(shared: Path) -> None:
    root = shared / "data" / "text"
    train = read_dialogues(root, "train")
    assert Counter(d.corpus for d in train) == {"meld": 1038, "emorynlp": 584, "dailydialog": 834}
    for split, dialogues, utterances in (("dev", 114, 1109), ("test", 280, 2610)):
        found = read_dialogues(root, split)
        assert (len(found), sum(len(d.lines) for d in found)) == (dialogues, utterances)
    counts = Counter(line.label for d in prepare_meld(root / "meld", "test") for line in d.lines)
    assert counts == {
        "neutral": 1256, "happiness": 402, "surprise": 281, "anger": 345, "sadness": 208,
        "disgust": 68, "fear": 50,
    }  # fmt: skip
    assert len(read_comments(root, "train")) == 39_555


def test_no_held_out_line_is_in_the_kept_scenes(shared: Path) -> None:
    root = shared / "data" / "text"
    scenes = prepare_emorynlp(root / "emorynlp", "train")
    held_out = [*prepare_meld(root / "meld", "dev"), *prepare_meld(root / "meld", "test")]
    lines = {plain(line.text) for d in held_out for line in d.lines}
    kept = without_shared(scenes, held_out)
    assert (len(scenes), len(kept)) == (659, 584)

    def repeated(found: list[TextDialogue]) -> int:
        texts = {plain(line.text) for d in found for line in d.lines}
        return sum(len(text) >= SHARED_CHARACTERS for text in texts & lines)

    assert repeated(scenes) > 150
    assert repeated(kept) == 0
