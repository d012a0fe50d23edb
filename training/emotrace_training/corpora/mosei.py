"""CMU-MOSEI (Bagher Zadeh et al., ACL 2018): monologues of video blogs (models.md 9.3).

Labels come from the computational sequence `CMU_MOSEI_Labels.csd` (HDF5), words, sound and film
from the raw archive. Both cut a video into segments, but number them differently: they are matched
by time. A segment's label is the strongest of six intensities; one without any is `unknown`, not
neutral: no emotion was rated. There are no speakers but the videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emotrace_models.labels import SCHEMES, strongest
from emotrace_models.types import FloatArray
from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.tables import decoded
from emotrace_training.corpora.video_folds import read_folds
from emotrace_training.manifests import ClipSplit, ManifestError, Record, RecordSplit

LICENCE = "CMU-MOSEI, by its own terms; videos of their makers"
LABELS = "CMU_MOSEI_Labels.csd"
GROUP = "All Labels"
FOLDS = ("cmu_mosei_std_folds.py", "folds.json")
COLUMNS = ("sentiment", "happiness", "sadness", "anger", "surprise", "disgust", "fear")
TOLERANCE_S = 0.1
NO_FOLDS = "no folds given"
NO_FOLD = "video in no fold"
NO_TEXT = "label without transcript segment"
NO_LABEL = "transcript segment without label"
BAD_LINE = "transcript line cannot be read"
BAD_LABEL = "label cannot be read"
BEYOND = "segment ends after its sound"
MOVED = "segments whose number differs from their label's"
_ORDER = SCHEMES["mosei6"].names


@dataclass(frozen=True, slots=True)
class _Segment:
    number: str
    start: float
    end: float
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class _Media:
    """seconds: of the sound, None where there is none."""

    audio: Path
    seconds: float | None
    film: Path | None
    segments: Path


def read_mosei(folder: Path, settings: Settings) -> Loaded:
    """The folder that holds the sequence of labels, at any depth, and `Raw/`.

    Folds: `settings.folds`, or the corpus SDK's file in the folder; without them records have no
    split. Raises ManifestError.
    """
    loaded = Loaded()
    folds = _folds(loaded, folder, settings)
    raw = folder / "Raw" if (folder / "Raw").is_dir() else folder
    for video, features, intervals in tqdm(_labels(folder), desc="mosei", leave=False):
        split: RecordSplit = folds.get(video, "")
        if folds and not split:
            loaded.fault(NO_FOLD, folder / LABELS, video)
        _video(loaded, raw, video, features, intervals, split, settings)
    return loaded.finish(folder, f"{LABELS} and Raw/")


def _folds(loaded: Loaded, folder: Path, settings: Settings) -> dict[str, ClipSplit]:
    own = [folder / name for name in FOLDS]
    file = settings.folds or next((path for path in own if path.is_file()), None)
    if file is None:
        loaded.fault(
            NO_FOLDS,
            folder,
            f"records have no split; give --folds {FOLDS[0]} (from the corpus's SDK) or a JSON of "
            "train, valid and test",
        )
        return {}
    return read_folds(file)


def _labels(folder: Path) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Video, features [segment, 7], intervals [segment, 2]."""
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise ManifestError(f"{LABELS} needs h5py: pip install 'emotrace[training]'") from error
    files = sorted(folder.rglob(LABELS))
    if len(files) != 1:
        raise ManifestError(f"{folder}: {len(files)} files called {LABELS}; one is needed")
    try:
        with h5py.File(files[0], "r") as sequence:
            if GROUP not in sequence:
                raise ManifestError(f"{files[0]}: no group {GROUP!r}; it has {sorted(sequence)}")
            data = sequence[GROUP]["data"]
            for video in sorted(data):
                yield video, data[video]["features"][()], data[video]["intervals"][()]
    except (OSError, KeyError) as error:
        raise ManifestError(f"{files[0]}: is no sequence of labels: {error}") from error


