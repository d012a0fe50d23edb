"""IAAN: the current utterance, attended to in view of each speaker's previous one.

Yeh, Lin & Lee, An Interaction-aware Attention Network for Speech Emotion Recognition in Spoken
Dialogs, ICASSP 2019; models.md section 2.9. The GatedxLSTM paper's "IAAN context" rows read the
same triple with xLSTM instead of GRU; how, it does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from emotrace_models.context import TripleWindow
from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, Sequences, StreamSpec
from emotrace_models.layers import XLSTMStack
from emotrace_models.layers.standardise import Standardise
from emotrace_models.registry import register
from emotrace_models.types import Modality

PLACES = ("current", "previous", "reply")  # c, p and r of the paper, in the window's order

Cell = Literal["gru", "mlstm"]
StepSource = Literal["frames", "pooled"]
Missing = Literal["zeros", "mask"]


@dataclass(frozen=True, slots=True)
class IAANConfig:
    """The defaults are the paper's model but for its input. Raises ValueError, which names the
    setting.

    embedding: width of what comes in of each modality. step_source: `frames`, sequences of any
        length; where there are several modalities, step t of each is read together; `pooled`,
        vectors cut into `steps` equal pieces, as GatedxLSTM does.
    cell: `gru` (paper) or `mlstm`, a linear map and an xLSTM stack of `blocks`, `heads`, `slstm_at`
        and `kernel`. width: of either.
    attention, hidden: widths inside the attention and before the classes.
    missing: `zeros`, an absent utterance is one of zeros, a single frame or all `steps` (paper);
        `mask`, its encoding is zero.
    standardise: what comes in by the training data's mean and deviation (paper: each speaker's).
    """

    modalities: tuple[Modality, ...]
    classes: int
    embedding: int
    step_source: StepSource = "frames"
    steps: int = 16
    cell: Cell = "gru"
    width: int = 512
    attention: int = 16
    hidden: int = 64
    blocks: int = 8
    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    kernel: int = 4
    missing: Missing = "zeros"
    standardise: bool = False

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "slstm_at", tuple(self.slstm_at))
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be there, each once: {list(self.modalities)}")
        sizes = ("classes", "embedding", "steps", "width", "attention", "hidden")
        for name in (*sizes, "blocks", "heads", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        choices = {"step_source": StepSource, "cell": Cell, "missing": Missing}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        if self.step_source == "pooled" and self.embedding % self.steps:
            raise ValueError(f"steps {self.steps} does not divide embedding {self.embedding}")

    @property
    def step_width(self) -> int:
        """Of what an encoder reads at each step."""
        pieces = self.steps if self.step_source == "pooled" else 1
        return len(self.modalities) * self.embedding // pieces


class GRUReader(nn.Module):
    """[batch, step, step width] -> [batch, step, width], forwards in time."""

    def __init__(self, config: IAANConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.step_width, config.width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.gru(x)[0]
        return outputs


class XLSTMReader(nn.Module):
    """[batch, step, step width] -> [batch, step, width], forwards in time."""

    def __init__(self, config: IAANConfig) -> None:
        super().__init__()
        self.input_proj = nn.Linear(config.step_width, config.width)
        self.xlstm = XLSTMStack(
            config.width, config.blocks, config.heads, config.slstm_at, config.kernel
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.xlstm(self.input_proj(x))
        return outputs


class Attention(nn.Module):
    """alpha = softmax_t(u^T tanh(W o_t + b + what it is given)), over real steps only."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, attention)
        self.score = nn.Linear(attention, 1, bias=False)

    def forward(self, outputs: Tensor, real: Tensor, given: Tensor | None = None) -> Tensor:
        """outputs [batch, step, width], real [batch, step] bool, given [batch, attention] ->
        weights [batch, step], all zero where no step is real."""
        keys = self.key(outputs)
        if given is not None:
            keys = keys + given.unsqueeze(1)
        scores: Tensor = self.score(keys.tanh()).squeeze(-1)
        # Not minus infinity, whose softmax is NaN where nothing is real.
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) * real


