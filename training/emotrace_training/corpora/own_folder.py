"""One's own clips in folders named after emotions: `anger/a.wav`.

A level of speakers may lie between (`anger/maria/a.wav`), and one of splits above
(`train/anger/a.wav`).
"""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.own_labels import SPLITS, label_of
from emotrace_training.manifests import ManifestError, Record, RecordSplit
from emotrace_training.sound import CONTAINERS

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", *sorted(CONTAINERS))
NO_SPEAKER = "clip of an unknown speaker"
OUTSIDE = "clip in no emotion's folder"
DEEP = "clip in a folder too deep"


def read_own_folder(folder: Path, settings: Settings, name: str) -> Loaded:
    """Raises ManifestError for a folder whose name is no emotion."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder")
    loaded = Loaded()
    tops = _folders(folder)
    split_tops = [top for top in tops if top.name.lower() in SPLITS]
    if split_tops and len(split_tops) < len(tops):
        other = next(top for top in tops if top not in split_tops)
        raise ManifestError(f"{other}: lies beside {split_tops[0].name}, but is no split")
    for top in split_tops or [folder]:
        split = SPLITS[top.name.lower()] if split_tops else ""
        for file in loaded.files(top, *SOUNDS):
            loaded.fault(OUTSIDE, file)
        for emotion in _folders(top):
            label = label_of(emotion.name, emotion, settings)
            for file in loaded.files(emotion, *SOUNDS, deep=True):
                _add(loaded, file, emotion, label, split, folder, settings, name)
    return loaded.finish(folder, "anger/a.wav, happy/b.wav and the like")


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _add(
    loaded: Loaded, file: Path, emotion: Path, label: str, split: RecordSplit, folder: Path,
    settings: Settings, name: str,
) -> None:  # fmt: skip
    between = file.relative_to(emotion).parts[:-1]
    if len(between) > 1:
        loaded.fault(DEEP, file, "one level, of speakers, may lie below the emotion")
        return
    if not between:
        loaded.fault(NO_SPEAKER, file, f"put it into {emotion.name}/SPEAKER/")
    seconds = loaded.seconds(file)
    if seconds is None:
        return
    identifier = file.relative_to(folder).with_suffix("").as_posix()
    loaded.records.append(
        Record.alone(
            file.as_posix(), name, f"{name}:{between[0] if between else 'unknown'}", label, split,
            seconds, "", settings.language, settings.licence, id=identifier,
            label_raw=emotion.name,
        )
    )  # fmt: skip
