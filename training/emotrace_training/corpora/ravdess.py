"""RAVDESS speech (Livingstone & Russo 2018): English, 24 actors, two sentences, eight emotions."""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.clips import read_clips
from emotrace_training.manifests import Record

LICENCE = "CC-BY-NC-SA-4.0"

SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def prepare_ravdess(folder: Path) -> list[Record]:
    """Raises ManifestError."""
    return read_clips(
        folder, "ravdess", "en", LICENCE, lambda row: SENTENCES.get(row.get("statement", ""), "")
    )
