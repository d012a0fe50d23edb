"""`emotrace-train pretrain`: a small TERA from scratch, by restoring altered spectra. No labels.

The folder that it writes is what a recipe's `weights` names for the encoder `tera`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from emotrace_models.encoders.base import padded_fronts
from emotrace_models.encoders.tera import Tera, TeraConfig, normalised_log_mel
from emotrace_training.alteration import Alteration, alter
from emotrace_training.manifests import ManifestError, Record, read_manifest, read_sound
from emotrace_training.telling import TrainingError, named_errors

Front = NDArray[np.float16]
Progress = Callable[[int, int, float], None]

CHECKPOINT, REPORT = "checkpoint.pt", "report.json"


class Mismatch(TrainingError):
    """A checkpoint of another run; the message names it and the cure."""


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """frames: a clip's part of an epoch, cut out at random. warm_up: share of the steps in which
    the rate grows; it falls to zero over the others."""

    epochs: int = 4
    batch: int = 16
    frames: int = 300
    rate: float = 1e-3
    decay: float = 1e-2
    warm_up: float = 0.08
    clip: float = 5.0
    alteration: Alteration = field(default_factory=Alteration)


class Restorer(nn.Module):
    """The encoder and the head that s3prl calls SpecHead; only the encoder is kept."""

    def __init__(self, encoder: Tera) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.width
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, encoder.config.bands),
        )

    def forward(self, fronts: Tensor, shown: Tensor, asked: Tensor, lengths: Tensor) -> Tensor:
        """Mean absolute error of the cells asked for; arguments as `alter` gives them."""
        restored: Tensor = self.head(self.encoder.contextualise(shown, lengths))
        return F.l1_loss(restored[asked], fronts[asked])


def command(
    manifest: Annotated[Path, typer.Option(help="from `prepare`")] = Path("runs/manifest.jsonl"),
    out: Annotated[Path, typer.Option(help="folder for the weights")] = Path("runs/tera-small"),
    seed: int = 0,
    layers: Annotated[int, typer.Option(min=1)] = 3,
    width: Annotated[int, typer.Option(min=2)] = 128,
    heads: Annotated[int, typer.Option(min=1)] = 4,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    frames: Annotated[int, typer.Option(min=1, help="of a clip in an epoch, 10 ms each")] = 300,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Train a small TERA on the sound of the manifest's train split; goes on where it was."""
    torch.set_num_threads(threads)
    recipe = PretrainRecipe(epochs=epochs, batch=batch, frames=frames)
    try:
        config = TeraConfig(layers=layers, width=width, heads=heads, inner=4 * width)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with named_errors():
        records = read_manifest(manifest, splits=("train",))
        heard = [r for r in records if r.split == "train" and r.file is not None]
        if not heard:
            raise ManifestError(f"{manifest}: no record of split 'train' has audio")
        fronts = spectra(heard, config)
        with tqdm(desc="restoring", unit="batch") as bar:

            def progress(step: int, steps: int, loss: float) -> None:
                bar.total, bar.n = steps, step
                bar.set_postfix(loss=f"{loss:.3f}")

            encoder, losses = pretrain(fronts, config, recipe, seed, out / CHECKPOINT, progress)
    encoder.save_pretrained(out)
    report = {"seed": seed, "clips": len(fronts), "recipe": asdict(recipe), "losses": losses}
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    (out / CHECKPOINT).unlink()
    listed = " ".join(f"{loss:.3f}" for loss in losses)
    typer.echo(f"{out}: {len(fronts)} clips, mean absolute error by epoch {listed}")


def spectra(records: Sequence[Record], config: TeraConfig) -> list[Front]:
    """The normalised log-mel of each record. Raises ManifestError for one without sound."""
    bar = tqdm(records, desc="spectra", unit="clip")
    return [normalised_log_mel(read_sound(r), config).astype(np.float16) for r in bar]


def pretrain(
    fronts: Sequence[Front],
    config: TeraConfig,
    recipe: PretrainRecipe,
    seed: int,
    checkpoint: Path,
    progress: Progress = lambda step, steps, loss: None,
) -> tuple[Tera, list[float]]:
    """The encoder, and the mean loss of each epoch.

    After each epoch `checkpoint` is written; where it is there, the epochs in it are not done
    again, and the result is the same. Raises Mismatch where it is of another run.
    """
    torch.manual_seed(seed)
    model = Restorer(Tera(config))
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    run = json.dumps([asdict(config), asdict(recipe), seed, len(fronts)])
    losses = _resume(checkpoint, run, model, optimiser)
    batches = -(-len(fronts) // recipe.batch)
    steps = batches * recipe.epochs
    model.train()
    for epoch in range(len(losses), recipe.epochs):
        # Everything random of an epoch follows from its number, so that resuming changes nothing.
        torch.manual_seed(seed * 1_000 + epoch)
        generator = torch.Generator().manual_seed(seed * 1_000 + epoch)
        order = torch.randperm(len(fronts), generator=generator).tolist()
        total = 0.0
        for number in range(batches):
            step = epoch * batches + number
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * _slope(step, steps, recipe.warm_up)
            chosen = order[number * recipe.batch : (number + 1) * recipe.batch]
            cut = [_cut(fronts[i], recipe.frames, generator) for i in chosen]
            clean, lengths = padded_fronts(cut)
            shown, asked = alter(clean, lengths, recipe.alteration, generator)
            loss = model(clean, shown, asked, lengths)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            total += loss.item()
            progress(step + 1, steps, total / (number + 1))
        losses.append(total / batches)
        _keep(checkpoint, run, losses, model, optimiser)
    return model.encoder.eval(), losses


def _slope(step: int, steps: int, warm_up: float) -> float:
    """Linear from 0 to 1 over the warm-up, then linear to 0."""
    rising = max(1.0, warm_up * steps)
    return min((step + 1) / rising, (steps - step) / max(1.0, steps - rising))


def _cut(front: Front, frames: int, generator: torch.Generator) -> NDArray[np.float32]:
    first = int(torch.randint(max(len(front) - frames, 0) + 1, (1,), generator=generator))
    return front[first : first + frames].astype(np.float32)


def _keep(
    file: Path, run: str, losses: list[float], model: Restorer, optimiser: torch.optim.Optimizer
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".part")
    torch.save(
        {
            "run": run,
            "losses": losses,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
        },
        fresh,
    )
    fresh.replace(file)


def _resume(file: Path, run: str, model: Restorer, optimiser: torch.optim.Optimizer) -> list[float]:
    """The losses of the epochs in `file`, whose state is put into model and optimiser."""
    if not file.exists():
        return []
    kept: dict[str, Any] = torch.load(file, weights_only=True)
    if kept["run"] != run:
        raise Mismatch(
            f"{file} is of other settings or other clips; delete it or name another --out"
        )
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    return list(kept["losses"])
