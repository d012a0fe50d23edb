"""What a dual stream model can be (Yu et al., Electronics 2024; models.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from emotrace_models.layers.dpcnn import heights

Fusion = Literal["sum", "con", "film", "film_split", "caf", "caf_attn", "single_a", "single_b"]
EncoderA = Literal["dpcnn", "textrcnn", "bilstm_released"]
Axis = Literal["freq", "time"]
BFeatures = Literal["logits12", "proj256", "pool768"]

KEYWORDS, PROJECTION = 12, 256  # of the released keyword-spotting head


@dataclass(frozen=True, slots=True)
class DualStreamConfig:
    """The defaults are the released code's model, but for `b_features`. Raises ValueError, which
    names the setting.

    fusion: `film` is the released form and `film_split` the paper's; `caf_attn` is ours, real
        cross-attention between the steps of A and the frames of B; single streams go alone.
    encoder_a: `textrcnn` is the paper's, `bilstm_released` what its code runs in that place.
    axis: what the steps of the image are, mel rows (`freq`, the release) or frames (`time`).
    image: rows and columns of the image. filters, share_weights, first_shortcut: of DPCNN.
    embedding, hidden, dropout: of the recurrent encoders.
    acoustic: width of stream B's frames. b_features: `logits12`, the outputs of a keyword head
        (release), which starts fresh here: keywords say nothing of emotion; `proj256`, a pooled
        projection; `pool768`, the pooled frames.
    projection: inner width of the keyword head.
    d1, d2: widths of the two vectors that are fused; None: d2 as `b_features` says, d1 as d2.
    d3: width of CAF's output, with a linear head behind it; None: the classes, and no head.
    aligned: both vectors are first brought to this width (paper); None: they are not (release).
        For `caf_attn`, the width of attention; None: d2. Not for `caf` itself.
    heads: of `caf_attn`.
    """

    classes: int
    fusion: Fusion = "caf"
    encoder_a: EncoderA = "dpcnn"
    axis: Axis = "freq"
    image: int = 224
    filters: int = 250
    share_weights: bool = True
    first_shortcut: bool = True
    embedding: int = 768
    hidden: int = 384
    dropout: float = 0.5
    acoustic: int = 768
    b_features: BFeatures = "proj256"
    projection: int = PROJECTION
    d1: int | None = None
    d2: int | None = None
    d3: int | None = None
    aligned: int | None = None
    heads: int = 4

    def __post_init__(self) -> None:
        choices = {
            "fusion": Fusion,
            "encoder_a": EncoderA,
            "axis": Axis,
            "b_features": BFeatures,
        }
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        sizes = ("classes", "filters", "embedding", "hidden", "acoustic", "projection", "heads")
        for name in (*sizes, "d1", "d2", "d3", "aligned"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        heights(self.image)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        if self.d3 is not None and self.fusion != "caf":
            raise ValueError(f"d3 is a setting of caf, not of {self.fusion}")
        if self.aligned is not None and self.fusion in ("caf", "single_a", "single_b"):
            raise ValueError(f"aligned is not a setting of {self.fusion}")
        if self.b_features == "pool768" and self.d2 not in (None, self.acoustic):
            raise ValueError(f"d2 {self.d2}: pool768 gives the frames' own width {self.acoustic}")
        self._check_widths()

    def _check_widths(self) -> None:
        d1, d2 = self.widths
        shared = self.aligned or d2
        if self.fusion in ("sum", "film", "film_split") and shared not in (self.aligned, d1):
            raise ValueError(f"d1 {d1} and d2 {d2} differ: {self.fusion} needs aligned")
        if self.fusion == "film_split" and shared % 2:
            raise ValueError(f"film_split halves its vectors, and a width of {shared} is odd")
        if self.fusion == "caf_attn" and shared % self.heads:
            raise ValueError(f"heads {self.heads} do not divide a width of {shared}")

    @property
    def widths(self) -> tuple[int, int]:
        """d1 and d2, none of them None."""
        usual = {"logits12": KEYWORDS, "proj256": PROJECTION, "pool768": self.acoustic}
        d2 = self.d2 or usual[self.b_features]
        return self.d1 or d2, d2
