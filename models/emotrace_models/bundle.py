"""The bundle: everything needed to serve, in one folder, checked before any of it is used.

    config.json          names, classes by name, models, calibration, decoder, hashes
    model.safetensors    weights: `encoders.<stream>.*` and `fusion.*`
    card.md              what it was trained on, its figures, what it must not be used for
    LICENSE.txt          the licence of the weights
    ...                  assets that the encoders name (a tokenizer)

Errors: BundleError and its kinds; each message names the file and the cure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from emotrace_models import registry
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import Encoder
from emotrace_models.fusion import FusionModel
from emotrace_models.fusion.projection import Projection
from emotrace_models.labels import SCHEMES, LabelSet, LabelSetMismatch
from emotrace_models.types import Modality

FORMAT = 1
CONFIG, WEIGHTS, CARD, LICENCE = "config.json", "model.safetensors", "card.md", "LICENSE.txt"


class BundleError(ValueError):
    """A bundle that cannot be used."""


class BundleMissing(BundleError):
    """There is no such bundle, or it lacks a file."""


class BundleCorrupted(BundleError):
    """A file is not the one that was exported."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Entry):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class PartEntry(_Entry):
    name: str
    config: dict[str, Any]


class LabelEntry(_Entry):
    scheme: str
    names: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]


class CalibrationEntry(_Entry):
    temperatures: dict[str, float]
    abstain_below: float
    biases: dict[str, tuple[float, ...]] = {}


class ViewEntry(_Entry):
    calibration: CalibrationEntry
    decoder: dict[str, Any]


