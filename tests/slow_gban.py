"""GBAN for one utterance without padding, a step at a time: models.md sections 5.2 to 5.4, 5.8."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.fusion.gban import GBAN
from emotrace_models.layers.stream_reader import StreamReader


def slow_pool(x: list[Tensor]) -> list[Tensor]:
    return [torch.maximum(x[2 * i], x[2 * i + 1]) for i in range(len(x) // 2)]


def slow_speech(reader: StreamReader, x: Tensor) -> list[Tensor]:
    steps = list(x)
    for conv in reader.convolutions.convolutions:
        width = conv.kernel_size[0]
        steps = slow_pool(
            [
                F.relu(sum(conv.weight[:, :, k] @ steps[i + k] for k in range(width)) + conv.bias)
                for i in range(len(steps) - width + 1)
            ]
        )
    return steps


def slow_text(reader: StreamReader, x: Tensor) -> list[Tensor]:
    found = []
    for conv in reader.convolutions.convolutions:
        width = conv.kernel_size[0]
        left = (width - 1) // 2
        nothing = [torch.zeros_like(x[0])]
        steps = nothing * left + list(x) + nothing * (width - 1 - left)
        found.append(
            slow_pool(
                [
                    F.relu(
                        sum(conv.weight[:, :, k] @ steps[i + k] for k in range(width)) + conv.bias
                    )
                    for i in range(len(x))
                ]
            )
        )
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def slow_lstm(lstm: Any, steps: list[Tensor], suffix: str) -> list[Tensor]:
    """Outputs in the order of reading."""
    inner, recurrent = (
        getattr(lstm, f"weight_ih_l0{suffix}"),
        getattr(lstm, f"weight_hh_l0{suffix}"),
    )
    weights, bias = inner[:, :-1], inner[:, -1]
    h = c = torch.zeros(recurrent.shape[1])
    outputs = []
    for x in steps[::-1] if suffix else steps:
        i, f, g, o = (weights @ x + bias + recurrent @ h).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return outputs


def slow_bilstm(lstm: Any, steps: list[Tensor], last: str) -> tuple[list[Tensor], Tensor]:
    forward = slow_lstm(lstm, steps, "")
    if not lstm.bidirectional:
        return forward, forward[-1]
    backward = slow_lstm(lstm, steps, "_reverse")[::-1]
    joined = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    return joined, joined[-1] if last == "position" else torch.cat([forward[-1], backward[0]])


def slow_alignment(model: GBAN, s: list[Tensor], t: list[Tensor]) -> tuple[Tensor, Tensor]:
    def score(i: int, j: int, direction: int) -> Tensor:
        if model.config.score == "additive":
            return (model.alignment.scales[:, direction] * (s[i] + t[j]).tanh()).sum()
        dot = s[i] @ t[j]
        return dot.tanh() if model.config.score == "tanh_dot" else dot / math.sqrt(len(s[i]))

    alpha = [torch.stack([score(i, j, 0) for i in range(len(s))]).softmax(0) for j in range(len(t))]
    beta = [torch.stack([score(i, j, 1) for j in range(len(t))]).softmax(0) for i in range(len(s))]
    return torch.stack(alpha), torch.stack(beta)


def slow_gate(gate: Any, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    z = (gate.gate.weight @ torch.cat([first, second])).sigmoid()
    p = (gate.first.weight @ first).tanh(), (gate.second.weight @ second).tanh()
    return z * p[0] + (1 - z) * p[1], z


def slow_attention(model: GBAN, s: list[Tensor], t: list[Tensor]) -> Tensor:
    a = model.attention
    joined = []
    for word in t:
        scores = [
            a.scale.weight[0]
            @ (a.first.weight @ step + a.second.weight @ word + a.second.bias).tanh()
            for step in s
        ]
        shares = torch.stack(scores).softmax(0)
        joined.append(torch.cat([sum(w * step for w, step in zip(shares, s, strict=True)), word]))
    outputs, _ = slow_bilstm(model.reader.lstm, joined, "final")
    return torch.stack(outputs).amax(0)


def slow_logits(model: GBAN, x: dict[str, Tensor]) -> Tensor:
    config, readers = model.config, model.readers
    v: dict[str, Tensor] = {}
    if "acoustic" in model.streams:
        s, v["h_s"] = slow_bilstm(
            readers["acoustic"].lstm.lstm,
            slow_speech(readers["acoustic"], x["acoustic"]),
            config.last,
        )
    if "lexical" in model.streams:
        t, v["h_t"] = slow_bilstm(
            readers["lexical"].lstm.lstm,
            slow_text(readers["lexical"], x["lexical"]),
            config.last,
        )
    if config.aligned:
        alpha, beta = slow_alignment(model, s, t)
        v["a_s"] = (alpha @ torch.stack(s)).mean(0)
        v["a_t"] = (beta @ torch.stack(t)).mean(0)
    pair = [v[name] for name in config.vectors]
    if config.fusion == "ggf":
        fused = slow_gate(model.gates["aligned"], v["a_s"], v["a_t"])[0]
        fused = fused + slow_gate(model.gates["last"], v["h_s"], v["h_t"])[0]
    elif config.fusion == "single":
        fused = v[config.single]
    elif config.fusion == "concat1":
        fused = torch.cat(pair)
    elif config.fusion == "concat2":
        fused = torch.cat([v["a_s"], v["a_t"], v["h_s"], v["h_t"]])
    elif config.fusion == "tfl":
        one = torch.tensor([config.tfl_pad])
        fused = torch.outer(torch.cat([pair[0], one]), torch.cat([pair[1], one])).flatten()
    elif config.fusion == "gmu":
        fused = slow_gate(model.gates[config.fusion_inputs], pair[0], pair[1])[0]
    else:
        fused = slow_attention(model, s, t)
    return model.head[3](model.head[0](fused).relu())
