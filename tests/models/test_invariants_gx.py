"""models.md section 12, item 2: GatedxLSTM's context, from the turns of a dialogue to the slots.

The rest of items 1 and 2 stands beside its code: `test_12_1_*` and `test_12_2_*`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from streams import random_inputs, without

from emotrace_models.context import ContextWindow
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.types import Modality, UtteranceFeatures

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
SHARES = ("none", "role_modality", "modality")


def small(**settings: object) -> GatedxLSTM:
    torch.manual_seed(3)
    size = {"embedding": 32, "steps": 4, "width": 16, "blocks": 1, "heads": 2}
    return GatedxLSTM(GatedxLSTMConfig(BOTH, 4, **{**size, **settings})).eval()  # type: ignore[arg-type]


def slots_by_definition(speakers: str, turn: int) -> list[int | None]:
    """Section 2.2 word for word: whose utterance stands in slot s = 4 j + r; None, a zero fill."""
    slots: list[int | None] = []
    for offset in range(3):
        own = turn - offset
        other = own - 1
        while other >= 0 and speakers[other] == speakers[own]:
            other -= 1
        self_slot = own if own >= 0 else None
        inter_slot = other if own >= 0 and other >= 0 else None
        slots += [self_slot, self_slot, inter_slot, inter_slot]  # audio, text of each
    return slots


@pytest.mark.parametrize(
    "speakers", ["A", "AB", "AAAA", "BAAAB", "ABABAB", "ABCAAC", "ABBCCCA", "ABCDDBA"]
)
def test_12_2_slots_zero_fills_and_interlocutors(speakers: str) -> None:
    """Slot order; zero fills at the start; runs of one speaker; three speakers and more."""
    window = ContextWindow.empty()
    for turn, speaker in enumerate(speakers):
        vectors = {m.value: np.full(2, turn + 100.0 * n, np.float32) for n, m in enumerate(BOTH)}
        window = window.push(UtteranceFeatures(turn, speaker, vectors))
        slots = window.context().slots({m.value: m for m in BOTH})
        expected = slots_by_definition(speakers, turn)
        assert [None if s.features is None else s.features.index for s in slots] == expected
        values = [None if s.values is None else float(s.values[0]) for s in slots]
        assert values == [
            None if e is None else e + 100.0 * (s % 2) for s, e in enumerate(expected)
        ]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("missing", ["zeros", "mask"])
def test_12_2_contributions_and_bias_sum_to_the_logits(share: str, missing: str) -> None:
    model = small(share=share, missing=missing)
    full = random_inputs(model, 5)
    keep = torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(0)) < 0.6
    with torch.inference_mode():
        for inputs in (full, without(full, keep)):
            output = model(inputs)
            total = output.explain["contributions"].sum(1) + output.explain["bias"]
            torch.testing.assert_close(total, output.logits, rtol=0, atol=1e-6)
            assert output.explain["contributions"].abs().amax() > 1e-3
