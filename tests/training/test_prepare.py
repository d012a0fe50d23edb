"""`prepare`: which corpus it reads from where, what it prints and what it leaves on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from corpus_trees import crema_d, iemocap, meld, mosei, tone
from typer.testing import CliRunner

from emotrace_training.manifests import read_manifest
from emotrace_training.prepare import command

ROW = "WR0_{}_1.wav\t{}\tTak.\ttak\t        WR0\tmale\t23\n"
HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"


def run(*arguments: object, code: int = 0) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return " ".join(result.output.split())


@pytest.fixture
def nemo(tmp_path: Path) -> Path:
    folder = tmp_path / "nemo"
    (folder / "samples").mkdir(parents=True)
    emotions = ("anger", "fear", "fear")
    (folder / "data.tsv").write_text(HEADER + "".join(ROW.format(e, e) for e in emotions[:2]))
    soundfile.write(folder / "samples" / "WR0_anger_1.wav", np.zeros(2_400, np.float32), 24_000)
    return folder


def test_a_corpus_from_its_own_folder(nemo: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "deep" / "manifest.jsonl"
    said = run(f"nemo={nemo}", "--manifest", manifest)
    (record,) = read_manifest(manifest)
    assert (record.speaker, record.gender, record.text) == ("nemo:WR0", "male", "Tak.")
    assert "nemo: 1 records, 1 dialogues, 1 speakers; 1 with audio" in said
    assert "1 x missing media" in said
    assert "data.tsv:3" in said
    report = json.loads((tmp_path / "deep" / "manifest.report.json").read_text())
    assert report["nemo"]["faults"] == {"missing media": 1}
    assert report["nemo"]["labels"] == {"none": {"anger": 1}}
    assert report["nemo"]["all_faults"][0]["place"] == f"{nemo}/data.tsv:3"


def test_a_corpus_from_the_folder_of_all(nemo: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    run("nemo", "--data", nemo.parent, "--manifest", manifest)
    assert len(read_manifest(manifest)) == 1


def test_what_cannot_be_prepared(nemo: Path, tmp_path: Path) -> None:
    manifest = ("--manifest", tmp_path / "manifest.jsonl")
    assert "no corpus 'nemoo'; there are" in run(f"nemoo={nemo}", *manifest, code=2)
    assert "folder:NAME=FOLDER" in run(f"folder={nemo}", *manifest, code=2)
    assert "write NAME=MEANING" in run("nemo", "--label", "zeal", *manifest, code=2)
    assert "no emotion is called 'zest'" in run("nemo", "--label", "zeal=zest", *manifest, code=2)
    assert "is not one of" in run("nemo", "--on-missing", "guess", *manifest, code=2)
    assert "named twice" in run(f"nemo={nemo}", "nemo", *manifest, code=2)
    assert "wav/03a01Fa.wav" in run(f"emodb={nemo}", *manifest, code=1)
    assert not manifest[1].exists()


def test_own_data_beside_a_corpus(nemo: Path, tmp_path: Path) -> None:
    tone(tmp_path / "mine" / "cheerful" / "ana" / "1.wav")
    tone(tmp_path / "yours" / "1.wav")
    table = tmp_path / "yours" / "t.csv"
    table.write_text("file,label,speaker,split\n1.wav,zest,bo,test\n")
    manifest = tmp_path / "manifest.jsonl"
    said = run(
        f"nemo={nemo}", f"folder:mine={tmp_path / 'mine'}", f"table:yours={table}",
        "--label", "cheerful=joy", "--label", "zest=excited", "--language", "de",
        "--licence", "own", "--manifest", manifest,
    )  # fmt: skip
    assert "3 records" in said
    records = {record.corpus: record for record in read_manifest(manifest)}
    assert (records["mine"].emotion, records["mine"].label_raw) == ("happiness", "cheerful")
    assert (records["yours"].emotion, records["yours"].split) == ("excitement", "test")
    assert (records["yours"].language, records["yours"].licence) == ("de", "own")
    assert records["nemo"].language == "pl"


def test_settings_reach_the_loaders(tmp_path: Path) -> None:
    manifest = ("--manifest", tmp_path / "manifest.jsonl")
    crema, blogs = crema_d(tmp_path), mosei(tmp_path)
    said = run(f"crema_d={crema}", "--votes", "both", *manifest)
    assert "tied votes 1" in said
    (blogs / "folds.json").rename(tmp_path / "my_folds.json")
    said = run(f"mosei={blogs}", "--folds", tmp_path / "my_folds.json", *manifest)
    assert "split test: fear 1" in said
    said = run(f"meld={meld(tmp_path)}", "--on-missing", "zero", "--longest", 0.2, *manifest)
    assert "meld: 18 records" in said
    assert "16 x clip too long, cut" in said
    assert "… 13 more in the report" in said
    run(f"iemocap={iemocap(tmp_path)}", "--marked", "right", *manifest)
    first = read_manifest(manifest[1])[0]
    assert (first.speaker, first.crop) == ("iemocap:Ses01F", "right")
