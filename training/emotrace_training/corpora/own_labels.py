"""Labels and splits as people write them in their own tables."""

from __future__ import annotations

from pathlib import Path

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.corpora.loading import Settings
from emotrace_training.manifests import ManifestError, RecordSplit

SPLITS: dict[str, RecordSplit] = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
    "": "",
}  # fmt: skip


def label_of(name: str, place: Path | str, settings: Settings) -> str:
    """The canonical label of a name, `settings.labels` first. ManifestError with a cure."""
    try:
        return settings.labels.get(name) or canonical(name)
    except UnknownLabel as error:
        raise ManifestError(f"{place}: {error}; or say what it is: --label '{name}=NAME'") from None


def split_of(name: str, place: str) -> RecordSplit:
    try:
        return SPLITS[name.lower()]
    except KeyError:
        raise ManifestError(f"{place}: {name!r} is no split; train, valid, test or empty") from None
