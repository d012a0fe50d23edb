"""The published decoder, written from whole sequences."""

from __future__ import annotations

import numpy as np
import pytest

from emotrace_bench.decoder import Scored, agree, scored
from emotrace_bench.reference_decoder import redecode

# models.md 3.10
PROBABILITIES = np.array(
    [
        [0.34, 0.55, 0.11],
        [0.02, 0.82, 0.16],
        [0.04, 0.09, 0.87],
        [0.84, 0.13, 0.03],
        [0.17, 0.66, 0.17],
    ]
)
GOLDEN = Scored(("A", "B", "A", "C", "A"), np.log(PROBABILITIES))


@pytest.mark.parametrize(
    ("beam", "passes", "labels", "cost"),
    [
        (4, 1, (1, 1, 1, 0, 1), 9.911130),
        (1, 1, (1, 1, 2, 0, 2), 11.232480),
        (2, 2, (1, 1, 1, 0, 1), 15.488607),
        (4, 2, (1, 1, 1, 0, 1), 15.488607),
    ],
)
def test_golden_vector(beam: int, passes: int, labels: tuple[int, ...], cost: float) -> None:
    found = redecode(GOLDEN.speakers, GOLDEN.scores, 0.3, beam=beam, passes=passes)
    assert found.labels == labels
    assert found.cost == pytest.approx(cost, abs=1e-6)


@pytest.mark.parametrize(("seed", "classes"), [(0, 4), (1, 7), (2, 2)])
def test_ours_agrees_at_every_length(seed: int, classes: int) -> None:
    found = agree(scored(60, classes, seed))
    assert found.lengths == 20
    assert found.labels
    assert found.labels_of_two_passes
    assert found.cost < 1e-9
