"""CREMA-D (Cao et al. 2014): 91 actors, twelve sentences, six emotions (models.md 9.6).

`AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, intended emotion, level. The label is the intended
emotion, or what raters perceived. Sound is taken from the wav alone: old copies of some films are
silent. In a git checkout without LFS every file is a pointer of a few lines.
"""

from __future__ import annotations

import re
from pathlib import Path

from emotrace_models.labels import canonical
from emotrace_training.corpora.loading import NAME, NO_FILMS, Loaded, Settings, Votes
from emotrace_training.corpora.tables import rows
from emotrace_training.corpora.votes import shares
from emotrace_training.manifests import Record

LICENCE = "ODbL-1.0"
SENTENCES = {
    "IEO": "It's eleven o'clock.", "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.", "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.", "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.", "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.", "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.", "WSI": "We'll stop in a couple of minutes.",
}  # fmt: skip
ACTORS = range(1001, 1092)
# Media that the corpus itself is known to have wrong.
SILENT = frozenset({"1076_MTI_SAD_XX"})  # in every form
BAD_FILMS = SILENT | {"1076_MTI_NEU_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD"}
FAULTY = "media known to be faulty"
NO_ACTORS = "no table of actors"
NO_ACTOR = "actor stands in no table"
NO_VOTES = "clip without votes"
TIED = "tied votes"
_NAME = re.compile(rf"(\d{{4}})_({'|'.join(SENTENCES)})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)")
_COLUMN: dict[Votes, str] = {"voice": "VoiceVote", "face": "FaceVote", "both": "MultiModalVote"}
_LETTERS = {
    "A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness",
}  # fmt: skip


def read_crema_d(folder: Path, settings: Settings) -> Loaded:
    """The repository's folder, with `AudioWAV/` and perhaps `VideoFlash/`. Raises ManifestError."""
    loaded = Loaded()
    genders = _genders(loaded, folder)
    votes = _votes(loaded, folder, settings)
    audio, films = folder / "AudioWAV", folder / "VideoFlash"
    if not films.is_dir():
        loaded.fault(NO_FILMS, films, "records have no video")
    stems: dict[str, None] = {}
    for file in [*loaded.files(audio, ".wav"), *loaded.files(films, ".flv")]:
        match = _NAME.fullmatch(file.stem)
        if match is None or int(match[1]) not in ACTORS:
            loaded.fault(NAME, file)
        else:
            stems[file.stem] = None
    for actor in sorted({stem[:4] for stem in stems} - set(genders)) if genders else ():
        loaded.fault(NO_ACTOR, folder / "VideoDemographics.csv", actor)
    for stem in stems:
        film = films / f"{stem}.flv" if films.is_dir() else None
        _add(loaded, stem, audio / f"{stem}.wav", film, genders, votes, settings)
    return loaded.finish(folder, "AudioWAV/1001_DFA_ANG_XX.wav and the like")


def _add(
    loaded: Loaded, stem: str, audio: Path, film: Path | None, genders: dict[str, str],
    votes: dict[str, list[str]], settings: Settings,
) -> None:  # fmt: skip
    actor, sentence, intended, _ = stem.split("_")
    if stem in SILENT:
        loaded.fault(FAULTY, audio, "no sound")
        seconds = None
    else:
        seconds = loaded.seconds(audio)
    if film is not None and stem in BAD_FILMS:
        loaded.fault(FAULTY, film)
        film = None
    elif film is not None and not loaded.media(film):
        film = None
    if seconds is None and settings.on_missing == "drop":
        return
    flags = () if seconds is not None else ("no_audio",)
    emotion, raw = canonical(intended), intended
    if settings.votes != "intended":
        if stem not in votes:
            loaded.fault(NO_VOTES, audio)
        chosen = votes.get(stem, [])
        emotion = _LETTERS[chosen[0]] if len(chosen) == 1 else "unknown"
        raw = ":".join(chosen)
        if len(chosen) > 1:
            flags = (*flags, "tied")
            loaded.notes[TIED] += 1
    loaded.records.append(
        Record(
            id=stem, corpus="crema_d", dialogue=stem, turn=0, start_s=0.0, end_s=seconds or 0.0,
            speaker=f"crema_d:{actor}", gender=genders.get(actor, ""), emotion=emotion,
            label_raw=raw, split="", text=SENTENCES[sentence], language="en", licence=LICENCE,
            file=audio.as_posix() if seconds is not None else None, seconds=seconds or 0.0,
            video=film.as_posix() if film else None, flags=flags,
            scores=shares(loaded, [_LETTERS[vote] for vote in votes.get(stem, ())], str(audio)),
        )
    )  # fmt: skip


def _genders(loaded: Loaded, folder: Path) -> dict[str, str]:
    table = folder / "VideoDemographics.csv"
    if not table.is_file():
        loaded.fault(NO_ACTORS, table, "records have no gender")
        return {}
    return {row["ActorID"]: row["Sex"].lower() for _, row in rows(table, ("ActorID", "Sex"))}


def _votes(loaded: Loaded, folder: Path, settings: Settings) -> dict[str, list[str]]:
    """Clip -> the letters that most raters chose, several where they tie. Empty where the table is
    missing and not needed."""
    table = folder / "processedResults" / "summaryTable.csv"
    if settings.votes == "intended" and not table.is_file():
        return {}
    column = _COLUMN.get(settings.votes, "MultiModalVote")
    found = {}
    for place, row in rows(table, ("FileName", column)):
        letters = row[column].split(":")
        if unknown := [letter for letter in letters if letter not in _LETTERS]:
            loaded.fault("vote cannot be read", place, repr(":".join(unknown)))
            continue
        found[row["FileName"]] = letters
    return found
