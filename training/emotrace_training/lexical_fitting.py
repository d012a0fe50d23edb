"""Fitting the lexical tower: subword tokenizer, its losses, and the mean of its last weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from emotrace_models.encoders.compact_lexical import CompactLexical, CompactLexicalConfig
from emotrace_models.encoders.lexical_tower import LexicalTower, padded
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, in_frame
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_training.corpora.goemotions import LABELS
from emotrace_training.lexical_sampling import (
    Alterations,
    Batch,
    LexicalSample,
    Sampler,
    Subwords,
)
from emotrace_training.losses import contrastive
from emotrace_training.muon import Muon
from emotrace_training.one_cycle import one_cycle

MEMBER_SEEDS = 100  # between the seeds of two towers of one encoder

# What ends a step of fitting is told: steps done, steps in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LexicalRecipe:
    """balance: exponent of the inverse class frequency in the loss, 0 plain, 1 fully balanced.

    fine: weight of a head that names GoEmotions' own labels; it is not kept. memory: of the running
    mean of the weights, which is what is kept.
    """

    epochs: int = 4
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    scale: float = 8.0
    contrast: float = 0.2
    temperature: float = 0.1
    balance: float = 0.25
    fine: float = 0.5
    memory: float = 0.99
    alterations: Alterations = field(
        default_factory=lambda: Alterations(
            weights={"meld": 2.0, "emorynlp": 0.7, "dailydialog": 0.6, "goemotions": 1.2}
        )
    )


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> bytes:
    """Byte-level BPE over NFC lower case, as tokenizer.json; one id is left for padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[\u2018\u2019\u0092]"), "'"),
            normalizers.Replace(Regex("[\u201c\u201d]"), '"'),
            normalizers.Replace("\u2026", "..."),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1,
        min_frequency=3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str()).encode("utf-8")


def fit(
    samples: Sequence[LexicalSample],
    tokenizer: bytes,
    recipe: LexicalRecipe,
    seed: int,
    config: CompactLexicalConfig | None = None,
    progress: Progress = lambda step, steps: None,
) -> CompactLexical:
    """Lexical towers fitted to `samples`, each from its own seed, as the encoder in evaluation
    mode. Same inputs, same weights."""
    encoder = CompactLexical(config or CompactLexicalConfig(), {TOKENIZER: tokenizer})
    count = len(encoder.members)
    for member in range(count):

        def told(step: int, steps: int, before: int = member) -> None:
            progress(before * steps + step, count * steps)

        encoder.members[member] = _fit_tower(
            samples, encoder, recipe, seed + MEMBER_SEEDS * member, told
        )
    return encoder.eval()


def _fit_tower(
    samples: Sequence[LexicalSample],
    encoder: CompactLexical,
    recipe: LexicalRecipe,
    seed: int,
    progress: Progress,
) -> LexicalTower:
    torch.manual_seed(seed)
    tower = LexicalTower(encoder.config.tower()).train()
    subwords = Subwords(encoder.tokenizer, encoder.config.tokens)
    sampler = Sampler(samples, subwords, recipe.alterations, recipe.batch, seed)
    losses = _Losses(encoder.width, samples, len(sampler.corpora), recipe)
    steps = recipe.epochs * sampler.batches
    optimisers = _optimisers(tower, losses, recipe)
    schedules = one_cycle(optimisers, recipe.rate, steps, warm=0.1)
    keeping = get_ema_multi_avg_fn(recipe.memory)  # type: ignore[no-untyped-call]
    mean = AveragedModel(tower, multi_avg_fn=keeping)
    step = 0
    for _ in range(recipe.epochs):
        for batch in sampler.epoch():
            with torch.autocast("cpu", torch.bfloat16):
                vectors = tower(batch.ids)
            loss = losses(vectors.float(), batch)
            for optimiser in optimisers:
                optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                schedule.step()
            mean.update_parameters(tower)
            step += 1
            progress(step, steps)
    tower.load_state_dict(mean.module.state_dict())
    return tower


