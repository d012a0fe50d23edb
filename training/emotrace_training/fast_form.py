"""What the profile `fast` needs of a bundle, and what comes with it: graphs and a drift report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from emotrace_models.bundle import Bundle
from emotrace_models.drift import DRIFT, Drift
from emotrace_models.encoders.onnx_text import GraphMismatch, OnnxText
from emotrace_models.profiles import fast, graph_name, graphed
from emotrace_models.types import SAMPLE_RATE, Modality, Transcript, Utterance
from emotrace_training.dataset import Dataset
from emotrace_training.drifting import drift
from emotrace_training.frame_sources import Film, FrameSource
from emotrace_training.manifests import Record, read_sound
from emotrace_training.splits import Fold
from emotrace_training.telling import TrainingError
from emotrace_training.text_graphs import text_graph


class DriftTooLarge(TrainingError):
    """A fast form that says something else than the exact one too often."""


def with_graphs(bundle: Bundle, told: Callable[[str], None]) -> Bundle:
    """The bundle with a graph of each text tower; those that it has and that fit are kept.

    told: hears of each new one. Raises GraphRefused.
    """
    assets = dict(bundle.assets)
    for encoder in graphed(bundle):
        name = graph_name(encoder)
        try:
            OnnxText(encoder, assets.get(name, b""))
        except GraphMismatch:
            made = text_graph(encoder)
            assets[name] = made.graph
            told(
                f"{name}: {len(made.graph) / 1e6:.1f} MB; relative difference {made.float32:.1e} "
                f"in float32, {made.int8:.1e} in 8 bits"
            )
    return replace(bundle, assets=assets)


def with_drift(bundle: Bundle, found: Drift, least: float) -> Bundle:
    """The bundle with its drift report. Raises DriftTooLarge."""
    if found.agreement < least:
        raise DriftTooLarge(
            f"the fast form of {bundle.name!r} gives the same label for {found.agreement:.2%} of "
            f"the test utterances, less than {least:.2%}: serve it with the profile `exact`"
        )
    report = found.model_dump_json(indent=2) + "\n"
    return replace(bundle, assets={**bundle.assets, DRIFT: report.encode()})


def recorded_drift(bundle: Bundle, dialogues: Sequence[Sequence[Record]], data: str) -> Drift:
    """The report over dialogues of records; films are looked at where the bundle looks.

    Raises FastUnavailable, ManifestError, TrainingError.
    """
    said = utterance_of(bundle.fusion.modalities, Film())
    return drift(bundle, fast(bundle), dialogues, said, data)


def tested_dialogues(dataset: Dataset, fold: Fold) -> list[list[Record]]:
    """Whole dialogues that have a turn of the fold's test part."""
    tested = set(fold.of("test").tolist())
    return [
        [dataset.records[index] for index in dialogue]
        for dialogue in dataset.dialogues()
        if tested & set(dialogue)
    ]


def utterance_of(
    modalities: Iterable[Modality], faces: FrameSource
) -> Callable[[int, Record], Utterance]:
    """Records as the service would hand them to a Predictor of these modalities."""
    wanted = set(modalities)

    def said(number: int, record: Record) -> Utterance:
        hears = Modality.ACOUSTIC in wanted and record.file is not None
        samples = read_sound(record) if hears else None
        looks = Modality.FACIAL in wanted and faces.has(record)
        start = round(record.start_s * SAMPLE_RATE)
        length = round(record.seconds * SAMPLE_RATE) if samples is None else len(samples)
        text = Transcript(record.text, "client", record.language or None) if record.text else None
        frames = faces.frames(record) if looks else ()
        return Utterance(number, record.speaker, start, start + length, samples, text, frames)

    return said
