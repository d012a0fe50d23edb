"""Every command end to end, at tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from typer.testing import CliRunner

from emotrace_bench.__main__ import EXIT_MISSING, app

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def ran(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out, plot = tmp_path / "result.json", tmp_path / "plot.png"
    done = CliRunner().invoke(app, [*arguments, "--quick", "--out", str(out), "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    written: dict[str, Any] = json.loads(out.read_text())
    assert written["benchmark"].startswith(arguments[0])
    assert written["quick"] is True
    assert written["tables"]
    assert all(table["rows"] for table in written["tables"])
    return written


def test_the_commands_are_there() -> None:
    assert {"pipeline", "decoder", "scale", "gpu"} <= set(COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) > 8


def test_both_ways_of_the_pipeline_give_the_same(tmp_path: Path) -> None:
    written = ran(tmp_path, "pipeline", "--profile", "exact")
    times, outputs = (table["rows"] for table in written["tables"])
    assert [(row["way"], row["threads"]) for row in times] == [
        (f"papers' way, {tokens} tokens", threads)
        for tokens in (77, 20)
        for threads in ("all cores", "one thread")
    ] + [("ours, exact", threads) for threads in ("side by side", "all cores", "one thread")]
    for row in outputs:
        assert row["logits move by"] > 0.01
        assert row["they differ by"] < 1e-5
        assert row["posteriors by"] < 1e-5
    for row in times:
        assert row["critical path"] > row["stacks"] > 0
        assert (row["prepared"] > 0) == row["way"].startswith("ours")
    assert len(written["ratios"]) == 4
    assert all(ratio["difference"] < 1e-5 for ratio in written["ratios"])


@pytest.mark.long
def test_the_fast_profile_is_near(tmp_path: Path) -> None:
    written = ran(tmp_path, "pipeline", "--profile", "fast")
    assert {row["way"] for row in written["tables"][1]["rows"]} >= {"ours, fast"}
    assert all(ratio["difference"] < 0.05 for ratio in written["ratios"])
    assert "int8" in written["settings"]["fast"]


def test_the_stages_of_a_bundle(tmp_path: Path) -> None:
    written = ran(tmp_path, "pipeline", "--bundle", "default")
    (row,) = written["tables"][0]["rows"]
    stages = {"acoustic", "lexical", "facial", "fusion", "decoder", "whole turn"}
    assert set(row) == {"utterance, s", *stages}
    assert all(row[stage] > 0 for stage in stages)


def test_a_bundle_that_is_none_is_a_usage_error() -> None:
    done = CliRunner().invoke(app, ["pipeline", "--bundle", "nowhere", "--quick"])
    assert done.exit_code == 2
    assert "nowhere" in done.output


def test_both_decoders_give_the_same(tmp_path: Path) -> None:
    written = ran(tmp_path, "decoder")
    assert "NOT EQUAL" not in " ".join(written["notes"])
    assert "equal" in " ".join(written["notes"])
    assert all(ratio["difference"] < 1e-9 for ratio in written["ratios"])
    assert len(written["ratios"]) == 2


def test_a_long_dialogue_is_kept_in_no_more_memory(tmp_path: Path) -> None:
    written = ran(tmp_path, "scale")
    rows = {row["turns"]: row for row in written["tables"][0]["rows"]}
    assert list(rows) == [10, 100, 1_000]
    assert rows[1_000]["state, bytes"] <= 1.1 * rows[100]["state, bytes"]
    assert rows[10]["window, bytes"] == rows[1_000]["window, bytes"]


def test_an_accelerator_is_measured_against_the_papers_way(tmp_path: Path) -> None:
    written = ran(tmp_path, "gpu", "--device", "cpu")
    runs, kernels, limits = (table["rows"] for table in written["tables"])
    assert [(row["batch"], row["numbers"]) for row in runs] == [
        (batch, numbers) for numbers in ("float32", "bfloat16") for batch in (1, 2)
    ]
    for row in runs:
        assert row["logits differ"] < (1e-5 if row["numbers"] == "float32" else 0.05)
        assert row["per s"] == pytest.approx(1e3 * row["batch"] / row["ms"])
        assert row["of bound"] > 0
        assert row["TFLOP/s"] > 0
    assert all(row["launches"] > 100 and "products" in row["kernels"] for row in kernels)
    assert all(row["product, TFLOP/s"] > 0 and row["copy, GB/s"] > 0 for row in limits)


def test_without_a_cuda_device_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(app, ["gpu"])
    assert done.exit_code == EXIT_MISSING
    assert "no CUDA device" in done.output
