"""The profile `fast`: the same bundle with less precision, which says so and stays near."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import toy_bundle
from papers import PAPERS, paper_bundle
from PIL import Image
from streams import random_inputs

from emotrace_models import profiles
from emotrace_models.bundle import Bundle
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.compact_acoustic import CompactAcoustic
from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.predictor import Predictor
from emotrace_models.profiles import FastUnavailable, describe, fast, graph_name, profiled
from emotrace_models.types import Frame, Modality, Prediction, Transcript, Utterance
from emotrace_training.fast_form import with_graphs

NEAR = 0.02  # of a posterior, on random weights
INT8 = "int8 (onnxruntime)"
COMPUTES = {
    "gated_xlstm": {"acoustic": "bf16", "lexical": INT8, "fusion": "fp32"},
    "dual_stream": {"spectrogram": "fp32", "acoustic": "bf16", "fusion": "fp32"},
    "gban": {"acoustic": "fp32", "lexical": "fp32", "fusion": "fp32"},
    "mlcct": {"acoustic": "bf16", "lexical": INT8, "fusion": "fp32"},
    "tucker": {"acoustic": "fp32", "facial": "bf16", "fusion": "fp32"},
}
TEXTS = ("well look who it is", "no", "I did not say that, did I?", "oh", "that is all there is")


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def utterance(index: int) -> Utterance:
    rng = np.random.default_rng(index)
    length = 6_000 + 3_000 * index
    samples = rng.normal(0, 0.1, length).astype(np.float32)
    frames = tuple(Frame(4_000 * i, picture(10 * index + i)) for i in range(3))
    said = Transcript(TEXTS[index], "client")
    return Utterance(index, "AB"[index % 2], 0, length, samples, said, frames)


DIALOGUE = tuple(utterance(index) for index in range(len(TEXTS)))


def play(bundle: Bundle) -> list[Prediction]:
    predictor = Predictor(bundle)
    state, found = predictor.start(), []
    for said in DIALOGUE:
        state, outcome = predictor.predict([(state, said)])[0]
        found.append(outcome.prediction)
    return found


@pytest.fixture(autouse=True)
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch computes in bfloat16 on any processor, if slowly: what is tested is the same on all."""
    monkeypatch.setattr(profiles, "has_bf16", lambda: True)
    monkeypatch.setattr(profiles, "has_int8", lambda: True)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("papers")
    loaded = {name: Bundle.load(paper_bundle(folder / name, name)) for name in PAPERS}
    return {name: with_graphs(bundle, lambda _: None) for name, bundle in loaded.items()}


@pytest.fixture(params=PAPERS)
def bundle(request: pytest.FixtureRequest, bundles: dict[str, Bundle]) -> Bundle:
    return bundles[request.param]


def test_fast_says_nearly_what_exact_says(bundle: Bundle) -> None:
    exact, quick = play(bundle), play(profiled(bundle, "fast"))
    for one, other in zip(exact, quick, strict=True):
        assert np.isfinite(other.logits).all()
        assert other.posterior.sum() == pytest.approx(1, abs=1e-9)
        assert np.abs(one.posterior - other.posterior).max() < NEAR
        ahead = np.sort(one.posterior)[-1] - np.sort(one.posterior)[-2]
        if ahead > 2 * NEAR:
            assert one.posterior.argmax() == other.posterior.argmax()
    assert any((a.logits != b.logits).any() for a, b in zip(exact, quick, strict=True)) == any(
        numerics != "fp32" for numerics in describe(fast(bundle)).values()
    )


@pytest.mark.parametrize("name", PAPERS)
def test_what_each_part_computes_in_is_said(name: str, bundles: dict[str, Bundle]) -> None:
    exact = bundles[name]
    assert describe(fast(exact)) == COMPUTES[name]
    assert set(describe(exact).values()) == {"fp32"}


def test_the_exact_bundle_stays_as_it_was(bundle: Bundle) -> None:
    before = play(bundle)
    fast(bundle)
    for one, other in zip(before, play(profiled(bundle, "exact")), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


def test_companions_change_nothing_beyond_rounding(bundle: Bundle) -> None:
    for encoder in fast(bundle).encoders:
        items = [(encoder.start(), said) for said in DIALOGUE]
        together = [features for features, _ in encoder.encode(items)]
        for item, batched in zip(items, together, strict=True):
            alone = encoder.encode([item])[0][0]
            assert alone is not None
            assert batched is not None
            assert alone.dtype == np.float32
            if encoder.numerics == INT8:
                np.testing.assert_array_equal(batched, alone)
            else:
                scale = float(np.abs(alone).max())
                np.testing.assert_allclose(batched, alone, rtol=0, atol=0.02 * scale)


def test_features_are_near(bundle: Bundle) -> None:
    for exact, quick in zip(bundle.encoders, fast(bundle).encoders, strict=True):
        assert (quick.stream, quick.width) == (exact.stream, exact.width)
        for said in DIALOGUE:
            one, other = (e.encode([(e.start(), said)])[0][0] for e in (exact, quick))
            assert one is not None
            assert other is not None
            assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)


