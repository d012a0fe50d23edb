"""All steps at smoke size, once: made clips and made texts -> towers, dialogues, a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_training import acoustic, bundle_step, calibrate, compose, face, fusion, lexical
from emotrace_training.manifests import ClipSplit, Record, write_manifest

SPEAKERS: dict[str, ClipSplit] = {
    "a": "train", "b": "train", "c": "train", "d": "valid", "e": "valid", "f": "test", "g": "test",
}  # fmt: skip
PITCH = {"anger": 300, "sadness": 100, "neutral": 150, "happiness": 220, "fear": 260}
SAID = {
    "joy": "What a wonderful day, I am so glad!", "anger": "Get out of here, you idiot!",
    "sadness": "I lost everything and I cry.", "neutral": "The train leaves at nine.",
    "fear": "Help, it is coming for us!",
}  # fmt: skip
GO_LABELS = ("joy", "anger", "sadness", "neutral", "fear")


@dataclass(frozen=True, slots=True)
class Runs:
    """Where each step left its files."""

    text: Path
    manifest: Path
    acoustic: Path
    lexical: Path
    face: Path
    composed: Path
    fusion: Path
    bundle: Path


Invoke = Callable[..., str]


def run(command: Callable[..., None], *arguments: object, code: int = 0) -> str:
    """What a step prints: its result, or where it fails also its errors. Must end with `code`."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.stdout if code == 0 else result.output


def write_clips(folder: Path) -> list[Record]:
    """Buzzes: angry ones high, sad ones low. Speaker `b` has no fear, as some actors here have."""
    rng = np.random.default_rng(0)
    clips = []
    for speaker, split in SPEAKERS.items():
        for number in range(10):
            emotion = list(PITCH)[number % 5]
            if (speaker, emotion) == ("b", "fear"):
                continue
            t = np.arange(int(rng.integers(5_000, 12_000))) / 16_000
            wave = sum(np.sin(2 * np.pi * PITCH[emotion] * k * t) / k for k in range(1, 6)) * 0.05
            file = folder / f"{speaker}-{number}.wav"
            soundfile.write(file, wave + rng.standard_normal(len(t)) * 0.001, 16_000)
            clips.append(
                Record.alone(
                    file.as_posix(), "toy", f"toy:{speaker}", emotion, split,
                    len(t) / 16_000, "", "en", "CC0-1.0",
                )
            )  # fmt: skip
    return clips


def write_texts(root: Path) -> None:
    """The four text corpora in miniature."""
    rng = np.random.default_rng(0)
    for name in ("meld", "emorynlp", "dailydialog_reccon", "goemotions"):
        (root / name).mkdir(parents=True)

    def dialogues(count: int) -> list[tuple[int, str, str]]:
        picks = rng.choice(list(SAID), size=(count, 6))
        return [(d, "AB"[i % 2], str(e)) for d, row in enumerate(picks) for i, e in enumerate(row)]

    for split, count in (("train", 24), ("dev", 6), ("test", 6)):
        lines = ["Utterance,Speaker,Emotion,Dialogue_ID,Season,Episode"]
        lines += [f'"{SAID[e]}",{s},{e},{d},1,{d}' for d, s, e in dialogues(count)]
        (root / "meld" / f"{split}_sent_emo.csv").write_text("\n".join(lines))
    lines = ["Utterance,Speaker,Emotion,Scene_ID,Season,Episode"]
    lines += [f"Hm {d}.,\"['{s}']\",Mad,{d},1,{d}" for d, s, _ in dialogues(4)]
    (root / "emorynlp" / "emorynlp_train_final.csv").write_text("\n".join(lines))
    lines = ["dialog,turn,speaker,emotion,text"]
    lines += [f'tr_{d},1,{s},{e},"{SAID[e]}"' for d, s, e in dialogues(6)]
    (root / "dailydialog_reccon" / "train.csv").write_text("\n".join(lines))
    (root / "goemotions" / "labels.txt").write_text("\n".join(GO_LABELS))
    for split, count in (("train", 5), ("dev", 2), ("test", 2)):
        said = [e for _, _, e in dialogues(count)]
        lines = [f"{SAID[e]}\t{GO_LABELS.index(e)}\t{split}{i}" for i, e in enumerate(said)]
        (root / "goemotions" / f"{split}.tsv").write_text("\n".join(lines))


def write_faces(folder: Path) -> None:
    """What `face` leaves: an encoder and vectors of faces near their emotion's prototype."""
    encoder = CompactFace(face.SMOKE)
    folder.mkdir()
    save_file(encoder.state_dict(), folder / face.ENCODER)
    (folder / face.CONFIG).write_text(json.dumps(asdict(face.SMOKE)))
    rng = np.random.default_rng(0)
    rows = [(s, e, n) for s in ("train", "valid", "test") for e in PITCH for n in range(4)]
    frame = class_prototypes(encoder.width).numpy()
    mixed = 0.2 * rng.standard_normal((len(rows), len(frame)))
    mixed[np.arange(len(rows)), [EMOTIONS.index(emotion) for _, emotion, _ in rows]] += 1
    vectors = mixed @ frame
    np.savez(
        folder / face.VECTORS,
        id=np.array([f"{side}-{emotion}-{number}" for side, emotion, number in rows]),
        emotion=np.array([emotion for _, emotion, _ in rows]),
        side=np.array([side for side, _, _ in rows]),
        vector=np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)),
    )


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every step up to the bundle, run as a person would."""
    base = tmp_path_factory.mktemp("runs")
    made = Runs(
        base / "text", base / "manifest.jsonl", base / "acoustic", base / "lexical", base / "face",
        base / "composed", base / "fusion", base / "bundle",
    )  # fmt: skip
    write_texts(made.text)
    (base / "clips").mkdir()
    write_manifest(made.manifest, write_clips(base / "clips"))
    run(
        acoustic.command, "--manifest", made.manifest, "--out", made.acoustic, "--smoke",
        "--folds", 2, "--variants", 1, "--workers", 1,
    )  # fmt: skip
    run(
        lexical.command, "--text", made.text, "--out", made.lexical, "--smoke", "--folds", 2,
        "--epochs", 2, "--vocabulary", 320,
    )  # fmt: skip
    write_faces(made.face)
    run(
        compose.command, "--text", made.text, "--manifest", made.manifest, "--out", made.composed,
        "--faces", made.face / face.VECTORS, "--draws", 1, "--seeds", 2,
    )  # fmt: skip
    towers = ("--acoustic", made.acoustic, "--lexical", made.lexical, "--face", made.face)
    run(
        fusion.command, *towers, "--composed", made.composed, "--manifest", made.manifest, "--out",
        made.fusion, "--draws", 1, "--dev-draws", 2, "--seeds", 2, "--epochs", 2, "--smoke",
    )  # fmt: skip
    for seed in (0, 1):
        run(
            calibrate.command, "--composed", made.composed, "--acoustic", made.acoustic, "--face",
            made.face, "--fusion", made.fusion, "--seed", seed,
        )  # fmt: skip
    run(
        bundle_step.command, *towers, "--fusion", made.fusion, "--out", made.bundle, "--name",
        "smoke",
    )  # fmt: skip
    return made
