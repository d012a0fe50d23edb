"""The bundle: everything needed to serve, in one folder, checked before any of it is used.

    config.json          names, classes by name, models, calibration, decoder, hashes
    config.json.sha256   its seal (bundle_config.py)
    model.safetensors    weights: `encoders.<stream>.*` and `fusion.*`
    card.md              what it was trained on, its figures, what it must not be used for
    LICENSE.txt          the licence of the weights
    ...                  assets that the encoders name (a tokenizer)

Nothing else may lie there, but for a folder `report` that training leaves. Errors: BundleError and
its kinds; each message names the file and the cure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from emotrace_models import registry
from emotrace_models.bundle_config import (
    AGAIN,
    CARD,
    CONFIG,
    FORMAT,
    LICENCE,
    REQUIRED,
    SEAL,
    SOURCE,
    WEIGHTS,
    BundleConfig,
    BundleCorrupted,
    BundleError,
    BundleMissing,
    CalibrationEntry,
    DecoderEntry,
    FileEntry,
    LabelEntry,
    PartEntry,
    ViewEntry,
    model_config,
    read_sealed,
    seal_of,
)
from emotrace_models.bundle_files import read_files, read_tensors, text_of
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import Encoder
from emotrace_models.fusion import FusionModel
from emotrace_models.fusion.projection import Projection
from emotrace_models.labels import SCHEMES, LabelSet, LabelSetMismatch
from emotrace_models.types import Modality

__all__ = [
    "CARD",
    "CONFIG",
    "WEIGHTS",
    "Bundle",
    "BundleCorrupted",
    "BundleError",
    "BundleMissing",
    "View",
    "bundle_path",
    "shipped_bundles",
]

DIGITS = 12  # of the digest, that tell versions apart


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
    licence, source: of all its files, as an SPDX expression and in words.
    folder, digest: where it was read, and the SHA-256 of its config.json, which holds those of all
    its files; none of one that was made here.
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
    source: str = SOURCE
    folder: Path | None = None
    digest: str = ""

    @property
    def edition(self) -> str:
        """Tells bundles and their versions apart: `default@1f3a5c7e9b2d`."""
        return f"{self.name}@{self.digest[:DIGITS]}" if self.digest else self.name

    @property
    def key(self) -> str:
        """Tells their views apart too: `default@1f3a5c7e9b2d:common4`."""
        return f"{self.edition}:{self.labels.scheme}" if self._is_view else self.edition

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
            source=self.source,
            languages=tuple(self.languages),
            labels=LabelEntry(**asdict(self.labels)),
            encoders=tuple(_part(encoder) for encoder in self.encoders),
            fusion=_part(self.fusion),
            calibration=_calibration_entry(self.calibration),
            decoder=DecoderEntry(**asdict(self.decoder)),
            views={
                scheme: ViewEntry(
                    calibration=_calibration_entry(view.calibration),
                    decoder=DecoderEntry(**asdict(view.decoder)),
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
        sealed = (config.model_dump_json(indent=2) + "\n").encode()
        (path / CONFIG).write_bytes(sealed)
        (path / SEAL).write_bytes(seal_of(sealed))

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read and check the bundle in folder `path`. Raises BundleMissing, BundleCorrupted."""
        path = path.resolve()
        config, digest = read_sealed(path)
        files = read_files(path, config)
        try:
            tensors = read_tensors(path, files[WEIGHTS], lambda: _by_prefix(_build(config, files)))
            models = _build(config, files)
            decoder = DecoderConfig(**config.decoder.model_dump())
            requires = tuple(Modality(name) for name in config.requires)
            labels = LabelSet(**config.labels.model_dump())
            calibration = _calibration(config.calibration, labels)
            views = {name: _view(name, entry, labels) for name, entry in config.views.items()}
            for prefix, model in _by_prefix(models).items():
                own = [key for key in tensors if key.startswith(prefix)]
                model.load_state_dict({key.removeprefix(prefix): tensors[key] for key in own})
        except BundleError:
            raise
        except Exception as error:  # torch, transformers and tokenizers share no base class
            raise BundleError(f"{path / CONFIG}: {error}; {AGAIN}") from error
        return cls(
            name=config.name,
            version=config.version,
            licence=config.licence,
            source=config.source,
            languages=config.languages,
            labels=labels,
            encoders=tuple(models[0]),
            fusion=models[1],
            calibration=calibration,
            decoder=decoder,
            card=text_of(path, files, CARD),
            licence_text=text_of(path, files, LICENCE),
            assets={name: data for name, data in files.items() if name not in REQUIRED},
            requires=requires,
            views=views,
            folder=path,
            digest=digest,
        )


