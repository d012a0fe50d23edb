"""Fitting the lexical tower: subword tokenizer, augmentation, cosine and contrastive loss."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.compact_lexical import (
    PAD,
    CompactLexical,
    CompactLexicalConfig,
    padded,
)
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, in_frame
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_training.losses import contrastive

# What ends a step of fitting is told: steps done, steps in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LexicalSample:
    text: str
    emotion: int  # its prototype's row
    corpus: str


@dataclass(frozen=True, slots=True)
class LexicalRecipe:
    """weights: how often a corpus is seen an epoch; 0.5 means a random half of it.

    balance: exponent of the inverse class frequency in the loss, 0 plain, 1 fully balanced.
    """

    epochs: int = 5
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    scale: float = 8.0
    contrast: float = 0.2
    temperature: float = 0.1
    balance: float = 0.25
    word_dropout: float = 0.1
    punctuation_dropout: float = 0.25
    subword_dropout: float = 0.1
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "meld": 1.0, "emorynlp": 1.0, "dailydialog": 0.7, "goemotions": 0.4,
        }
    )  # fmt: skip


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
    """A lexical tower fitted to `samples`, in evaluation mode.

    Same inputs, same weights where `subword_dropout` is 0; it draws from the tokenizer library's
    own generator, which takes no seed.
    """
    torch.manual_seed(seed)
    generator = random.Random(seed)
    model = CompactLexical(config or CompactLexicalConfig(), {TOKENIZER: tokenizer}).train()
    model.tokenizer.model.dropout = recipe.subword_dropout
    targets = class_prototypes(model.width)
    class_weights = _class_weights(samples, recipe)
    corpora = sorted({sample.corpus for sample in samples})
    # Corpora differ in how often each emotion occurs. A bias a corpus takes that up, so that the
    # vectors need not; it is not kept.
    priors = nn.Embedding(len(corpora), len(EMOTIONS))
    nn.init.zeros_(priors.weight)
    per_epoch = sum(1 for _ in _epoch(samples, recipe, random.Random(seed)))
    steps = recipe.epochs * per_epoch
    optimiser = torch.optim.AdamW(
        [
            {"params": model.parameters(), "weight_decay": recipe.decay},
            {"params": priors.parameters(), "weight_decay": 0.0},
        ],
        recipe.rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, steps, pct_start=0.1)
    step = 0
    for _ in range(recipe.epochs):
        for batch in _epoch(samples, recipe, generator):
            ids, labels = _tensors(batch, model, recipe, generator)
            with torch.autocast("cpu", torch.bfloat16):
                vectors = model(ids)
            vectors = vectors.float()
            prior = priors(torch.tensor([corpora.index(sample.corpus) for sample in batch]))
            loss = F.cross_entropy(
                recipe.scale * vectors @ targets.T + prior,
                labels,
                class_weights,
                label_smoothing=recipe.smoothing,
            ) + recipe.contrast * contrastive(vectors, labels, recipe.temperature)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            progress(step, steps)
    model.tokenizer.model.dropout = None
    return model.eval()


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


def _class_weights(samples: Sequence[LexicalSample], recipe: LexicalRecipe) -> Tensor:
    counts = torch.ones(len(EMOTIONS))
    for sample in samples:
        counts[sample.emotion] += recipe.weights.get(sample.corpus, 1.0)
    weights = (counts / counts.sum()) ** -recipe.balance
    shares = counts / counts.sum()
    return weights / (weights * shares).sum()


def _epoch(
    samples: Sequence[LexicalSample], recipe: LexicalRecipe, generator: random.Random
) -> Iterator[list[LexicalSample]]:
    """Batches of texts of like length, in random order; every epoch has the same number."""
    by_corpus: dict[str, list[LexicalSample]] = {}
    for sample in samples:
        by_corpus.setdefault(sample.corpus, []).append(sample)
    chosen = []
    for corpus, found in by_corpus.items():
        share = min(1.0, recipe.weights.get(corpus, 1.0))
        chosen += generator.sample(found, max(1, round(share * len(found))))
    chosen.sort(key=lambda sample: len(sample.text) * generator.uniform(0.7, 1.4))
    starts = list(range(0, len(chosen), recipe.batch))
    generator.shuffle(starts)
    for start in starts:
        yield chosen[start : start + recipe.batch]


def _tensors(
    batch: Sequence[LexicalSample],
    model: CompactLexical,
    recipe: LexicalRecipe,
    generator: random.Random,
) -> tuple[Tensor, Tensor]:
    rows = []
    for sample in batch:
        ids = model.tokenize(_without_marks(sample.text, recipe, generator))
        kept = [i for i in ids if generator.random() >= recipe.word_dropout]
        rows.append(kept or ids[:1] or [PAD + 1])
    labels = [sample.emotion for sample in batch]
    return padded(rows, 8), torch.tensor(labels)  # few lengths: each costs a plan of its own


def _without_marks(text: str, recipe: LexicalRecipe, generator: random.Random) -> str:
    """The text as a recogniser that writes no punctuation would give it, now and then."""
    if generator.random() >= recipe.punctuation_dropout:
        return text
    words = "".join(
        " " if unicodedata.category(c)[0] in "PS" and c not in "'\u2019" else c for c in text
    )
    return re.sub(r"\s+", " ", words).strip() or text