def _optimisers(
    tower: LexicalTower, losses: _Losses, recipe: LexicalRecipe
) -> list[torch.optim.Optimizer]:
    """Muon for what mixes features; AdamW for tables, of which a step touches few rows, and for the
    rest."""
    tables = [m.weight for m in tower.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    matrices = [
        p
        for p in tower.parameters()
        if len(p) > 1 and p.ndim > 1 and all(p is not t for t in tables)
    ]
    others = [p for p in tower.parameters() if all(p is not m for m in matrices)]
    groups: list[dict[str, Any]] = [
        {"params": [*others, *losses.fine.parameters()]},
        {"params": losses.priors.parameters(), "weight_decay": 0.0},
    ]
    return [
        Muon(matrices, recipe.rate, weight_decay=recipe.decay),
        torch.optim.AdamW(groups, recipe.rate, weight_decay=recipe.decay, fused=True),
    ]


@torch.inference_mode()
def embed(model: CompactLexical, texts: Sequence[str], batch: int = 256) -> NDArray[np.float32]:
    """texts -> vectors [text, width], as `encode` gives them; zeros where there are no words."""
    vectors = np.zeros((len(texts), model.width), dtype=np.float32)
    tokens = {i: ids for i, text in enumerate(texts) if (ids := model.tokenize(text))}
    order = sorted(tokens, key=lambda i: len(tokens[i]))
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        vectors[chunk] = in_frame(model(padded([tokens[i] for i in chunk]))).numpy()
    return vectors


class _Losses(nn.Module):
    """What a batch's vectors are asked for: the nearest prototype, like beside like, fine labels.

    Corpora differ in how often each emotion occurs. A bias a corpus takes that up, so that the
    vectors need not; like the head of fine labels it is not kept.
    """

    def __init__(
        self,
        width: int,
        samples: Sequence[LexicalSample],
        corpora: int,
        recipe: LexicalRecipe,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.frame = class_prototypes(width)
        self.weights = _class_weights(samples, recipe)
        self.priors = nn.Embedding(corpora, len(EMOTIONS))
        nn.init.zeros_(self.priors.weight)
        self.fine = nn.Linear(width, len(LABELS))

    def forward(self, vectors: Tensor, batch: Batch) -> Tensor:
        """vectors [item, width] of any length -> a scalar."""
        recipe, targets = self.recipe, batch.targets
        cosines = F.normalize(vectors @ self.frame.T, dim=-1)
        logits = recipe.scale * cosines + self.priors(batch.corpora)
        smooth = targets * (1 - recipe.smoothing) + recipe.smoothing / len(EMOTIONS)
        losses = -(smooth * logits.log_softmax(dim=-1)).sum(dim=-1)
        weights = targets @ self.weights
        loss: Tensor = (losses * weights).sum() / weights.sum()
        unit = F.normalize(vectors, dim=-1)
        loss = loss + recipe.contrast * contrastive(
            unit, targets.argmax(dim=-1), recipe.temperature
        )
        named = [i for i, sample in enumerate(batch.samples) if sample.fine]
        if named and recipe.fine:
            wanted = torch.zeros(len(named), len(LABELS))
            for row, i in enumerate(named):
                wanted[row, list(batch.samples[i].fine)] = 1.0
            scores = self.fine(vectors[named])
            loss = loss + recipe.fine * F.binary_cross_entropy_with_logits(scores, wanted)
        return loss


def _class_weights(samples: Sequence[LexicalSample], recipe: LexicalRecipe) -> Tensor:
    counts = torch.ones(len(EMOTIONS))
    for sample in samples:
        counts += recipe.alterations.times(sample.corpus) * torch.tensor(sample.target)
    shares = counts / counts.sum()
    weights = shares**-recipe.balance
    return weights / (weights * shares).sum()
