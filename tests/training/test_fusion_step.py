"""Windows, hiding, fitting and the steps `fuse` and `calibrate-dialogues`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from emotrace_models.bundle import Bundle
from emotrace_models.decoding import DecoderConfig, estimate_p0
from emotrace_models.encoders import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.prototypes import class_prototypes
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Inputs
from emotrace_models.fusion.base import slots_of
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality
from emotrace_training import fusion
from emotrace_training.calibrate import (
    CALIBRATION,
    decoded,
    fit_temperature,
    golden_section,
    softmax,
)
from emotrace_training.compose import composed_file, read_composed
from emotrace_training.evaluate_dialogues import pass_through, utterance
from emotrace_training.fusion import (
    MODALITIES,
    clip_windows,
    load_fusion,
    load_windows,
    streams_of,
)
from emotrace_training.fusion_fitting import (
    FusionRecipe,
    aims_of,
    class_weights,
    fit,
    hidden,
    logits_of,
    only,
)
from emotrace_training.hearing import load_listener
from emotrace_training.manifests import read_manifest
from emotrace_training.windows import EMPTY, HeardTurn, Windows, joined, windows

A, L = Modality.ACOUSTIC, Modality.LEXICAL
CONFIG = GatedxLSTMConfig(
    MODALITIES, 2, 8, steps=2, width=8, blocks=1, heads=2, share="modality", missing="mask"
)


PROTOTYPES = class_prototypes(8)[:2]
STREAMS = streams_of(8)
EMPTY_WINDOW = GatedxLSTM.start_window()


def slots(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Vectors [turn, slot, width] and which slots are filled [turn, slot]."""
    values, lengths = slots_of(inputs)
    return values[:, :, 0], lengths > 0


def turn(speaker: str, label: int, *modalities: Modality, value: float = 1.0) -> HeardTurn:
    return HeardTurn(speaker, {m.value: np.full(8, value, np.float32) for m in modalities}, label)


def toy(count: int = 60, seed: int = 0) -> Windows:
    """Dialogues of two turns whose class shows in both modalities, with noise."""
    rng = np.random.default_rng(seed)
    dialogues = []
    for _ in range(count):
        turns = []
        for speaker in "ab":
            label = int(rng.random() < 0.3)
            streams = {n: np.float32(2 * label - 1 + rng.normal(0, 0.5, 8)) for n in STREAMS}
            turns.append(HeardTurn(speaker, streams, label))
        dialogues.append(turns)
    return windows(dialogues, STREAMS, EMPTY_WINDOW)


def test_windows_follow_the_context_rule() -> None:
    part = windows(
        [
            [turn("a", 0, A, L), turn("b", EMPTY, L), turn("b", 1, A, L)],
            [turn("a", 0), turn("a", 1, A)],
        ],
        STREAMS,
        EMPTY_WINDOW,
    )
    e = EMPTY
    assert part.entries.tolist() == [
        [0, e, e, e, e, e],
        [1, 0, 0, e, e, e],
        [2, 0, 1, 0, 0, e],
        [e, e, e, e, e, e],
        [4, e, e, e, e, e],
    ]
    assert part.labels.tolist() == [0, e, 1, e, 1], "a turn of which nothing is known has no class"
    assert part.targets().tolist() == [0, 2, 4]


def test_gather_shows_only_what_is_there_and_kept() -> None:
    part = windows([[turn("a", 0, A, value=3), turn("b", 1, L, value=5)]], STREAMS, EMPTY_WINDOW)
    inputs, labels = part.gather(np.array([1]))
    vectors, valid = slots(inputs)
    assert vectors.shape == (1, 12, 8)
    assert valid[0].nonzero()[:, 0].tolist() == [1, 2, 4]  # own words; a's voice, twice
    assert vectors[0, :, 0].tolist() == [0, 5, 3, 0, 3, *[0] * 7]
    assert labels.tolist() == [1]
    _, valid = slots(part.gather(np.array([1]), only(L, part, alone=True))[0])
    assert valid[0].nonzero()[:, 0].tolist() == [1]


def test_joined_windows_keep_their_contexts() -> None:
    one = windows([[turn("a", 0, A), turn("b", 1, L, value=2)]], STREAMS, EMPTY_WINDOW)
    both = joined([one, one])
    for shift in (0, 2):
        mine, my_labels = both.gather(np.array([1 + shift]))
        theirs, their_labels = one.gather(np.array([1]))
        assert torch.equal(my_labels, their_labels)
        for name in STREAMS:
            assert torch.equal(mine[name].values, theirs[name].values)
            assert torch.equal(mine[name].lengths, theirs[name].lengths)


