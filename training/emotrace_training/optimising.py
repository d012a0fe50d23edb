"""The optimiser of a recipe, and its rate over the steps."""

from __future__ import annotations

import math

import torch

from emotrace_training.learner import Learner
from emotrace_training.recipe_tables import Optimiser, Schedule


def optimiser_of(learner: Learner, recipe: Optimiser) -> torch.optim.Optimizer:
    """Over all parameters that are to be trained; tuned encoders have their own rate."""
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in (
            (learner.fusion, recipe.rate),
            (learner.encoders, recipe.encoder_rate or recipe.rate),
        )
    ]
    groups = [group for group in groups if group["params"]]
    match recipe.name:
        case "adam":
            return torch.optim.Adam(
                groups, recipe.rate, recipe.betas, recipe.eps, weight_decay=recipe.decay
            )
        case "adamw":
            return torch.optim.AdamW(
                groups, recipe.rate, recipe.betas, recipe.eps, weight_decay=recipe.decay
            )
        case "sgd":
            return torch.optim.SGD(
                groups, recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
            )


def rate_at(step: int, steps: int, schedule: Schedule) -> float:
    """What the learning rate is multiplied by at a step."""
    warm = round(schedule.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    match schedule.name:
        case "constant":
            return 1.0
        case "linear":
            return max(0.0, 1.0 - share)
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
