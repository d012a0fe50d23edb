"""IEMOCAP (Busso et al. 2008): five sessions of two actors each, ten classes (models.md 9.1).

The letter in a dialogue's name (Ses01F_…) is the actor who wears the markers, not who speaks: the
speaker is the letter of the turn (…_M003). A label file lists the turns of one actor, then those of
the other, and a transcript is not quite in the order of time either; `turn` is the place in the
transcript. Turns without a label (`XX` in the name, or no name at all) are kept as `unknown`: they
are context. Whether excitement counts as happiness is for a label scheme to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from emotrace_training.corpora.loading import NO_FILMS, Half, Loaded, Settings
from emotrace_training.corpora.tables import decoded
from emotrace_training.corpora.votes import shares
from emotrace_training.manifests import Record

LICENCE = "IEMOCAP, by its owners' agreement; research only, never shipped"
SESSIONS = 5
NO_SESSION = "missing session"
NO_TRANSCRIPT = "labelled turn without transcript"
NO_LABEL = "transcribed turn without label"
BAD_LABEL = "label line cannot be read"
BAD_LINE = "transcript line cannot be read"
TWICE = "turn stands twice"
OVERLAPS = "turns that begin before the one before ends"
INVERTED = "turns that the transcript puts after a later one"
_GENDERS = {"F": "female", "M": "male"}
_LABEL = re.compile(r"\[(\d+\.\d+) - (\d+\.\d+)\]\t(\w+)\t(\w+)\t\[.*\]\s*")
_RATER = re.compile(r"C-E\d+:\t([^\t]*)")
_NAMED = re.compile(r"(Ses\d\d[FM]_\w+_([FM])(?:\d{3}|XX\d+)) \[(\d+\.\d+)-(\d+\.\d+)\]: ?(.*)")
_NAMELESS = re.compile(r"([FM]): ?(.*)")


@dataclass(frozen=True, slots=True)
class _Label:
    raw: str
    start: float
    end: float
    place: str
    votes: list[str] = field(default_factory=list)  # categories, as the raters chose them


@dataclass(frozen=True, slots=True)
class _Said:
    """A line of a transcript. time: None where the line has none."""

    id: str
    letter: str
    time: tuple[float, float] | None
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """marked: the half of the picture on which the actor of the dialogue's letter sits."""

    name: str
    session: Path
    video: str | None
    marked: Half

    def crop(self, letter: str) -> Half:
        if letter == self.name[5]:
            return self.marked
        return "right" if self.marked == "left" else "left"


def read_iemocap(folder: Path, settings: Settings) -> Loaded:
    """`IEMOCAP_full_release`, with Session1 … Session5. Raises ManifestError."""
    loaded = Loaded()
    for number in range(1, SESSIONS + 1):
        session = folder / f"Session{number}"
        if not session.is_dir():
            loaded.fault(NO_SESSION, session)
            continue
        films = session / "dialog" / "avi" / "DivX"
        if not films.is_dir():
            loaded.fault(NO_FILMS, films, "records have no video")
        for file in loaded.files(session / "dialog" / "EmoEvaluation", ".txt"):
            _dialogue(loaded, session, file, settings)
    return loaded.finish(folder, "Session1/dialog/EmoEvaluation/*.txt and the like")


def _dialogue(loaded: Loaded, session: Path, evaluation: Path, settings: Settings) -> None:
    name = evaluation.stem
    labels = dict(_labels(loaded, evaluation))
    transcript = session / "dialog" / "transcriptions" / evaluation.name
    said = []
    if loaded.media(transcript):
        said = list(_transcript(loaded, transcript, name))
    known = {line.id for line in said}
    for identifier, label in labels.items():
        if identifier not in known:
            loaded.fault(NO_TRANSCRIPT, label.place, identifier)
            said.append(
                _Said(identifier, identifier[-4], (label.start, label.end), "", label.place)
            )
    film = session / "dialog" / "avi" / "DivX" / f"{name}.avi"
    video = film.as_posix() if film.parent.is_dir() and loaded.media(film) else None
    dialogue = _Dialogue(name, session, video, settings.marked)
    found = []
    before = 0.0
    for turn, line in enumerate(said):
        record = _record(loaded, dialogue, turn, line, labels.get(line.id), before)
        before = record.start_s
        if record.label_raw and record.file is None and settings.on_missing == "drop":
            continue
        found.append(record)
    timed = [record for record in found if "no_time" not in record.flags]
    loaded.notes[INVERTED] += sum(a.start_s > b.start_s for a, b in pairwise(timed))
    timed.sort(key=lambda r: (r.start_s, r.turn))
    loaded.notes[OVERLAPS] += sum(b.start_s < a.end_s for a, b in pairwise(timed))
    loaded.records += found


