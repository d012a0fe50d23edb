"""MLCCT's recipes hold the paper's rows, with models and settings as models.md decides."""

from __future__ import annotations

import pytest
import torch

from emotrace_models import registry
from emotrace_models.fusion.mlcct import MLCCTConfig
from emotrace_training.learner import build_fusion
from emotrace_training.recipe import read_recipe

# models.md 6.8: both modalities, speech, words.
TABLES = {
    "mlcct/iemocap_impro": (0.7592, 0.6619, 0.565),
    "mlcct/iemocap_session5": (0.7592, 0.6619, 0.565),
    "mlcct/meld": (0.632, 0.488, 0.617),
    "mlcct/mosei": (0.512, 0.356, 0.482),
}
# Cross blocks and heads, self blocks and heads; six-class accuracy.
ATTENTION = {
    (1, 1, 1, 1): 0.497,
    (1, 1, 2, 4): 0.501,
    (2, 4, 1, 1): 0.509,
    (2, 4, 2, 4): 0.512,
    (2, 4, 4, 8): 0.513,
    (4, 8, 2, 4): 0.514,
    (4, 8, 4, 8): 0.512,
}
NAMES = (*TABLES, "shared/mlcct-composed")


@pytest.mark.parametrize("name", TABLES)
def test_the_headline_rows_are_there(name: str) -> None:
    rows = {recipe.variant: recipe for recipe in read_recipe(name)}
    found = [rows[row].recipe.published["accuracy"] for row in ("both", "audio", "text")]
    assert found == list(TABLES[name])
    for ours in ("corr", "literal", "sequence"):
        assert rows[ours].recipe.published == {}


def test_the_attention_ablation_is_there() -> None:
    found = {}
    for recipe in read_recipe("mlcct/mosei"):
        if recipe.variant == "both" or recipe.variant.startswith("attention_"):
            config = MLCCTConfig(6, **recipe.model.config)
            sizes = (config.cross_blocks, config.cross_heads, config.self_blocks, config.self_heads)
            found[sizes] = recipe.recipe.published["accuracy"]
    assert found == ATTENTION


def test_the_improvised_split_is_drawn_by_class_and_session_5_is_apart() -> None:
    impro, *_ = read_recipe("mlcct/iemocap_impro")
    assert impro.data.only == {"dialogue": "impro"}
    split = impro.data.split
    assert split.kind == "random"
    assert (split.ratio, split.stratified) == ((70, 10, 20), True)
    apart = read_recipe("mlcct/iemocap_session5")[0].data.split
    assert apart.kind == "dialogues"
    assert (apart.test, apart.validation_by) == (("Ses05*",), "dialogue")


def test_training_is_as_decided() -> None:
    for name in TABLES:
        for recipe in read_recipe(name):
            training = recipe.training
            assert (training.optimiser.name, training.optimiser.rate) == ("adamw", 1e-4)
            assert (training.optimiser.decay, training.clip, training.batch) == (0.01, 1.0, 32)
            assert (training.epochs, training.early_stop.patience) == (50, 8)
            assert (training.early_stop.watch, training.schedule.warmup) == ("uar", 0.05)
            assert len(training.seeds) == 5


@pytest.mark.parametrize("name", NAMES)
def test_every_row_can_be_built_and_pools_40_ms_once(name: str) -> None:
    recipes = read_recipe(name)
    for recipe in recipes:
        with torch.device("meta"):
            model = build_fusion(recipe)
        if "acoustic" in recipe.streams:
            stream = recipe.streams["acoustic"]
            pooled = stream.config["pool"] * model.config.audio_pool
            assert pooled == (4 if name in TABLES else 8)
        for stream in recipe.streams.values():
            assert stream.encoder in registry.names("encoder")
    assert len({recipe.recipe.title for recipe in recipes}) == len(recipes)