class BundleConfig(_Entry):
    """config.json. Unknown keys are refused: nothing in a bundle may ask for more than this."""

    format: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str
    licence: str
    languages: tuple[str, ...]
    labels: LabelEntry
    encoders: tuple[PartEntry, ...]
    fusion: PartEntry
    calibration: CalibrationEntry
    decoder: dict[str, Any]
    views: dict[str, ViewEntry] = {}
    requires: tuple[str, ...] = ()
    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What makes estimates of a bundle's logits when only some of its classes are asked for."""

    calibration: Calibration
    decoder: DecoderConfig


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle in memory: models in evaluation mode, and what makes estimates of their logits.

    requires: modalities that every utterance must have; without the others the model was trained
    to do, and an estimate says what it rests on.
    views: smaller label sets that it may be asked for, by scheme (`projected`).
    """

    name: str
    version: str
    licence: str
    languages: tuple[str, ...]
    labels: LabelSet
    encoders: tuple[Encoder, ...]
    fusion: FusionModel
    calibration: Calibration
    decoder: DecoderConfig
    card: str
    licence_text: str
    assets: Mapping[str, bytes]
    requires: tuple[Modality, ...] = ()
    views: Mapping[str, View] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Tells the bundle and its views apart: `default`, `default:common4`."""
        return f"{self.name}:{self.labels.scheme}" if self._is_view else self.name

    @property
    def _is_view(self) -> bool:
        return isinstance(self.fusion, Projection)

    @property
    def schemes(self) -> tuple[str, ...]:
        """The label sets that it can be asked for, its own first."""
        return (self.labels.scheme, *self.views)

    def projected(self, scheme: str) -> Bundle:
        """The same models under another of its label sets. Raises LabelSetMismatch."""
        if scheme == self.labels.scheme:
            return self
        if scheme not in self.views:
            raise LabelSetMismatch(
                f"the bundle {self.name!r} has the label sets {', '.join(self.schemes)}, "
                f"not {scheme!r}"
            )
        labels, view = SCHEMES[scheme], self.views[scheme]
        columns = [self.labels.index(name) for name in labels.names]
        return replace(
            self,
            labels=labels,
            fusion=Projection(self.fusion, columns).eval(),
            calibration=view.calibration,
            decoder=view.decoder,
            views={},
        )

    def save(self, path: Path) -> None:
        """Write the bundle to folder `path`, which is made if it is not there.

        Raises ValueError for a view, which is written with the bundle that it belongs to, and for
        the fast form of a bundle, which is made again from the exact one.
        """
        if self._is_view:
            raise ValueError(f"{self.key} is a view; save the bundle {self.name!r} itself")
        numerics = {*(encoder.numerics for encoder in self.encoders), self.fusion.numerics}
        if low := sorted(numerics - {"fp32"}):
            raise ValueError(f"{self.name} holds {', '.join(low)}; save the bundle of fp32 itself")
        tensors: dict[str, Tensor] = {}
        for encoder in self.encoders:
            for key, tensor in encoder.state_dict().items():
                tensors[f"encoders.{encoder.stream}.{key}"] = tensor.contiguous()
        for key, tensor in self.fusion.state_dict().items():
            tensors[f"fusion.{key}"] = tensor.contiguous()
        files = {
            WEIGHTS: save_tensors(tensors),
            CARD: self.card.encode(),
            LICENCE: self.licence_text.encode(),
            **self.assets,
        }
        config = BundleConfig(
            format=FORMAT,
            name=self.name,
            version=self.version,
            licence=self.licence,
            languages=self.languages,
            labels=LabelEntry(**asdict(self.labels)),
            encoders=tuple(_part(encoder) for encoder in self.encoders),
            fusion=_part(self.fusion),
            calibration=_calibration_entry(self.calibration),
            decoder=asdict(self.decoder),
            views={
                scheme: ViewEntry(
                    calibration=_calibration_entry(view.calibration), decoder=asdict(view.decoder)
                )
                for scheme, view in self.views.items()
            },
            requires=tuple(self.requires),
            files={
                name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
                for name, data in files.items()
            },
        )
        path.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (path / name).write_bytes(data)
        (path / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read and check the bundle in folder `path`. Raises BundleMissing, BundleCorrupted."""
        config = _read_config(path)
        files = {name: _read_checked(path, name, entry) for name, entry in config.files.items()}
        for name in (WEIGHTS, CARD, LICENCE):
            if name not in files:
                raise BundleCorrupted(f"{path / CONFIG} lists no {name}; export the bundle again")
        try:
            tensors = load_tensors(files[WEIGHTS])
        except SafetensorError as error:
            raise BundleCorrupted(f"{path / WEIGHTS} is not a safetensors file: {error}") from error
        try:
            encoders = tuple(_build_encoder(entry, files) for entry in config.encoders)
            fusion = cast(FusionModel, _build("fusion", config.fusion))
            decoder = DecoderConfig(**config.decoder)
            requires = tuple(Modality(name) for name in config.requires)
            labels = LabelSet(**config.labels.model_dump())
            calibration = _calibration(config.calibration, labels)
            views = {name: _view(name, entry, labels) for name, entry in config.views.items()}
            _check_streams(encoders, fusion)
        except (registry.UnknownName, registry.BadConfig, TypeError, ValueError) as error:
            raise BundleError(f"{path / CONFIG}: {error}") from error
        for encoder in encoders:
            _load_state(encoder, tensors, f"encoders.{encoder.stream}.", path)
        _load_state(fusion, tensors, "fusion.", path)
        if tensors:
            raise BundleCorrupted(f"{path / WEIGHTS}: tensors of no model: {sorted(tensors)[:3]}")
        return cls(
            name=config.name,
            version=config.version,
            licence=config.licence,
            languages=config.languages,
            labels=labels,
            encoders=encoders,
            fusion=fusion,
            calibration=calibration,
            decoder=decoder,
            card=files[CARD].decode(),
            licence_text=files[LICENCE].decode(),
            assets={n: d for n, d in files.items() if n not in (WEIGHTS, CARD, LICENCE)},
            requires=requires,
            views=views,
        )


def bundle_path(name: str) -> Path:
    """The folder of a bundle: a path, or the name of one that ships with the package.

    Raises BundleMissing, which lists the shipped ones.
    """
    shipped = Path(str(resources.files("emotrace_models") / "bundles"))
    for candidate in (shipped / name, Path(name)):
        if (candidate / CONFIG).is_file():
            return candidate
    names = sorted(p.parent.name for p in shipped.glob(f"*/{CONFIG}"))
    raise BundleMissing(
        f"no bundle {name!r}: neither a folder with a {CONFIG} nor one of the shipped "
        f"bundles ({', '.join(names) or 'none'})"
    )


def _part(model: Any) -> PartEntry:
    """A model's registered name and its config as plain values."""
    config = json.loads(json.dumps(asdict(model.config)))
    return PartEntry(name=registry.name_of(type(model)), config=config)


def _build(kind: registry.Kind, entry: PartEntry, *extra: Any) -> Any:
    config = registry.configured(kind, entry.name, entry.config)
    return registry.lookup(kind, entry.name)(config, *extra).eval()


def _build_encoder(entry: PartEntry, files: Mapping[str, bytes]) -> Encoder:
    needed = registry.lookup("encoder", entry.name).assets
    if missing := [name for name in needed if name not in files]:
        raise ValueError(f"encoder {entry.name!r} needs {', '.join(missing)}")
    return cast(Encoder, _build("encoder", entry, {name: files[name] for name in needed}))


def _calibration_entry(calibration: Calibration) -> CalibrationEntry:
    return CalibrationEntry(
        temperatures=dict(calibration.temperatures),
        abstain_below=calibration.abstain_below,
        biases=dict(calibration.biases),
    )


def _calibration(entry: CalibrationEntry, labels: LabelSet) -> Calibration:
    """Raises ValueError where a bias is not one number a class, or a temperature not above 0."""
    for key, bias in entry.biases.items():
        if len(bias) != len(labels.names):
            raise ValueError(
                f"calibration: the bias of {key} has {len(bias)} numbers, and {labels.scheme} "
                f"{len(labels.names)} classes"
            )
    for key, temperature in entry.temperatures.items():
        if temperature <= 0:
            raise ValueError(f"calibration: the temperature of {key} is not above 0")
    return Calibration(**entry.model_dump())


def _view(scheme: str, entry: ViewEntry, labels: LabelSet) -> View:
    """Raises ValueError where the scheme is none, or has a class that the bundle has not."""
    if scheme not in SCHEMES:
        raise ValueError(f"views: {scheme!r} is none of {', '.join(SCHEMES)}")
    if extra := sorted(set(SCHEMES[scheme].names) - set(labels.names)):
        raise ValueError(f"views: {scheme} has {', '.join(extra)}, which the bundle has not")
    return View(_calibration(entry.calibration, SCHEMES[scheme]), DecoderConfig(**entry.decoder))


def _check_streams(encoders: Sequence[Encoder], fusion: FusionModel) -> None:
    """Raises ValueError unless the encoders give just what the fusion model takes."""
    given = {encoder.stream: (encoder.modality, encoder.width) for encoder in encoders}
    taken = {name: (spec.modality, spec.width) for name, spec in fusion.streams.items()}
    if given != taken or len(given) < len(encoders):
        raise ValueError(
            f"the encoders give {_listed(given)}, but the fusion model takes {_listed(taken)}"
        )


def _listed(streams: Mapping[str, tuple[Modality, int]]) -> str:
    return ", ".join(f"{n} ({m.value}, width {w})" for n, (m, w) in streams.items()) or "nothing"


def _read_config(path: Path) -> BundleConfig:
    file = path / CONFIG
    if not file.is_file():
        raise BundleMissing(f"{file} is not there; name a folder `emotrace-train export` wrote")
    try:
        config = BundleConfig.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleCorrupted(f"{file}: {where}: {first['msg']}") from error
    if config.format != FORMAT:
        raise BundleError(f"{file}: format {config.format}; this version reads format {FORMAT}")
    return config


def _read_checked(path: Path, name: str, entry: FileEntry) -> bytes:
    file = path / name
    if Path(name).name != name or file.is_symlink():
        raise BundleCorrupted(f"{file}: a bundle's files lie in its own folder and are not links")
    if not file.is_file():
        raise BundleMissing(f"{file} is missing; export or fetch the bundle again")
    if file.stat().st_size != entry.size:
        raise BundleCorrupted(f"{file} has {file.stat().st_size} bytes, not {entry.size}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleCorrupted(f"{file} is not the file that was exported (SHA-256 differs)")
    return data


def _load_state(model: Any, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Take the tensors under `prefix` out of `tensors` and into `model`."""
    own = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
    for key, tensor in own.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BundleCorrupted(f"{path / WEIGHTS}: {prefix}{key} holds NaN or infinity")
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise BundleCorrupted(f"{path / WEIGHTS} does not fit {CONFIG}: {error}") from error
