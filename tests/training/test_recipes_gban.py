"""GBAN's recipes hold every row of the paper's tables, with models that can be built."""

from __future__ import annotations

import pytest
import torch

from emotrace_training.learner import build_fusion
from emotrace_training.recipe import Recipe, read_recipe

# models.md 5.7: means over the folds; UAR where table 3 has one.
TABLES = {
    "h_s": {"accuracy": 0.6226},
    "h_t": {"accuracy": 0.6439},
    "a_s": {"accuracy": 0.6573},
    "a_t": {"accuracy": 0.6931},
    "att_lstm": {"accuracy": 0.6974, "uar": 0.6401},
    "concat1": {"accuracy": 0.7026, "uar": 0.6561},
    "tfl": {"accuracy": 0.7101, "uar": 0.6627},
    "gmu": {"accuracy": 0.7199, "uar": 0.6584},
    "concat2": {"accuracy": 0.7150},
    "ggf": {"accuracy": 0.7239, "uar": 0.7008},
}


@pytest.fixture(scope="module")
def rows() -> dict[str, Recipe]:
    return {recipe.variant: recipe for recipe in read_recipe("gban/iemocap")}


def test_every_published_row_is_there(rows: dict[str, Recipe]) -> None:
    assert {name: rows[name].recipe.published for name in TABLES} == TABLES


def test_the_papers_own_model_has_its_parameters(rows: dict[str, Recipe]) -> None:
    with torch.device("meta"):
        model = build_fusion(rows["ggf"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_329_252


def test_training_is_as_published(rows: dict[str, Recipe]) -> None:
    training = rows["ggf"].training
    assert training.optimiser.betas == (0.9, 0.9)
    assert (training.optimiser.rate, training.clip, training.batch) == (1e-4, 5.0, 32)
    assert (training.epochs, training.early_stop.patience) == (100, 5)
    assert training.class_weights == "balanced"
    split = rows["ggf"].data.split
    assert (split.kind, split.by, split.validation) == ("leave_one_out", "session", 0.05)


def test_the_released_code_differs_where_it_is_said_to(rows: dict[str, Recipe]) -> None:
    with torch.device("meta"):
        config = build_fusion(rows["released"]).config
    assert (config.score, config.last, config.fusion_dropout) == ("additive", "position", 0.0)
    assert not config.standardise
    assert not config.mask_padding


@pytest.mark.parametrize("name", ["gban/iemocap", "shared/gban-composed"])
def test_every_row_can_be_built(name: str) -> None:
    recipes = read_recipe(name)
    for recipe in recipes:
        with torch.device("meta"):
            model = build_fusion(recipe)
        stream = recipe.streams.get("lexical")
        if stream is not None:
            assert stream.config.get("width", 300) == model.streams["lexical"].width
        if "acoustic" in recipe.streams:
            assert model.streams["acoustic"].width == 52
    assert len({recipe.recipe.title for recipe in recipes}) == len(recipes)
