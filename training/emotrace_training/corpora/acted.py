"""Corpora of acted clips whose file names say everything: from names to records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from emotrace_training.corpora.loading import NAME, Loaded, Settings
from emotrace_training.manifests import Record


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a file name says. speaker: without the corpus; label: as the corpus writes it."""

    speaker: str
    gender: str
    label: str
    emotion: str
    text: str
    flags: tuple[str, ...] = ()


def read_named(
    loaded: Loaded,
    files: Iterable[Path],
    corpus: str,
    language: str,
    licence: str,
    spoken: Callable[[Path], Spoken | None],
    settings: Settings,
) -> None:
    """A record for each file whose name `spoken` understands; the rest are faults."""
    for file in files:
        said = spoken(file)
        if said is None:
            loaded.fault(NAME, file)
            continue
        seconds = loaded.seconds(file)
        if seconds is None and settings.on_missing == "drop":
            continue
        loaded.records.append(
            Record(
                id=file.stem, corpus=corpus, dialogue=file.stem, turn=0, start_s=0.0,
                end_s=seconds or 0.0, speaker=f"{corpus}:{said.speaker}", gender=said.gender,
                emotion=said.emotion, label_raw=said.label, split="", text=said.text,
                language=language, licence=licence, seconds=seconds or 0.0,
                file=None if seconds is None else file.as_posix(),
                flags=said.flags if seconds is not None else (*said.flags, "no_audio"),
            )
        )  # fmt: skip
