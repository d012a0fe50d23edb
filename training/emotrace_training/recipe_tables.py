"""The tables of a recipe: what each key means and may be."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_training.splits import Split

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class About(_Table):
    """published: figures of the paper by the name of our metric, from 0 to 1. deviation: theirs.
    protocol: how the published figures came about. traps: why ours may differ, a sentence each.
    """

    title: str
    source: str = ""
    published: dict[str, float] = {}
    deviation: dict[str, float] = {}
    protocol: str = ""
    traps: tuple[str, ...] = ()


class Data(_Table):
    """corpora: of the manifest; empty for all. labels: a scheme. only, without: records whose
    field (dialogue, speaker, flags, ...) matches this regular expression; all must, none may.
    order: of a dialogue's turns. complete: only turns with every stream have a say in training
    and figures; others remain as context. most: whole dialogues are taken at random until each
    part has this many records with a class. faces: settings of faces put to records that have no
    film (composed_faces.ComposedFaces).
    """

    corpora: tuple[str, ...] = ()
    labels: str
    split: Split
    only: dict[str, str] = {}
    without: dict[str, str] = {}
    order: Literal["time", "transcript"] = "time"
    complete: bool = True
    most: Positive | None = None
    faces: dict[str, Any] | None = None

    @field_validator("labels")
    @classmethod
    def _scheme(cls, name: str) -> str:
        if name not in SCHEMES:
            raise ValueError(f"no label scheme {name!r}; there are {', '.join(sorted(SCHEMES))}")
        return name

    @property
    def label_set(self) -> LabelSet:
        return SCHEMES[self.labels]


class Stream(_Table):
    """Where a stream's features come from: one of encoder, bundle, file.

    encoder: a registered name, with its config; weights: what it starts from, a folder, a file or
    a hub name. bundle: the encoder of this stream in a bundle. tune: train it with the model.
    file: vectors made elsewhere, .npz; ids, values: its arrays of record ids and of features.
    """

    encoder: str | None = None
    config: dict[str, Any] = {}
    weights: str | None = None
    bundle: str | None = None
    tune: bool = False
    file: str | None = None
    ids: str = "id"
    values: str = "values"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("encoder", "bundle", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of encoder, bundle, file, not {given or 'none'}")
        if self.encoder is None and (self.config or self.weights is not None):
            raise ValueError("config and weights belong to an encoder")
        if self.file is not None and self.tune:
            raise ValueError("a file of vectors cannot be tuned")
        return self


class Model(BaseModel):
    """name: a registered fusion model; the other keys are its config, but classes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if "classes" in self.config:
            raise ValueError("classes come from data.labels; take the key away")
        return self


class Optimiser(_Table):
    """rate: of the fusion model; encoder_rate: of tuned encoders, the same by default."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    rate: Rate = 1e-3
    encoder_rate: Rate | None = None
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8
    momentum: Share = 0.0
    decay: Annotated[float, Field(ge=0.0)] = 0.0


class Schedule(_Table):
    """Of the learning rate over all steps: warmup, a share of them, rises linearly from 0; after it
    the rate stays, or falls to 0 along a line or half a cosine."""

    name: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Share = 0.0


class EarlyStop(_Table):
    """watch: a metric of the validation split. patience: epochs without a better value; None: all
    epochs run. The best epoch is kept."""

    watch: Literal["accuracy", "uar", "f1_macro", "f1_weighted", "loss"] = "uar"
    patience: Positive | None = None


class Training(_Table):
    """loss: `cross_entropy`, one class a turn; `binary`, each class by itself is there or not: a
    record's classes are those with a score above 0.
    batch: turns between two steps of the optimiser, in pieces of batch / accumulate.
    clip: largest norm of the gradient. hide: share of items in which a stream or modality is
    hidden, `context` all of the context, `gap` each single entry of it.
    precision: of the arithmetic on a GPU. keep: the epoch whose weights are kept.
    """

    seeds: tuple[int, ...] = (0,)
    loss: Literal["cross_entropy", "binary"] = "cross_entropy"
    epochs: Positive = 30
    batch: Positive = 32
    accumulate: Positive = 1
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    clip: Rate | None = None
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Share = 0.0
    hide: dict[str, Share] = {}
    early_stop: EarlyStop = EarlyStop()
    keep: Literal["best", "last"] = "best"
    precision: Literal["no", "bf16", "fp16"] = "no"

    @field_validator("seeds")
    @classmethod
    def _some(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must be there, each once: {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _each_class_by_itself(self) -> Self:
        if self.loss == "binary" and (self.class_weights != "none" or self.label_smoothing):
            raise ValueError("loss binary goes without class_weights and label_smoothing")
        return self


class Decoder(_Table):
    """The Dialogical Emotion Decoder on top. p0: None to estimate it from training dialogues."""

    p0: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    alpha: Rate = 1.0
    beam: Positive = 10
    lag: int | None = None
    temperature: Rate = 1.0
    passes: Literal[1, 2] = 1


class Recipe(_Table):
    """name: as it was asked for. variant: MAIN where there is only one."""

    name: str
    variant: str
    recipe: About
    data: Data
    streams: dict[str, Stream] = Field(min_length=1)
    model: Model
    training: Training = Training()
    decoder: Decoder | None = None

    @model_validator(mode="after")
    def _hidden(self) -> Self:
        modalities = {"acoustic", "lexical", "facial"}
        known = {*self.streams, *modalities, "context", "gap"}
        if unknown := sorted(set(self.training.hide) - known):
            raise ValueError(f"training.hide: no stream {', '.join(unknown)}")
        scenes = {k: v for k, v in self.training.hide.items() if k not in ("context", "gap")}
        if sum(scenes.values()) >= 1:
            raise ValueError(f"training.hide: shares of {sorted(scenes)} must sum to less than 1")
        return self