def _record(
    loaded: Loaded,
    dialogue: _Dialogue,
    turn: int,
    line: _Said,
    label: _Label | None,
    before: float,
) -> Record:
    """before: start of the line before, which stands in where a line has no time."""
    start, end = (label.start, label.end) if label else (line.time or (before, before))
    flags = [] if label or line.time else ["no_time"]
    if label is None:
        flags.append("no_label")
        if line.time and "XX" not in line.id:
            loaded.fault(NO_LABEL, line.place, line.id)
    audio = dialogue.session / "sentences" / "wav" / dialogue.name / f"{line.id}.wav"
    # A turn without label has mostly no audio: nothing is missing there.
    seconds = loaded.seconds(audio) if label or audio.is_file() else None
    if seconds is None:
        flags.append("no_audio")
    emotion = loaded.label(label.raw, label.place) if label else None
    timed = dialogue.video is not None and end > start
    return Record(
        id=line.id, corpus="iemocap", dialogue=dialogue.name, turn=turn, start_s=start, end_s=end,
        speaker=f"iemocap:{dialogue.name[:5]}{line.letter}", gender=_GENDERS[line.letter],
        emotion=emotion or "unknown", label_raw=label.raw if label else "", split="",
        text=line.text, language="en", licence=LICENCE,
        file=audio.as_posix() if seconds else None, seconds=seconds or 0.0,
        video=dialogue.video if timed else None, video_span=(start, end) if timed else None,
        crop=dialogue.crop(line.letter) if timed else "",
        scores=shares(loaded, label.votes, label.place) if label else {}, flags=tuple(flags),
    )  # fmt: skip


def _labels(loaded: Loaded, file: Path) -> Iterator[tuple[str, _Label]]:
    """Turn -> its label. The header stands between brackets too, after a `%`."""
    current: _Label | None = None
    seen: set[str] = set()
    for number, line in enumerate(decoded(file).splitlines(), start=1):
        place = f"{file}:{number}"
        if line.startswith("["):
            match = _LABEL.fullmatch(line)
            current = None
            if match is None:
                loaded.fault(BAD_LABEL, place, line.strip())
            elif match[3] in seen:
                loaded.fault(TWICE, place, match[3])
            else:
                seen.add(match[3])
                current = _Label(match[4], float(match[1]), float(match[2]), place)
                yield match[3], current
        elif current is not None and (rater := _RATER.match(line)):
            current.votes.extend(vote.strip() for vote in rater[1].split(";") if vote.strip())


def _transcript(loaded: Loaded, file: Path, dialogue: str) -> Iterator[_Said]:
    seen: set[str] = set()
    for number, line in enumerate(decoded(file).splitlines(), start=1):
        place = f"{file}:{number}"
        if named := _NAMED.fullmatch(line.strip()):
            if named[1] in seen:
                loaded.fault(TWICE, place, named[1])
                continue
            seen.add(named[1])
            yield _Said(named[1], named[2], (float(named[3]), float(named[4])), named[5], place)
        elif nameless := _NAMELESS.fullmatch(line.strip()):
            identifier = f"{dialogue}_line{number:03d}"
            yield _Said(identifier, nameless[1], None, nameless[2], place)
        elif line.strip():
            loaded.fault(BAD_LINE, place, line.strip())
