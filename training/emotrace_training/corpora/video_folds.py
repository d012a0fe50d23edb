"""Folds given as lists of video ids: JSON, or the corpus SDK's Python file, which is never run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from emotrace_training.corpora.tables import decoded
from emotrace_training.manifests import ClipSplit, ManifestError

_NAMES: dict[str, ClipSplit] = {
    "train": "train", "standard_train_fold": "train",
    "valid": "valid", "dev": "valid", "standard_valid_fold": "valid",
    "test": "test", "standard_test_fold": "test",
}  # fmt: skip


def read_folds(file: Path) -> dict[str, ClipSplit]:
    """Video id -> split.

    `.json`: {"train": [ids], "valid": […], "test": […]}; `.py`: standard_train_fold = [ids] and so
    on, as the SDK's `cmu_mosei_std_folds.py` has them. Raises ManifestError.
    """
    given: dict[str, ClipSplit] = {}
    lists = _assigned(file) if file.suffix == ".py" else _loaded(file)
    for name, ids in lists.items():
        if name not in _NAMES:
            continue
        if not isinstance(ids, list | tuple) or not all(isinstance(i, str) for i in ids):
            raise ManifestError(f"{file}: {name} is no list of video ids")
        for identifier in ids:
            before = given.setdefault(identifier, _NAMES[name])
            if before != _NAMES[name]:
                raise ManifestError(f"{file}: {identifier} stands in {before} and {_NAMES[name]}")
    if missing := {"train", "valid", "test"} - set(given.values()):
        raise ManifestError(f"{file}: no ids of {', '.join(sorted(missing))}")
    return given


def _loaded(file: Path) -> dict[str, Any]:
    try:
        lists = json.loads(decoded(file))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{file}:{error.lineno}: is not JSON: {error.msg}") from error
    if not isinstance(lists, dict):
        raise ManifestError(f'{file}: is not {{"train": [ids], "valid": [ids], "test": [ids]}}')
    return lists


def _assigned(file: Path) -> dict[str, Any]:
    try:
        tree = ast.parse(decoded(file))
    except SyntaxError as error:
        raise ManifestError(f"{file}:{error.lineno}: is not Python: {error.msg}") from error
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found
