"""`evaluate-robustness`: what noise, channels, short beginnings and a speaker's past cost.

By sound alone, each clip on its own, through the Predictor, on speakers of one split of the three
speech corpora. Each row is one change. A degradation lies on a speaker's whole session, past
included, as a session has one microphone; rows of beginnings and pasts are of clean sound. One
hearing gives the figures of every label set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.encoders.compact_acoustic import CompactAcoustic
from emotrace_models.encoders.running_statistics import RunningStatistics
from emotrace_models.labels import SCHEMES
from emotrace_models.predictor import DialogueState, Predictor
from emotrace_models.types import FloatArray, Utterance, frozen_mapping
from emotrace_training.degradations import (
    Babble,
    Degradation,
    babbling,
    clipped,
    coded,
    first_seconds,
    low_pass,
    quiet,
    room,
    telephone,
    untouched,
    white,
)
from emotrace_training.metrics import confusion, uar
from emotrace_training.robustness_clips import Clip, read_speech, sampled
from emotrace_training.robustness_report import as_markdown, curves
from emotrace_training.telling import named_errors

VIEWS = ("common4", "ekman7")
BATCH = 16


@dataclass(frozen=True, slots=True)
class Row:
    """headline: measured on every clip and of every bundle; the others on a sample of the clips and
    of the first bundle.

    first: seconds of the clip from its onset on, None for all. earlier: so many random other clips
    of the speaker were heard before, None for all that came before it in a random order; alike:
    they have the clip's own emotion.
    """

    name: str
    headline: bool = False
    change: Degradation = untouched
    first: float | None = None
    earlier: int | None = None
    alike: bool = False


Scores = dict[str, dict[str, dict[str, float]]]  # by row, label set, corpus

RATIOS = (20, 10, 5, 0)
FIRST, CLEAN = "first utterance", "clean"
ROWS = (
    Row(FIRST, True, earlier=0),
    Row(CLEAN, True),
    *(Row(f"white noise {r} dB", r in (10, 0), white(r)) for r in RATIOS),
    *(Row(f"babble {r} dB", r in (10, 0), babbling(r)) for r in RATIOS),
    Row("telephone", True, telephone),
    *(Row(f"Opus {r} kbit/s", r == 16, coded(1_000 * r)) for r in (32, 16, 8)),
    Row("low-pass 4 kHz", change=low_pass(4_000.0)),
    Row("room 0.3 s", change=room(0.3, 0.5)),
    Row("room 0.6 s", change=room(0.6, 1.0)),
    Row("gain -20 dB", change=quiet(-20.0)),
    Row("clipped at -12 dB", change=clipped(12.0)),
    *(Row(f"first {s:.1f} s", s >= 1, first=s) for s in (0.5, 1.0, 1.5, 2.0)),
    Row("after 4 others", earlier=4),
    Row("after 16 others", earlier=16),
    Row("after 16 of the same emotion", True, earlier=16, alike=True),
)


class Ears:
    """A bundle as it hears single clips, under each of its label sets.

    Raises BundleError for a bundle whose memory of a speaker is of another kind than this file
    knows how to put together.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.predictor = Predictor(bundle)
        self.views = {v: Predictor(bundle.projected(v)) for v in VIEWS if v in bundle.schemes}
        heard = [e for e in bundle.encoders if isinstance(e, CompactAcoustic)]
        if not heard or not self.views:
            raise BundleError(
                f"{bundle.name!r} has no encoder compact_acoustic, or none of {', '.join(VIEWS)}"
            )
        (self.encoder,) = heard

    def knowing(self, speaker: str, earlier: Sequence[RunningStatistics]) -> DialogueState:
        """A new dialogue with a speaker who has said `earlier`, each heard by itself."""
        state = self.encoder.start()
        for one in earlier:
            state = state.including(one.moments, self.encoder.config.memory)
        known = frozen_mapping({(self.encoder.stream, speaker): state})
        return replace(self.predictor.start(), speakers=known)

    def hear(
        self, items: Sequence[tuple[DialogueState, Utterance]]
    ) -> list[tuple[dict[str, int], RunningStatistics]]:
        """The class of each clip under each label set, and the speaker's statistics after it."""
        encoded = self.predictor.encode(items)
        fused = {view: predictor.fuse(encoded) for view, predictor in self.views.items()}
        found = []
        for i, (one, (_, utterance)) in enumerate(zip(encoded, items, strict=True)):
            after = one.state.speakers[self.encoder.stream, utterance.speaker]
            assert isinstance(after, RunningStatistics)
            classes = {v: int(f[i].prediction.posterior.argmax()) for v, f in fused.items()}
            found.append((classes, after))
        return found


