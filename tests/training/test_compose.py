"""`compose`: who speaks which line with which clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emotrace_training.casting import casting
from emotrace_training.compose import (
    ComposedDialogue,
    compose,
    composed_file,
    read_composed,
    write_dialogues,
)
from emotrace_training.dialogues import Line, TextDialogue
from emotrace_training.manifests import Record, read_manifest


def clip(actor: str, emotion: str, number: int) -> Record:
    file = f"{actor}-{emotion}-{number}"
    return Record.alone(file, "toy", f"toy:{actor}", emotion, "train", 1.0, "", "en", "CC0-1.0")


CLIPS = [
    clip(actor, emotion, number)
    for actor in "xyz"
    for emotion in ("anger", "calm", "neutral", "sadness")
    for number in range(2)
]


def dialogue(*lines: tuple[str, str], name: str = "d") -> TextDialogue:
    return TextDialogue(name, "toy", name, tuple(Line(s, f"{s} {e}", e) for s, e in lines))


def one(*lines: tuple[str, str], seed: int = 0) -> ComposedDialogue:
    (found,) = compose([dialogue(*lines)], CLIPS, seed)
    return found


def test_a_speaker_has_one_actor_and_clips_of_the_emotion() -> None:
    found = one(("A", "anger"), ("B", "sadness"), ("A", "sadness"), ("B", "anger"))
    assert len(set(found.actors.values())) == 2
    for turn in found.turns:
        assert turn.clip is not None
        actor, emotion, _ = turn.clip.split("-")
        assert found.actors[turn.speaker] == f"toy:{actor}"
        assert emotion == turn.label
        assert turn.text == f"{turn.speaker} {turn.label}"


def test_clips_are_used_up_before_one_is_heard_again() -> None:
    turns = one(*[("A", "anger")] * 5).turns
    assert {t.clip for t in turns[:2]} == {t.clip for t in turns[2:4]}
    assert len({t.clip for t in turns}) == 2


def test_neutral_lines_may_be_calm() -> None:
    kinds = {t.clip.split("-")[1] for t in one(*[("A", "neutral")] * 4).turns if t.clip}
    assert kinds == {"neutral", "calm"}


def test_an_emotion_that_the_actor_has_no_clip_of_stays_without_a_voice() -> None:
    (turn,) = one(("A", "disgust")).turns
    assert turn.clip is None
    assert turn.label == "disgust"


def test_more_speakers_than_actors() -> None:
    found = one(*[(name, "anger") for name in "ABCDE"])
    counts = [list(found.actors.values()).count(actor) for actor in set(found.actors.values())]
    assert sorted(counts) == [1, 2, 2]


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    lines = [(name, "anger") for name in "ABC"] * 3
    assert one(*lines) == one(*lines)
    assert any(one(*lines, seed=seed) != one(*lines) for seed in range(1, 4))


def test_a_dialogue_does_not_depend_on_its_companions() -> None:
    first = dialogue(("A", "anger"), ("B", "anger"), name="first")
    second = dialogue(("A", "sadness"), name="second")
    assert compose([second, first], CLIPS, 0)[1] == compose([first], CLIPS, 0)[0]


FACES = {"anger": ["angry-1", "angry-2"], "happiness": ["happy-1"]}


def test_faces_are_of_the_emotion_and_change_nobody() -> None:
    lines = [("A", "anger"), ("B", "sadness"), ("A", "excitement"), ("B", "anger")] * 3
    (plain,) = compose([dialogue(*lines)], CLIPS, 0)
    (faced,) = compose([dialogue(*lines)], CLIPS, 0, FACES)
    assert [replace(turn, face=None) for turn in faced.turns] == list(plain.turns)
    found = {(turn.label, turn.face) for turn in faced.turns}
    assert found == {
        ("anger", "angry-1"), ("anger", "angry-2"), ("sadness", None), ("excitement", "happy-1"),
    }  # fmt: skip
    assert compose([dialogue(*lines)], CLIPS, 0, FACES) == [faced]


def test_without_clips() -> None:
    with pytest.raises(ValueError, match="no clips"):
        compose([dialogue(("A", "anger"))], [], 0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    line = Line("A", "one\u2028two\nthree", "anger")
    found = compose([TextDialogue("d", "toy", "d", (line,))], CLIPS, 0)
    write_dialogues(tmp_path / "new" / "x.jsonl", found)
    assert read_composed(tmp_path / "new" / "x.jsonl") == found


def test_no_actor_of_one_split_is_heard_in_another(runs) -> None:
    clips = {c.file: c for c in read_manifest(runs.manifest)}
    cast = casting((c.corpus, c.speaker, c.split) for c in clips.values())
    for split in ("train", "dev", "test"):
        found = read_composed(composed_file(runs.composed, split, 0))
        voices = [clips[t.clip] for d in found for t in d.turns if t.clip]
        assert {cast[voice.speaker] for voice in voices} == {split}
        assert all((voice.split == "test") == (split == "test") for voice in voices)


def test_dev_has_the_actors_of_valid_and_every_fourth_of_each_corpus() -> None:
    taught = [(corpus, f"{corpus}:{n}", "train") for corpus in "ab" for n in range(1, 6)]
    others = [("a", "a:8", "valid"), ("b", "b:9", "test")]
    cast = casting([*taught, *others, *taught])
    assert {name for name, split in cast.items() if split == "dev"} == {"a:4", "b:4", "a:8"}
    assert cast["b:9"] == "test"
    assert len([name for name, split in cast.items() if split == "train"]) == 8
