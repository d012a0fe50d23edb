"""nEMO (Christop, LREC-COLING 2024): Polish, nine actors, 90 sentences, six emotions."""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.clips import read_clips
from emotrace_training.manifests import Record

LICENCE = "CC-BY-NC-SA-4.0"


def prepare_nemo(folder: Path) -> list[Record]:
    """Raises ManifestError."""
    return read_clips(folder, "nemo", "pl", LICENCE, lambda row: row.get("text") or "")
