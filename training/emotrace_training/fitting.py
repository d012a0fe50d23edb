"""The training loop: epochs, early stopping, a checkpoint after each epoch.

Every epoch draws from a seed of its own, so that a run that goes on from a checkpoint draws what it
would have drawn. Several processes (accelerate launch) share each batch.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from emotrace_models.types import FloatArray
from emotrace_training.checkpoints import load_state, save_state
from emotrace_training.learner import Learner
from emotrace_training.optimising import optimiser_of, rate_at
from emotrace_training.recipe_tables import Training
from emotrace_training.tables import Table
from emotrace_training.telling import TrainingError
from emotrace_training.watching import is_best, scores, stopped

PREDICTED = 128  # turns in a batch that is only predicted


class LossNotFinite(TrainingError):
    """Training came apart."""


@dataclass(frozen=True, slots=True)
class Progress:
    """epoch: how many are done. history: what each gave."""

    epoch: int
    epochs: int
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One model to train. train, valid: turns of the table; modalities: of its streams, by name;
    presence [turn, class]: 1 for each class that a turn has, None where it has one."""

    table: Table
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    classes: int
    modalities: Mapping[str, str]
    training: Training
    seed: int
    folder: Path
    made_by: Mapping[str, Any]
    presence: FloatArray | None = None


