"""Losses that more than one tower is fitted to."""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al., arXiv 2004.11362, equation 2), a scalar.

    vectors [item, width], unit length; labels [item]. Zero where no two items share a label.
    """
    logits = vectors @ vectors.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool)
    same = (labels[:, None] == labels) & ~itself
    scores = logits.masked_fill(itself, -torch.inf).log_softmax(dim=-1).masked_fill(itself, 0.0)
    partners = same.sum(dim=1)
    wanted = (scores * same).sum(dim=1) / partners.clamp_min(1)
    return -wanted[partners > 0].mean() if bool((partners > 0).any()) else logits.sum() * 0
