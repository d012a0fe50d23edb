"""The text towers of a bundle as ONNX graphs with 8-bit weights, checked against the towers."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from torch.export import Dim

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.onnx_text import (
    FEATURES,
    IDS,
    LENGTHS,
    STEPS,
    WEIGHTS,
    OnnxText,
    session,
)
from emotrace_models.encoders.subwords import MARKS, PAD
from emotrace_models.layers.digests import weights_digest
from emotrace_training.telling import TrainingError

MOST = 1e-4  # relative difference of the graph in float32 from the tower
SHORTEST = MARKS + 1  # tokens


class GraphRefused(TrainingError):
    """A graph that does not say what its tower says."""


@dataclass(frozen=True, slots=True, eq=False)
class TextGraph:
    """graph: with 8-bit weights, as OnnxText reads it. float32, int8: relative differences of
    the features from the tower's, over made-up texts."""

    graph: bytes
    float32: float
    int8: float


class _Forward(nn.Module):
    """`forward` with two outputs and nothing else, which is what an exporter takes."""

    def __init__(self, encoder: NetworkEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, steps = self.encoder(ids, lengths)
        return features, steps


def text_graph(encoder: NetworkEncoder) -> TextGraph:
    """The graph of a text tower. Raises GraphRefused where it gives something else."""
    with tempfile.TemporaryDirectory() as folder:
        exact, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        _export(encoder, exact)
        float32 = _difference(encoder, session(exact.read_bytes()), alone=False)
        if not float32 <= MOST:
            raise GraphRefused(
                f"the graph of {encoder.stream} differs by {float32:.1e} from its tower, more than "
                f"{MOST:.0e}: this version of torch exports it wrongly"
            )
        # One scale a row of a weight: half as far from the tower, and as quick.
        quantize_dynamic(exact, small, weight_type=QuantType.QInt8, per_channel=True)
        model = onnx.load(small)
        model.metadata_props.add(key=WEIGHTS, value=weights_digest(encoder))
        graph: bytes = model.SerializeToString()
    int8 = _difference(encoder, OnnxText(encoder, graph), alone=True)
    if not np.isfinite(int8):
        raise GraphRefused(f"the 8-bit graph of {encoder.stream} gives NaN or infinity")
    return TextGraph(graph, float32, int8)


def _export(encoder: NetworkEncoder, path: Path) -> None:
    ids, lengths = torch.full((2, 5), PAD + 1), torch.tensor([5, 4])
    batch = Dim("batch", min=1)
    token = Dim("token", min=SHORTEST, max=_longest(encoder))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own, of its own parts
        torch.onnx.export(
            _Forward(encoder),
            (ids, lengths),
            path,
            input_names=[IDS, LENGTHS],
            output_names=[FEATURES, STEPS],
            dynamic_shapes={IDS: {0: batch, 1: token}, LENGTHS: {0: batch}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    # Shapes that the exporter noted before it transposed weights; the quantiser believes them.
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    onnx.save(model, path)


def _difference(encoder: NetworkEncoder, graph: Any, alone: bool) -> float:
    """Root of the squared differences over that of the squares, over all features; infinite where
    there is a different number of steps."""
    apart = size = 0.0
    for ids, lengths in _texts(encoder):
        rows = [slice(i, i + 1) for i in range(len(ids))] if alone else [slice(None)]
        for row in rows:
            said = ids[row, : lengths[row].max()]
            with torch.inference_mode():
                features, steps = encoder(torch.from_numpy(said), torch.from_numpy(lengths[row]))
            if alone:
                found, count = graph.run(said, lengths[row])
            else:
                found, count = graph.run([FEATURES, STEPS], {IDS: said, LENGTHS: lengths[row]})
            if not np.array_equal(steps.numpy(), count):
                return float("inf")
            apart += float(np.square(features.numpy() - found).sum())
            size += float(features.square().sum())
    return math.sqrt(apart / size)


def _texts(encoder: NetworkEncoder) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Made-up ids [text, token] and lengths: the shortest, the longest, several side by side."""
    rng = np.random.default_rng(0)
    longest = min(_longest(encoder), encoder.config.tokens)
    for lengths in ([SHORTEST], [longest], [longest // 2, SHORTEST, longest // 3 + SHORTEST]):
        size = (len(lengths), max(lengths))
        yield rng.integers(PAD + 1, encoder.config.vocabulary, size), np.array(lengths)


def _longest(encoder: NetworkEncoder) -> int:
    """Tokens that the table of positions has rows for."""
    return int(encoder.config.positions) - PAD - 1
