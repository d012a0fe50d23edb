"""A lexical encoder whose network is an ONNX graph with 8-bit weights, run by onnxruntime.

`emotrace-train fast` makes the graph of an encoder's `forward`: ids [batch, token] and lengths
[batch] in, features [batch, step, width] and steps [batch] out.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.layers.digests import weights_digest
from emotrace_models.types import Modality, Utterance

IDS, LENGTHS, FEATURES, STEPS = "ids", "lengths", "features", "steps"
WEIGHTS = "emotrace.weights"  # of the graph's metadata: `weights_digest` of what it was made from


class GraphMismatch(ValueError):
    """A file that is no graph of this encoder's weights."""


class OnnxText(NetworkEncoder):
    """Reads as `encoder` does; its network is `graph`, and its weights are not kept.

    Raises GraphMismatch for a graph that was made from other weights.
    """

    modality: ClassVar[Modality] = Modality.LEXICAL
    pads: ClassVar[bool] = True

    def __init__(self, encoder: NetworkEncoder, graph: bytes) -> None:
        super().__init__(encoder.config, encoder.asset_files)
        self.config, self.width = encoder.config, encoder.width
        # The same without memory for weights: what is needed is its tokenizer and its front end.
        with torch.device("meta"):
            reader = type(encoder)(encoder.config, encoder.asset_files)
        self._front = reader.front
        self._session = session(graph)
        made_from = self._session.get_modelmeta().custom_metadata_map.get(WEIGHTS)
        if made_from != weights_digest(encoder):
            raise GraphMismatch("the graph was made from other weights than the encoder has")

    @classmethod
    def small(cls) -> NoReturn:
        """Raises TypeError: it is made of an encoder and its graph, not of a config."""
        raise TypeError("a graph has no config of its own")

    @property
    def numerics(self) -> str:
        return "int8 (onnxruntime)"

    def front(self, utterance: Utterance) -> NDArray[Any] | None:
        return self._front(utterance)

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Each text is run by itself: the graph takes the scale of its 8-bit numbers from all that
        it is given, so a batch would change what each of its texts gives."""
        found = [
            self.run(row[None, :length].numpy(), np.array([length]))
            for row, length in zip(fronts, lengths.tolist(), strict=True)
        ]
        steps = torch.tensor([int(count[0]) for _, count in found])
        features = torch.zeros(len(found), int(steps.max()), self.width)
        for row, (values, _) in zip(features, found, strict=True):
            row[: values.shape[1]] = torch.from_numpy(values[0])
        return features, steps

    def run(self, ids: NDArray[Any], lengths: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Features [batch, step, width] float32 and steps [batch]."""
        features, steps = self._session.run([FEATURES, STEPS], {IDS: ids, LENGTHS: lengths})
        return features, steps


def session(graph: bytes) -> Any:
    """An onnxruntime session on one thread that does not spin. Raises GraphMismatch where
    onnxruntime cannot read the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises classes of its own that share no base
        raise GraphMismatch(f"onnxruntime cannot read the graph: {error}") from error