@register("fusion", "iaan")
class IAAN(FusionModel):
    """h_p and h_r by self-attention, h_c by attention in view of both; [h_c; h_p; h_r] -> Linear -
    LN - ReLU - Linear.

    explain: attention [batch, entry, step], the weights of each entry's steps (zero beyond its
    length), slot_valid [batch, slot].
    """

    config_type = IAANConfig

    def __init__(self, config: IAANConfig) -> None:
        super().__init__()
        self.config = config
        steps = 1 if config.step_source == "pooled" else None
        self.streams = {
            modality.value: StreamSpec(modality, config.embedding, steps)
            for modality in config.modalities
        }
        kept = self.streams if config.standardise else ()
        self.standardise = nn.ModuleDict({name: Standardise(config.embedding) for name in kept})
        reader = GRUReader if config.cell == "gru" else XLSTMReader
        self.readers = nn.ModuleDict({place: reader(config) for place in PLACES})
        self.attentions = nn.ModuleDict(
            {place: Attention(config.width, config.attention) for place in PLACES}
        )
        self.previous = nn.Linear(config.width, config.attention, bias=False)  # W_p
        self.reply = nn.Linear(config.width, config.attention, bias=False)  # W_r
        self.head = nn.Sequential(
            nn.Linear(len(PLACES) * config.width, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.classes),
        )

    @classmethod
    def small_config(cls, classes: int) -> IAANConfig:
        return IAANConfig((Modality.ACOUSTIC,), classes, embedding=6, width=16, hidden=16)

    def start_window(self) -> TripleWindow:
        return TripleWindow()

    def forward(self, inputs: Inputs) -> FusionOutput:
        x, lengths, valid = self._steps(inputs)
        real = torch.arange(x.shape[2], device=x.device) < lengths[..., None]
        h_p, of_p = self._encode("previous", x[:, 1], real[:, 1])
        h_r, of_r = self._encode("reply", x[:, 2], real[:, 2])
        given = self.previous(h_p) + self.reply(h_r)
        h_c, of_c = self._encode("current", x[:, 0], real[:, 0], given)
        logits: Tensor = self.head(torch.cat([h_c, h_p, h_r], dim=-1))
        attention = torch.stack([of_c, of_p, of_r], dim=1)
        return FusionOutput(logits, {"attention": attention, "slot_valid": valid.flatten(1)})

    def _encode(
        self, place: str, x: Tensor, real: Tensor, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[batch, width] and the weights [batch, step]."""
        outputs = self.readers[place](x)
        weights = self.attentions[place](outputs, real, given)
        return torch.einsum("bs,bsw->bw", weights, outputs), weights

    def _standardised(self, name: str, stream: Sequences) -> Sequences:
        if name not in self.standardise:
            return stream
        return Sequences(self.standardise[name](stream.values), stream.lengths)

    def _steps(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Steps of all modalities side by side [batch, entry, step, step width], how many are read
        [batch, entry], and which slots are filled [batch, entry, stream]."""
        streams = [self._standardised(name, inputs[name]) for name in self.streams]
        valid = torch.stack([stream.lengths > 0 for stream in streams], dim=-1)
        longest = max(stream.values.shape[2] for stream in streams)
        values = [
            nn.functional.pad(
                stream.values.masked_fill(~stream.mask()[..., None], 0.0),
                (0, 0, 0, longest - stream.values.shape[2]),
            )
            for stream in streams
        ]
        lengths = torch.stack([stream.lengths for stream in streams]).amax(0)
        if self.config.step_source == "pooled":
            values = [torch.unflatten(v[:, :, 0], -1, (self.config.steps, -1)) for v in values]
            lengths = self.config.steps * lengths.clamp(max=1)
        absent = self.config.steps if self.config.step_source == "pooled" else 1
        if self.config.missing == "zeros":
            lengths = torch.where(lengths > 0, lengths, absent)
        return torch.cat(values, dim=-1), lengths, valid
