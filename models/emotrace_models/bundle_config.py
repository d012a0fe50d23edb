"""config.json of a bundle: which keys and values there may be, and how it is read.

Unknown keys are refused at every depth, and each value has a type and a range: nothing in a bundle
can ask for more than is written here. The file is sealed by its SHA-256 in `config.json.sha256`, as
sha256sum writes it, and holds size and SHA-256 of every other file: one changed bit is found.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from emotrace_models import registry, strict_json
from emotrace_models.sealed_files import NAME, FileAbsent, FileRefused, read_at_most

FORMAT = 1
CONFIG, WEIGHTS, CARD, LICENCE = "config.json", "model.safetensors", "card.md", "LICENSE.txt"
SEAL = f"{CONFIG}.sha256"
REQUIRED = (WEIGHTS, CARD, LICENCE)
REPORT = "report"  # a folder of figures that training leaves there for people; never read
SUFFIXES = (".safetensors", ".json", ".md", ".txt", ".onnx")  # none of which holds code

MOST_CONFIG_BYTES = 1 << 20
MOST_FILE_BYTES = 16 << 30
MOST = 1 << 20  # any number of a model's config; vocabularies have a quarter million entries
MOST_ITEMS = 1_024  # of any list there
AGAIN = "fetch or export the bundle again"
SOURCE = "emotrace-train; card.md names the data"

Text = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Share = Annotated[float, Field(ge=0, le=1)]


class BundleError(ValueError):
    """A bundle that cannot be used."""


class BundleMissing(BundleError):
    """There is no such bundle, or it lacks a file."""


class BundleCorrupted(BundleError):
    """A file is not the one that was exported."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileEntry(_Entry):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=MOST_FILE_BYTES, description="bytes")


class PartEntry(_Entry):
    name: Text
    config: dict[str, Any] = Field(description="checked by `model_config`")


class LabelEntry(_Entry):
    scheme: Text
    names: tuple[Text, ...] = Field(min_length=2, max_length=64)
    merges: tuple[tuple[Text, Text], ...] = Field(max_length=MOST_ITEMS)


class CalibrationEntry(_Entry):
    temperatures: dict[Text, Annotated[float, Field(gt=0, le=1_000)]]
    abstain_below: Share
    biases: dict[Text, tuple[Annotated[float, Field(ge=-1_000, le=1_000)], ...]] = {}


class DecoderEntry(_Entry):
    """Of emotrace_models.decoding.DecoderConfig, which has the defaults and says what they mean."""

    p0: Share
    alpha: float = Field(default=1.0, gt=0, le=1e6)
    beam: int = Field(default=10, ge=1, le=1_000)
    lag: int | None = Field(default=2, ge=0, le=10_000)
    commit: bool = False
    recombine: bool = True
    horizon: int = Field(default=128, ge=1, le=10_000)
    temperature: float = Field(default=1.0, gt=0, le=1_000)


class ViewEntry(_Entry):
    calibration: CalibrationEntry
    decoder: DecoderEntry


class BundleConfig(_Entry):
    """licence and source: of all files of the bundle, as an SPDX expression and in words."""

    format: int
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: Text
    licence: Text
    source: Text = SOURCE
    languages: tuple[Text, ...] = Field(max_length=MOST_ITEMS)
    labels: LabelEntry
    encoders: tuple[PartEntry, ...] = Field(max_length=16)
    fusion: PartEntry
    calibration: CalibrationEntry
    decoder: DecoderEntry
    views: dict[Text, ViewEntry] = Field(default={}, max_length=64)
    requires: tuple[Text, ...] = Field(default=(), max_length=16)
    files: dict[str, FileEntry] = Field(max_length=64)


def read_config(folder: Path) -> BundleConfig:
    """As read_sealed, without the digest."""
    return read_sealed(folder)[0]


