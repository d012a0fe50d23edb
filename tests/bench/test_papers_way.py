"""The papers' way, written a second time, gives what our models give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emotrace_bench.dialogue import dialogue, utterance
from emotrace_bench.full_size import Model, build, bundled, full, tiny
from emotrace_bench.papers_network import (
    PADDED,
    LaionFront,
    PapersNetwork,
    own_stack,
    package_stack,
    padded_tokens,
)
from emotrace_bench.papers_way import PapersWay, Spoken, slots
from emotrace_bench.static_turn import StaticTurn, batch_of
from emotrace_models.context import ContextWindow
from emotrace_models.predictor import Predictor
from emotrace_models.types import UtteranceFeatures


@pytest.fixture(scope="module")
def model() -> Model:
    return build(tiny(), 0)


def test_the_full_size_is_the_papers() -> None:
    """models.md 2.3: a stack of 12,956,736 weights with its projection, 155.5 M in all."""
    sizes = full()
    assert (sizes.fusion.encoders, sizes.fusion.width, sizes.fusion.blocks) == (12, 512, 8)
    assert sizes.fusion.embedding == sizes.audio.projection == sizes.text.projection == 512
    assert (sizes.audio.depths, sizes.text.layers, sizes.text.tokens) == ((2, 2, 6, 2), 12, PADDED)


def test_slots_are_those_of_the_context_window() -> None:
    """Whoever speaks: walking back through all turns finds what the window keeps."""
    rng = np.random.default_rng(0)
    window, turns = ContextWindow.empty(), []
    for turn in range(60):
        speaker = str(rng.choice(["A", "B", "C"], p=[0.5, 0.3, 0.2]))
        vectors = [np.full(4, 2 * turn + part + 1, np.float32) for part in (0, 1)]
        turns.append(Spoken(speaker, *map(torch.from_numpy, vectors)))
        window = window.push(
            UtteranceFeatures(
                turn, speaker, dict(zip(("acoustic", "lexical"), vectors, strict=True))
            )
        )
        expected = [
            0.0 if entry.features is None else float(entry.features.streams[stream][0])
            for entry in window.context().entries
            for stream in ("acoustic", "lexical")
        ]
        assert [float(vector[0]) for vector in slots(turns)] == expected


@pytest.mark.parametrize("tokens", [0, PADDED])
def test_every_turn_has_the_predictors_posterior(model: Model, tokens: int) -> None:
    predictor = Predictor(bundled(model))
    papers = PapersWay(PapersNetwork(model), LaionFront(), tokens)
    state, logits = predictor.start(), []
    for said in dialogue(6, 1.0, 12, seed=3):
        timed = papers.turn(said)
        ((state, outcome),) = predictor.predict([(state, said)])
        np.testing.assert_allclose(timed.logits, outcome.prediction.logits, atol=2e-6)
        np.testing.assert_allclose(timed.posterior, outcome.prediction.posterior, atol=2e-6)
        logits.append(timed.logits)
    assert np.ptp(logits, axis=0).max() > 0.01  # turns differ, or equality would say little


def test_stacks_of_the_package_are_ours(model: Model) -> None:
    pytest.importorskip("xlstm", reason="pip install --no-deps xlstm==2.0.6 (make test does it)")
    prefix = "3.xlstm."
    state = {
        name.removeprefix(prefix): tensor
        for name, tensor in model.fusion.encoders.state_dict().items()
        if name.startswith(prefix)
    }
    config = model.fusion.config
    x = torch.randn(2, config.steps, config.width)
    with torch.inference_mode():
        theirs, ours = (make(model.fusion, state)(x) for make in (package_stack, own_stack))
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_without_the_package_twelve_of_ours_stand_for_it(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = [torch.randn(model.fusion.config.embedding) for _ in range(12)]
    expected = PapersNetwork(model).encode(vectors)
    real: Any = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "xlstm" else real(name)
    )
    network = PapersNetwork(model)
    assert not network.package
    for found, one in zip(network.encode(vectors), expected, strict=True):
        torch.testing.assert_close(found, one, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [0.7, 3.0, 11.0])
def test_laions_front_end_is_ours(model: Model, seconds: float) -> None:
    said = utterance(0, "A", seconds, 10, np.random.default_rng(1))
    assert said.samples is not None
    if seconds > 10.0:  # LAION crops at random, here from the start; ours takes the middle
        said = utterance(0, "A", 10.0, 10, np.random.default_rng(1))
        assert said.samples is not None
    ours = model.audio.front(said)
    assert ours is not None
    theirs = LaionFront()(said.samples).numpy()
    loud = ours > -60.0  # dB; both round what is next to nothing
    assert loud.mean() > 0.3
    np.testing.assert_allclose(theirs[loud], ours[loud], atol=0.02)


def test_padding_is_marked() -> None:
    ids, mask = padded_tokens([0, 7, 2], 5)
    assert (ids.tolist(), mask.tolist()) == ([0, 7, 2, 1, 1], [1, 1, 1, 0, 0])
    assert padded_tokens([0, 7, 2], 0)[0].tolist() == [0, 7, 2]


def test_the_static_turn_is_the_papers_network(model: Model) -> None:
    batch = batch_of(model, 3, 0.5, 10, seed=2)
    network = PapersNetwork(model)
    with torch.inference_mode():
        found = StaticTurn(model).eval()(batch)
    assert float(found.std(0).max()) > 1e-3
    for place, logits in enumerate(found):
        heard = network.hear(batch.mel[place])
        read = network.read(*padded_tokens(batch.ids[place].tolist(), PADDED))
        expected = network.classify(network.encode([heard, read, *batch.context[place]]), heard)
        torch.testing.assert_close(logits, expected, atol=2e-6, rtol=0)


class Looks(TorchDispatchMode):
    """Notes every operation that looks at a value, which a CUDA graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bf16", [False, True])
def test_the_static_turn_looks_at_no_value(model: Model, bf16: bool) -> None:
    batch = batch_of(model, 2, 0.5, 10, seed=2)
    turn = StaticTurn(model.in_bf16() if bf16 else model).eval()
    looks = Looks()
    with torch.inference_mode():
        first = turn(batch)  # what is made once may look
        with looks:
            again = turn(batch)
        assert looks.found == []
        with looks:
            assert bool((first == again).all())
    assert looks.found  # it would have been noticed
