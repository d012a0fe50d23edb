"""The golden vector of models.md 3.10: three speakers, three classes, computed by hand there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from emotrace_models.decoding import (
    DecoderConfig,
    EmotionDecoder,
    decode_dialogue,
    path_steps,
    revisions,
)

SPEAKERS = ("A", "B", "A", "C", "A")
LOG_SCORES = np.log(
    [[0.34, 0.55, 0.11], [0.02, 0.82, 0.16], [0.04, 0.09, 0.87],
     [0.84, 0.13, 0.03], [0.17, 0.66, 0.17]]
)  # fmt: skip


def config(beam: int, recombine: bool = False) -> DecoderConfig:
    return DecoderConfig(p0=0.3, alpha=1.0, beam=beam, lag=None, recombine=recombine)


def test_12_3_golden_vector_after_each_turn_and_its_revisions() -> None:
    decoder = EmotionDecoder(3, config(4))
    beams = [decoder.start()]
    for speaker, scores in zip(SPEAKERS, LOG_SCORES, strict=True):
        beams.append(decoder.advance(beams[-1], speaker, scores))
    assert [decoder.labels(beam) for beam in beams] == [
        (), (1,), (1, 1), (2, 1, 2), (2, 1, 2, 0), (1, 1, 1, 0, 1)
    ]  # fmt: skip
    revised = [[(r.turn, r.old, r.new) for r in revisions(a, b)] for a, b in pairwise(beams)]
    assert revised == [[], [], [(0, 1, 2)], [], [(0, 2, 1), (2, 2, 1)]]


def test_12_3_golden_vector_final_beam() -> None:
    decoder = EmotionDecoder(3, config(4))
    beam = decoder.start()
    for speaker, scores in zip(SPEAKERS, LOG_SCORES, strict=True):
        beam = decoder.advance(beam, speaker, scores)
    assert [tuple(h.tail) for h in beam.hypotheses] == [
        (1, 1, 1, 0, 1), (2, 1, 2, 0, 2), (1, 1, 2, 0, 2), (2, 1, 2, 0, 1)
    ]  # fmt: skip
    costs = [h.cost for h in beam.hypotheses]
    assert costs == pytest.approx([9.911130, 10.608326, 11.232480, 11.485477], abs=5e-7)
    assert beam.best.counts == (1, 2, 0)
    assert dict(zip(beam.speakers, beam.best.last, strict=True)) == {"A": 1, "B": 1, "C": 0}


def test_12_3_step_costs_of_the_best_path_sum_to_its_cost() -> None:
    steps = path_steps(SPEAKERS, LOG_SCORES, (1, 1, 1, 0, 1), config(4))
    assert [sum(step) for step in steps] == pytest.approx(
        [1.801810, 2.095571, 2.764621, 2.476938, 0.772190], abs=5e-7
    )
    decoded = decode_dialogue(SPEAKERS, LOG_SCORES, config(4))
    assert decoded.steps == steps
    assert sum(sum(step) for step in steps) == pytest.approx(decoded.cost, abs=1e-12)


def test_decision_tells_why_and_what_else() -> None:
    decoder = EmotionDecoder(3, config(4))
    beam = decoder.start()
    for speaker, scores in zip(SPEAKERS, LOG_SCORES, strict=True):
        beam = decoder.advance(beam, speaker, scores)
    decision = decoder.decide(beam)
    assert decision.label == 1
    assert decision.emission == pytest.approx(-np.log(0.66))
    assert (decision.shift, decision.assignment) == pytest.approx((-np.log(0.7), 0.0))
    assert decision.runner_up == 2
    assert decision.gap == pytest.approx(10.608326 - 9.911130, abs=1e-6)
    weights = np.exp(-np.array([h.cost for h in beam.hypotheses]))
    expected = np.array([0.0, weights[0] + weights[3], weights[1] + weights[2]]) / weights.sum()
    assert decision.posterior == pytest.approx(expected)


@pytest.mark.parametrize(("beam", "passes", "labels", "cost"), [
    (1, 1, (1, 1, 2, 0, 2), 11.232480),
    (4, 1, (1, 1, 1, 0, 1), 9.911130),
    (2, 2, (1, 1, 1, 0, 1), 15.488607),
    (4, 2, (1, 1, 1, 0, 1), 15.488607),
])  # fmt: skip
def test_12_3_golden_vector_beams_and_passes(
    beam: int, passes: int, labels: tuple[int, ...], cost: float
) -> None:
    decoded = decode_dialogue(SPEAKERS, LOG_SCORES, config(beam), passes)
    assert decoded.labels == decoded.emitted == labels
    assert decoded.cost == pytest.approx(cost, abs=5e-7)


def test_classifier_alone_differs() -> None:
    assert LOG_SCORES.argmax(axis=1).tolist() == [1, 1, 2, 0, 1]
