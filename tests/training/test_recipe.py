"""Recipes: every one that ships can be read and built; errors name file, key and cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from emotrace_models import registry
from emotrace_models.labels import SCHEMES
from emotrace_training import recipe_list
from emotrace_training.learner import build_fusion
from emotrace_training.recipe import (
    MAIN,
    Recipe,
    RecipeError,
    merge,
    read_recipe,
    recipe_file,
    recipe_names,
    run_name,
)
from emotrace_training.scoring import METRICS


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_can_be_built(name: str) -> None:
    first = recipe_file(name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# emotrace-train fit {name}")
    with torch.device("meta"):
        for recipe in read_recipe(name):
            assert set(build_fusion(recipe).streams) == set(recipe.streams)
            assert set(recipe.recipe.published) <= set(METRICS)
            assert all(0 < figure < 1 for figure in recipe.recipe.published.values())
            for stream in recipe.streams.values():
                if stream.encoder is not None:
                    registry.lookup("encoder", stream.encoder)


def read(folder: Path, text: str) -> list[Recipe]:
    (folder / "r.toml").write_text(text)
    return read_recipe((folder / "r.toml").as_posix())


GOOD = """\
[recipe]
title = "x"
[data]
labels = "common4"
split = { kind = "own" }
[streams.acoustic]
encoder = "mel_frames"
[model]
name = "gban"
hidden = 4
"""


def test_a_recipe_has_defaults(tmp_path: Path) -> None:
    (recipe,) = read(tmp_path, GOOD)
    assert recipe.variant == MAIN
    assert recipe.data.label_set == SCHEMES["common4"]
    assert recipe.model.config == {"hidden": 4}
    assert recipe.training.optimiser.name == "adam"
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_variants_override_keys_table_by_table(tmp_path: Path) -> None:
    one, two, three = read(
        tmp_path,
        GOOD
        + '[streams.lexical]\nencoder = "words"\nconfig = { width = 3 }\n'
        + "[variants.one]\nmodel.hidden = 8\n"
        + '[variants.two]\ndrop = ["streams.lexical"]\nrecipe.title = "y"\n'
        + '[variants.three.streams.lexical]\nencoder = "roberta"\n',
    )
    assert (one.variant, one.model.config, one.recipe.title) == ("one", {"hidden": 8}, "x")
    assert (list(two.streams), two.recipe.title) == (["acoustic"], "y")
    assert three.streams["lexical"].config == {}, "another encoder takes no settings of the old one"


def test_chosen_variants_and_overrides(tmp_path: Path) -> None:
    read(tmp_path, GOOD + "[variants.a]\nmodel.hidden = 1\n[variants.b]\nmodel.hidden = 2\n")
    file = (tmp_path / "r.toml").as_posix()
    (found,) = read_recipe(file, ["b"], ["training.epochs=3", "training.optimiser.name = sgd"])
    assert (found.model.config["hidden"], found.training.epochs) == (2, 3)
    assert found.training.optimiser.name == "sgd"
    with pytest.raises(RecipeError, match=r"no variant c; there are a, b"):
        read_recipe(file, ["c"])
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        read_recipe(file, [], ["epochs"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden = 4", "classes = 4", "model: classes come from data.labels"),
        ('"common4"', '"common5"', r"data.labels: no label scheme 'common5'; there are common4"),
        ('kind = "own"', 'kind = "fair"', "data.split"),
        ('encoder = "mel_frames"', "tune = true", "streams.acoustic: give one of encoder"),
        ('encoder = "mel_frames"', 'file = "x"\nconfig = { a = 1 }', "belong to an encoder"),
        ('encoder = "mel_frames"', 'file = "x"\ntune = true', "cannot be tuned"),
        ("[model]", "[training]\nepoch = 3\n[model]", "training.epoch: there is no such key"),
        ("[model]", "[training]\nseeds = [1, 1]\n[model]", "training.seeds: seeds must be there"),
        ("[model]", "[training]\nhide = { smell = 0.1 }\n[model]", "no stream smell"),
        ("[model]", "[training]\nhide = { acoustic = 0.6, lexical = 0.6 }\n[model]", "sum to less"),
        ('title = "x"', "", "recipe.title"),
        ("[recipe]", "[recipe", "no TOML"),
        ("[model]", "[variants]\na = 3\n[model]", "variants: must be tables"),
        ("[model]", '[variants.a]\ndrop = ["streams.x"]\n[model]', "there is no streams.x"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RecipeError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value).startswith((tmp_path / "r.toml").as_posix())


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match="gban/iemocap"):
        read_recipe("gban/iemcap")


def test_model_faults_are_named(tmp_path: Path) -> None:
    (recipe,) = read(tmp_path, GOOD.replace("hidden = 4", "size = 4"))
    with pytest.raises(RecipeError, match="has no setting size"):
        build_fusion(recipe)
    (recipe,) = read(tmp_path, GOOD)
    with pytest.raises(RecipeError, match="takes the streams acoustic, lexical"):
        build_fusion(recipe)
    (recipe,) = read(tmp_path, GOOD.replace('"gban"', '"gbon"'))
    with pytest.raises(RecipeError, match="no fusion is called 'gbon'"):
        build_fusion(recipe)


def test_merging_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": [1], "c": 2}}
    assert merge(base, {"a": {"b": [3]}}) == {"a": {"b": [3], "c": 2}}
    assert base == {"a": {"b": [1], "c": 2}}


def test_run_names() -> None:
    assert run_name("gban/iemocap") == "gban-iemocap"
    assert run_name("some/where/mine.toml") == "mine"


def test_the_list_shows_names_and_titles(invoke, tmp_path: Path) -> None:
    shown = invoke(recipe_list.command, "gban/iemocap")
    assert "gban/iemocap" in shown
    assert "dual_stream" not in shown