def read_sealed(folder: Path) -> tuple[BundleConfig, str]:
    """The config of the bundle in `folder` and its SHA-256, if its seal is whole and it names
    proper files.

    Raises BundleMissing, BundleCorrupted.
    """
    data = _read(folder, CONFIG, "name a folder that `emotrace-train export` wrote")
    found = _read(folder, SEAL, f"if you know where the bundle is from: {sealing(folder)}")
    if found != seal_of(data):
        raise BundleCorrupted(
            f"{folder / CONFIG} is not the file that was exported, or {SEAL} is not: the SHA-256 "
            f"differs. Fetch or export the bundle again; if you changed it yourself: "
            f"{sealing(folder)}"
        )
    config = parse_config(data, folder)
    for name in config.files:
        if name not in REQUIRED and not (NAME.fullmatch(name) and name.endswith(SUFFIXES)):
            raise BundleCorrupted(
                f"{folder / CONFIG} lists {name!r}: files lie in the bundle's own folder, have "
                f"names such as tokenizer.json, and end in one of {', '.join(SUFFIXES)}; {AGAIN}"
            )
    if absent := [name for name in REQUIRED if name not in config.files]:
        raise BundleCorrupted(f"{folder / CONFIG} lists no {absent[0]}; {AGAIN}")
    return config, hashlib.sha256(data).hexdigest()


def parse_config(data: bytes, folder: Path) -> BundleConfig:
    """Raises BundleCorrupted, which names the key or the line."""
    try:
        value = strict_json.parse(data)
        if isinstance(value, dict) and value.get("format") != FORMAT:
            raise ValueError(f"format {value.get('format')}; this version reads format {FORMAT}")
        return BundleConfig.model_validate_json(data)
    except ValidationError as error:
        raise BundleCorrupted(f"{folder / CONFIG}: {_first(error)}; {AGAIN}") from error
    except ValueError as error:
        raise BundleCorrupted(f"{folder / CONFIG}: {error}; {AGAIN}") from error


def seal_of(config: bytes) -> bytes:
    """What SEAL holds for a config of these bytes: `sha256sum --check` reads it too."""
    return f"{hashlib.sha256(config).hexdigest()}  {CONFIG}\n".encode()


def seal(folder: Path) -> str:
    """Seal a config that was changed by hand; gives its SHA-256. What the bundle holds is checked
    when it is loaded. Raises BundleMissing, BundleCorrupted."""
    data = _read(folder, CONFIG, "name a bundle's folder")
    parse_config(data, folder)
    (folder / SEAL).write_bytes(seal_of(data))
    return hashlib.sha256(data).hexdigest()


def sealing(folder: Path) -> str:
    """The command that does it."""
    return f"`emotrace-serve models seal {folder}`"


def model_config(kind: registry.Kind, entry: PartEntry) -> Any:
    """The frozen config of a model. Raises UnknownName, and BadConfig, which names the setting."""
    called = f"{kind} {entry.name!r}"
    _check_range(called, entry.config)
    config_type = registry.lookup(kind, entry.name).config_type
    try:
        # JSON again: only there is a list a tuple and 1 a float, while "1" and true are neither.
        TypeAdapter(config_type).validate_json(json.dumps(entry.config), strict=True)
    except ValidationError as error:
        raise registry.BadConfig(f"{called}: {_first(error)}") from error
    except ArithmeticError as error:  # 0 heads, say, where the width is to be a multiple of them
        raise registry.BadConfig(f"{called}: no model has such sizes: {error}") from error
    return registry.configured(kind, entry.name, entry.config)


def _check_range(name: str, value: Any) -> None:
    """Raises BadConfig for what no model needs, and what would take the machine's memory."""
    if isinstance(value, int | float) and not -MOST <= value <= MOST:  # so NaN is not either
        raise registry.BadConfig(f"{name} is {value}, which is not between -{MOST} and {MOST}")
    if isinstance(value, dict | list | str) and len(value) > MOST_ITEMS:
        raise registry.BadConfig(f"{name} has {len(value)} items; at most {MOST_ITEMS} are read")
    inner = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else inner:
        _check_range(f"{name}: {key}", one)


def _read(folder: Path, name: str, cure: str) -> bytes:
    try:
        return read_at_most(folder, name, MOST_CONFIG_BYTES)
    except FileAbsent as error:
        raise BundleMissing(f"{error}; {cure}") from error
    except FileRefused as error:
        raise BundleCorrupted(f"{error}; {AGAIN}") from error


def _first(error: ValidationError) -> str:
    """The first fault: where, and what."""
    first = error.errors()[0]
    unknown = first["type"] == "extra_forbidden"
    said = "there is no such key" if unknown else first["msg"].removeprefix("Value error, ")
    return ": ".join([*([".".join(map(str, first["loc"]))] if first["loc"] else []), said])