def _video(
    loaded: Loaded, raw: Path, video: str, features: FloatArray, intervals: FloatArray,
    split: RecordSplit, settings: Settings,
) -> None:  # fmt: skip
    place = f"{LABELS}:{video}"
    if features.shape != (len(intervals), len(COLUMNS)) or intervals.shape[1:] != (2,):
        loaded.fault(BAD_LABEL, place, f"shapes {features.shape}, {intervals.shape}")
        return
    segments = list(_segments(loaded, raw, video))
    free = list(segments)
    media = _media(loaded, raw, video)
    if media.seconds is None and settings.on_missing == "drop":
        return
    for turn, row in enumerate(np.argsort(intervals[:, 0], kind="stable")):
        start, end = (float(t) for t in intervals[row])
        values = features[row].astype(float)
        if not (np.isfinite(values).all() and 0 <= start < end < np.inf):
            loaded.fault(BAD_LABEL, f"{place}[{row}]", f"{start} {end} {values}")
            continue
        near = min(free, key=lambda s: abs(s.start - start), default=None)
        if near is None or abs(near.start - start) > TOLERANCE_S:
            loaded.fault(NO_TEXT, f"{place}[{row}]", f"from {start:.3f} s")
            near = None
        else:
            free.remove(near)
            loaded.notes[MOVED] += near.number != str(turn)
        scores = dict(zip(COLUMNS[1:], values[1:].tolist(), strict=True))
        record = _record(loaded, video, turn, (start, end), values[0], scores, near, media, split)
        if record.file is not None or settings.on_missing == "zero":
            loaded.records.append(record)
    for segment in free:
        loaded.fault(NO_LABEL, segment.place, f"from {segment.start:.3f} s")


def _record(
    loaded: Loaded, video: str, turn: int, times: tuple[float, float], sentiment: float,
    scores: dict[str, float], segment: _Segment | None, media: _Media, split: RecordSplit,
) -> Record:  # fmt: skip
    start, end = times
    emotion = strongest(scores, _ORDER)
    flags = [] if emotion else ["no_emotion"]
    heard: tuple[float, float] | None = None
    if media.seconds is not None:
        if end > media.seconds + TOLERANCE_S:
            loaded.fault(BEYOND, media.audio, f"{start:.3f}-{end:.3f} s of {media.seconds:.3f} s")
            flags.append("cut")
        heard = (start, min(end, media.seconds)) if start < media.seconds else None
    if heard is None:
        flags.append("no_audio")
    own = media.segments / f"{video}_{segment.number}.mp4" if segment else None
    alone = own is not None and own.is_file()
    film = own if alone else media.film
    return Record(
        id=f"{video}_{turn}", corpus="mosei", dialogue=video, turn=turn, start_s=start, end_s=end,
        speaker=f"mosei:{video}", emotion=emotion or "unknown",
        label_raw=f"sentiment {sentiment:g}",
        split=split, text=segment.text if segment else "", language="en", licence=LICENCE,
        file=media.audio.as_posix() if heard else None, span=heard,
        seconds=heard[1] - heard[0] if heard else 0.0,
        video=film.as_posix() if film else None, video_span=None if alone or not film else times,
        scores=scores, flags=tuple(flags),
    )  # fmt: skip


def _media(loaded: Loaded, raw: Path, video: str) -> _Media:
    audio = raw / "Audio" / "Full" / "WAV_16000" / f"{video}.wav"
    films = raw / "Videos"
    whole = films / "Full" / "Combined" / f"{video}.mp4"
    film = whole if whole.parent.is_dir() and loaded.media(whole) else None
    return _Media(audio, loaded.seconds(audio), film, films / "Segmented" / "Combined")


def _segments(loaded: Loaded, raw: Path, video: str) -> Iterator[_Segment]:
    """Lines `<video>___<number>___<start>___<end>___<text>`."""
    file = raw / "Transcript" / "Segmented" / "Combined" / f"{video}.txt"
    if not loaded.media(file):
        return
    for number, line in enumerate(decoded(file).splitlines(), start=1):
        place = f"{file}:{number}"
        fields = line.split("___", 4)
        try:
            name, segment, start, end, text = fields
            times = float(start), float(end)
        except ValueError:
            name, times = "", (0.0, 0.0)
        if name != video:
            if line.strip():
                loaded.fault(BAD_LINE, place, line.strip())
            continue
        yield _Segment(segment, *times, text.strip(), place)
