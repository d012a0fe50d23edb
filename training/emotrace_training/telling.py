"""Named errors as one line on the terminal, exit code 1; anything else is a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from emotrace_models.bundle import BundleError
from emotrace_models.labels import LabelSetMismatch
from emotrace_training.feature_cache import CacheCorrupted
from emotrace_training.manifests import ManifestError
from emotrace_training.metrics import EmptyFold
from emotrace_training.recipe import RecipeError
from emotrace_training.splits import SplitError


class TrainingError(ValueError):
    """Training that cannot go on; the message names where and the cure."""


@contextmanager
def named_errors() -> Iterator[None]:
    """Print the message of a named error and end with code 1."""
    try:
        yield
    except (
        BundleError, CacheCorrupted, EmptyFold, LabelSetMismatch, ManifestError, RecipeError,
        SplitError, TrainingError,
    ) as error:  # fmt: skip
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
