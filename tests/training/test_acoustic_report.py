"""What acoustic runs score, from the vectors that they left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_training.acoustic_report import command, scored

ANGER, SADNESS = EMOTIONS.index("anger"), EMOTIONS.index("sadness")


def write(path: Path, corpus: str, heard: list[list[int]]) -> None:
    """An angry and a sad clip; `heard`: the prototype of each one's vector, a row a draw."""
    draws = len(heard)
    columns = {
        "corpus": np.array([corpus] * 2 * draws),
        "emotion": np.array(["anger", "sadness"] * draws),
        "draw": np.repeat(np.arange(draws), 2),
        "vector": class_prototypes(16).numpy()[np.array(heard).ravel()],
    }
    np.savez(path, **columns)


def test_the_mean_over_draws_and_files(tmp_path: Path) -> None:
    write(tmp_path / "oof.npz", "one", [[ANGER, SADNESS], [ANGER, ANGER]])
    write(tmp_path / "test.npz", "two", [[SADNESS, ANGER], [SADNESS, ANGER]])
    found = scored([tmp_path / "oof.npz", tmp_path / "test.npz"])
    assert set(found) == {"common4", "ekman7"}
    assert found["common4"] == pytest.approx({"one": 0.75, "two": 0.0, "mean": 0.375})


def test_what_is_printed(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    write(tmp_path / "test.npz", "two", [[ANGER, SADNESS]])
    shown = CliRunner().invoke(app, [str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "| test | common4 | two 1.000 | 1.000 |" in shown.output
    assert "held out" not in shown.output, "there is no oof.npz"
    write(tmp_path / "oof.npz", "one", [[ANGER, ANGER]])
    shown = CliRunner().invoke(app, [str(tmp_path)])
    assert "| all speakers | common4 | one 0.500, two 1.000 | 0.750 |" in shown.output
