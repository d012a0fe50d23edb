"""Composed dialogues as records: order, splits, silence where an actor has no clip."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_corpus import toy_corpus

from emotrace_training import composed_records
from emotrace_training.compose import ComposedDialogue, Turn, composed_file, write_dialogues
from emotrace_training.composed_records import CORPUS
from emotrace_training.dialogues import SPLITS
from emotrace_training.manifests import ManifestError, read_clips, read_manifest


def dialogue(name: str, clips: list[str | None]) -> ComposedDialogue:
    turns = tuple(
        Turn("AB"[n % 2], f"line {n}", "anger" if n else "neutral", clip)
        for n, clip in enumerate(clips)
    )
    return ComposedDialogue(name, "meld", {"A": "toy:A0", "B": "toy:B0"}, turns)


@pytest.fixture
def composed(tmp_path: Path) -> tuple[Path, Path]:
    toy = toy_corpus(tmp_path, sound=True)
    clips = [clip.audio for clip in read_clips(toy.manifest)]
    for split in SPLITS:
        dialogues = [dialogue(f"{split}-{n}", [clips[n], None, clips[n + 1]]) for n in range(4)]
        write_dialogues(composed_file(tmp_path, split, 0), dialogues)
    return tmp_path, toy.manifest


def test_turns_become_records(composed: tuple[Path, Path], invoke) -> None:
    folder, manifest = composed
    out = folder / "composed.jsonl"
    said = invoke(
        composed_records.command, "--composed", folder, "--manifest", manifest, "--out", out
    )
    assert "train: 4 dialogues, 12 turns, 8 voices" in said
    records = read_manifest(out, ("train", "valid", "test"))
    assert len(records) == 36
    first, silent, third = records[:3]
    assert (first.id, first.dialogue, first.turn) == ("train/train-0/0", "train/train-0", 0)
    assert (first.corpus, first.speaker, silent.speaker) == (
        CORPUS, f"{CORPUS}:A", f"{CORPUS}:B",
    )  # fmt: skip
    assert (first.emotion, third.emotion) == ("neutral", "anger")
    assert (silent.file, silent.seconds, silent.start_s) == (None, 0.0, 0.5)
    assert (third.start_s, third.end_s) == (0.5, 1.0)
    assert first.licence == "CC0-1.0 AND GPL-3.0"
    assert first.flags == ("actor=toy:A0",)
    assert {r.split for r in records if r.dialogue.startswith("valid/")} == {"valid"}


def test_fewer_dialogues_on_request(composed: tuple[Path, Path], invoke) -> None:
    folder, manifest = composed
    invoke(
        composed_records.command, "--composed", folder, "--manifest", manifest, "--out",
        folder / "few.jsonl", "--most", 2,
    )  # fmt: skip
    assert len({r.dialogue for r in read_manifest(folder / "few.jsonl")}) == 6


def test_a_clip_of_another_manifest_is_named(composed: tuple[Path, Path], invoke) -> None:
    folder, manifest = composed
    write_dialogues(composed_file(folder, "dev", 0), [dialogue("dev-0", ["elsewhere.wav"])])
    said = invoke(
        composed_records.command, "--composed", folder, "--manifest", manifest, "--out",
        folder / "x.jsonl", code=1,
    )  # fmt: skip
    assert "no clip elsewhere.wav in the manifest" in said
    with pytest.raises(ManifestError, match="dialogue dev-0"):
        composed_records.composed_records([dialogue("dev-0", ["elsewhere.wav"])], {}, "valid")
