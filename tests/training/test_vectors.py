"""Vectors of a bundle's encoder as a file that a recipe reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from fakes import toy_bundle
from typer.testing import CliRunner

from emotrace_models.bundle import Bundle
from emotrace_models.types import Transcript, Utterance
from emotrace_training.extract import precomputed
from emotrace_training.manifests import Record, write_manifest
from emotrace_training.recipe import Stream
from emotrace_training.vectors import NoVectors, command, vectors_of, widened

TEXTS = ("I am so happy to see you", "", "this is a sad day", "go away")


def records(corpus: str = "own") -> list[Record]:
    return [
        Record(
            id=f"u{i}", corpus=corpus, dialogue="d", turn=i, start_s=float(i), end_s=i + 1.0,
            speaker=f"{corpus}:a", emotion="neutral", split="", text=text, language="en",
            licence="none",
        )
        for i, text in enumerate(TEXTS)
    ]  # fmt: skip


def test_widened_vectors_keep_lengths_and_angles() -> None:
    rng = np.random.default_rng(0)
    narrow = rng.standard_normal((5, 4)).astype(np.float32)
    wide = widened(narrow, 12)
    assert wide.shape == (5, 12)
    np.testing.assert_allclose(wide @ wide.T, narrow @ narrow.T, rtol=1e-5)
    np.testing.assert_allclose(wide[:, :3], np.repeat(narrow[:, :1], 3, 1) / np.sqrt(3), rtol=1e-6)
    np.testing.assert_array_equal(widened(narrow, 4), narrow)
    for width in (6, 2):
        with pytest.raises(NoVectors, match=f"width {width}"):
            widened(narrow, width)


def test_the_file_holds_what_the_bundle_hears_and_a_recipe_reads_it(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, records())
    app = typer.Typer()
    app.command()(command)
    arguments = [str(bundle), "lexical", "--manifest", str(manifest), "-o", str(tmp_path / "a.npz")]
    arguments += ["--cache", str(tmp_path / "cache"), "--width", "32"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "3 vectors of 32 values" in result.output
    found = precomputed("lexical", Stream(file=str(tmp_path / "a.npz")), records())
    assert [fault.record for fault in found.faults] == ["u1"]
    [encoder] = [one for one in Bundle.load(bundle).encoders if one.stream == "lexical"]
    said = Utterance(0, "a", 0, 1, None, Transcript(TEXTS[2], "client"))
    [(vector, _)] = encoder.encode([(encoder.start(), said)])
    assert vector is not None
    np.testing.assert_allclose(found.features[2], widened(vector[None], 32)[0], atol=1e-6)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    manifest, cache = tmp_path / "manifest.jsonl", tmp_path / "cache"
    write_manifest(manifest, records())
    with pytest.raises(NoVectors, match="no stream 'facial'"):
        vectors_of(str(bundle), "facial", manifest, cache)
    with pytest.raises(NoVectors, match="anything acoustic"):
        vectors_of(str(bundle), "acoustic", manifest, cache)
    write_manifest(manifest, [*records(), *records("other")])
    with pytest.raises(NoVectors, match="one id"):
        vectors_of(str(bundle), "lexical", manifest, cache)
