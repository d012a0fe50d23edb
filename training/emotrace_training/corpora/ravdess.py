"""RAVDESS speech (Livingstone & Russo 2018): English, 24 actors, two sentences, eight emotions.

`Actor_12/03-01-06-01-02-01-12.wav`: modality, channel, emotion, intensity, statement, repetition,
actor (models.md 9.5). A take is there up to three times: as sound (03), as film (01), as silent
film (02). They become one record. Songs are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from emotrace_training.corpora.labels_csv import LABELS, read_labels_csv
from emotrace_training.corpora.loading import NAME, Loaded, Settings
from emotrace_training.manifests import Record

LICENCE = "CC-BY-NC-SA-4.0"

SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger",
    "06": "fear", "07": "disgust", "08": "surprise",
}  # fmt: skip
SONGS = "songs left out"
SILENT = "silent film without its sound"
_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
_FILM, _SILENT, _SOUND = "01", "02", "03"


def read_ravdess(folder: Path, settings: Settings) -> Loaded:
    """The folder that holds Actor_01 … Actor_24, at any depth, or one of this project's data
    folders. Raises ManifestError."""
    if (folder / LABELS).is_file():
        return read_labels_csv(
            folder, "ravdess", "en", LICENCE,
            lambda row: SENTENCES.get(row.get("statement", ""), ""),
        )  # fmt: skip
    loaded = Loaded()
    takes: dict[str, dict[str, Path]] = {}
    for file in loaded.files(folder, ".wav", ".flac", ".mp4", deep=True):
        match = _NAME.fullmatch(file.stem)
        actor = match is not None and f"Actor_{match[7]}" == file.parent.name
        if match is None or not actor or not 1 <= int(match[7]) <= 24:
            loaded.fault(NAME, file)
        elif match[3] == "01" and match[4] == "02":
            loaded.fault(NAME, file, "neutral is never said strongly")
        elif match[2] == "02":
            loaded.notes[SONGS] += 1
        else:
            take = takes.setdefault(file.stem[3:], {})
            if (before := take.setdefault(match[1], file)) != file:
                loaded.fault("take stands twice", file, f"used: {before}")
    for name, take in takes.items():
        _add(loaded, name, take, settings)
    return loaded.finish(folder, "Actor_01/03-01-01-01-01-01-01.wav and the like")


def _add(loaded: Loaded, name: str, take: dict[str, Path], settings: Settings) -> None:
    """The record of a take: sound of the audio file, else of the film."""
    _, emotion, intensity, statement, _, actor = name.split("-")
    usable = {kind: file for kind, file in take.items() if kind != _SOUND and loaded.media(file)}
    video = usable.get(_FILM) or usable.get(_SILENT)
    audio = take.get(_SOUND) or usable.get(_FILM)
    if audio is None and _SILENT in take:
        loaded.fault(SILENT, take[_SILENT])
    seconds = loaded.seconds(audio) if audio else None
    if seconds is None and settings.on_missing == "drop":
        return
    if seconds is None and video is None:
        return
    identifier = (take.get(_SOUND) or take.get(_FILM) or take[_SILENT]).stem
    loaded.records.append(
        Record(
            id=identifier, corpus="ravdess", dialogue=identifier, turn=0, start_s=0.0,
            end_s=seconds or 0.0, speaker=f"ravdess:{actor}",
            gender="male" if int(actor) % 2 else "female", emotion=EMOTIONS[emotion],
            label_raw=emotion, split="", text=SENTENCES[statement], language="en",
            licence=LICENCE, file=audio.as_posix() if audio and seconds is not None else None,
            seconds=seconds or 0.0, video=video.as_posix() if video else None,
            flags=(*(("strong",) if intensity == "02" else ()),
                   *(("no_audio",) if seconds is None else ())),
        )
    )  # fmt: skip