@dataclass(slots=True, eq=False)
class Session:
    """Clips as one bundle hears them. alone: what each clip leaves of a new speaker, once known."""

    ears: Ears
    clips: Sequence[Clip]
    babble: Babble
    seed: int
    alone: dict[int, RunningStatistics]

    def measure(self, row: Row, chosen: Sequence[int]) -> dict[int, dict[str, int]]:
        """The classes of the chosen clips; `alone` must hold them for rows with a known past."""
        if row.earlier is None and row.first is None:
            return self._in_order(row, chosen)
        pasts = self._before(chosen) if row.earlier is None else self._drawn(row, chosen)
        found: dict[int, dict[str, int]] = {}
        order = sorted(chosen, key=lambda i: len(self.clips[i].samples))
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            items = []
            for i in batch:
                earlier = [self.alone[j] for j in pasts[i]]
                state = self.ears.knowing(self.clips[i].speaker, earlier)
                items.append((state, self._utterance(i, row)))
            for i, (classes, after) in zip(batch, self.ears.hear(items), strict=True):
                found[i] = classes
                if row.earlier == 0:
                    self.alone[i] = after
        return found

    def _in_order(self, row: Row, chosen: Sequence[int]) -> dict[int, dict[str, int]]:
        """Each speaker's clips one after another, all of them under the row's degradation."""
        waiting = {s: list(reversed(turns)) for s, turns in self._orders(chosen).items()}
        states: dict[str, DialogueState] = {}
        found: dict[int, dict[str, int]] = {}
        while waiting:
            wave = [turns.pop() for turns in waiting.values()]
            items = []
            for i in wave:
                speaker = self.clips[i].speaker
                state = states.get(speaker) or self.ears.knowing(speaker, ())
                items.append((state, self._utterance(i, row)))
            for i, (classes, after) in zip(wave, self.ears.hear(items), strict=True):
                found[i] = classes
                speaker = self.clips[i].speaker
                states[speaker] = self.ears.knowing(speaker, (after,))
            waiting = {speaker: turns for speaker, turns in waiting.items() if turns}
        return found

    def _utterance(self, i: int, row: Row) -> Utterance:
        clip = self.clips[i]
        samples: FloatArray = row.change(
            clip.samples, self.babble, np.random.default_rng([self.seed, i])
        )
        if row.first is not None:
            samples = first_seconds(samples, row.first)
        return Utterance(i, clip.speaker, 0, len(samples), samples)

    def _orders(self, chosen: Sequence[int]) -> dict[str, list[int]]:
        """Each speaker's clips in a random order, the same for every row of the same clips."""
        orders: dict[str, list[int]] = {}
        for i in np.random.default_rng(self.seed).permutation(sorted(chosen)):
            orders.setdefault(self.clips[i].speaker, []).append(int(i))
        return orders

    def _before(self, chosen: Sequence[int]) -> dict[int, list[int]]:
        orders = self._orders(chosen).values()
        return {i: turns[:place] for turns in orders for place, i in enumerate(turns)}

    def _drawn(self, row: Row, chosen: Sequence[int]) -> dict[int, list[int]]:
        """Random others of the same speaker; where there are too few, some come again."""
        pasts = {}
        known = sorted(self.alone)
        for i in chosen:
            clip = self.clips[i]
            others = [
                j
                for j in known
                if j != i
                and self.clips[j].speaker == clip.speaker
                and (not row.alike or self.clips[j].emotion == clip.emotion)
            ]
            rng = np.random.default_rng([self.seed, i])
            pasts[i] = np.resize(rng.permutation(others), row.earlier or 0).astype(int).tolist()
        return pasts