def test_without_turns() -> None:
    with pytest.raises(ValueError, match="no turns"):
        windows([[]], STREAMS, EMPTY_WINDOW)


def test_hiding_always_leaves_something_of_the_current_utterance() -> None:
    part = windows(
        [[turn("a", 0, A), turn("b", 1, L), turn("a", 0, A, L)] for _ in range(200)],
        STREAMS,
        EMPTY_WINDOW,
    )
    recipe = FusionRecipe(only_acoustic=0.4, only_lexical=0.4, alone=0.5, gap=0.5)
    turns = part.targets()
    keep = hidden(part, turns, recipe, np.random.default_rng(0))
    _, valid = slots(part.gather(turns, keep)[0])
    assert valid[:, :2].any(dim=1).all()
    shown = valid[turns % 3 == 2]
    kinds = {tuple(row.tolist()) for row in shown[:, :2]}
    assert kinds == {(True, False), (False, True), (True, True)}
    assert not shown[:, 2:].any(dim=1).all(), "some have no context"


def test_class_weights() -> None:
    labels = np.array([0, 0, 0, 1, EMPTY])
    assert class_weights(labels, 2, 0.0).tolist() == [1, 1, 1, 1, 0]
    weights = class_weights(labels, 2, 1.0)
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights[:4].mean() == pytest.approx(1)


def test_a_fit_learns_and_keeps_its_best_epoch() -> None:
    part = toy()
    torch.manual_seed(0)
    model = GatedxLSTM(CONFIG)
    verdicts = iter([0.1, 0.9, 0.3])
    kept: list[dict[str, torch.Tensor]] = []

    def judge(candidate: torch.nn.Module) -> float:
        kept.append({name: t.clone() for name, t in candidate.state_dict().items()})
        return next(verdicts)

    recipe = FusionRecipe(epochs=3, batch=16, rate=1e-2, teacher=0)
    parts = [(part, class_weights(part.labels, 2, 0.5))]
    fitted, history = fit(model, parts, recipe, 0, PROTOTYPES, judge)
    assert history == [0.1, 0.9, 0.3]
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(tensor, kept[1][name])
    fresh = toy(seed=1)
    for keep in (None, only(A, fresh, True), only(L, fresh, False)):
        found = logits_of(fitted, fresh, fresh.targets(), keep).argmax(axis=1)
        assert (found == fresh.labels[fresh.targets()]).mean() > 0.9


def test_without_words_the_acoustic_tower_is_the_teacher() -> None:
    part = windows([[turn("a", 1, A), turn("b", 1, A, L)]], STREAMS, EMPTY_WINDOW)
    part.streams[A].values[:] = PROTOTYPES[0].numpy()
    recipe = FusionRecipe(smoothing=0.1, teacher=4.0)
    aims = aims_of(*part.gather(np.array([0, 1])), PROTOTYPES, recipe)
    taught = torch.tensor([4.0, 0.0]).softmax(0)
    torch.testing.assert_close(aims, torch.stack([taught, torch.tensor([0.05, 0.95])]))
    keep = only(L, part, alone=True)
    aims = aims_of(*part.gather(np.array([1]), keep), PROTOTYPES, recipe)
    torch.testing.assert_close(aims, torch.tensor([[0.05, 0.95]]))
    untaught = replace(recipe, teacher=0.0)
    aims = aims_of(*part.gather(np.array([0])), PROTOTYPES, untaught)
    torch.testing.assert_close(aims, torch.tensor([[0.05, 0.95]]))


def test_golden_section_finds_the_minimum() -> None:
    assert golden_section(lambda x: (x - 0.3) ** 2, -2, 2, 1e-6) == pytest.approx(0.3, abs=1e-5)


def test_a_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4_000, 3)).astype(np.float32)
    p = softmax(logits, 1.0)
    truth = np.array([rng.choice(3, p=row) for row in p])
    assert fit_temperature(logits, truth) == pytest.approx(1, abs=0.1)
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, abs=0.3)


