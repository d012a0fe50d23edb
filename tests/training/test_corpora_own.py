"""One's own data: folders named after emotions, and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpus_trees import LFS_POINTER, film, tone

from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.own_folder import read_own_folder
from emotrace_training.corpora.own_table import read_own_table
from emotrace_training.manifests import ManifestError, dialogues_of, read_sound

DEFAULT = Settings()
ZERO = Settings(on_missing="zero")


def folder(path: Path, **settings: object) -> Loaded:
    return read_own_folder(path, Settings(**settings), "mine")


def table(path: Path, text: str, name: str = "t.csv", settings: Settings = DEFAULT) -> Loaded:
    (path / name).write_text(text, encoding="utf-8")
    return read_own_table(path / name, settings, "mine")


def test_12_11_own_folder(tmp_path: Path) -> None:
    """Emotion, or emotion and speaker; the label as the folder writes it."""
    tone(tmp_path / "Happy" / "ana" / "1.wav")
    tone(tmp_path / "Happy" / "bo" / "1.flac")
    tone(tmp_path / "angry" / "x.ogg", rate=24_000)
    film(tmp_path / "angry" / "y.mp4")
    tone(tmp_path / "angry" / "ana" / "deep" / "z.wav")
    (tmp_path / "angry" / "empty.wav").write_bytes(b"")
    (tmp_path / "angry" / "pointer.wav").write_bytes(LFS_POINTER)
    (tmp_path / "angry" / "._x.ogg").write_bytes(b"\x00")
    (tmp_path / "angry" / "notes.txt").write_text("no sound")
    loaded = folder(tmp_path, language="en", licence="mine")
    assert [(r.id, r.speaker, r.emotion, r.label_raw, r.split) for r in loaded.records] == [
        ("Happy/ana/1", "mine:ana", "happiness", "Happy", ""),
        ("Happy/bo/1", "mine:bo", "happiness", "Happy", ""),
        ("angry/x", "mine:unknown", "anger", "angry", ""),
        ("angry/y", "mine:unknown", "anger", "angry", ""),
    ]
    assert loaded.counts() == {
        "clip in a folder too deep": 1, "clip of an unknown speaker": 4, "empty media file": 1,
        "Git LFS pointer in place of media": 1,
    }  # fmt: skip
    assert loaded.notes == {"hidden files left out": 1}
    assert {(r.language, r.licence) for r in loaded.records} == {("en", "mine")}
    assert all(len(read_sound(r)) > 4_000 for r in loaded.records)


def test_folders_of_splits(tmp_path: Path) -> None:
    tone(tmp_path / "train" / "sad" / "ana" / "1.wav")
    tone(tmp_path / "val" / "sad" / "bo" / "1.wav")
    assert [(r.id, r.split) for r in folder(tmp_path).records] == [
        ("train/sad/ana/1", "train"), ("val/sad/bo/1", "valid"),
    ]  # fmt: skip
    tone(tmp_path / "sad" / "1.wav")
    with pytest.raises(ManifestError, match="sad: lies beside train, but is no split"):
        folder(tmp_path)


def test_a_folder_that_is_no_emotion(tmp_path: Path) -> None:
    tone(tmp_path / "cheerful" / "ana" / "1.wav")
    with pytest.raises(ManifestError, match=r"cheerful: no emotion.*--label 'cheerful=NAME'"):
        folder(tmp_path)
    assert folder(tmp_path, labels={"cheerful": "happiness"}).records[0].emotion == "happiness"
    with pytest.raises(ManifestError, match=r"expected anger/a\.wav.*1 x clip in no emotion's"):
        folder(tmp_path / "cheerful" / "ana")
    with pytest.raises(ManifestError, match="no such folder"):
        folder(tmp_path / "nowhere")


ROWS = """file,label,speaker,dialogue,start,end,text,split,language,mood
a.wav,Joy,ana,d1,1.5,1.8,Hello.,dev,de,good
b.wav,sad,bo,d1,0.5,0.8,"Oh, no.",train,,
,xxx,bo,d1,2.0,2.5,Hm.,train,,
film.mp4,angry,ana,,,,,test,,
gone.wav,angry,ana,,,,Where?,test,,
"""


def test_12_11_own_table(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        tone(tmp_path / name)
    film(tmp_path / "film.mp4")
    loaded = table(tmp_path, ROWS, settings=Settings(language="en"))
    assert [(r.id, r.emotion, r.label_raw, r.split, r.language) for r in loaded.records] == [
        ("b", "sadness", "sad", "train", "en"),
        ("a", "happiness", "Joy", "valid", "de"),
        ("line-4", "unknown", "xxx", "train", "en"),
        ("film", "anger", "angry", "test", "en"),
    ]
    assert loaded.counts() == {"missing media": 1, "unknown column, not used": 1}
    assert loaded.faults[0].place.endswith("t.csv:2")
    assert "'mood'; known: id, file, label" in loaded.faults[0].detail
    assert loaded.faults[1].place.endswith("t.csv:6")
    dialogue = dialogues_of(loaded.records)["mine", "d1"]
    assert [(r.id, r.turn, r.start_s) for r in dialogue] == [
        ("b", 1, 0.5), ("a", 0, 1.5), ("line-4", 2, 2.0),
    ]  # fmt: skip
    assert [r.id for r in dialogues_of(loaded.records, "transcript")["mine", "d1"]] == [
        "a", "b", "line-4",
    ]  # fmt: skip
    kept = table(tmp_path, ROWS, settings=ZERO)
    assert len(kept.records) == 5
    assert kept.records[-1].flags == ("no_audio",)


def test_tables_in_each_format_say_the_same(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    rows = [{"file": "a.wav", "emotion": "fear", "speaker": "ana", "from": 0.1, "to": 0.25}]
    header, line = ",".join(rows[0]), ",".join(str(v) for v in rows[0].values())
    texts = {
        "t.csv": f"\ufeff{header}\n{line}\n",
        "t.tsv": f"{header}\n{line}\n".replace(",", "\t"),
        "t.jsonl": json.dumps(rows[0]) + "\n\n",
    }
    found = [table(tmp_path, text, name).records for name, text in texts.items()]
    assert found[0] == found[1] == found[2]
    (record,) = found[0]
    assert (record.id, record.emotion, record.span) == ("a@0.1", "fear", (0.1, 0.25))
    assert record.seconds == pytest.approx(0.15)
    assert len(read_sound(record)) == 2_400


def test_parts_beyond_the_file(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    rows = "file,label,speaker,from,to\na.wav,sad,x,0.1,0.9\na.wav,sad,x,0.5,0.9\n"
    loaded = table(tmp_path, rows)
    assert loaded.counts() == {"part ends after its file": 2}
    (record,) = loaded.records
    assert (record.span, record.flags) == ((0.1, 0.3), ("cut",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file,label\na.wav,zeal\n", r"t.csv:2: no emotion is called 'zeal'.*--label 'zeal=NAME'"),
        ("file,label\na.wav,\n", r"t.csv:2: no label"),
        ("file,lable\na.wav,sad\n", r"t.csv:2: no label"),
        ("file,label,split\na.wav,sad,holdout\n", r"t.csv:2: 'holdout' is no split"),
        ("file,label,text\n,sad,\n", r"t.csv:2: neither file nor text"),
        ("file,label\na.wav,sad\na.wav,joy\n", r"t.csv:3: id 'a' stands in .*t.csv:2 too"),
        ("id,file,label\n1,a.wav,sad\n2,a.wav,joy\n", r"t.csv:3: a.wav stands in .*from and to"),
        ("file,label,start,end\na.wav,sad,2,1\n", r"t.csv:2: start 2.0 and end 1.0 do not go"),
        ("file,label,from,to\na.wav,sad,0,\n", r"t.csv:2: from and to are seconds, both"),
        ("file,label,from,to\na.wav,sad,nan,1\n", "do not go forward"),
        ("file,label\n", "no usable record; expected rows with the columns file, label"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: str, message: str) -> None:
    tone(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=message):
        table(tmp_path, rows)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    for name, text, message in (
        ("t.xlsx", "", "is none of .csv, .tsv, .jsonl"),
        ("t.jsonl", "{\n", "t.jsonl:1: is not JSON"),
        ("t.jsonl", "[1]\n", "t.jsonl:1: is no object"),
    ):
        with pytest.raises(ManifestError, match=message):
            table(tmp_path, text, name)