def measure(
    bundle: str, clips: Sequence[Clip], babble: Babble, seed: int, most: int, rows: Sequence[Row]
) -> Scores:
    """UAR of a bundle by row, label set and corpus, with their mean; rows that are no headline on
    at most `most` clips a corpus. Raises BundleError.
    """
    session = Session(Ears(Bundle.load(bundle_path(bundle))), clips, babble, seed, {})
    everything, some = list(range(len(clips))), sampled(clips, most, seed)
    results = {}
    for row in tqdm(rows, desc=bundle, unit="row"):
        found = session.measure(row, everything if row.headline else some)
        results[row.name] = {
            view: by_corpus(view, {i: classes[view] for i, classes in found.items()}, clips)
            for view in session.ears.views
        }
    return results


def by_corpus(view: str, found: Mapping[int, int], clips: Sequence[Clip]) -> dict[str, float]:
    """UAR of each corpus, and their mean. found: the class of each clip under `view`."""
    scheme = SCHEMES[view]
    rows: dict[str, list[tuple[int, int]]] = {}
    for i, predicted in found.items():
        name = scheme.project(clips[i].emotion)
        if name is not None:
            rows.setdefault(clips[i].corpus, []).append((scheme.index(name), predicted))
    scores = {}
    for corpus in sorted(rows):
        truth, predicted_as = zip(*rows[corpus], strict=True)
        scores[corpus] = uar(confusion(truth, predicted_as, len(scheme.names)))
    return {**scores, "mean": float(np.mean(list(scores.values())))}


def command(
    bundle: Annotated[
        list[str] | None, typer.Option(help="name or folder; give it once a seed for deviations")
    ] = None,
    data: Annotated[Path, typer.Option(help="folder that holds the corpora")] = Path(
        "../shared/data"
    ),
    split: Annotated[str, typer.Option(help="whose speakers are heard")] = "test",
    seed: Annotated[int, typer.Option(help="of noise, order and sample")] = 0,
    most: Annotated[
        int, typer.Option(min=1, help="clips a corpus in rows that are no headline")
    ] = 360,
    out: Annotated[Path, typer.Option(help="folder for JSON, table and plot")] = Path(
        "runs/evaluation/robustness"
    ),
    workers: Annotated[int, typer.Option(min=1, help="bundles measured at once")] = 1,
) -> None:
    """Measure a bundle under noise, over channels, at the first words and with other pasts."""
    bundles = bundle or ["default"]
    with named_errors():
        clips, voices = read_speech(data, split, seed)
        headline = [row for row in ROWS if row.headline]
        jobs = [
            (name, clips, Babble(voices), seed, most, headline if number else ROWS)
            for number, name in enumerate(bundles)
        ]
        if workers == 1:
            found = [_measured(job) for job in jobs]
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                found = list(pool.map(_measured, jobs))
    report: dict[str, Any] = {
        "bundles": bundles,
        "split": split,
        "seed": seed,
        "clips": {c: sum(clip.corpus == c for clip in clips) for c in {k.corpus for k in clips}},
        "most": most,
        "headline": [row.name for row in headline],
        "uar": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    table = as_markdown(report)
    (out / "table.md").write_text(table, encoding="utf-8")
    curves(report, out / "robustness.png")
    typer.echo(table)


def _measured(job: tuple[str, list[Clip], Babble, int, int, Sequence[Row]]) -> Scores:
    torch.set_num_threads(1)
    return measure(*job)
