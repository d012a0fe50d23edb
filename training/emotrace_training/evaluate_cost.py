"""`evaluate-cost`: time and size of a bundle against what it hears, beside other sizes of it.

Time is processor time of one thread for one utterance of 3 s with its words, through the Predictor:
frames, acoustic and lexical tower, fusion with reasons, decoder; float32, nothing approximate. The
sizes take turns, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file
from tqdm import tqdm

from emotrace_models.bundle import CONFIG, WEIGHTS, Bundle, BundleError, bundle_path
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.spectral import analyse
from emotrace_models.predictor import Predictor
from emotrace_models.types import SAMPLE_RATE, Transcript, Utterance
from emotrace_training.degradations import Babble
from emotrace_training.evaluate_robustness import Ears, Row, Session, by_corpus
from emotrace_training.plots import Point, points_plot
from emotrace_training.robustness_clips import Clip, read_speech
from emotrace_training.telling import named_errors

SECONDS = 3.0
WORDS = "I really did not expect to see you here today, what happened?"
WARM = 3  # rounds that are not counted


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """A bundle as one point of the curve. megabytes: of its weights as they are in memory."""

    name: str
    bundle: Bundle

    @property
    def megabytes(self) -> float:
        models = (*self.bundle.encoders, self.bundle.fusion)
        tensors = [tensor for model in models for tensor in model.state_dict().values()]
        return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e6


def sizes_of(bundle: Bundle, voices: Mapping[str, CompactAcoustic]) -> list[Size]:
    """The bundle; with fewer of its acoustic towers, down to one; with each of `voices` in place of
    its own.

    Fusion and words stay: all towers speak in the same frame (encoders/prototypes.py). Raises
    BundleError for a bundle without the encoder `compact_acoustic`.
    """
    own = acoustic_of(bundle)
    fewer = {
        f"{n} of its {own.config.members} towers": first_towers(own, n)
        for n in range(own.config.members - 1, 0, -1)
    }
    others = {name: _with_voice(bundle, voice) for name, voice in {**fewer, **voices}.items()}
    return [Size(bundle.name, bundle), *(Size(name, other) for name, other in others.items())]


def acoustic_of(bundle: Bundle) -> CompactAcoustic:
    """Raises BundleError where there is none."""
    for encoder in bundle.encoders:
        if isinstance(encoder, CompactAcoustic):
            return encoder
    raise BundleError(f"{bundle.name!r} has no encoder compact_acoustic")


def first_towers(encoder: CompactAcoustic, count: int) -> CompactAcoustic:
    """The ensemble's first towers alone."""
    smaller = CompactAcoustic(replace(encoder.config, members=count))
    kept = smaller.state_dict().keys()
    smaller.load_state_dict({k: v for k, v in encoder.state_dict().items() if k in kept})
    return smaller.eval()


def load_voice(folder: Path) -> CompactAcoustic:
    """The encoder of a bundle, or the one that `acoustic` left in `folder`. Raises BundleError."""
    if (folder / WEIGHTS).is_file():
        return acoustic_of(Bundle.load(folder))
    try:
        config = CompactAcousticConfig(**json.loads((folder / CONFIG).read_text()))
        encoder = CompactAcoustic(config)
        encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"{folder}: no bundle, and no encoder of `acoustic`: {error}") from error
    return encoder.eval()


