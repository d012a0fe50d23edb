"""GatedxLSTM's recipes: every row of tables I, III and V, the published lists of dialogues; and the
recipes of its baseline IAAN and of the decoder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from emotrace_training.corpora.iemocap_derived import read_iemocap_derived
from emotrace_training.corpora.loading import Settings
from emotrace_training.dataset import load_dataset
from emotrace_training.learner import build_fusion
from emotrace_training.manifests import write_manifest
from emotrace_training.recipe import Recipe, read_recipe
from emotrace_training.splits import Dialogues, LeaveOneOut

PUBLISHED = ("gated_xlstm/iemocap", "shared/iemocap-gated-xlstm")
HONEST = ("gated_xlstm/iemocap_loso", "shared/iemocap-gated-xlstm-loso")
TEST = {"anger": 41, "happiness": 74, "neutral": 162, "sadness": 149}
VALID = {"anger": 149, "happiness": 73, "neutral": 196, "sadness": 54}
TRAIN = {"anger": 913, "happiness": 448, "neutral": 1_350, "sadness": 881}


def variants(name: str) -> dict[str, Recipe]:
    return {recipe.variant: recipe for recipe in read_recipe(name)}


@pytest.mark.parametrize(
    ("name", "labels"),
    [(name, "iemocap4") for name in (*PUBLISHED, *HONEST, "gated_xlstm/preliminary")]
    + [("iaan/iemocap", "iemocap4m"), ("ded/iemocap", "iemocap4m")],
)
def test_every_variant_is_a_model_that_takes_its_streams(name: str, labels: str) -> None:
    for recipe in variants(name).values():
        with torch.device("meta"):
            model = build_fusion(recipe)
        assert set(model.streams) == set(recipe.streams)
        assert recipe.data.labels == labels
        assert recipe.recipe.published
        assert recipe.recipe.traps


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_lists_have_the_published_counts(
    name: str, shared: Path, tmp_path: Path
) -> None:
    """models.md section 2.7; the class counts are those of the released result file."""
    records = read_iemocap_derived(shared / "data" / "iemocap_derived", Settings()).records
    write_manifest(tmp_path / "manifest.jsonl", records)
    recipe = read_recipe(name, ["gated"])[0]
    data = recipe.data.model_copy(update={"corpora": ("iemocap_derived",)})
    dataset = load_dataset(recipe.model_copy(update={"data": data}), tmp_path / "manifest.jsonl")
    [fold] = dataset.folds
    names = dataset.label_set.names
    for part, expected in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        own = dataset.labels[fold.of(part)]
        assert Counter(names[label] for label in own[own >= 0].tolist()) == expected


def test_the_honest_recipes_leave_one_session_out_and_differ_in_nothing_else() -> None:
    for listed, honest in zip(PUBLISHED, HONEST, strict=True):
        one, other = variants(listed), variants(honest)
        assert one.keys() == other.keys()
        for name in one:
            assert isinstance(one[name].data.split, Dialogues)
            split = other[name].data.split
            assert isinstance(split, LeaveOneOut)
            assert split.by == "session"
            assert one[name].model == other[name].model
            assert one[name].recipe.published == other[name].recipe.published
            assert any("never heard" in trap for trap in other[name].recipe.traps)


def test_the_paper_s_rows_are_trained_as_in_the_paper() -> None:
    for recipe in variants("gated_xlstm/iemocap").values():
        training = recipe.training
        assert training.seeds == (42, 43, 45, 46, 50)
        assert (training.epochs, training.batch) == (100, 32)
        assert (training.optimiser.name, training.optimiser.rate) == ("adam", 1e-3)
        assert training.optimiser.decay == 1e-4
        assert training.early_stop.watch == "f1_macro"
        assert training.early_stop.patience == 20


def test_the_rows_of_table_v_in_order() -> None:
    """models.md section 2.8: accuracy and weighted F1."""
    rows = variants("gated_xlstm/iemocap")
    published = [
        (rows[name].recipe.published["accuracy"], rows[name].recipe.published["f1_weighted"])
        for name in ("iaan", "base", "gated", "gated-ded")
    ]
    assert published == [(0.6726, 0.6609), (0.6993, 0.6976), (0.7390, 0.7364), (0.7634, 0.7597)]
    decoder = rows["gated-ded"].decoder
    assert decoder is not None
    assert (decoder.beam, decoder.passes) == (5, 2)
    names = [rows[name].model.name for name in ("iaan", "base", "gated", "gated-ded")]
    assert names == ["iaan", "base_xlstm", "gated_xlstm", "gated_xlstm"]


def test_table_i_has_its_eight_rows() -> None:
    rows = variants("gated_xlstm/preliminary")
    published = [row.recipe.published["accuracy"] for row in rows.values()]
    assert published == [0.423, 0.457, 0.561, 0.637, 0.662, 0.653, 0.381, 0.673]


def test_the_gated_row_is_the_papers_size() -> None:
    """models.md section 12, item 1."""
    with torch.device("meta"):
        model = build_fusion(variants("gated_xlstm/iemocap")["gated"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 155_511_055