def bundle_path(name: str) -> Path:
    """The folder of a bundle: a path, or the name of one that ships with the package.

    Raises BundleMissing, which lists the shipped ones.
    """
    shipped = shipped_bundles()
    if name in shipped:
        return shipped[name]
    if (Path(name) / CONFIG).exists():
        return Path(name)
    raise BundleMissing(
        f"no bundle {name!r}: neither a folder with a {CONFIG} nor one of the shipped "
        f"bundles ({', '.join(shipped) or 'none'})"
    )


def shipped_bundles() -> dict[str, Path]:
    """The folders of those that ship with the package, by name."""
    folder = Path(str(resources.files("emotrace_models") / "bundles"))
    return {file.parent.name: file.parent for file in sorted(folder.glob(f"*/{CONFIG}"))}


def _part(model: Any) -> PartEntry:
    """A model's registered name and its config as plain values."""
    config = json.loads(json.dumps(asdict(model.config)))
    return PartEntry(name=registry.name_of(type(model)), config=config)


def _build(config: BundleConfig, files: Mapping[str, bytes]) -> tuple[list[Encoder], FusionModel]:
    """The models with random weights. Raises ValueError, UnknownName where they do not make sense,
    or not together."""
    encoders = [_encoder(entry, files) for entry in config.encoders]
    kind = registry.lookup("fusion", config.fusion.name)
    fusion = cast(FusionModel, kind(model_config("fusion", config.fusion)).eval())
    _check_streams(encoders, fusion)
    classes = cast(Any, fusion.config).classes
    if classes != len(config.labels.names):
        raise ValueError(f"the fusion model has {classes} classes, not {len(config.labels.names)}")
    return encoders, fusion


def _encoder(entry: PartEntry, files: Mapping[str, bytes]) -> Encoder:
    kind = registry.lookup("encoder", entry.name)
    if missing := [name for name in kind.assets if name not in files]:
        raise ValueError(f"encoder {entry.name!r} needs {', '.join(missing)}")
    assets = {name: files[name] for name in kind.assets}
    return cast(Encoder, kind(model_config("encoder", entry), assets).eval())


def _by_prefix(models: tuple[list[Encoder], FusionModel]) -> dict[str, nn.Module]:
    """By the prefix that the names of their tensors have in WEIGHTS."""
    encoders, fusion = models
    return {**{f"encoders.{one.stream}.": one for one in encoders}, "fusion.": fusion}


def _calibration_entry(calibration: Calibration) -> CalibrationEntry:
    return CalibrationEntry(
        temperatures=dict(calibration.temperatures),
        abstain_below=calibration.abstain_below,
        biases=dict(calibration.biases),
    )


def _calibration(entry: CalibrationEntry, labels: LabelSet) -> Calibration:
    """Raises ValueError where a bias is not one number a class."""
    for key, bias in entry.biases.items():
        if len(bias) != len(labels.names):
            raise ValueError(
                f"calibration: the bias of {key} has {len(bias)} numbers, and {labels.scheme} "
                f"{len(labels.names)} classes"
            )
    return Calibration(**entry.model_dump())


def _view(scheme: str, entry: ViewEntry, labels: LabelSet) -> View:
    """Raises ValueError where the scheme is none, or has a class that the bundle has not."""
    if scheme not in SCHEMES:
        raise ValueError(f"views: {scheme!r} is none of {', '.join(SCHEMES)}")
    if extra := sorted(set(SCHEMES[scheme].names) - set(labels.names)):
        raise ValueError(f"views: {scheme} has {', '.join(extra)}, which the bundle has not")
    return View(
        _calibration(entry.calibration, SCHEMES[scheme]),
        DecoderConfig(**entry.decoder.model_dump()),
    )


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