def times(jobs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time of each job, round by round."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in tqdm(range(WARM + rounds), desc="time", unit="round"):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            if number >= WARM:
                found[name].append(1e3 * (time.process_time() - began))
    return found


def parts(bundle: Bundle, utterance: Utterance) -> dict[str, Callable[[], object]]:
    """What an utterance goes through, each part by itself."""
    predictor = Predictor(bundle)
    items = [(predictor.start(), utterance)]
    encoded = predictor.encode(items)
    fused = predictor.fuse(encoded)
    samples = torch.tensor(utterance.samples)

    def encoding(encoder: Encoder) -> Callable[[], object]:
        return lambda: encoder.encode([(encoder.start(), utterance)])

    return {
        "frames": lambda: analyse(samples),
        **{f"{e.modality.value}, from its input": encoding(e) for e in bundle.encoders},
        "fusion, with reasons": lambda: predictor.fuse(encoded),
        "decoder": lambda: predictor.decode(fused),
    }


def heard(bundle: Bundle, clips: Sequence[Clip], seed: int) -> dict[str, float]:
    """Mean UAR of the corpora under each label set, each clip on its own in a speaker's session."""
    session = Session(Ears(bundle), clips, Babble(()), seed, {})
    found = session.measure(Row("clean"), range(len(clips)))
    return {
        view: by_corpus(view, {i: c[view] for i, c in found.items()}, clips)["mean"]
        for view in session.ears.views
    }


def command(
    bundle: Annotated[str, typer.Option(help="name or folder")] = "default",
    voice: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: another acoustic encoder, of a bundle or of `acoustic`"),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder that holds the corpora")] = Path(
        "../shared/data"
    ),
    split: Annotated[str, typer.Option(help="whose speakers are heard")] = "test",
    rounds: Annotated[int, typer.Option(min=1, help="of timing")] = 60,
    seed: Annotated[int, typer.Option(help="of the order of each speaker's clips")] = 0,
    out: Annotated[Path, typer.Option(help="folder for JSON, table and plot")] = Path(
        "runs/evaluation/cost"
    ),
) -> None:
    """Measure what a bundle costs and what it hears, beside smaller and other sizes."""
    torch.set_num_threads(1)
    with named_errors():
        folder = bundle_path(bundle)
        voices = {}
        for entry in voice or []:
            name, equals, place = entry.partition("=")
            if not equals:
                raise typer.BadParameter(f"--voice takes NAME=FOLDER, not {entry!r}")
            voices[name] = load_voice(Path(place))
        sizes = sizes_of(Bundle.load(folder), voices)
        clips, _ = read_speech(data, split, seed)
        scores = [heard(size.bundle, clips, seed) for size in tqdm(sizes, desc="hear")]
    utterance = spoken(seed)
    clocked = times({size.name: _predicting(size.bundle, utterance) for size in sizes}, rounds)
    own = times(parts(sizes[0].bundle, utterance), rounds)
    base = np.array(clocked[sizes[0].name])
    report: dict[str, Any] = {
        "bundle": bundle,
        "split": split,
        "seed": seed,
        "rounds": rounds,
        "files_mb": sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        "parts_ms": {name: float(np.median(values)) for name, values in own.items()},
        "sizes": [
            {
                "name": size.name,
                "ms": float(np.median(clocked[size.name])),
                "ratio": float(np.median(np.array(clocked[size.name]) / base)),
                "weights_mb": size.megabytes,
                "uar": score,
            }
            for size, score in zip(sizes, scores, strict=True)
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    table = as_markdown(report)
    (out / "table.md").write_text(table, encoding="utf-8")
    _plot(report, out / "accuracy-cost.png")
    typer.echo(table)


def spoken(seed: int) -> Utterance:
    """Noise of 3 s with words: the time does not depend on what is said."""
    rng = np.random.default_rng(seed)
    samples = (rng.standard_normal(round(SECONDS * SAMPLE_RATE)) * 0.05).astype(np.float32)
    return Utterance(0, "speaker", 0, len(samples), samples, Transcript(WORDS, "client"))


def as_markdown(report: Mapping[str, Any]) -> str:
    views = list(report["sizes"][0]["uar"])
    lines = [
        "| size | ms | ratio | weights, MB | " + " | ".join(f"UAR, {v}" for v in views) + " |",
        "|---" * (4 + len(views)) + "|",
    ]
    for size in report["sizes"]:
        scores = " | ".join(f"{size['uar'][view]:.3f}" for view in views)
        lines.append(
            f"| {size['name']} | {size['ms']:.1f} | {size['ratio']:.2f} | "
            f"{size['weights_mb']:.1f} | {scores} |"
        )
    shares = ", ".join(f"{name} {ms:.2f}" for name, ms in report["parts_ms"].items())
    lines += [
        "",
        f"Medians of {report['rounds']} rounds, processor time of one thread, {SECONDS:.0f} s of "
        f"sound and a line of words; UAR on speakers of `{report['split']}`. Of the first row, in "
        f"ms: {shares}. Its files take {report['files_mb']:.1f} MB.",
    ]
    return "\n".join(lines) + "\n"


def _with_voice(bundle: Bundle, voice: CompactAcoustic) -> Bundle:
    own = acoustic_of(bundle)
    return replace(bundle, encoders=tuple(voice if e is own else e for e in bundle.encoders))


def _predicting(bundle: Bundle, utterance: Utterance) -> Callable[[], object]:
    predictor = Predictor(bundle)
    return lambda: predictor.predict([(predictor.start(), utterance)])


def _plot(report: Mapping[str, Any], path: Path) -> None:
    points = {
        view: [Point(size["ms"], size["uar"][view], size["name"]) for size in report["sizes"]]
        for view in report["sizes"][0]["uar"]
    }
    points_plot(points, "ms for 3 s of speech, one thread", "mean UAR of three corpora", path)