def train(
    learner: Learner, job: Job, accelerator: Accelerator, tell: Callable[[Progress], None]
) -> list[dict[str, Any]]:
    """Fit `learner`, which ends with the weights of the epoch that is kept; gives the history.

    Goes on from the checkpoint in job.folder. Raises LossNotFinite, CheckpointMismatch.
    """
    recipe = job.training
    optimiser = optimiser_of(learner, recipe.optimiser)
    steps = recipe.epochs * -(-len(job.train) // recipe.batch)
    schedule = LambdaLR(optimiser, lambda step: rate_at(step, steps, recipe.schedule))
    weights = class_weights(job)
    history: list[dict[str, Any]] = []
    best: dict[str, Tensor] = {}
    state = load_state(job.folder, job.made_by)
    if state is not None:
        learner.load_state_dict(state["learner"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        best, history = state["best"], json.loads(state["history"])
    wrapped, prepared = accelerator.prepare(learner, optimiser)
    if state is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    while len(history) < recipe.epochs and not stopped(history, recipe):
        epoch = len(history)
        loss = _epoch(wrapped, prepared, schedule, job, weights, accelerator, epoch)
        found: dict[str, Any] = {"loss": loss}
        if len(job.valid):
            logits = predict(wrapped, job.table, job.valid, accelerator)
            own = None if job.presence is None else job.presence[job.valid]
            found["valid"] = scores(logits, job.table.windows.labels[job.valid], job.classes, own)
        history.append(found)
        if is_best(history, recipe):
            best = {name: t.detach().cpu().clone() for name, t in learner.state_dict().items()}
        if accelerator.is_main_process:
            save_state(
                job.folder,
                job.made_by,
                {
                    "learner": learner.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "scaler": {} if accelerator.scaler is None else accelerator.scaler.state_dict(),
                    "best": best,
                    "history": json.dumps(history),
                },
            )
        accelerator.wait_for_everyone()
        tell(Progress(len(history), recipe.epochs, history))
    learner.load_state_dict(best)
    learner.eval()
    return history


def _epoch(
    learner: nn.Module,
    optimiser: Any,
    schedule: LambdaLR,
    job: Job,
    weights: Tensor,
    accelerator: Accelerator,
    epoch: int,
) -> float:
    """One pass over the training turns; the mean loss."""
    recipe = job.training
    torch.manual_seed(_mixed(job.seed, epoch, accelerator.process_index))
    generator = np.random.default_rng([job.seed, epoch])
    learner.train()
    order = generator.permutation(job.train)
    weights = weights.to(accelerator.device)
    total = 0.0
    for start in range(0, len(order), recipe.batch):
        turns = order[start : start + recipe.batch]
        keep = hidden(job, turns, generator)
        own = _share(len(turns), accelerator)
        pieces = np.array_split(own, min(recipe.accumulate, len(own)))
        for number, piece in enumerate(pieces):
            batch = job.table.batch(turns[piece], None if keep is None else keep[piece])
            batch = batch.to(accelerator.device)
            last = number == len(pieces) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(learner):
                losses = losses_of(learner(batch), batch.labels, turns[piece], weights, job)
                loss = losses.sum() / len(own)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise LossNotFinite(
                        f"{job.folder}: epoch {epoch + 1}, step {start // recipe.batch + 1}: the "
                        f"loss is {value}; lower training.optimiser.rate or set training.clip"
                    )
                accelerator.backward(loss)
            total += value * len(turns)
        if recipe.clip is not None:
            accelerator.clip_grad_norm_(learner.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return total / len(order)


def losses_of(
    logits: Tensor, labels: Tensor, turns: NDArray[np.int64], weights: Tensor, job: Job
) -> Tensor:
    """[turn]: cross-entropy by class weight, or the mean over the classes' own entropies."""
    if job.presence is None:
        losses = F.cross_entropy(
            logits, labels, reduction="none", label_smoothing=job.training.label_smoothing
        )
        return losses * weights[labels]
    presence = torch.from_numpy(job.presence[turns]).to(logits.device)
    return F.binary_cross_entropy_with_logits(logits, presence, reduction="none").mean(dim=1)


@torch.inference_mode()
def predict(
    learner: nn.Module,
    table: Table,
    turns: NDArray[np.int64],
    accelerator: Accelerator,
    keep: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Logits [turn, class] of `turns`, of which only `keep` [1, entry, stream] is seen."""
    learner.eval()
    own = _share(len(turns), accelerator)
    found: list[tuple[int, FloatArray]] = []
    for start in range(0, len(own), PREDICTED):
        rows = own[start : start + PREDICTED]
        logits = learner(table.batch(turns[rows], keep).to(accelerator.device))
        found += zip(rows.tolist(), logits.float().cpu().numpy(), strict=True)
    if accelerator.num_processes > 1:
        found = gather_object(found)
    by_row = dict(found)
    return np.stack([by_row[row] for row in range(len(turns))])


def _share(count: int, accelerator: Accelerator) -> NDArray[np.int64]:
    """Which of `count` rows are this process's; none is left without."""
    rows = np.arange(count)[accelerator.process_index :: accelerator.num_processes]
    return rows if len(rows) else np.arange(1)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def class_weights(job: Job) -> Tensor:
    """[class]: N / (classes * N_c), or 1."""
    if job.training.class_weights == "none":
        return torch.ones(job.classes)
    counts = np.bincount(job.table.windows.labels[job.train], minlength=job.classes)
    weights = len(job.train) / (job.classes * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


def hidden(
    job: Job, turns: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.bool_] | None:
    """What of each context may be seen [turn, entry, stream]; None for all. Something of the
    current utterance always is."""
    shares = dict(job.training.hide)
    if not any(shares.values()):
        return None
    streams = job.table.streams
    entries = job.table.windows.entries.shape[1]
    context, gap = shares.pop("context", 0.0), shares.pop("gap", 0.0)
    keep = generator.random((len(turns), entries, len(streams))) >= gap
    keep[generator.random(len(turns)) < context, 1:] = False
    scene = generator.random(len(turns))
    above = 0.0
    for name, share in shares.items():
        rows = (scene >= above) & (scene < above + share)
        for column, stream in enumerate(streams):
            if name in (stream, job.modalities[stream]):
                keep[rows, :, column] = False
        above += share
    nothing = ~(keep[:, 0] & job.table.present[turns]).any(axis=1)
    keep[nothing, 0] = True
    return keep
