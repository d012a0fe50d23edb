"""What the scale benchmark counts."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from emotrace_bench.racing import median_ratio, race
from emotrace_bench.turns import Dialogues, base, deep_bytes, grow, lengths


@dataclass(frozen=True, slots=True)
class Pair:
    one: object
    other: object


def test_memory_of_a_value_holds_all_that_it_refers_to_once() -> None:
    array = np.zeros(10_000, dtype=np.float32)
    alone = deep_bytes(array)
    assert alone >= 40_000
    assert deep_bytes(Pair(array, array)) == alone + sys.getsizeof(Pair(array, array))
    assert deep_bytes(Pair(array, array.copy())) > 2 * 40_000


def test_lengths_go_by_tens() -> None:
    assert lengths(1_000) == (10, 100, 1_000)
    assert lengths(2_500) == (10, 100, 1_000, 2_500)
    assert base((10, 100, 1_000)) == 100


def test_a_dialogue_that_was_hurried_along_is_the_same_dialogue() -> None:
    """Turns without the fusion model leave the decoder's beam and the window as others do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        dialogues = Dialogues(seed=4)
        state = grow(dialogues, (120,))[120]
        again = Dialogues(seed=4)
        expected, said = again.predictor.start(), []
        for size in (50, 50, 20):
            said += again.turns(size)
        for turn in said:
            expected = again.advance(expected, turn)
    finally:
        torch.set_num_threads(before)
    assert state.beam.turns == expected.beam.turns == 120
    assert [pair[0].index for pair in state.window.pairs if pair[0]] == [
        pair[0].index for pair in expected.window.pairs if pair[0]
    ]


def test_a_race_runs_everybody_each_round() -> None:
    order: list[str] = []
    times = race({name: lambda n=name: order.append(n) for name in "ab"}, rounds=3, warm=2)
    assert order == list("ab") * 5
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert median_ratio([4.0, 90.0, 6.0], [2.0, 3.0, 2.0]) == pytest.approx(3.0)
