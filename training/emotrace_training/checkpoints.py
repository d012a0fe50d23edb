"""The state of a training run after an epoch, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emotrace_training.telling import TrainingError

STATE = "state.pt"


class CheckpointMismatch(TrainingError):
    """A checkpoint of another architecture, other settings or other data."""


class CheckpointUnreadable(TrainingError):
    """A checkpoint that is no longer what was written."""


def save_state(folder: Path, made_by: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint in `folder`; a kill leaves the old one or the new one.

    made_by: what the state belongs to, plain values.
    """
    part = folder / f"{STATE}.part"
    torch.save({"made_by": json.dumps(made_by), **state}, part)
    os.replace(part, folder / STATE)


def load_state(folder: Path, made_by: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in `folder`, None where there is none.

    Raises CheckpointUnreadable, and CheckpointMismatch where it belongs to something else.
    """
    file = folder / STATE
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        theirs = json.loads(state.pop("made_by"))
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointUnreadable(
            f"{file}: cannot be read ({type(error).__name__}); delete it, or fit with --restart"
        ) from error
    check_made_by(file, theirs, made_by)
    return state


def check_made_by(file: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises CheckpointMismatch, which names what differs."""
    differing = _differences(theirs, json.loads(json.dumps(ours)), "")
    if differing:
        of = {"architecture": "another architecture", "data": "other data"}
        kind = of.get(differing[0].split(".")[0], "other settings")
        raise CheckpointMismatch(
            f"{file}: is of {kind}: {'; '.join(differing[:3])}. Use another --out, or --restart "
            "to begin again"
        )


def _differences(theirs: Any, ours: Any, key: str) -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            difference
            for name in sorted({*theirs, *ours})
            for difference in _differences(theirs.get(name), ours.get(name), f"{key}.{name}")
        ]
    return [] if theirs == ours else [f"{key.lstrip('.')} is {theirs} there and {ours} here"]
