"""A trained model as a bundle: served, it says what it said when it was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from toy_corpus import Toy, gated_recipe, toy_corpus

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_training import export
from emotrace_training.dataset import Dataset
from emotrace_training.export import UNKNOWN_LICENCE, NotServable, licences_of, requires
from emotrace_training.fit import fit_variant
from emotrace_training.manifests import read_sound
from emotrace_training.recipe import read_recipe
from emotrace_training.run_folder import read_run

SMALL = "{ width = 8, members = 1, channels = [4, 4, 4, 4], contour = 4, pooled = 8 }"
WORDS = """[streams.lexical]
encoder = "words"
config = { width = 6 }
tune = true
[model]
name = "lmf"
streams = { acoustic = 8, lexical = 6 }
[training]
epochs = 2
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy"), sound=True)


def fitted(folder: Path, toy: Toy, recipe: str, *overrides: str) -> Path:
    (one,) = read_recipe(recipe, (), overrides)
    run = folder / "run"
    fit_variant(
        one, toy.manifest, run / "main", folder / "cache", None, None, Accelerator(cpu=True), False
    )
    return run


def both_streams(folder: Path, more: str = "") -> str:
    file = Path(gated_recipe(folder, f'encoder = "compact_acoustic"\nconfig = {SMALL}'))
    head = file.read_text().partition("[model]")[0]
    file.write_text(head + WORDS + more)
    return file.as_posix()


def exported(toy: Toy, invoke, run: Path, out: Path) -> Bundle:
    invoke(
        export.command, run, "-o", out, "--manifest", toy.manifest, "--cache",
        run.parent / "cache", "--name", "mine",
    )  # fmt: skip
    return Bundle.load(out)


def test_a_bundle_says_live_what_was_measured(toy: Toy, invoke, tmp_path: Path) -> None:
    run = fitted(tmp_path, toy, both_streams(tmp_path))
    bundle = exported(toy, invoke, run, tmp_path / "bundle")
    assert bundle.requires == (Modality.ACOUSTIC, Modality.LEXICAL)
    assert set(bundle.calibration.temperatures) == {"acoustic+lexical"}
    predictor = Predictor(bundle)
    table = np.load(next(run.glob("*/*/*/predictions.npz")))
    measured = dict(zip(table["id"].tolist(), table["logits"], strict=True))
    seen = 0
    for dialogue in sorted({r.dialogue for r in toy.records if r.split == "test"}):
        state = predictor.start()
        for number, record in enumerate(r for r in toy.records if r.dialogue == dialogue):
            samples = read_sound(record)
            said = Utterance(
                number, record.speaker, 0, len(samples), samples, Transcript(record.text, "client")
            )
            ((state, outcome),) = predictor.predict([(state, said)])
            if record.id in measured:
                np.testing.assert_allclose(
                    outcome.prediction.logits, measured[record.id], atol=1e-4
                )
                seen += 1
    assert seen == 12


def test_the_card_has_figures_licence_and_limits(toy: Toy, invoke, tmp_path: Path) -> None:
    run = fitted(tmp_path, toy, both_streams(tmp_path), "training.epochs=1")
    bundle = exported(toy, invoke, run, tmp_path / "bundle")
    assert bundle.licence == "CC0-1.0"
    assert "toy: CC0-1.0" in bundle.licence_text
    for words in ("2024/1689", "must not be used", "lmf", "not a corpus", "uar 0.5000", "tuned"):
        assert words in bundle.card
    assert str(tmp_path) not in bundle.card


def test_faces_without_a_licence_are_told() -> None:
    (recipe,) = read_recipe("shared/tucker-composed-faces", ("both",), ())
    nobody = Dataset([], np.zeros(0, np.int64), recipe.data.label_set, [], {})
    assert licences_of(recipe, nobody)["faces of FER2013"] == {UNKNOWN_LICENCE}


def test_what_was_hidden_is_not_required(toy: Toy, invoke, tmp_path: Path) -> None:
    recipe = both_streams(tmp_path, "hide = { acoustic = 0.3, lexical = 0.3 }\n")
    run = fitted(tmp_path, toy, recipe, "training.epochs=1")
    bundle = exported(toy, invoke, run, tmp_path / "bundle")
    assert bundle.requires == ()
    assert set(bundle.calibration.temperatures) == {"acoustic", "lexical", "acoustic+lexical"}
    (one,) = read_recipe(recipe, (), ["training.hide={lexical=0.3}"])
    assert one.training.hide == {"acoustic": 0.3, "lexical": 0.3}, "overrides are merged"
    (one,) = read_recipe(recipe, (), ["training.hide.acoustic=0.0"])
    streams = {"acoustic": Modality.ACOUSTIC, "lexical": Modality.LEXICAL}
    assert requires(one, streams) == (Modality.ACOUSTIC,)


def test_vectors_of_a_file_cannot_be_served(toy: Toy, tmp_path: Path) -> None:
    recipe = gated_recipe(tmp_path, f'file = "{toy.vectors}"')
    run = fitted(tmp_path, toy, recipe, "training.epochs=1")
    (variant,) = read_run(run)
    with pytest.raises(NotServable, match="stream acoustic comes from a file of vectors"):
        export.build_bundle(
            variant, variant.trained[0], toy.manifest, tmp_path / "cache", "x", "1",
            Accelerator(cpu=True),
        )  # fmt: skip


def test_faults_of_a_run(toy: Toy, invoke, tmp_path: Path) -> None:
    run = fitted(tmp_path, toy, both_streams(tmp_path), "training.epochs=1")
    where = ("-o", tmp_path / "b", "--manifest", toy.manifest, "--cache", tmp_path / "cache")
    assert "there are own seed 0" in invoke(export.command, run, *where, "--seed", 7, code=1)
    weights = next(run.glob("*/*/*/model.safetensors"))
    weights.write_bytes(b"nothing")
    assert "model.safetensors" in invoke(export.command, run, *where, code=1)
    (run / "main/recipe.json").write_text("{}")
    assert "fit the recipe again" in invoke(export.command, run, *where, code=1).replace("\n", " ")
