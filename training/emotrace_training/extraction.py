"""Running encoders over records, through the cache; what has no features, and why.

Entries are found by encoder, settings, weights and the content of the audio, text or film: anything
that changes is made anew, all else is read. Encoders that keep something of a speaker go through
dialogues in order, and an entry of theirs depends on all that the speaker said before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from emotrace_models.encoders import Encoder
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.types import SAMPLE_RATE, FloatArray, Frame, Modality, Transcript, Utterance
from emotrace_models.weights import sha256_of
from emotrace_training.dataset import Dataset
from emotrace_training.feature_cache import FeatureCache, Features
from emotrace_training.frame_sources import FrameSource, frame_source
from emotrace_training.manifests import ManifestError, Record, read_sound
from emotrace_training.recipe import Recipe, Stream
from emotrace_training.stream_encoders import build_encoder, key_of
from emotrace_training.telling import TrainingError

BATCH = 16  # utterances an encoder is given at once


class ExtractionError(TrainingError):
    """Features that cannot be used; the message names encoder, file and line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A record without features in a stream: where it stands, and why."""

    stream: str
    record: str
    place: str
    kind: str
    detail: str


@dataclass(slots=True, eq=False)
class Extracted:
    """features [record] of one stream, None where a record has none; faults say why."""

    features: list[Features]
    faults: list[Fault] = field(default_factory=list)


class Extractor:
    """Reads records and runs encoders over them, through the cache in `folder`."""

    def __init__(self, records: Sequence[Record], folder: Path, faces: FrameSource) -> None:
        self.records = records
        self._folder = folder
        self._faces = faces
        self._files: dict[str, str] = {}

    def run(self, encoder: Encoder, fronts: bool) -> Extracted:
        """Features of all records; fronts: only what the front end gives. Raises ExtractionError,
        CacheCorrupted."""
        cache = FeatureCache(self._folder, key_of(encoder, fronts))
        result = Extracted([None] * len(self.records))
        stateful = not fronts and encoder.start() is not None
        keys: dict[int, str] = {}
        for index, record in enumerate(self.records):
            if reason := self._lacks(encoder, record):
                result.faults.append(_fault(encoder, record, reason, ""))
                continue
            try:
                keys[index] = self._key(encoder.modality, record)
            except OSError as error:
                result.faults.append(_fault(encoder, record, "unreadable", str(error)))
        chains = self._chains(keys) if stateful else [[index] for index in keys]
        if stateful:
            self._chain_keys(chains, keys)
        # The last entry of a chain depends on all before it: equal ones are encoded once.
        distinct = {keys[chain[-1]]: chain for chain in chains}
        left = [c for c in distinct.values() if any(keys[index] not in cache for index in c)]
        try:
            self._fill(encoder, fronts, left, keys, cache, result.faults)
        finally:
            cache.flush()
        found = cache.read(key for key in keys.values() if key in cache)
        for index, key in keys.items():
            result.features[index] = found.get(key)
            if key in found and found[key] is None:
                result.faults.append(
                    _fault(encoder, self.records[index], f"nothing {encoder.modality}", "")
                )
        return result

    def _lacks(self, encoder: Encoder, record: Record) -> str:
        """Why an encoder has nothing to read in a record; empty where it has."""
        match encoder.modality:
            case Modality.ACOUSTIC:
                return "" if record.file is not None else "no audio"
            case Modality.LEXICAL:
                return "" if record.text.strip() else "no text"
            case Modality.FACIAL:
                return "" if self._faces.has(record) else "no film"

    def _key(self, modality: Modality, record: Record) -> str:
        """A digest of the content that an encoder reads."""
        content: Any
        match modality:
            case Modality.ACOUSTIC:
                content = [self._hash(record.audio), record.span]
            case Modality.LEXICAL:
                content = record.text
            case Modality.FACIAL:
                content = self._faces.key(record, self._hash)
        return hashlib.sha256(json.dumps([modality, content]).encode()).hexdigest()

    def _hash(self, file: str) -> str:
        if file not in self._files:
            self._files[file] = sha256_of(Path(file))
        return self._files[file]

    def _chains(self, keys: Mapping[int, str]) -> list[list[int]]:
        """What one speaker says in one dialogue, in order."""
        chains: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for index in keys:
            record = self.records[index]
            chains[record.corpus, record.dialogue, record.speaker].append(index)
        return list(chains.values())

    def _chain_keys(self, chains: Sequence[Sequence[int]], keys: dict[int, str]) -> None:
        for chain in chains:
            before = ""
            for index in chain:
                before = hashlib.sha256(f"{before}{keys[index]}".encode()).hexdigest()
                keys[index] = before

    def _fill(
        self,
        encoder: Encoder,
        fronts: bool,
        chains: list[list[int]],
        keys: Mapping[int, str],
        cache: FeatureCache,
        faults: list[Fault],
    ) -> None:
        """Encode what the cache lacks; utterances of one length lie together, which pads least."""
        chains.sort(key=lambda chain: (len(chain), self.records[chain[0]].seconds))
        total = sum(len(chain) for chain in chains)
        with tqdm(total=total, unit="utt", desc=encoder.stream, leave=False, disable=None) as bar:
            for start in range(0, len(chains), BATCH):
                group = chains[start : start + BATCH]
                states = [encoder.start() for _ in group]
                for step in range(max(len(chain) for chain in group)):
                    at: list[tuple[int, int, Utterance]] = []
                    for row, chain in enumerate(group):
                        if step < len(chain):
                            utterance = self._utterance(encoder, chain[step], faults)
                            if utterance is not None:
                                at.append((row, chain[step], utterance))
                            bar.update()
                    for (row, index, _), (features, state) in zip(
                        at, self._encode(encoder, fronts, at, states), strict=True
                    ):
                        states[row] = state
                        self._check(encoder, index, features)
                        cache.add(keys[index], features)

    def _encode(
        self,
        encoder: Encoder,
        fronts: bool,
        items: Sequence[tuple[int, int, Utterance]],
        states: Sequence[Any],
    ) -> list[tuple[Features, Any]]:
        try:
            if fronts and isinstance(encoder, NetworkEncoder):
                return [(encoder.front(utterance), None) for _, _, utterance in items]
            return list(encoder.encode([(states[row], said) for row, _, said in items]))
        except (ValueError, RuntimeError) as error:
            places = ", ".join(_place(self.records[index]) for _, index, _ in items)
            raise ExtractionError(f"stream {encoder.stream}: {error} (one of {places})") from error

    def _utterance(self, encoder: Encoder, index: int, faults: list[Fault]) -> Utterance | None:
        """A record as the service would hand it to the encoder; None, and a fault, where its
        audio or film cannot be read."""
        record = self.records[index]
        samples: FloatArray | None = None
        frames: tuple[Frame, ...] = ()
        try:
            if encoder.modality is Modality.ACOUSTIC:
                samples = read_sound(record)
            elif encoder.modality is Modality.FACIAL:
                frames = self._faces.frames(record)
        except (ManifestError, OSError) as error:
            faults.append(_fault(encoder, record, "unreadable", str(error)))
            return None
        start = round(record.start_s * SAMPLE_RATE)
        length = round(record.seconds * SAMPLE_RATE) if samples is None else len(samples)
        text = Transcript(record.text, "client", record.language or None) if record.text else None
        return Utterance(0, record.speaker, start, start + length, samples, text, frames)

    def _check(self, encoder: Encoder, index: int, features: Features) -> None:
        if features is not None and not (features.size and np.isfinite(features).all()):
            raise ExtractionError(
                f"{_place(self.records[index])}: stream {encoder.stream} has NaN or nothing in its "
                "features; check the weights, and the audio for silence"
            )


def precomputed(name: str, stream: Stream, records: Sequence[Record]) -> Extracted:
    """The vectors of a file, by record id. Raises ExtractionError."""
    file = Path(stream.file or "")
    try:
        with np.load(file, allow_pickle=False) as table:
            if missing := [key for key in (stream.ids, stream.values) if key not in table]:
                raise ExtractionError(
                    f"{file}: no array {', '.join(missing)}; there are {', '.join(table.files)}: "
                    f"set streams.{name}.ids and values"
                )
            ids, values = table[stream.ids], table[stream.values].astype(np.float32)
    except (OSError, ValueError) as error:
        if isinstance(error, ExtractionError):
            raise
        raise ExtractionError(f"{file}: no table of vectors: {error}") from error
    if len(ids) != len(values):
        raise ExtractionError(f"{file}: {len(ids)} ids and {len(values)} vectors do not match")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
        raise ExtractionError(f"{file}: row {row} ({ids[row]}) has NaN or infinity")
    rows = {str(key): row for row, key in enumerate(ids.tolist())}
    result = Extracted([None] * len(records))
    for index, record in enumerate(records):
        if record.id in rows:
            result.features[index] = values[rows[record.id]]
        else:
            fault = Fault(name, record.id, _place(record), "no vector", f"not in {file}")
            result.faults.append(fault)
    return result


def stream_features(
    recipe: Recipe, name: str, dataset: Dataset, extractor: Extractor, texts: Sequence[str]
) -> tuple[Extracted, Encoder | None]:
    """The features of a stream, and its encoder where there is one. Raises ExtractionError,
    RecipeError, CacheCorrupted."""
    stream = recipe.streams[name]
    if stream.file is not None:
        return precomputed(name, stream, dataset.records), None
    encoder = build_encoder(recipe, name, texts)
    return extractor.run(encoder, fronts=stream.tune), encoder


def extractor_of(recipe: Recipe, dataset: Dataset, cache: Path) -> Extractor:
    return Extractor(dataset.records, cache, frame_source(recipe.data.faces))


def report_of(faults: Sequence[Fault], dataset: Dataset) -> dict[str, Any]:
    """What is there and what is not, for report.json."""
    return {
        "records": len(dataset.records),
        "dropped": dict(dataset.dropped),
        "faults": dict(Counter(f"{fault.stream}: {fault.kind}" for fault in faults)),
        "listed": [asdict(fault) for fault in faults],
    }


def _place(record: Record) -> str:
    return record.place or f"{record.corpus}:{record.id}"


def _fault(encoder: Encoder, record: Record, kind: str, detail: str) -> Fault:
    return Fault(encoder.stream, record.id, _place(record), kind, detail)
