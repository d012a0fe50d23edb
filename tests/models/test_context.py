"""The context window against a plain search through the whole dialogue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotrace_models.context import ContextWindow
from emotrace_models.types import Modality, Role, UtteranceFeatures

Indices = tuple[tuple[int | None, int | None], ...]

speaker_sequences = st.lists(st.sampled_from("ABCD"), min_size=1, max_size=40)


def utterance(index: int, speaker: str, *modalities: Modality) -> UtteranceFeatures:
    vectors = {m: np.full(2, index, dtype=np.float32) for m in modalities}
    return UtteranceFeatures(index, speaker, vectors)


def searched(speakers: Sequence[str], offsets: int) -> Indices:
    """Offline: the context of the last utterance, by walking back through the dialogue."""
    pairs: list[tuple[int | None, int | None]] = []
    for offset in range(offsets):
        position = len(speakers) - 1 - offset
        if position < 0:
            pairs.append((None, None))
            continue
        others = [i for i in range(position) if speakers[i] != speakers[position]]
        pairs.append((position, others[-1] if others else None))
    return tuple(pairs)


def held(window: ContextWindow) -> Indices:
    def index(features: UtteranceFeatures | None) -> int | None:
        return None if features is None else features.index

    return tuple((index(own), index(inter)) for own, inter in window.pairs)


def windows(speakers: Sequence[str], offsets: int = 3) -> list[ContextWindow]:
    window = ContextWindow.empty(offsets)
    seen = []
    for index, speaker in enumerate(speakers):
        window = window.push(utterance(index, speaker))
        seen.append(window)
    return seen


@given(speakers=speaker_sequences, offsets=st.integers(1, 5))
def test_online_equals_offline_at_every_turn(speakers: list[str], offsets: int) -> None:
    for turn, window in enumerate(windows(speakers, offsets), start=1):
        assert held(window) == searched(speakers[:turn], offsets)


@given(speakers=speaker_sequences)
def test_push_leaves_the_earlier_window_as_it_was(speakers: list[str]) -> None:
    before = windows(speakers)[-1]
    copy = held(before)
    before.push(utterance(99, "A"))
    assert held(before) == copy


@pytest.mark.parametrize(
    ("speakers", "expected"),
    [
        ("A", ((0, None), (None, None), (None, None))),
        ("AB", ((1, 0), (0, None), (None, None))),
        ("ABA", ((2, 1), (1, 0), (0, None))),
        ("AAA", ((2, None), (1, None), (0, None))),
        ("BAAA", ((3, 0), (2, 0), (1, 0))),
        ("ABBBA", ((4, 3), (3, 0), (2, 0))),
        ("ABCC", ((3, 1), (2, 1), (1, 0))),
    ],
)
def test_known_dialogues(speakers: str, expected: Indices) -> None:
    assert held(windows(speakers)[-1]) == expected


def test_the_interlocutor_may_be_older_than_the_window() -> None:
    assert held(windows("B" + "A" * 50)[-1]) == ((50, 0), (49, 0), (48, 0))


def test_a_window_does_not_grow() -> None:
    """At most two utterances an offset are kept alive, however long the dialogue."""
    window = windows("ABAACBBCA" * 200)[-1]
    kept = {id(features) for pair in window.pairs for features in pair if features is not None}
    assert len(window.pairs) == 3
    assert len(kept) <= 6


def test_slots_come_in_the_order_of_the_paper() -> None:
    window = ContextWindow.empty()
    for index, speaker in enumerate("BAB"):
        window = window.push(utterance(index, speaker, Modality.ACOUSTIC, Modality.LEXICAL))
    slots = window.context().slots({m.value: m for m in (Modality.ACOUSTIC, Modality.LEXICAL)})
    names = [(slot.offset, slot.role, slot.modality) for slot in slots]
    roles = (Role.SELF, Role.INTERLOCUTOR)
    modalities = (Modality.ACOUSTIC, Modality.LEXICAL)
    assert names == [(j, r, m) for j in range(3) for r in roles for m in modalities]
    found = [None if slot.values is None else int(slot.values[0]) for slot in slots]
    assert found == [2, 2, 1, 1, 1, 1, 0, 0, 0, 0, None, None]


def test_a_missing_modality_leaves_its_slot_empty() -> None:
    window = ContextWindow.empty().push(utterance(0, "A", Modality.LEXICAL))
    slots = window.context().slots({m.value: m for m in (Modality.ACOUSTIC, Modality.LEXICAL)})
    assert [slot.values is not None for slot in slots] == [False, True] + [False] * 10


def test_no_offsets_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 offset"):
        ContextWindow.empty(0)


def test_context_needs_no_torch() -> None:
    code = "import sys, emotrace_models.context; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