def test_clips_are_dialogues_of_one(runs) -> None:
    part, weights = clip_windows(runs.acoustic / "oof.npz", "train")
    assert (part.entries[:, 1:] == EMPTY).all()
    assert not part.present[:, 1].any()
    assert len(weights) == len(part.labels)
    assert (weights[part.labels == EMPTY] == 0).all()


def test_vectors_come_from_towers_that_never_heard_the_actor(runs) -> None:
    """And are those of the encoder that serves, were it made of that one tower."""
    clips = read_manifest(runs.manifest)
    listener = load_listener(runs.acoustic, clips, 1)
    with np.load(runs.acoustic / "oof.npz") as table:
        fold = dict(zip(table["speaker"].tolist(), table["fold"].tolist(), strict=True))
        files = set(table["file"].tolist())
    speaker = {clip.file: clip.speaker for clip in clips}
    assert listener.fold == {file: fold[speaker[file]] for file in files}
    config = CompactAcousticConfig(**json.loads((runs.acoustic / "config.json").read_text()))
    dialogues = read_composed(composed_file(runs.composed, "dev", 0))
    for dialogue, found in zip(dialogues, listener.hear(dialogues), strict=True):
        states = {}
        for turn_, vector in zip(dialogue.turns, found, strict=True):
            assert (vector is None) == (turn_.clip is None)
            if turn_.clip is None:
                continue
            tower = listener.fold[turn_.clip]
            encoder = CompactAcoustic(replace(config, members=1)).eval()
            encoder.prior.copy_(listener.prior)
            encoder.members[0].load_state_dict(listener.towers[tower].state_dict())
            said = utterance(0, turn_.text, turn_.speaker, turn_.clip)
            state = states.get(turn_.speaker, encoder.start())
            ((expected, states[turn_.speaker]),) = encoder.encode([(state, said)])
            # The bank keeps frames as float16.
            np.testing.assert_allclose(vector, expected, atol=2e-2)


def test_windows_and_predictor_give_the_same_logits(runs) -> None:
    bundle = Bundle.load(runs.bundle)
    dialogues = read_composed(composed_file(runs.composed, "dev", 0))
    part = load_windows(runs.fusion / "dev-0.npz")
    passed = pass_through(Predictor(bundle), dialogues)
    assert np.array_equal(passed.part.labels, part.labels)
    assert np.array_equal(passed.part.entries, part.entries)
    words, expected = passed.part.streams[L], part.streams[L]
    assert np.array_equal(words.starts, expected.starts)
    np.testing.assert_allclose(words.values, expected.values, atol=1e-5)
    mine = logits_of(bundle.fusion, passed.part, np.arange(len(part.labels)))
    np.testing.assert_allclose(mine, passed.logits, atol=1e-5)


def test_the_step_reports_dev_and_can_be_repeated(runs, invoke, tmp_path) -> None:
    report = json.loads((runs.fusion / "seed-0" / "report.json").read_text())
    assert set(report["dev"]) == {
        "fused", "acoustic", "lexical", "acoustic, no context", "lexical, no context",
    }  # fmt: skip
    assert len(report["dev_score_by_epoch"]) == 2
    invoke(
        fusion.command, "--composed", runs.composed, "--lexical", runs.lexical, "--acoustic",
        runs.acoustic, "--manifest", runs.manifest, "--out", tmp_path, "--draws", 1, "--seeds", 1,
        "--epochs", 2, "--smoke",
    )  # fmt: skip
    one, two = load_fusion(runs.fusion / "seed-0"), load_fusion(tmp_path / "seed-0")
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_calibration_of_a_seed(runs) -> None:
    found = json.loads((runs.fusion / "seed-0" / CALIBRATION).read_text())
    train = read_composed(composed_file(runs.composed, "train", 0))
    expected = estimate_p0([(t.speaker, t.label) for t in d.turns] for d in train)
    assert found["decoder"]["p0"] == pytest.approx(expected)
    DecoderConfig(**found["decoder"])
    assert set(found["dev"]["calibration"]) == {"acoustic+lexical", "acoustic", "lexical"}


def test_decoded_is_the_live_decoder(runs) -> None:
    bundle = Bundle.load(runs.bundle)
    dialogues = read_composed(composed_file(runs.composed, "dev", 0))
    passed = pass_through(Predictor(bundle), dialogues)
    assert np.array_equal(decoded(dialogues, passed.posterior, bundle.decoder), passed.decoder)
