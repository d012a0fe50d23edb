"""Laws of the decoder, against an oracle that is written in another way: from whole sequences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise, product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotrace_models.decoding import (
    Beam,
    DecoderConfig,
    EmotionDecoder,
    decode_dialogue,
    log_softmax,
    revisions,
)


@dataclass(frozen=True)
class Dialogue:
    speakers: tuple[str | None, ...]
    logits: NDArray[np.float64]
    p0: float
    alpha: float

    def config(self, beam: int, **rest: object) -> DecoderConfig:
        settings = {"lag": None, "recombine": False, **rest}
        return DecoderConfig(p0=self.p0, alpha=self.alpha, beam=beam, **settings)  # type: ignore[arg-type]

    @property
    def scores(self) -> NDArray[np.float64]:
        return log_softmax(self.logits)

    def cost(self, path: tuple[int, ...]) -> float:
        """Negative log score of a labelling: every turn looks back over all of its past."""
        total, runs = 0.0, [0] * self.logits.shape[1]
        for t, label in enumerate(path):
            own = [path[s] for s in range(t) if self.speakers[s] == self.speakers[t]]
            known = bool(own) and self.speakers[t] is not None
            if known and own[-1] == label:
                prior = 1 - self.p0
            else:
                weight = runs[label] if known and runs[label] else self.alpha
                prior = self.p0 * weight / (sum(runs) + self.alpha)
                runs[label] += 1
            total -= self.scores[t][label] + log(prior)
        return total

    def search(self, beam: int, turns: int) -> tuple[int, ...]:
        """Beam search that scores whole prefixes anew each turn."""
        paths: list[tuple[int, ...]] = [()]
        for _ in range(turns):
            longer = [(*path, k) for path in paths for k in range(self.logits.shape[1])]
            paths = sorted(longer, key=self.cost)[:beam]
        return paths[0]


@st.composite
def dialogues(draw: st.DrawFn, turns: int = 9, classes: int = 4) -> Dialogue:
    speakers = draw(st.lists(st.sampled_from(["A", "B", "C_1", None]), min_size=1, max_size=turns))
    k = draw(st.integers(1, classes))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = noise.normal(scale=draw(st.sampled_from([0.5, 2.0, 6.0])), size=(len(speakers), k))
    p0 = draw(st.floats(0.02, 0.98))
    return Dialogue(tuple(speakers), logits, p0, draw(st.sampled_from([0.3, 1.0, 2.5])))


def run(dialogue: Dialogue, config: DecoderConfig) -> tuple[EmotionDecoder, list[Beam]]:
    decoder = EmotionDecoder(dialogue.logits.shape[1], config)
    beams = [decoder.start()]
    for speaker, scores in zip(dialogue.speakers, dialogue.scores, strict=True):
        beams.append(decoder.advance(beams[-1], speaker, scores))
    return decoder, beams


@given(dialogues(), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_12_3_incremental_is_offline_at_every_prefix(dialogue: Dialogue, beam: int) -> None:
    decoder, beams = run(dialogue, dialogue.config(beam))
    for turns, after in enumerate(beams):
        path = decoder.labels(after)
        assert path == dialogue.search(beam, turns)
        assert after.best.cost == pytest.approx(dialogue.cost(path))


@given(dialogues(turns=7, classes=3))
@settings(deadline=None, max_examples=40)
def test_12_3_unbounded_beam_finds_the_optimum_with_and_without_recombination(d: Dialogue) -> None:
    turns, classes = d.logits.shape
    optimum = min(product(range(classes), repeat=turns), key=d.cost)
    for recombine in (False, True):
        decoded = decode_dialogue(
            d.speakers, d.scores, d.config(classes**turns, recombine=recombine)
        )
        assert decoded.labels == optimum
        assert decoded.cost == pytest.approx(d.cost(optimum))


@given(dialogues(), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_recombination_keeps_one_hypothesis_a_future(dialogue: Dialogue, beam: int) -> None:
    _, beams = run(dialogue, dialogue.config(beam, recombine=True))
    for after in beams:
        futures = [(h.counts, h.last) for h in after.hypotheses]
        assert len(set(futures)) == len(futures)


@given(dialogues(), st.integers(1, 8), st.booleans())
@settings(deadline=None, max_examples=60)
def test_12_3_raw_logits_rank_as_log_probabilities(d: Dialogue, beam: int, recombine: bool) -> None:
    config = d.config(beam, recombine=recombine)
    raw = decode_dialogue(d.speakers, d.logits, config)
    assert raw.labels == decode_dialogue(d.speakers, d.scores, config).labels


@given(dialogues(turns=14), st.integers(1, 6), st.integers(0, 5), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=80)
def test_12_3_each_turn_is_given_out_once_and_commit_keeps_its_word(
    dialogue: Dialogue, beam: int, lag: int, commit: bool, recombine: bool
) -> None:
    decoder, beams = run(
        dialogue, dialogue.config(beam, lag=lag, commit=commit, recombine=recombine)
    )
    given_out = [s for after in beams[1:] if (s := decoder.settle(after)) is not None]
    for settled, after in zip(given_out, beams[lag + 1 :], strict=True):
        assert settled.label == decoder.labels(after)[settled.turn]
    given_out += decoder.flush(beams[-1])
    assert [s.turn for s in given_out] == list(range(len(dialogue.speakers)))
    if commit:
        assert tuple(s.label for s in given_out) == decoder.labels(beams[-1])
        for before, after in pairwise(beams):
            assert all(after.turns - 1 - r.turn <= lag for r in revisions(before, after))


@given(dialogues(), st.integers(1, 8), st.booleans())
@settings(deadline=None, max_examples=60)
def test_12_3_cost_split_sums_to_the_cost(dialogue: Dialogue, beam: int, recombine: bool) -> None:
    config = dialogue.config(beam, recombine=recombine)
    decoded = decode_dialogue(dialogue.speakers, dialogue.scores, config)
    assert sum(sum(step) for step in decoded.steps) == pytest.approx(decoded.cost)
    decoder, beams = run(dialogue, config)
    decision = decoder.decide(beams[-1])
    assert (decision.emission, decision.shift, decision.assignment) == decoded.steps[-1]


@given(dialogues(), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_posteriors_and_runner_up(dialogue: Dialogue, beam: int) -> None:
    decoder, beams = run(dialogue, dialogue.config(beam))
    after = beams[-1]
    weights = np.exp([after.best.cost - h.cost for h in after.hypotheses])
    for turn in range(after.turns):
        votes = np.array([h.tail[turn] for h in after.hypotheses])
        expected = [weights[votes == k].sum() / weights.sum() for k in range(decoder.classes)]
        assert after.posterior(turn) == pytest.approx(np.array(expected))
    decision = decoder.decide(after)
    others = [h for h in after.hypotheses if h.tail[-1] != decision.label]
    if others:
        assert decision.runner_up == others[0].tail[-1]
        assert decision.gap == others[0].cost - after.best.cost >= 0
    else:
        assert decision.runner_up is None
        assert decision.gap is None


@given(dialogues(turns=14), st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_horizon_forgets_labels_but_changes_none(d: Dialogue, beam: int, horizon: int) -> None:
    whole, long_beams = run(d, d.config(beam, horizon=1000))
    decoder, beams = run(d, d.config(beam, horizon=horizon))
    for short, long in zip(beams, long_beams, strict=True):
        assert decoder.labels(short) == whole.labels(long)[short.first_turn :]
        assert len(short.best.tail) == min(short.turns, horizon)
    for i, after in enumerate(beams[1:]):
        kept = [r for r in revisions(long_beams[i], long_beams[i + 1])
                if r.turn >= after.first_turn]  # fmt: skip
        assert revisions(beams[i], after) == tuple(kept)


@given(dialogues(), st.integers(1, 6), st.booleans())
@settings(deadline=None, max_examples=40)
def test_state_goes_through_json_unchanged(d: Dialogue, beam: int, recombine: bool) -> None:
    decoder, beams = run(d, d.config(beam, recombine=recombine))
    for before, speaker, scores in zip(beams, d.speakers, d.scores, strict=False):
        restored = Beam.from_state(json.loads(json.dumps(before.state())))
        assert restored == before
        assert decoder.advance(restored, speaker, scores) == decoder.advance(
            before, speaker, scores
        )


@given(dialogues(), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_advance_leaves_its_beam_as_it_is(dialogue: Dialogue, beam: int) -> None:
    decoder, beams = run(dialogue, dialogue.config(beam))
    copies = [Beam.from_state(after.state()) for after in beams]
    for before in beams:
        decoder.advance(before, "A", np.zeros(decoder.classes))
    assert beams == copies
