"""`vectors`: what an encoder of a bundle makes of a manifest's records, as a file of vectors.

A recipe reads it by `[streams.NAME] file = ...`. Models that take streams of one width only
(GatedxLSTM) need the narrower ones widened: see `widened`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.types import FloatArray
from emotrace_training.extract import CACHE, Extractor
from emotrace_training.frame_sources import frame_source
from emotrace_training.manifests import read_manifest
from emotrace_training.telling import TrainingError, named_errors


class NoVectors(TrainingError):
    """There is nothing to write, or nothing that fits."""


def widened(vectors: FloatArray, width: int) -> FloatArray:
    """[record, own] -> [record, width]: each value as often as it fits, over the root of that.

    Lengths and angles stay, and nothing is fitted. Raises NoVectors where `width` is no multiple.
    """
    times, rest = divmod(width, vectors.shape[1])
    if rest or not times:
        raise NoVectors(f"width {width} is no multiple of {vectors.shape[1]}, the encoder's")
    result: FloatArray = np.repeat(vectors, times, axis=1) / np.float32(np.sqrt(times))
    return result


def vectors_of(
    source: str, stream: str, manifest: Path, cache: Path
) -> tuple[NDArray[np.str_], FloatArray]:
    """Ids and vectors [record, width] of the records that have any. Raises NoVectors and the named
    errors of bundles, manifests and encoders."""
    bundle = Bundle.load(bundle_path(source))
    encoders = {encoder.stream: encoder for encoder in bundle.encoders}
    if stream not in encoders:
        raise NoVectors(f"bundle {source} has no stream {stream!r}; it has {', '.join(encoders)}")
    records = read_manifest(manifest)
    found = Extractor(records, cache, frame_source(None)).run(encoders[stream], fronts=False)
    there = {
        record.id: features
        for record, features in zip(records, found.features, strict=True)
        if features is not None
    }
    if not there:
        raise NoVectors(f"{manifest}: no record has anything {encoders[stream].modality}")
    if len(there) < sum(features is not None for features in found.features):
        raise NoVectors(f"{manifest}: two records have one id; prepare one corpus at a time")
    rows = list(there.values())
    if len({row.size for row in rows}) > 1:
        raise NoVectors(f"stream {stream} of {source} gives sequences, not vectors")
    return np.array(list(there)), np.stack([row.reshape(-1) for row in rows])


def command(
    bundle: Annotated[str, typer.Argument(help="a bundle's name or folder")],
    stream: Annotated[str, typer.Argument(help="acoustic, lexical, ...")],
    manifest: Annotated[Path, typer.Option(help="records of one corpus")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the .npz file to write")],
    width: Annotated[
        int | None, typer.Option(help="repeat each value up to this width; default: as it is")
    ] = None,
    cache: Annotated[Path, typer.Option(help="where features are kept")] = CACHE,
) -> None:
    """Write what a bundle's encoder makes of records: arrays `id` and `values`, for `file`."""
    with named_errors():
        ids, values = vectors_of(bundle, stream, manifest, cache)
        values = values if width is None else widened(values, width)
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(out, id=ids, values=values)
        typer.echo(f"{out}: {len(ids)} vectors of {values.shape[1]} values")
