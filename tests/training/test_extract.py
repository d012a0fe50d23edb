"""Extraction: everything is made once, nothing is lost without a word, damage is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_corpus import TURNS, Toy, gated_recipe, toy_corpus

from emotrace_models.encoders import CompactAcoustic
from emotrace_models.encoders.mel_frames import MelFrames
from emotrace_models.types import Utterance
from emotrace_training import extract
from emotrace_training.dataset import Dataset, load_dataset
from emotrace_training.extraction import ExtractionError, Extractor, stream_features
from emotrace_training.feature_cache import CacheCorrupted, FeatureCache
from emotrace_training.frame_sources import Film
from emotrace_training.manifests import write_manifest
from emotrace_training.recipe import Recipe, RecipeError, read_recipe
from emotrace_training.stream_encoders import build_encoder

MEL = 'encoder = "mel_frames"\nconfig = { longest = 70 }'
SMALL = "{ width = 8, members = 1, channels = [4, 4, 4, 4], contour = 4, pooled = 8 }"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy"), sound=True)


def made(folder: Path, source: str, manifest: Path, cache: Path) -> tuple[Any, Dataset, Recipe]:
    (recipe,) = read_recipe(gated_recipe(folder, source))
    dataset = load_dataset(recipe, manifest)
    extractor = Extractor(dataset.records, cache, Film())
    found, _ = stream_features(recipe, "acoustic", dataset, extractor, ())
    return found, dataset, recipe


def counting(monkeypatch: pytest.MonkeyPatch, stop: int | None = None) -> list[int]:
    """How often the mel front end is asked; after `stop` times it is as if the run were killed."""
    asked: list[int] = []
    front = MelFrames.front

    def counted(self: MelFrames, utterance: Utterance) -> Any:
        if stop is not None and len(asked) >= stop:
            raise KeyboardInterrupt
        asked.append(1)
        return front(self, utterance)

    monkeypatch.setattr(MelFrames, "front", counted)
    return asked


def test_features_are_made_once(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    asked = counting(monkeypatch)
    first, dataset, _ = made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    assert len(asked) == len(dataset.records) == 60
    again, _, _ = made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    assert len(asked) == 60
    for one, other in zip(first.features, again.features, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.features[0].shape[1] == 52


def test_other_settings_are_made_anew(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    asked = counting(monkeypatch)
    made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    made(tmp_path, MEL.replace("70", "65"), toy.manifest, tmp_path / "cache")
    assert len(asked) == 120
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_killed_run_goes_on(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        counting(patch, stop=40)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    asked = counting(monkeypatch)
    found, _, _ = made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    assert 0 < len(asked) < 60
    assert all(features is not None for features in found.features)


def test_the_same_sound_twice_is_encoded_once(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    records = [replace(r, file=toy.records[0].file) for r in toy.records]
    write_manifest(tmp_path / "twice.jsonl", records)
    asked = counting(monkeypatch)
    found, _, _ = made(tmp_path, MEL, tmp_path / "twice.jsonl", tmp_path / "cache")
    assert len(asked) == 1
    assert sum(f is not None for f in found.features) == 60


def test_a_damaged_cache_entry_is_named(toy: Toy, tmp_path: Path) -> None:
    made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    (shard,) = (tmp_path / "cache").rglob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4] + bytes(4))
    with pytest.raises(CacheCorrupted, match=r"safetensors: not what was written .*delete this"):
        made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    shard.write_bytes(whole[:40])
    with pytest.raises(CacheCorrupted, match=shard.name):
        made(tmp_path, MEL, toy.manifest, tmp_path / "cache")
    shard.unlink()
    made(tmp_path, MEL, toy.manifest, tmp_path / "cache")


def test_an_unreadable_clip_is_counted_with_its_line(toy: Toy, invoke, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    records = [*toy.records]
    records[4] = replace(records[4], file=broken.as_posix())
    records[7] = replace(records[7], file=None)
    write_manifest(tmp_path / "broken.jsonl", records)
    recipe = gated_recipe(tmp_path, MEL)
    said = invoke(
        extract.command, recipe, "--manifest", tmp_path / "broken.jsonl", "--cache",
        tmp_path / "cache",
    )  # fmt: skip
    assert "'acoustic: unreadable': 1" in said
    report = json.loads((tmp_path / "cache/reports/toy/main.json").read_text())
    assert report["faults"] == {"acoustic: unreadable": 1, "acoustic: no audio": 1}
    by_kind = {fault["kind"]: fault for fault in report["listed"]}
    assert by_kind["unreadable"]["place"] == f"{tmp_path / 'broken.jsonl'}:5"
    assert "broken.wav" in by_kind["unreadable"]["detail"]
    assert by_kind["no audio"]["place"].endswith(":8")


def test_nan_in_features_is_named(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        MelFrames, "front", lambda self, utterance: np.full((61, 52), np.nan, np.float32)
    )
    with pytest.raises(ExtractionError, match=r"toy.jsonl:\d+: stream acoustic has NaN"):
        made(tmp_path, MEL, toy.manifest, tmp_path / "cache")


def test_what_an_encoder_refuses_is_named(toy: Toy, tmp_path: Path, monkeypatch) -> None:
    def refuse(self: MelFrames, utterance: Utterance) -> Any:
        raise ValueError("too short")

    monkeypatch.setattr(MelFrames, "front", refuse)
    with pytest.raises(ExtractionError, match=r"stream acoustic: too short .*toy.jsonl:\d+"):
        made(tmp_path, MEL, toy.manifest, tmp_path / "cache")


def test_speaker_state_goes_through_dialogues_in_order(toy: Toy, tmp_path: Path) -> None:
    source = f'encoder = "compact_acoustic"\nconfig = {SMALL}'
    found, dataset, recipe = made(tmp_path, source, toy.manifest, tmp_path / "cache")
    encoder = build_encoder(recipe, "acoustic", ())
    assert isinstance(encoder, CompactAcoustic)
    extractor = Extractor(dataset.records, tmp_path, Film())
    dialogue = dataset.dialogues()[0]
    assert len(dialogue) == TURNS
    states = {dataset.records[i].speaker: encoder.start() for i in dialogue}
    for index in dialogue:
        said = extractor._utterance(encoder, index, [])
        assert said is not None
        ((expected, state),) = encoder.encode([(states[said.speaker], said)])
        states[said.speaker] = state
        np.testing.assert_allclose(found.features[index], expected, atol=1e-5)


def test_precomputed_vectors(toy: Toy, tmp_path: Path) -> None:
    found, dataset, _ = made(tmp_path, f'file = "{toy.vectors}"', toy.manifest, tmp_path / "cache")
    table = np.load(toy.vectors)
    for record, features in zip(dataset.records, found.features, strict=True):
        row = table["id"].tolist().index(record.id)
        np.testing.assert_array_equal(features, table["values"][row])


def test_faults_of_precomputed_vectors(toy: Toy, tmp_path: Path) -> None:
    table = dict(np.load(toy.vectors))
    np.savez(tmp_path / "few.npz", id=table["id"][1:], values=table["values"][1:])
    found, _, _ = made(tmp_path, f'file = "{tmp_path}/few.npz"', toy.manifest, tmp_path)
    ((fault),) = found.faults
    assert (fault.kind, fault.record) == ("no vector", str(table["id"][0]))
    assert fault.place.endswith("toy.jsonl:1")
    with pytest.raises(ExtractionError, match=r"no array utt; there are id, values"):
        made(tmp_path, f'file = "{toy.vectors}"\nids = "utt"', toy.manifest, tmp_path)
    values = table["values"].copy()
    values[3, 2] = np.nan
    np.savez(tmp_path / "nan.npz", id=table["id"], values=values)
    with pytest.raises(ExtractionError, match=rf"row 3 \({table['id'][3]}\) has NaN"):
        made(tmp_path, f'file = "{tmp_path}/nan.npz"', toy.manifest, tmp_path)
    with pytest.raises(ExtractionError, match="no table of vectors"):
        made(tmp_path, f'file = "{tmp_path}/none.npz"', toy.manifest, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('encoder = "mel_image"', "gives the stream 'spectrogram'; name the table so"),
        ('encoder = "mel_frame"', "no encoder is called"),
        ('encoder = "mel_frames"\nconfig = { longest = 3 }', "longest must be at least 61"),
        (f'encoder = "compact_acoustic"\nconfig = {SMALL}\ntune = true', "cannot be trained"),
        ('bundle = "nobody"', "no bundle 'nobody'"),
    ],
)
def test_faults_of_a_stream(toy: Toy, tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"streams.acoustic: .*{message}"):
        made(tmp_path, source, toy.manifest, tmp_path)


def test_an_encoder_out_of_a_bundle(toy: Toy, tmp_path: Path) -> None:
    found, _, _ = made(tmp_path, 'bundle = "default"', toy.manifest, tmp_path / "cache")
    assert {f.shape for f in found.features} == {(128,)}


def test_records_are_chosen_and_counted(toy: Toy, tmp_path: Path) -> None:
    file = Path(gated_recipe(tmp_path, MEL))
    text = file.read_text()
    file.write_text(text.replace("[data]", '[data]\nonly = { dialogue = "^Ses0[12]" }', 1))
    (recipe,) = read_recipe(file.as_posix(), (), ["training.keep=last", 'data.corpora=["toy"]'])
    with pytest.raises(Exception, match="no record with a class in 'test'"):
        load_dataset(recipe, toy.manifest)
    (recipe,) = read_recipe(
        file.as_posix(), (), ["data.split.kind=random", "data.split.ratio=[6,2,2]"]
    )
    dataset = load_dataset(recipe, toy.manifest)
    assert dataset.dropped == {"data.only.dialogue": 20}


def test_thinning_takes_whole_dialogues(toy: Toy, tmp_path: Path) -> None:
    (recipe,) = read_recipe(gated_recipe(tmp_path, MEL), (), ["data.most=7"])
    dataset = load_dataset(recipe, toy.manifest)
    assert [len(d) for d in dataset.dialogues()] == [TURNS] * 6
    assert dataset.dropped == {"data.most": 30}


def test_a_cache_keeps_nothing_as_nothing(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, {"encoder": "x"})
    cache.add("a", None)
    cache.add("b", np.arange(3))
    again = FeatureCache(tmp_path, {"encoder": "x"})
    assert "a" not in again, "not on disk before the flush"
    cache.flush()
    found = FeatureCache(tmp_path, {"encoder": "x"}).read(["a", "b"])
    assert found["a"] is None
    np.testing.assert_array_equal(found["b"], np.arange(3))
