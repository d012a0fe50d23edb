"""`fine-tune`: a new last layer, for the same classes and for a site's own; and it is served."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fakes import toy_bundle
from live import DEMO, live_server, post_file
from toy_corpus import toy_corpus

from emotrace_models import registry
from emotrace_models.bundle import Bundle
from emotrace_models.fusion import FusionModel
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, UtteranceFeatures
from emotrace_training import evaluate_clips, fine_tune
from emotrace_training.clip_features import hear, predictions
from emotrace_training.head import (
    Examples,
    Head,
    fit_head,
    head_of,
    read_by_head,
    turns_of,
    with_classes,
    with_head,
)
from emotrace_training.labelled_clips import read_labels
from emotrace_training.telling import TrainingError
from emotrace_training.windows import Windows

COLUMNS = ("file", "speaker", "emotion", "text", "from", "to")
MOODS = {"happiness": "cheerful", "fear": "hectic", "sadness": "sad"}  # as the site calls them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 utterances of 6 speakers: halves of the toy corpus's clips, and two bundles."""
    base = tmp_path_factory.mktemp("site")
    records = toy_corpus(base, sound=True).records
    for name, moods in (("labels.csv", {}), ("moods.csv", MOODS)):
        with (base / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(
                (Path(r.audio).name, r.speaker, moods.get(r.emotion, r.emotion), r.text, a, a + 0.1)
                for r in records
                for a in (0.0, 0.1)
            )
    toy_bundle(base / "seven", scheme="ekman7", name="seven")
    toy_bundle(base / "four")
    return base


def tuned(folder: Path, invoke, table: str, bundle: str, out: str, *more: object) -> Path:
    arguments = ("--labels", folder / table, "--root", folder, "--bundle", folder / bundle)
    invoke(fine_tune.command, *arguments, "-o", folder / out, *more)
    return folder / out


def figures(out: Path) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    report = json.loads((out / "report" / "report.json").read_text())
    return {(one["label_set"], one["modalities"]): one["figures"] for one in report["compared"]}


@pytest.fixture(scope="module")
def own(folder: Path, invoke) -> Path:
    """Classes of which one is a mapped name, two the site's own and two of no table's names."""
    names = ("--own", "hectic", "--own", "serene", "--label", "cheerful=joy")
    return tuned(folder, invoke, "moods.csv", "four", "own", *names, "--label", "neutral=serene")


def test_a_sites_own_classes(folder: Path, own: Path) -> None:
    bundle = Bundle.load(own)
    assert bundle.labels.names == ("anger", "happiness", "hectic", "sadness", "serene")
    assert bundle.requires == (Modality.ACOUSTIC,), "no utterance had words"
    found = figures(own)
    assert set(found) == {("own", "acoustic"), ("own, classes of both", "acoustic")}
    report = json.loads((own / "report" / "report.json").read_text())
    after = found["own", "acoustic"]["after"]
    assert after["accuracy"] > report["majority"]["accuracy"] + 0.2
    assert after["uar"] > report["majority"]["uar"] + 0.2
    both = found["own, classes of both", "acoustic"]
    assert both["before"]["count"] == both["after"]["count"] < after["count"] == 120
    assert both["after"]["uar"] > both["before"]["uar"]


def test_it_is_the_old_bundle_but_for_the_last_layer(folder: Path, own: Path) -> None:
    old, new = Bundle.load(folder / "four"), Bundle.load(own)
    for one, other in zip(old.encoders, new.encoders, strict=True):
        for key, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[key])
    for key, tensor in old.fusion.state_dict().items():
        if not key.startswith("classifier."):
            assert torch.equal(tensor, new.fusion.state_dict()[key])
    # Slots behind the current utterance, and its words: columns that no utterance reached.
    width = new.fusion.config.width
    before = old.fusion.classifier.weight[old.labels.names.index("anger")]
    after = new.fusion.classifier.weight[new.labels.names.index("anger")]
    assert torch.equal(before[width:], after[width:])
    assert not torch.equal(before[:width], after[:width])


def test_it_is_served_and_measured_with_its_own_names(folder: Path, own: Path, invoke) -> None:
    with live_server(own) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["models"][0]
        assert "hectic" in json.dumps(listed)
        answer = post_file(server, DEMO.read_bytes(), {"speakers": ["Ada", "Bob"]})
        assert answer.status_code == 200
        text = answer.text
    assert "hectic" in text
    found = json.loads(
        invoke(
            evaluate_clips.command, "--labels", folder / "moods.csv", "--root", folder,
            "--bundle", own, "--json",
        )
    )  # fmt: skip
    assert found["classes"] == ["anger", "happiness", "hectic", "sadness", "serene"]
    assert found["counts"]["dropped_by_label"].keys() == {"cheerful", "neutral"}
    assert found["recall"]["hectic"] > 0.2


def test_the_same_classes_with_words(folder: Path, invoke) -> None:
    out = tuned(folder, invoke, "labels.csv", "seven", "b7", "--words", "--classes", "bundle")
    old, new = Bundle.load(folder / "seven"), Bundle.load(out)
    assert new.labels == old.labels
    assert new.requires == ()
    assert (new.name, new.version) == ("seven-site", "0+site")
    found = figures(out)
    assert list(found) == [("ekman7", k) for k in ("acoustic", "lexical", "acoustic+lexical")]
    for one in found.values():
        assert one["after"]["uar"] > one["before"]["uar"]
        assert one["after"]["nll"] < one["before"]["nll"]
    card = new.card
    assert "## Fine-tuned on site" in card
    for secret in ("Ses01", "what a lovely day", "toy:A0", str(folder)):
        assert secret not in card + (out / "report" / "report.html").read_text()
    clips, _ = read_labels(folder / "labels.csv", "all")
    predictor = Predictor(new)
    heard = hear(predictor, clips, range(len(clips)), folder, 0, words=True)
    right = [
        predictor.labels[p.posterior.argmax()] == clips[i].emotion
        for i, p in zip(heard.clips, predictions(predictor, heard.features), strict=True)
    ]
    assert np.mean(right) > 0.5


