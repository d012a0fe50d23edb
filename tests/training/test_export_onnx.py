"""Text towers as 8-bit graphs, checked; a bundle's fast form and its drift report by command."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from fakes import toy_bundle
from papers import paper_bundle
from PIL import Image
from toy_corpus import Toy, gated_recipe, toy_corpus

from emotrace_models.bundle import Bundle
from emotrace_models.drift import DRIFT, drift_of, identity
from emotrace_models.encoders.clap_text import ClapText
from emotrace_models.encoders.onnx_text import OnnxText
from emotrace_models.encoders.roberta import Roberta
from emotrace_models.profiles import describe, fast
from emotrace_models.types import Transcript, Utterance
from emotrace_training import drifting, export, text_graphs
from emotrace_training import fast as fast_command
from emotrace_training.corpora.fer2013 import Face, Faces
from emotrace_training.drifting import Followed, difference, follow
from emotrace_training.fast_form import DriftTooLarge, with_drift, with_graphs
from emotrace_training.fit import fit_variant
from emotrace_training.recipe import read_recipe
from emotrace_training.telling import TrainingError
from emotrace_training.text_graphs import GraphRefused, text_graph

# Of the faces that the composed dialogues of `runs` show.
EMOTIONS = ("anger", "sadness", "neutral", "happiness", "fear")
SAID = ("no", "I did not say that, did I?", "all that is left of it")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy"), sound=True)


def spoken(number: int, text: str) -> Utterance:
    return Utterance(number, "AB"[number % 2], 0, 0, None, Transcript(text, "client"))


def clap_text(**settings: object) -> ClapText:
    torch.manual_seed(0)
    config, assets = ClapText.small()
    return ClapText(replace(config, **settings), assets).eval()


@pytest.mark.parametrize("tower", ["pooled", "tokens", "roberta"])
def test_a_graph_says_what_its_tower_says(tower: str) -> None:
    torch.manual_seed(0)
    encoder = (
        Roberta(*Roberta.small()).eval() if tower == "roberta" else clap_text(step_source=tower)
    )
    made = text_graph(encoder)
    assert made.float32 < 1e-5
    assert 0 < made.int8 < 0.05
    read = OnnxText(encoder, made.graph)
    items = [(None, spoken(number, text)) for number, text in enumerate(SAID)]
    for (one, _), (other, _) in zip(encoder.encode(items), read.encode(items), strict=True):
        assert one is not None
        assert other is not None
        assert one.shape == other.shape
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)
    assert read.encode([(None, spoken(0, " "))])[0][0] is None


def test_a_graph_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_graphs, "MOST", 0.0)
    with pytest.raises(GraphRefused, match="lexical differs by"):
        text_graph(clap_text())


def test_a_graph_that_fits_is_kept_and_another_made_again(tmp_path: Path) -> None:
    bundle = Bundle.load(paper_bundle(tmp_path / "mlcct", "mlcct"))
    told: list[str] = []
    made = with_graphs(bundle, told.append)
    assert len(told) == 1
    assert with_graphs(made, told.append).assets == made.assets
    assert len(told) == 1
    with torch.no_grad():
        next(made.encoders[1].parameters()).mul_(1.01)
    again = with_graphs(made, told.append)
    assert len(told) == 2
    assert describe(fast(again))["lexical"] == "int8 (onnxruntime)"


def test_the_report_counts_labels_and_differences() -> None:
    exact = Followed(np.array([[0.6, 0.4], [0.3, 0.7], [0.51, 0.49]]), np.array([0, 1, 1]))
    quick = Followed(np.array([[0.6, 0.4], [0.2, 0.8], [0.49, 0.51]]), np.array([0, 1, 1]))
    found = difference(exact, quick)
    assert (found.utterances, found.decoder_agreement) == (3, 1.0)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.largest == pytest.approx(0.1)
    assert found.mean == pytest.approx(0.04)


def test_dialogues_without_anything_to_go_by_are_said(tmp_path: Path) -> None:
    predictor = drifting.Predictor(Bundle.load(toy_bundle(tmp_path / "toy")))
    with pytest.raises(TrainingError, match="no turn"):
        follow(predictor, [[""]], spoken)
    assert len(follow(predictor, [["so", "", "it is"]], spoken).decoder) == 2


def test_the_command_leaves_a_report_in_the_bundle(toy: Toy, invoke, tmp_path: Path) -> None:
    path = toy_bundle(tmp_path / "toy", scheme="ekman7", views=("common4",))
    weights = (path / "model.safetensors").read_bytes()
    said = invoke(fast_command.command, path, "--manifest", toy.manifest, "--least", 0.5)
    loaded = Bundle.load(path)
    found = drift_of(loaded)
    assert found is not None
    assert found.of == identity(loaded)
    assert set(found.sets) == {"ekman7", "common4"}
    tested = sum(record.split == "test" for record in toy.records)
    assert {one.utterances for one in found.sets.values()} == {tested}
    assert found.numerics == describe(fast(loaded))
    assert f"of {tested} labels agree" in said
    assert (path / "model.safetensors").read_bytes() == weights


def test_a_form_that_disagrees_is_not_written(toy: Toy, invoke, tmp_path: Path) -> None:
    path = toy_bundle(tmp_path / "toy")
    invoke(fast_command.command, path, "--manifest", toy.manifest, "--least", 0.0)
    found = drift_of(Bundle.load(path))
    assert found is not None
    one = found.sets["common4"].model_copy(update={"agreement": 0.99})
    worse = found.model_copy(update={"sets": {"common4": one}})
    with pytest.raises(DriftTooLarge, match=r"99\.00%.*profile `exact`"):
        with_drift(Bundle.load(path), worse, 0.995)


def test_a_manifest_without_a_test_part_is_named(toy: Toy, invoke, tmp_path: Path) -> None:
    path = toy_bundle(tmp_path / "toy")
    none = tmp_path / "none.jsonl"
    lines = [line for line in toy.manifest.read_text().splitlines() if '"test"' not in line]
    none.write_text("\n".join(lines) + "\n")
    assert "split test" in invoke(fast_command.command, path, "--manifest", none, code=1)
    assert not (path / DRIFT).exists()


def made_faces() -> Faces:
    rng = np.random.default_rng(0)
    found = []
    for emotion in EMOTIONS:
        for number in range(4):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (48, 48), dtype=np.uint8)).save(file, "PNG")
            found.append(Face(f"test-{emotion}-{number}", emotion, file.getvalue()))
    return Faces({"test": found}, {})


def test_composed_faces_are_read_by_each_form_s_own_network(
    runs, invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made faces in the place of FER2013's, under the ids that the composed dialogues name."""
    monkeypatch.setattr(fast_command, "read_fer2013", lambda _: made_faces())
    invoke(
        fast_command.command, runs.bundle, "--composed", runs.composed, "--out", tmp_path / "fast",
        "--least", 0.5,
    )  # fmt: skip
    found = drift_of(Bundle.load(tmp_path / "fast"))
    assert found is not None
    assert found.data == "composed test dialogues, draw 0"
    assert set(found.numerics) == {"acoustic", "lexical", "facial", "fusion"}


def test_a_trained_model_is_exported_with_its_fast_form(
    toy: Toy, invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "{ width = 8, members = 1, channels = [4, 4, 4, 4], contour = 4, pooled = 8 }"
    recipe = gated_recipe(tmp_path, f'encoder = "compact_acoustic"\nconfig = {small}')
    monkeypatch.setattr(export, "LEAST", 0.5)
    (one,) = read_recipe(recipe, (), ())
    run, cache = tmp_path / "run", tmp_path / "cache"
    fit_variant(one, toy.manifest, run / "main", cache, None, None, Accelerator(cpu=True), False)
    invoke(
        export.command, run, "-o", tmp_path / "mine", "--manifest", toy.manifest, "--cache", cache,
        "--onnx",
    )  # fmt: skip
    bundle = Bundle.load(tmp_path / "mine")
    found = drift_of(bundle)
    assert found is not None
    assert found.numerics == describe(fast(bundle))
    assert found.data.startswith("test part of fold")
    # Whole dialogues, with the turns of no class that only give context.
    tested = {record.dialogue for record in toy.records if record.split == "test"}
    (one_set,) = found.sets.values()
    assert one_set.utterances == sum(record.dialogue in tested for record in toy.records)
