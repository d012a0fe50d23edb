"""Silero's voice detector as a graph over rows: many channels, each with a state, in one run.

The network's own file takes frames of one channel: its first axis is time. Here the same weights
are laid out so that the first axis is channels, and its convolutions over a few steps are matrix
products, which cost a quarter. A row's result has the same bits in any company; it differs from
that of Silero's file by rounding (1e-6).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emotrace_models.types import FloatArray

INPUT_SAMPLES = 576  # the end of the frame before, and the frame
STATE_WIDTH = 128
REFLECTED = 64  # samples mirrored at the end
WINDOW, HOP, STEPS = 256, 128, 4  # of the spectrum
BINS = WINDOW // 2 + 1
KERNEL = 3
STRIDES = (1, 2, 2, 1)  # of the convolutions after it

BASIS = "encoder.feature_extractor.forward_basis_buffer"
LAYERS = tuple(f"encoder.conv_layers.{number}" for number in range(len(STRIDES)))
OUTPUT = "decoder.conv1d"


class GraphUnknown(ValueError):
    """The file is not the Silero network that this layout is of."""


def row_graph(path: Path) -> bytes:
    """An ONNX model: input [row, 576], h and c [1, row, 128] -> speech_probs [row], hn, cn.

    path: Silero VAD v6. Raises GraphUnknown, or what onnx raises for a file that is no model.
    """
    source = onnx.load(path).graph
    weights = {one.name: numpy_helper.to_array(one) for one in source.initializer}
    lstm = next((node for node in source.node if node.op_type == "LSTM"), None)
    wanted = {BASIS, f"{OUTPUT}.weight", f"{OUTPUT}.bias"}
    wanted |= {f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}
    inputs = tuple(one.name for one in source.input)
    if lstm is None or wanted - weights.keys() or inputs != ("input", "h", "c"):
        raise GraphUnknown(f"{path.name} takes {inputs}; expected Silero VAD v6")
    graph = _Graph(weights).build([weights[name] for name in lstm.input[1:4]])
    return bytes(graph.SerializeToString())


class _Graph:
    def __init__(self, weights: dict[str, FloatArray]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def build(self, lstm: list[FloatArray]) -> onnx.ModelProto:
        x = self._step("Pad", "input", self._whole(0, 0, 0, REFLECTED), mode="reflect")
        x = self._convolutions(self._spectrum(x))
        x = self._step("Transpose", x, perm=[1, 0, 2])  # [step 1, row, feature]
        constants = [self._constant(weight) for weight in lstm]
        self._nodes.append(
            helper.make_node(
                "LSTM", [x, *constants, "", "h", "c"], ["y", "hn", "cn"], hidden_size=STATE_WIDTH
            )
        )
        x = self._step("Relu", self._step("Reshape", "y", self._whole(-1, STATE_WIDTH)))
        x = self._step("MatMul", x, self._constant(self._weights[f"{OUTPUT}.weight"][0]))
        x = self._step("Add", x, self._constant(self._weights[f"{OUTPUT}.bias"]))
        x = self._step("Reshape", self._step("Sigmoid", x), self._whole(-1))
        self._nodes.append(helper.make_node("Identity", [x], ["speech_probs"]))
        state = (1, "row", STATE_WIDTH)
        graph = helper.make_graph(
            self._nodes,
            "voice",
            [_value("input", ["row", INPUT_SAMPLES]), _value("h", state), _value("c", state)],
            [_value("speech_probs", ["row"]), _value("hn", state), _value("cn", state)],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _spectrum(self, x: str) -> str:
        """[row, sample] -> magnitudes [row, step, bin]."""
        frames = [
            self._step("Unsqueeze", self._slice(x, 1, first, first + WINDOW), self._whole(1))
            for first in range(0, STEPS * HOP, HOP)
        ]
        x = self._step("Reshape", self._step("Concat", *frames, axis=1), self._whole(-1, WINDOW))
        x = self._step("MatMul", x, self._constant(self._weights[BASIS][:, 0].T))
        parts = [self._slice(x, 1, first, first + BINS) for first in (0, BINS)]
        squares = [self._step("Mul", part, part) for part in parts]
        x = self._step("Sqrt", self._step("Add", *squares))
        return self._step("Reshape", x, self._whole(-1, STEPS, BINS))

    def _convolutions(self, x: str) -> str:
        """[row, step, feature] -> [row, 1, feature]: each a product over its neighbourhoods."""
        steps = STEPS
        for layer, stride in zip(LAYERS, STRIDES, strict=True):
            weight = self._weights[f"{layer}.weight"]  # [output, input, tap]
            outputs, inputs, _ = weight.shape
            steps = (steps - 1) // stride + 1
            x = self._step("Pad", x, self._whole(0, 1, 0, 0, 1, 0))
            taps = [
                self._slice(x, 1, tap, tap + stride * (steps - 1) + 1, stride)
                for tap in range(KERNEL)
            ]
            x = self._step("Concat", *taps, axis=2)
            x = self._step("Reshape", x, self._whole(-1, KERNEL * inputs))
            x = self._step(
                "Gemm",
                x,
                self._constant(weight.transpose(2, 1, 0).reshape(-1, outputs)),
                self._constant(self._weights[f"{layer}.bias"]),
            )
            x = self._step("Reshape", self._step("Relu", x), self._whole(-1, steps, outputs))
        return x

    def _slice(self, x: str, axis: int, first: int, end: int, step: int = 1) -> str:
        return self._step("Slice", x, *(self._whole(n) for n in (first, end, axis, step)))

    def _step(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _whole(self, *numbers: int) -> str:
        return self._constant(np.array(numbers, dtype=np.int64))

    def _constant(self, values: NDArray[np.generic]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
