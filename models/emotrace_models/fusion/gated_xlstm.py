"""GatedxLSTM: a gated sum over the utterances of a context, each read by an xLSTM stack.

Paper: GatedxLSTM with CLAP and the Dialogical Emotion Decoder, equations 2 to 5; models.md
section 2. The logits are a sum of one term a slot, so the model explains itself exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from emotrace_models.context import OFFSETS, ContextWindow
from emotrace_models.fusion.base import (
    FusionModel,
    FusionOutput,
    Inputs,
    Known,
    StreamSpec,
    slots_of,
)
from emotrace_models.layers import GroupedXLSTM, XLSTMStack
from emotrace_models.layers.grouped import GroupedLinear, Groups, name_by_stack
from emotrace_models.layers.precision import copied
from emotrace_models.registry import register
from emotrace_models.types import Modality

WORTHWHILE = 10_000_000  # weights; with fewer, casts cost what reading half the bytes saves
ROLES = 2  # the speaker of that utterance, and whom they answered

Share = Literal["none", "role_modality", "modality"]
GateReduce = Literal["none", "batch"]
Missing = Literal["zeros", "mask"]
StepSource = Literal["pooled", "tokens"]


@dataclass(frozen=True, slots=True)
class GatedxLSTMConfig:
    """The defaults are the paper's model. Raises ValueError, which names the setting.

    In which order a dialogue's turns come, by start time or as in the transcript, is the data's
    business: `order` in a recipe's [data].

    embedding: width of what comes in. step_source: `pooled`, one vector, cut into `steps` equal
        pieces, which are no time axis (released code); `tokens`, up to `steps` vectors in order of
        time, and the gate then comes from the mean of the current utterance's.
    width, blocks, heads, slstm_at, kernel: of each xLSTM stack.
    share: `none`, a stack a slot (paper); `role_modality`, one for self and one for interlocutor,
        a modality; `modality`, one a modality.
    gate_reduce: `none`, a gate a sample; `batch`, the batch's mean (the released code; a result
        then depends on its batch, so this is for parity runs only).
    missing: `zeros`, an empty slot is a zero vector that goes through its stack (paper); `mask`,
        an empty slot contributes exactly nothing (docs/decisions/0003).
    """

    modalities: tuple[Modality, ...]
    classes: int
    embedding: int = 512
    steps: int = 16
    width: int = 512
    blocks: int = 8
    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    kernel: int = 4
    share: Share = "none"
    gate_reduce: GateReduce = "none"
    missing: Missing = "zeros"
    dropout: float = 0.3
    step_source: StepSource = "pooled"

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "slstm_at", tuple(self.slstm_at))
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be there, each once: {list(self.modalities)}")
        for name in ("classes", "embedding", "steps", "width", "blocks", "heads", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if outside := [place for place in self.slstm_at if not 0 <= place < self.blocks]:
            raise ValueError(f"slstm_at {outside} is outside a stack of {self.blocks} blocks")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        choices = {
            "share": Share,
            "gate_reduce": GateReduce,
            "missing": Missing,
            "step_source": StepSource,
        }
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        if self.step_source == "pooled" and self.embedding % self.steps:
            raise ValueError(f"steps {self.steps} does not divide embedding {self.embedding}")

    @property
    def slots(self) -> int:
        return OFFSETS * ROLES * len(self.modalities)

    @property
    def encoders(self) -> int:
        """How many encoders there are, by `share`."""
        modalities = len(self.modalities)
        return {
            "none": self.slots,
            "role_modality": ROLES * modalities,
            "modality": modalities,
        }[self.share]

    @property
    def step_width(self) -> int:
        """Of what an encoder reads at each step."""
        return self.embedding // self.steps if self.step_source == "pooled" else self.embedding


class SlotEncoders(nn.Module):
    """Equation 2 for all encoders at once: steps -> input_proj -> xLSTM -> the last step.

    The state dict is that of a list: `<encoder>.input_proj.*`, `<encoder>.xlstm.*`, the latter as
    in the xlstm package.
    """

    def __init__(self, config: GatedxLSTMConfig) -> None:
        super().__init__()
        size = (config.width, config.blocks, config.heads, config.slstm_at, config.kernel)
        self.input_proj = GroupedLinear(
            [nn.Linear(config.step_width, config.width) for _ in range(config.encoders)]
        )
        self.xlstm = GroupedXLSTM([XLSTMStack(*size) for _ in range(config.encoders)])
        name_by_stack(self)

    def __len__(self) -> int:
        return len(self.input_proj.weight)

    def forward(self, x: Tensor, last: Tensor, read: Tensor) -> Tensor:
        """x [encoder, item, step, step width], the step to take last and what to read at all
        read [encoder, item] -> [encoder, item, width], zero where not read.

        An encoder of which nothing is read costs nothing, and the others as many items as the
        fullest of them.
        """
        if bool(read.all()):
            return self._run(x, last, None)
        used = read.any(1).nonzero()  # [used encoder, 1]
        width = self.input_proj.weight.shape[1]
        features = x.new_zeros(*x.shape[:2], width)
        if not len(used):
            return features
        # The items that are read come first, as many of them as the fullest encoder has; but not
        # one alone where more can be: a single row is rounded otherwise than the same row in
        # company, and what a dialogue remembers would then differ from what it computes anew.
        most = max(int(read.sum(1).max()), min(2, read.shape[1]))
        items = read[used[:, 0]].int().argsort(dim=1, descending=True, stable=True)[:, :most]
        y = self._run(x[used, items], last[used, items], _groups(used[:, 0].tolist(), len(read)))
        features[used, items] = y.masked_fill(~read[used, items].unsqueeze(-1), 0.0)
        return features

    def _run(self, x: Tensor, last: Tensor, groups: Groups) -> Tensor:
        rows = self.input_proj(x.flatten(1, 2).transpose(1, 2), groups).transpose(1, 2)
        y: Tensor = self.xlstm(torch.unflatten(rows, 1, x.shape[1:3]), last, groups)
        return y


def _groups(used: list[int], count: int) -> Groups:
    """Evenly spaced encoders as a slice, which spares a copy of their weights."""
    if len(used) == count:
        return None
    step = used[1] - used[0] if len(used) > 1 else 1
    evenly = range(used[0], used[-1] + 1, step)
    return slice(evenly.start, evenly.stop, step) if list(evenly) == used else torch.tensor(used)


@register("fusion", "gated_xlstm")
class GatedxLSTM(FusionModel):
    """Slots s = (2 offset + role) M + modality; slot 0 is the current utterance's first modality.

    explain: gates [batch, slot] (the first is 1, equation 4; an empty slot's is 0 where `missing`
    is `mask`), contributions [batch, slot, class], bias [class] (contributions and bias sum to the
    logits), slot_valid [batch, slot], features [batch, slot, width].
    """

    config_type = GatedxLSTMConfig
    additive = True

    def __init__(self, config: GatedxLSTMConfig) -> None:
        super().__init__()
        self.config = config
        steps = 1 if config.step_source == "pooled" else config.steps
        self.streams = {
            modality.value: StreamSpec(modality, config.embedding, steps)
            for modality in config.modalities
        }
        self.encoders = SlotEncoders(config)
        # Encoder e reads the slots s with s mod encoders = e: see the order of the slots above.
        self.slot_readers = tuple(slot % config.encoders for slot in range(config.slots))
        self.gate = nn.Linear(config.embedding, config.slots - 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.slots * config.width, config.classes)

    @classmethod
    def small_config(cls, classes: int) -> GatedxLSTMConfig:
        return GatedxLSTMConfig(
            (Modality.ACOUSTIC, Modality.LEXICAL),
            classes,
            embedding=32,
            steps=4,
            width=16,
            blocks=1,
            heads=2,
            share="modality",
        )

    @classmethod
    def start_window(cls) -> ContextWindow:
        return ContextWindow.empty()

    def in_bf16(self) -> Self:
        if sum(weight.numel() for weight in self.encoders.parameters()) < WORTHWHILE:
            return self
        own = copied(self)
        own.encoders.xlstm.weights_to_bf16()
        return own

    def forward(self, inputs: Inputs, known: Known | None = None) -> FusionOutput:
        """known: features that need not be computed again; in evaluation mode only."""
        values, lengths = slots_of({name: inputs[name] for name in self.streams})
        valid = lengths > 0  # [batch, slot]
        current = values[:, 0].sum(1) / lengths[:, 0].clamp(min=1).unsqueeze(-1)
        gates = self._gates(current, valid)  # [batch, slot]
        features = self._encode(values, lengths, known)  # [batch, slot, width]
        gated = self.dropout(features) * gates.unsqueeze(-1)
        # Equation 5, a slot at a time: its columns of the classifier times its gated feature.
        columns = self.classifier.weight.view(self.config.classes, *gated.shape[1:])
        contributions = torch.einsum("bsw,csw->bsc", gated, columns)
        bias = self.classifier.bias
        return FusionOutput(
            logits=contributions.sum(1) + bias,
            explain={
                "gates": gates,
                "contributions": contributions,
                "bias": bias,
                "slot_valid": valid,
                "features": features,
            },
        )

    def _gates(self, current: Tensor, valid: Tensor) -> Tensor:
        """Equation 4, from the raw vector of slot 0 [batch, embedding], itself never gated."""
        weights = self.gate(current).sigmoid()
        if self.config.gate_reduce == "batch":
            weights = weights.mean(0, keepdim=True).expand_as(weights)
        gates = torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)
        return gates * valid if self.config.missing == "mask" else gates

    def _encode(self, values: Tensor, lengths: Tensor, known: Known | None) -> Tensor:
        """[batch, slot, step, embedding] -> [batch, slot, width]."""
        steps, slots = self.config.steps, values.shape[1]
        if self.config.step_source == "pooled":
            values = torch.unflatten(values[:, :, 0], -1, (steps, -1))
            last = torch.full_like(lengths, steps - 1)
        else:
            # An empty slot is as long as can be: its value must not depend on the batch's padding.
            values = nn.functional.pad(values, (0, 0, 0, max(0, steps - values.shape[2])))
            last = torch.where(lengths > 0, lengths, steps) - 1
        read = lengths > 0 if self.config.missing == "mask" else torch.ones_like(lengths > 0)
        if known is not None:
            read = read & ~known.have

        def by_encoder(x: Tensor) -> Tensor:
            x = torch.unflatten(x, 1, (-1, len(self.encoders)))
            return x.movedim(2, 0).flatten(1, 2)

        y: Tensor = self.encoders(by_encoder(values), by_encoder(last), by_encoder(read))
        y = torch.unflatten(y, 1, (-1, slots // len(self.encoders)))  # [encoder, batch, .., width]
        y = y.movedim(0, 2).flatten(1, 2)
        return y if known is None else torch.where(known.have[..., None], known.features, y)
