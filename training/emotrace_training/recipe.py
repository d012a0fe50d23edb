"""Recipes: one TOML says which data, streams and model, how it is trained, what was published.

    emotrace-train recipes            lists those that come with the package
    [variants.NAME]                   overrides keys of the rest: a whole table of rows in one file

A recipe is a name (`gban/iemocap`) or a path. Errors name the file, the key and the cure. What the
keys mean stands in recipe_tables.py.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emotrace_training.recipe_tables import Recipe, Stream

__all__ = [
    "MAIN",
    "Recipe",
    "RecipeError",
    "Stream",
    "merge",
    "read_recipe",
    "recipe_file",
    "recipe_head",
    "recipe_names",
    "run_name",
]

FOLDER = Path(__file__).with_name("recipes")
MAIN = "main"  # the only variant of a recipe that has no table of them


class RecipeError(ValueError):
    """A recipe that cannot be used."""


def recipe_names() -> list[str]:
    """Those that come with the package."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.toml"))


def recipe_file(name: str) -> Path:
    """The file of a recipe: one of the package's, or a path. Raises RecipeError."""
    for file in (FOLDER / f"{name}.toml", Path(name)):
        if file.is_file():
            return file
    raise RecipeError(f"no recipe {name!r}: neither a file nor one of {', '.join(recipe_names())}")


def run_name(recipe: str) -> str:
    """The folder name of a recipe's runs."""
    name = Path(recipe).stem if recipe.endswith(".toml") else recipe
    return name.replace("/", "-")


def recipe_head(name: str) -> tuple[str, list[str]]:
    """Title and names of the variants, none where there are none. Raises RecipeError."""
    file = recipe_file(name)
    values, tables = _tables(file)
    about = values.get("recipe", {})
    title = str(about.get("title", "")) if isinstance(about, dict) else ""
    return title, [variant for variant in tables if variant != MAIN]


def read_recipe(
    name: str, variants: Sequence[str] = (), overrides: Sequence[str] = ()
) -> list[Recipe]:
    """The variants of a recipe, all of them by default; overrides: `training.epochs=3`.

    Raises RecipeError.
    """
    file = recipe_file(name)
    values, tables = _tables(file)
    if missing := [variant for variant in variants if variant not in tables]:
        raise RecipeError(f"{file}: no variant {', '.join(missing)}; there are {', '.join(tables)}")
    found = []
    for variant in variants or tables:
        merged = merge(values, tables[variant])
        for key in merged.pop("drop", ()):
            _drop(merged, key, f"{file}: variant {variant}")
        for override in overrides:
            merged = merge(merged, _override(override))
        found.append(_checked(file, name, variant, merged))
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, table by table; lists and plain values are replaced, and so
    are a stream's keys where the stream is given another source."""
    result = deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            other_source = any(
                source in value and value[source] != result[key].get(source)
                for source in ("encoder", "bundle", "file")
            )
            result[key] = deepcopy(value) if other_source else merge(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def errors_of(error: ValidationError) -> Iterator[str]:
    """Each fault as `key: what is wrong`, unknown keys with the cure."""
    for fault in error.errors():
        # A tagged union puts its tag into the place.
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{where}: there is no such key; take it away or correct its name"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            yield f"{where}: {message}" if where else message


def _tables(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The keys that all variants share, and each variant's own."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: no TOML: {error}") from error
    tables = values.pop("variants", {MAIN: {}})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise RecipeError(f"{file}: variants: must be tables, as in [variants.NAME]")
    return values, tables


def _checked(file: Path, name: str, variant: str, values: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate({**values, "name": name, "variant": variant})
    except ValidationError as error:
        where = f"{file}" if variant == MAIN else f"{file}, variant {variant}"
        raise RecipeError(f"{where}: {'; '.join(errors_of(error))}") from error


def _drop(values: dict[str, Any], key: str, place: str) -> None:
    *path, last = key.split(".")
    table: Any = values
    for part in path:
        table = table.get(part, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict) or last not in table:
        raise RecipeError(f"{place}: drop: there is no {key}")
    del table[last]


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"{text!r}: write KEY=VALUE, as in training.epochs=3")
    try:
        return tomllib.loads(f"{key.strip()} = {value.strip()}")
    except tomllib.TOMLDecodeError:
        try:  # a bare word is a string
            return tomllib.loads(f"{key.strip()} = {value.strip()!r}")
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{text!r}: {error}") from error