def test_what_cannot_be_fitted_is_refused_with_a_cure(folder: Path, invoke) -> None:
    def refused(table: str, *more: object) -> str:
        arguments = ("--labels", folder / table, "--root", folder, "--bundle", folder / "four")
        return invoke(fine_tune.command, *arguments, "-o", folder / "never", *more, code=1)

    told = refused("moods.csv")
    assert "moods.csv:" in told
    assert "no emotion is called '" in told
    assert "--label '" in told
    told = refused("labels.csv", "--classes", "anger,boredom")
    assert "boredom 0" in told
    assert "leave classes out with --classes" in told
    assert "two classes are needed" in refused("labels.csv", "--classes", "anger")
    assert "at least 50 are needed" in refused("labels.csv", "--classes", "fear,sadness")
    assert not (folder / "never").exists()


HEADED = sorted(set(registry.MODULES["fusion"]) - {"dual_stream"})


def small(name: str, classes: int) -> FusionModel:
    torch.manual_seed(0)
    kind = registry.lookup("fusion", name)
    model = kind(kind.small_config(classes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_turns(model: FusionModel, truth: Sequence[int]) -> Windows:
    noise = np.random.default_rng(0)
    features = [
        UtteranceFeatures(
            i,
            "x",
            {
                stream: noise.normal(size=(spec.steps or 3, spec.width)).astype(np.float32)
                for stream, spec in model.streams.items()
            },
        )
        for i in range(len(truth))
    ]
    return turns_of(model, features, np.array(truth))


def logits(model: FusionModel, turns: Windows) -> np.ndarray:
    with torch.inference_mode():
        return model(turns.gather(np.arange(len(turns.labels)))[0]).logits.numpy()


@pytest.mark.parametrize("name", HEADED)
def test_every_fusion_model_keeps_the_classes_that_it_knows(name: str) -> None:
    """Logits of a class that both have are the same; one that is new is their mean."""
    model = small(name, 3)
    turns = random_turns(model, [0, 1, 0, 1])
    other = with_classes(model, ("a", "b", "c"), ("c", "new", "a", "b"))
    before, after = logits(model, turns), logits(other, turns)
    np.testing.assert_allclose(after[:, [2, 3, 0]], before, atol=1e-5)
    np.testing.assert_allclose(after[:, 1], before.mean(axis=1), atol=1e-5)
    read = read_by_head(other, turns, np.arange(4))
    np.testing.assert_allclose(head_of(other).logits(read), after, atol=1e-4)


def test_a_model_without_such_a_layer_is_named() -> None:
    with pytest.raises(TrainingError, match="DualStream has no single last layer"):
        with_classes(small("dual_stream", 3), ("a", "b", "c"), ("a", "b"))


def examples(rows: Sequence[int], truth: Sequence[int]) -> Examples:
    """Points on a line: a class a side."""
    read = torch.tensor(rows, dtype=torch.float32)[:, None]
    return Examples(read, np.array(truth), np.ones(len(rows), np.float32))


def test_a_layer_is_fitted_until_those_watched_are_heard_best() -> None:
    start = Head(torch.zeros(2, 1), torch.zeros(2))
    train = examples([-3, -2, -1, 1, 2, 3], [0, 0, 0, 1, 1, 1])
    agreeing, best = fit_head(start, train, examples([-2, 2], [0, 1]))
    assert agreeing.logits(torch.tensor([[-1.0], [1.0]])).argmax(axis=1).tolist() == [0, 1]
    against, early = fit_head(start, train, examples([-2, 2], [1, 0]))
    assert early <= best
    assert np.ptp(against.logits(torch.tensor([[1.0]]))) < np.ptp(
        agreeing.logits(torch.tensor([[1.0]]))
    )
    whole, epochs = fit_head(start, train, None, epochs=2)
    assert epochs == 2
    again, _ = fit_head(start, train, None, epochs=2)
    assert torch.equal(again.weight, whole.weight)


def test_a_row_counts_as_much_as_it_weighs() -> None:
    start = Head(torch.zeros(2, 1), torch.zeros(2))
    twice = examples([-1, -1, 1, 2], [0, 0, 1, 0])
    once = examples([-1, 1, 2], [0, 1, 0])
    once = Examples(once.read, once.truth, np.array([2, 1, 1], np.float32))
    one, other = (fit_head(start, part, None, epochs=5)[0] for part in (twice, once))
    assert torch.allclose(one.weight, other.weight, atol=1e-4)


def test_what_is_never_seen_is_never_changed() -> None:
    kind = registry.lookup("fusion", "gated_xlstm")
    model = kind(replace(kind.small_config(2), missing="mask")).eval()
    turns = random_turns(model, [0, 1] * 10)
    keep = np.zeros((1, turns.entries.shape[1], 2), dtype=bool)
    keep[..., 0] = True
    read = read_by_head(model, turns, np.arange(20), keep)
    part = Examples(read, turns.labels, np.ones(20, np.float32))
    fitted, _ = fit_head(head_of(model), part, None, epochs=3)
    made = with_head(model, fitted)
    width = model.config.width
    assert not torch.equal(made.classifier.weight[:, :width], model.classifier.weight[:, :width])
    unseen = made.classifier.weight[:, width : 2 * width]
    assert torch.equal(unseen, model.classifier.weight[:, width : 2 * width])
