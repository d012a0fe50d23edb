"""Windows, hiding, fitting and the steps `fuse` and `calibrate-dialogues`."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from emotrace_models.bundle import Bundle
from emotrace_models.encoders import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.prototypes import class_prototypes
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Inputs
from emotrace_models.fusion.base import slots_of
from emotrace_models.labels import SCHEMES
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality
from emotrace_training import bundle_step, calibrate, compose, fusion
from emotrace_training.compose import composed_file, read_composed
from emotrace_training.evaluated_dialogues import pass_through, utterance, with_known_faces
from emotrace_training.fusion import load_fusion
from emotrace_training.fusion_fitting import (
    FusionRecipe,
    aims_of,
    class_weights,
    fit,
    hidden,
    logits_of,
    only,
    used_of,
)
from emotrace_training.fusion_windows import (
    FACES,
    face_vectors,
    load_windows,
    of_seed,
    single_clips,
    single_faces,
)
from emotrace_training.hearing import load_listener
from emotrace_training.manifests import read_manifest
from emotrace_training.windows import EMPTY, HeardTurn, Windows, joined, windows

A, L, V = Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL
CONFIG = GatedxLSTMConfig(
    (A, L), 2, 8, steps=2, width=8, blocks=1, heads=2, share="modality", missing="mask"
)


PROTOTYPES = class_prototypes(8)[:2]
STREAMS = {A.value: 8, L.value: 8}
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
    _, valid = slots(part.gather(np.array([1]), only([L], part, alone=True))[0])
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
        [[turn("a", 0, A), turn("b", 1, L), turn("a", 0, A, L, V)] for _ in range(400)],
        {**STREAMS, V.value: 8},
        EMPTY_WINDOW,
    )
    recipe = FusionRecipe(alone=0.5, gap=0.1)
    turns = part.targets()
    keep = hidden(part, turns, recipe, np.random.default_rng(0))
    _, valid = slots(part.gather(turns, keep)[0])
    assert valid[:, :3].any(dim=1).all()
    shown = valid[turns % 3 == 2]
    kinds = {tuple(row.tolist()) for row in shown[:, :3]}
    assert kinds == set(product((True, False), repeat=3)) - {(False, False, False)}
    assert not shown[:, 3:].any(dim=1).all(), "some have no context"


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

    recipe = FusionRecipe(epochs=3, batch=16, rate=1e-2, teacher={})
    parts = [(part, class_weights(part.labels, 2, 0.5))]
    fitted, history = fit(model, parts, recipe, 0, PROTOTYPES, judge)
    assert history == [0.1, 0.9, 0.3]
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(tensor, kept[1][name])
    fresh = toy(seed=1)
    for keep in (None, only([A], fresh, True), only([L], fresh, False)):
        found = logits_of(fitted, fresh, fresh.targets(), keep).argmax(axis=1)
        assert (found == fresh.labels[fresh.targets()]).mean() > 0.9


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
            said = utterance(0, turn_)
            state = states.get(turn_.speaker, encoder.start())
            ((expected, states[turn_.speaker]),) = encoder.encode([(state, said)])
            # The bank keeps frames as float16.
            np.testing.assert_allclose(vector, expected, atol=2e-2)


def test_windows_and_predictor_give_the_same_logits(runs) -> None:
    bundle = with_known_faces(Bundle.load(runs.bundle), runs.face / FACES)
    dialogues = read_composed(composed_file(runs.composed, "dev", 0))
    part = load_windows(runs.fusion / "seed-0" / "dev-0.npz")
    passed = pass_through(Predictor(bundle), dialogues)
    assert np.array_equal(passed.part.labels, part.labels)
    assert np.array_equal(passed.part.entries, part.entries)
    for stream in (L, V):
        found, expected = passed.part.streams[stream], part.streams[stream]
        assert np.array_equal(found.starts, expected.starts)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    mine = logits_of(bundle.fusion, passed.part, np.arange(len(part.labels)))
    np.testing.assert_allclose(mine, passed.logits, atol=1e-5)


def test_the_step_reports_dev_and_can_be_repeated(runs, invoke, tmp_path) -> None:
    report = json.loads((runs.fusion / "seed-0" / "report.json").read_text())
    sets = {"acoustic", "lexical", "facial", "acoustic+lexical", "acoustic+facial"}
    sets |= {"facial+lexical", "acoustic+facial+lexical"}
    assert set(report["dev"]) == sets | {f"{name}, no context" for name in sets}
    assert all(set(row) == {"ekman7", "common4"} for row in report["dev"].values())
    assert len(report["dev_score_by_epoch"]) == 2
    invoke(
        fusion.command, "--composed", runs.composed, "--lexical", runs.lexical, "--acoustic",
        runs.acoustic, "--face", runs.face, "--manifest", runs.manifest, "--out", tmp_path,
        "--draws", 1, "--dev-draws", 2, "--seeds", 1, "--epochs", 2, "--smoke",
    )  # fmt: skip
    one, two = load_fusion(runs.fusion / "seed-0"), load_fusion(tmp_path / "seed-0")
    assert one.labels == two.labels == SCHEMES["ekman7"]
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_modality_that_the_model_has_not_leaves_its_scenes() -> None:
    part = windows([[turn("a", 0, A, L)] for _ in range(4_000)], STREAMS, EMPTY_WINDOW)
    scenes = (((A, L, V), 0.3), ((A, V), 0.2), ((L,), 0.1), ((V,), 0.4))
    recipe = FusionRecipe(gap=0.0, scenes=scenes)
    keep = hidden(part, part.targets(), recipe, np.random.default_rng(0))[:, 0]
    found = [float((keep == shown).all(axis=1).mean()) for shown in ([1, 1], [1, 0], [0, 1])]
    assert found == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.03)


def test_what_a_turn_rests_on() -> None:
    part = windows([[turn("a", 0, A), turn("b", 1, L), turn("a", 0, A, L)]], STREAMS, EMPTY_WINDOW)
    turns = np.arange(3)
    assert used_of(part, turns).tolist() == ["acoustic", "lexical", "acoustic+lexical"]
    assert used_of(part, turns, only([A], part, False)).tolist() == ["acoustic", "", "acoustic"]


def test_alone_a_modality_with_a_teacher_learns_what_its_tower_says() -> None:
    part = windows([[turn("a", 1, A), turn("b", 1, A, L)]], STREAMS, EMPTY_WINDOW)
    part.streams[A].values[:] = PROTOTYPES[0].numpy()
    recipe = FusionRecipe(smoothing=0.1, teacher={"acoustic": 4.0, "facial": 2.0})
    aims = aims_of(*part.gather(np.array([0, 1])), PROTOTYPES, recipe)
    taught = torch.tensor([4.0, 0.0]).softmax(0)
    torch.testing.assert_close(aims, torch.stack([taught, torch.tensor([0.05, 0.95])]))
    keep = only([L], part, alone=True)
    aims = aims_of(*part.gather(np.array([1]), keep), PROTOTYPES, recipe)
    torch.testing.assert_close(aims, torch.tensor([[0.05, 0.95]]))
    untaught = replace(recipe, teacher={})
    aims = aims_of(*part.gather(np.array([0])), PROTOTYPES, untaught)
    torch.testing.assert_close(aims, torch.tensor([[0.05, 0.95]]))


def test_single_clips_and_faces_are_dialogues_of_one(runs) -> None:
    labels = SCHEMES["ekman7"]
    clips = single_clips(runs.acoustic, labels, "train")
    faces = single_faces(runs.face / FACES, labels, "dev")
    for singles, column in ((clips, 0), (faces, 2)):
        part = singles.windows((A, L, V))
        assert (part.entries[:, 1:] == EMPTY).all()
        assert (part.present == [place == column for place in range(3)]).all()
        weights = singles.weights(7)
        assert len(weights) == len(part.labels)
        assert (weights[part.labels == EMPTY] == 0).all()
    with np.load(runs.face / FACES) as table:
        assert len(faces.labels) == (table["side"] == "valid").sum()


def test_the_towers_of_a_seed(tmp_path) -> None:
    (tmp_path / "face-1").mkdir()
    assert of_seed(tmp_path / "face", 0) == tmp_path / "face"
    assert of_seed(tmp_path / "face", 1) == tmp_path / "face-1"
    assert of_seed(tmp_path / "face", 2) == tmp_path / "face"


def test_faces_of_a_turn_are_those_of_its_picture(runs) -> None:
    part = load_windows(runs.fusion / "seed-0" / "dev-0.npz")
    known = face_vectors(runs.face / FACES)
    turns = [t for d in read_composed(composed_file(runs.composed, "dev", 0)) for t in d.turns]
    stream = part.streams[V]
    for number, one in enumerate(turns):
        vectors = stream.values[stream.starts[number] : stream.starts[number + 1]]
        assert len(vectors) == (one.face is not None)
        if one.face is not None:
            assert one.face.startswith(f"valid-{one.label}-")
            assert np.array_equal(vectors[0], known[one.face])


def test_a_model_without_faces_and_with_four_classes(runs, invoke, tmp_path) -> None:
    """As the bundle `free` is made."""
    two = ("--modality", "acoustic", "--modality", "lexical")
    texts = ("--text", runs.text, "--manifest", runs.manifest, "--corpus", "meld")
    composed = tmp_path / "composed"
    invoke(compose.command, *texts, *two, "--out", composed, "--draws", 1, "--seeds", 1)
    towers = ("--acoustic", runs.acoustic, "--lexical", runs.lexical)
    invoke(
        fusion.command, *towers, *two, "--composed", composed, "--manifest", runs.manifest,
        "--out", tmp_path, "--labels", "common4", "--draws", 1, "--dev-draws", 1, "--seeds", 1,
        "--epochs", 1, "--smoke",
    )  # fmt: skip
    invoke(
        calibrate.command, "--composed", composed, "--acoustic", runs.acoustic, "--fusion", tmp_path
    )
    invoke(
        bundle_step.command, *towers, "--fusion", tmp_path, "--out", tmp_path / "b", "--made-of",
        "free", "--name", "free",
    )  # fmt: skip
    bundle = Bundle.load(tmp_path / "b")
    assert (bundle.schemes, bundle.fusion.modalities) == (("common4",), (A, L))
    assert bundle.licence == "Apache-2.0"
    assert "Usable commercially" in bundle.card
    dialogues = read_composed(composed_file(composed, "dev", 0))
    assert not any(turn_.face for dialogue in dialogues for turn_ in dialogue.turns)
