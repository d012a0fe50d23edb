"""Labelled utterances as records: JSON lines, written by `prepare`, read by the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from emotrace_models.labels import CANONICAL
from emotrace_models.types import FloatArray
from emotrace_training.sound import SoundUnreadable, read_sound_file

ClipSplit = Literal["train", "valid", "test"]
RecordSplit = Literal["train", "valid", "test", ""]


class ManifestError(ValueError):
    """A manifest or a corpus folder that cannot be used; the message names file and line."""


def _known(emotion: str) -> str:
    if emotion not in CANONICAL:
        raise ValueError(f"{emotion!r} is no canonical emotion")
    return emotion


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= span[0] < span[1]:
        raise ValueError(f"{span} does not go forward")
    return span


Emotion = Annotated[str, AfterValidator(_known)]
Span = Annotated[tuple[float, float], AfterValidator(_ordered)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One labelled utterance. Times in seconds.

    id: unique in its corpus. dialogue: its own id where there are no dialogues. turn: its place in
    the transcript. start_s, end_s: within the dialogue. speaker: `corpus:speaker`. emotion:
    canonical (labels.CANONICAL), `unknown` where there is none. label_raw: as the corpus writes it.
    split: the corpus's own, or empty. file: audio, or a film with sound, as seen from the working
    directory; span: the part of it, None for all; seconds: of audio. crop: the half of the picture
    that shows the speaker. scores: intensities or votes by canonical emotion. place: where the
    record was read from, for messages; not written.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str
    corpus: str
    dialogue: str
    turn: int
    start_s: float
    end_s: float
    speaker: str
    emotion: Emotion
    split: RecordSplit
    gender: str = ""
    label_raw: str = ""
    text: str = ""
    language: str = ""
    licence: str = ""
    file: str | None = None
    span: Span | None = None
    seconds: float = 0.0
    video: str | None = None
    video_span: Span | None = None
    crop: Literal["", "left", "right"] = ""
    scores: Mapping[Emotion, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    place: str = field(default="", compare=False)

    @classmethod
    def alone(
        cls,
        file: str,
        corpus: str,
        speaker: str,
        emotion: str,
        split: RecordSplit,
        seconds: float,
        text: str,
        language: str,
        licence: str,
        **more: Any,
    ) -> Record:
        """A clip that stands in no dialogue; its id is its file's name unless `more` gives one."""
        identifier = more.pop("id", Path(file).stem)
        return cls(
            id=identifier, corpus=corpus, dialogue=identifier, turn=0, start_s=0.0, end_s=seconds,
            speaker=speaker, emotion=emotion, split=split, seconds=seconds, text=text,
            language=language, licence=licence, file=file, **more,
        )  # fmt: skip

    @property
    def audio(self) -> str:
        """The file, where there must be one; ManifestError where there is none."""
        if self.file is None:
            raise ManifestError(f"{self.place or self.corpus}: record {self.id!r} has no audio")
        return self.file


_RECORD = TypeAdapter(Record)


def as_json(record: Record) -> dict[str, Any]:
    """What a manifest holds of a record."""
    values = asdict(record)
    del values["place"]
    return values


def write_manifest(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")


def read_manifest(path: Path, splits: Sequence[ClipSplit] = ()) -> list[Record]:
    """The records of a manifest; each of `splits` must have some.

    Raises ManifestError for a missing file, a broken line, an unknown label or split, audio or
    video that is named but not there, an id that comes twice in a corpus, and an empty split.
    """
    try:
        # Not str.splitlines: a text may hold other line separators, such as U+2028.
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = list(file)
    except OSError as error:
        raise ManifestError(
            f"{path}: {error.strerror}; write it with `emotrace-train prepare`"
        ) from error
    records = [_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    first: dict[tuple[str, str], str] = {}
    for record in records:
        before = first.setdefault((record.corpus, record.id), record.place)
        if before != record.place:
            raise ManifestError(
                f"{record.place}: id {record.id!r} of corpus {record.corpus} stands in {before} too"
            )
    for split in splits:
        if not any(record.split == split for record in records):
            raise ManifestError(
                f"{path}: no record of split {split!r}; prepare a corpus that has it"
            )
    return records


def read_clips(path: Path, splits: Sequence[ClipSplit] = ()) -> list[Record]:
    """The records of a manifest that are an audio file each: what the voice pipeline is fitted to.

    It knows a clip by its file and trusts the splits, so a part of a file and a record without
    split are refused. Records without audio are left out. Raises ManifestError.
    """
    clips = [record for record in read_manifest(path, splits) if record.file is not None]
    for clip in clips:
        if clip.span is not None:
            raise ManifestError(f"{clip.place}: is a part of {clip.file}; cut it into its own file")
        if not clip.split:
            raise ManifestError(f"{clip.place}: has no split; give it train, valid or test")
    return clips


def dialogues_of(
    records: Iterable[Record], order: Literal["start", "transcript"] = "start"
) -> dict[tuple[str, str], list[Record]]:
    """The records of each (corpus, dialogue), in the order in which they came.

    start: by start time, turns that start at once by their place in the transcript; transcript: by
    that place alone, as the released IEMOCAP code has it (models.md 2.2) and as MELD needs it,
    some of whose times are wrong.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.corpus, record.dialogue), []).append(record)
    for turns in found.values():
        turns.sort(key=lambda r: (r.start_s if order == "start" else 0.0, r.turn))
    return found


def read_sound(record: Record) -> FloatArray:
    """Samples [sample] float32 of a record: 16 kHz, mono. ManifestError where there are none."""
    try:
        return read_sound_file(Path(record.audio), record.span)
    except SoundUnreadable as error:
        where = f"{record.place}: " if record.place else ""
        raise ManifestError(f"{where}{record.file}: {error}") from error


def _record(line: str, place: str) -> Record:
    try:
        record = replace(_RECORD.validate_json(line), place=place)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ManifestError(
            f"{place}: not a record: {where + ': ' if where else ''}{message}"
        ) from error
    for file in (record.file, record.video):
        if file is not None and not Path(file).is_file():
            raise ManifestError(f"{place}: no file {file}; run from the folder it is seen from")
    return record
