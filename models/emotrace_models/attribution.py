"""What each slot did to the logits, for models that are no sum of their slots: Shapley values.

A slot's value is the change of the logits that it makes when it joins a set of other slots,
averaged over the orders in which slots may join (Shapley 1953; Lundberg & Lee, NeurIPS 2017). The
values and the logits of nothing at all (`bias`) sum to the logits exactly. Up to EXACT filled slots
all sets are computed; beyond, the average is over an order of the slots and its reverse (antithetic
sampling, Mitchell et al., JMLR 2022), which keeps the sum exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from emotrace_models.fusion import FusionModel, FusionOutput, Inputs, Known

EXACT = 3  # filled slots: eight passes of the model


@torch.inference_mode()
def attributed(model: FusionModel, inputs: Inputs, known: Known | None = None) -> FusionOutput:
    """The model's output with `contributions` [batch, slot, class] and `bias` [class], whose sum is
    the logits; an empty slot's contribution is zero. An additive model's are its own.

    known: for a model with `slot_readers`.
    """
    output: FusionOutput = model(inputs) if known is None else model(inputs, known)
    if model.additive:
        return output
    streams = {name: inputs[name] for name in model.streams}
    filled = torch.stack([stream.lengths > 0 for stream in streams.values()], dim=2).flatten(1)
    bias = _logits(model, streams, torch.zeros_like(filled))
    device = output.logits.device
    values = torch.zeros(*filled.shape, output.logits.shape[1], dtype=torch.float64, device=device)
    for i, row in enumerate(filled):
        one = {
            name: replace(s, values=s.values[i : i + 1], lengths=s.lengths[i : i + 1])
            for name, s in streams.items()
        }
        slots = row.nonzero()[:, 0].tolist()
        plan = _sets(slots) if len(slots) <= EXACT else _two_orders(slots)
        keep = torch.zeros(len(plan), filled.shape[1], dtype=torch.bool, device=device)
        for number, (chosen, _) in enumerate(plan):
            keep[number, list(chosen)] = True
        logits = _logits(model, one, keep)
        for (_, shares), found in zip(plan, logits, strict=True):
            for slot, share in shares:
                values[i, slot] += share * found
    contributions = values.float()
    explain = {**output.explain, "contributions": contributions, "bias": bias[0]}
    # The sum is exact against the same passes; the batch's own logits differ in the last bits.
    return FusionOutput(contributions.sum(1) + bias[0], explain)


Plan = list[tuple[tuple[int, ...], list[tuple[int, float]]]]  # sets, and their share in each slot


def _sets(slots: Sequence[int]) -> Plan:
    """Every set of slots with its weight in the Shapley value of each slot."""
    count = len(slots)
    plan: Plan = []
    for size in range(count + 1):
        joined = math.factorial(size) * math.factorial(max(0, count - size - 1))
        left = math.factorial(max(0, size - 1)) * math.factorial(count - size)
        for chosen in combinations(slots, size):
            shares = [
                (slot, (left if slot in chosen else -joined) / math.factorial(count))
                for slot in slots
            ]
            plan.append((chosen, shares))
    return plan


def _two_orders(slots: Sequence[int]) -> Plan:
    """The sets that arise when slots join from the first to the last, and the other way round."""
    plan: Plan = []
    for order in (list(slots), list(reversed(slots))):
        for size in range(len(order) + 1):
            shares = [(order[size - 1], 0.5)] if size else []
            if size < len(order):
                shares.append((order[size], -0.5))
            plan.append((tuple(order[:size]), shares))
    return plan


def _logits(model: FusionModel, streams: Inputs, keep: Tensor) -> Tensor:
    """Logits [row, class] of a batch, or of one item once a row, with only `keep` [row, slot]."""
    seen = keep.view(len(keep), -1, len(streams))  # [row, entry, stream]
    hidden = {
        name: replace(
            stream,
            values=stream.values.expand(len(keep), *stream.values.shape[1:]),
            lengths=stream.lengths * seen[:, :, number],
        )
        for number, (name, stream) in enumerate(streams.items())
    }
    logits: Tensor = model(hidden).logits
    return logits
