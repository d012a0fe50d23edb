"""Recipes: one TOML says which data, streams and model, how it is trained, what was published.

    emotrace-train recipes            lists those that come with the package
    [variants.NAME]                   overrides keys of the rest: a whole table of rows in one file

A recipe is a name (`gban/iemocap`) or a path. Errors name the file, the key and the cure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_training.splits import Split

FOLDER = Path(__file__).with_name("recipes")
MAIN = "main"  # the only variant of a recipe that has no table of them

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)]


class RecipeError(ValueError):
    """A recipe that cannot be used."""


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
    """batch: turns between two steps of the optimiser, in pieces of batch / accumulate.
    clip: largest norm of the gradient. hide: share of items in which a stream or modality is
    hidden, `context` all of the context, `gap` each single entry of it.
    precision: of the arithmetic on a GPU. keep: the epoch whose weights are kept.
    """

    seeds: tuple[int, ...] = (0,)
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


def recipe_names() -> list[str]:
    """Those that come with the package."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.toml"))


def recipe_file(name: str) -> Path:
    """The file of a recipe: one of the package's, or a path. Raises RecipeError."""
    for file in (FOLDER / f"{name}.toml", Path(name)):
        if file.is_file():
            return file
    raise RecipeError(f"no recipe {name!r}: neither a file nor one of {', '.join(recipe_names())}")


def run_name(recipe: str) -> str:
    """The folder name of a recipe's runs."""
    name = Path(recipe).stem if recipe.endswith(".toml") else recipe
    return name.replace("/", "-")


def recipe_head(name: str) -> tuple[str, list[str]]:
    """Title and names of the variants, none where there are none. Raises RecipeError."""
    file = recipe_file(name)
    values, tables = _tables(file)
    about = values.get("recipe", {})
    title = str(about.get("title", "")) if isinstance(about, dict) else ""
    return title, [variant for variant in tables if variant != MAIN]


def read_recipe(
    name: str, variants: Sequence[str] = (), overrides: Sequence[str] = ()
) -> list[Recipe]:
    """The variants of a recipe, all of them by default; overrides: `training.epochs=3`.

    Raises RecipeError.
    """
    file = recipe_file(name)
    values, tables = _tables(file)
    if missing := [variant for variant in variants if variant not in tables]:
        raise RecipeError(f"{file}: no variant {', '.join(missing)}; there are {', '.join(tables)}")
    found = []
    for variant in variants or tables:
        merged = merge(values, tables[variant])
        for key in merged.pop("drop", ()):
            _drop(merged, key, f"{file}: variant {variant}")
        for override in overrides:
            merged = merge(merged, _override(override))
        found.append(_checked(file, name, variant, merged))
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, table by table; lists and plain values are replaced, and so
    are a stream's keys where the stream is given another source."""
    result = deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            other_source = any(
                source in value and value[source] != result[key].get(source)
                for source in ("encoder", "bundle", "file")
            )
            result[key] = deepcopy(value) if other_source else merge(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def errors_of(error: ValidationError) -> Iterator[str]:
    """Each fault as `key: what is wrong`, unknown keys with the cure."""
    for fault in error.errors():
        # A tagged union puts its tag into the place.
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{where}: there is no such key; take it away or correct its name"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            yield f"{where}: {message}" if where else message


def _tables(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The keys that all variants share, and each variant's own."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: no TOML: {error}") from error
    tables = values.pop("variants", {MAIN: {}})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise RecipeError(f"{file}: variants: must be tables, as in [variants.NAME]")
    return values, tables


def _checked(file: Path, name: str, variant: str, values: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate({**values, "name": name, "variant": variant})
    except ValidationError as error:
        where = f"{file}" if variant == MAIN else f"{file}, variant {variant}"
        raise RecipeError(f"{where}: {'; '.join(errors_of(error))}") from error


def _drop(values: dict[str, Any], key: str, place: str) -> None:
    *path, last = key.split(".")
    table: Any = values
    for part in path:
        table = table.get(part, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict) or last not in table:
        raise RecipeError(f"{place}: drop: there is no {key}")
    del table[last]


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"{text!r}: write KEY=VALUE, as in training.epochs=3")
    try:
        return tomllib.loads(f"{key.strip()} = {value.strip()}")
    except tomllib.TOMLDecodeError:
        try:  # a bare word is a string
            return tomllib.loads(f"{key.strip()} = {value.strip()!r}")
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{text!r}: {error}") from error