def test_without_units_a_part_stays_in_float32(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = bundles["gated_xlstm"]
    monkeypatch.setattr(profiles, "has_bf16", lambda: False)
    assert describe(fast(exact)) == {"acoustic": "fp32", "lexical": INT8, "fusion": "fp32"}
    monkeypatch.setattr(profiles, "has_int8", lambda: False)
    assert set(describe(fast(exact)).values()) == {"fp32"}


def test_units_are_those_that_torch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, bool] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert not profiles._has(profiles.BF16_UNITS)
    found["avx512_bf16"] = True
    assert profiles._has(profiles.BF16_UNITS)
    assert not profiles._has(profiles.INT8_UNITS)


def test_a_bundle_without_its_graph_says_how_to_make_it(bundles: dict[str, Bundle]) -> None:
    bare = replace(bundles["mlcct"], assets={})
    with pytest.raises(FastUnavailable, match=r"lexical\.int8\.onnx.*emotrace-train fast"):
        fast(bare)


def test_a_graph_of_other_weights_is_refused(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["gated_xlstm"]
    text = next(e for e in bundle.encoders if e.modality == Modality.LEXICAL)
    assert isinstance(text, NetworkEncoder)
    other = text.copied()
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    encoders = tuple(other if e is text else e for e in bundle.encoders)
    with pytest.raises(FastUnavailable, match="other weights"):
        fast(replace(bundle, encoders=encoders))
    broken = {**bundle.assets, graph_name(text): b"not a graph"}
    with pytest.raises(FastUnavailable, match="cannot read the graph"):
        fast(replace(bundle, assets=broken))


def test_graphs_are_not_kept_twice(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["mlcct"]
    assert set(bundle.assets) - set(fast(bundle).assets) == {"lexical.int8.onnx"}


def test_a_fast_form_is_not_saved(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bf16, int8 \(onnxruntime\)"):
        fast(bundles["gated_xlstm"]).save(tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_compact_towers_of_sound_and_faces_and_a_view(tmp_path: Path) -> None:
    both = (Modality.ACOUSTIC, Modality.FACIAL)
    path = toy_bundle(tmp_path / "toy", both, scheme="ekman7", views=("common4",))
    exact = Bundle.load(path)
    view = fast(exact).projected("common4")
    assert describe(view) == {"acoustic": "bf16", "facial": "bf16", "fusion": "fp32"}
    assert describe(fast(exact.projected("common4"))) == describe(view)
    for one, other in zip(play(exact.projected("common4")), play(view), strict=True):
        assert np.abs(one.posterior - other.posterior).max() < NEAR


def test_a_detector_that_was_chosen_stays(tmp_path: Path) -> None:
    class Nobody:
        def detect(self, pixels: object) -> list[object]:
            return []

    config = replace(CompactFace.small()[0], detector="cascade")
    encoder = CompactFace(config, {})
    encoder.detect_with(Nobody())  # type: ignore[arg-type]
    quick = encoder.in_bf16()
    assert quick.encode([(quick.start(), DIALOGUE[0])])[0][0] is None


@torch.inference_mode()
def test_joined_convolutions_lose_little() -> None:
    torch.manual_seed(0)
    exact = CompactAcoustic(*CompactAcoustic.small()).eval()
    for module in exact.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    quick = exact.in_bf16()
    for said in DIALOGUE:
        one, other = (e.encode([(e.start(), said)])[0][0] for e in (exact, quick))
        assert one is not None
        assert other is not None
        assert 0 < np.linalg.norm(one - other) < 0.02


@pytest.mark.parametrize("missing", ["zeros", "mask"])
@torch.inference_mode()
def test_large_stacks_keep_their_weights_in_bfloat16(missing: str) -> None:
    torch.manual_seed(0)
    config = GatedxLSTMConfig(
        (Modality.ACOUSTIC,),
        4,
        blocks=2,
        slstm_at=(1,),
        missing=missing,  # type: ignore[arg-type]
    )
    exact = GatedxLSTM(config).eval()
    quick = exact.in_bf16()
    assert (exact.numerics, quick.numerics) == ("fp32", "bf16")
    inputs = random_inputs(exact, 2)
    if missing == "mask":  # some stacks of the second item's slots are not read
        inputs["acoustic"].lengths[:, 3:] = 0
    one, other = exact(inputs), quick(inputs)
    apart = (one.explain["features"] - other.explain["features"]).norm()
    assert 0 < apart < 0.01 * one.explain["features"].norm()
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=0.01)
    total = other.explain["contributions"].sum(1) + other.explain["bias"]
    torch.testing.assert_close(total, other.logits, rtol=0, atol=1e-5)


def test_small_stacks_stay_as_they_are() -> None:
    fusion = GatedxLSTM(GatedxLSTM.small_config(4)).eval()
    assert fusion.in_bf16() is fusion
