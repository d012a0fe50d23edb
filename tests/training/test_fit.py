"""Fitting: a killed run ends as one that was not; faults of data and settings are named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from toy_corpus import Toy, gated_recipe, toy_corpus

from emotrace_models.layers.standardise import Standardise
from emotrace_training import checkpoints, fit, fitting, one_model
from emotrace_training.checkpoints import CheckpointMismatch
from emotrace_training.dataset import load_dataset
from emotrace_training.fit import fit_variant
from emotrace_training.fitting import LossNotFinite
from emotrace_training.learner import Learner, build_fusion, fill_standardise
from emotrace_training.optimising import rate_at
from emotrace_training.preparing import NothingToTrainOn, Preparer, usable
from emotrace_training.recipe import RecipeError, read_recipe
from emotrace_training.recipe_tables import Schedule
from emotrace_training.stream_encoders import build_encoder
from emotrace_training.tables import table_of


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def recipe(toy: Toy, tmp_path: Path) -> str:
    return gated_recipe(tmp_path, f'file = "{toy.vectors}"')


Fit = Callable[..., Path]


@pytest.fixture
def fitted(toy: Toy, tmp_path: Path) -> Fit:
    """Fit a recipe with overrides into a folder; gives the folder of the first model."""

    def run(recipe: str, *overrides: str, out: str = "run", restart: bool = False) -> Path:
        (one,) = read_recipe(recipe, (), overrides)
        fit_variant(
            one, toy.manifest, tmp_path / out, tmp_path / "cache", None, None,
            Accelerator(cpu=True), restart,
        )  # fmt: skip
        return next(iter(sorted((tmp_path / out).glob("*/seed-*"))))

    return run


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_model_learns_the_toy(fitted: Fit, recipe: str) -> None:
    folder = fitted(recipe, "training.epochs=8")
    found = report(folder)
    assert found["counts"] == {"train": 24, "valid": 12, "test": 12}
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]
    assert found["history"][found["kept_epoch"] - 1]["valid"]["uar"] > 0.7
    table = np.load(folder / "predictions.npz")
    own = table["part"] == "test"
    assert (table["logits"][own].argmax(axis=1) == table["label"][own]).mean() > 0.7
    assert not (folder / "state.pt").exists()


@pytest.mark.parametrize(
    "settings",
    [(), ("training.schedule.name=cosine", "training.hide={context=0.3}", "training.accumulate=2")],
)
def test_a_killed_run_ends_as_one_that_was_not(
    fitted: Fit, recipe: str, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(recipe, *settings)
    save = checkpoints.save_state

    def killed(*arguments: Any) -> None:
        save(*arguments)
        if len(json.loads(arguments[2]["history"])) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, *settings, out="killed")
    torch.manual_seed(99)
    resumed = fitted(recipe, *settings, out="killed")
    assert report(resumed)["history"] == report(whole)["history"]
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert torch.equal(tensor, load_file(resumed / "model.safetensors")[name]), name


def test_what_is_finished_is_not_done_again(
    fitted: Fit, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (fitted(recipe) / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(one_model, "train", None)
    assert (fitted(recipe) / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width=4", r"another architecture: architecture.config.width is 8 there and 4 here"),
        ("training.batch=4", r"other settings: training.batch is 8 there and 4 here"),
        ("data.labels=iemocap6", r"another architecture: architecture.config.classes"),
        ("data.most=8", r"other data: data.t"),
    ],
)
def test_something_else_in_its_place_is_named(
    fitted: Fit, recipe: str, override: str, message: str
) -> None:
    fitted(recipe, "training.epochs=1")
    with pytest.raises(CheckpointMismatch, match=rf"report.json: is of {message}.*--restart"):
        fitted(recipe, "training.epochs=1", override)


def test_a_run_begins_again_where_that_is_asked(fitted: Fit, recipe: str) -> None:
    fitted(recipe, "training.epochs=1")
    assert report(fitted(recipe, "training.epochs=2", restart=True))["epochs"] == 2


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(checkpoints.CheckpointUnreadable, match=r"state.pt: .*--restart"):
        checkpoints.load_state(tmp_path, {})


def test_a_loss_that_is_not_finite_is_named(
    fitted: Fit, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting, "class_weights", lambda job: torch.full((job.classes,), float("nan"))
    )
    with pytest.raises(LossNotFinite, match=r"epoch 1, step 1: the loss is nan; lower training"):
        fitted(recipe)


def test_patience_ends_a_run_and_the_best_epoch_is_kept(fitted: Fit, recipe: str) -> None:
    found = report(
        fitted(recipe, "training.epochs=20", "training.early_stop={watch='uar', patience=3}")
    )
    values = [epoch["valid"]["uar"] for epoch in found["history"]]
    assert found["epochs"] == len(values) < 20
    assert found["kept_epoch"] == values.index(max(values)) + 1 == len(values) - 3


def test_the_last_epoch_is_kept_where_that_is_asked(fitted: Fit, recipe: str) -> None:
    assert report(fitted(recipe, "training.keep=last"))["kept_epoch"] == 3


def test_pieces_of_a_batch_make_the_same_step(fitted: Fit, recipe: str) -> None:
    settings = ("model.dropout=0.0", "training.epochs=1", "training.class_weights=balanced")
    whole = load_file(fitted(recipe, *settings) / "model.safetensors")
    pieces = load_file(
        fitted(recipe, *settings, "training.accumulate=4", out="pieces") / "model.safetensors"
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, atol=2e-4, rtol=1e-3, msg=name)


def test_every_seed_and_fold_has_a_model_of_its_own(fitted: Fit, toy: Toy, tmp_path: Path) -> None:
    split = '{ kind = "leave_one_out", by = "session", validation = 0.2 }'
    recipe = gated_recipe(tmp_path, f'file = "{toy.vectors}"', split=split)
    fitted(recipe, "training.seeds=[1, 2]", "training.epochs=1")
    models = sorted((tmp_path / "run").glob("*/seed-*/model.safetensors"))
    assert len(models) == 6
    assert len({model.read_bytes() for model in models}) == 6
    assert json.loads((tmp_path / "run/data.json").read_text())["folds"]["Ses01"]["test"] == 16


def test_a_tuned_encoder_learns_with_the_model(fitted: Fit, toy: Toy, tmp_path: Path) -> None:
    words = '[streams.lexical]\nencoder = "words"\nconfig = { width = 8 }\ntune = true\n'
    model = '[model]\nname = "lmf"\nstreams = { acoustic = 8, lexical = 8 }\n'
    file = Path(gated_recipe(tmp_path, f'file = "{toy.vectors}"'))
    head, _, rest = file.read_text().partition("[model]")
    file.write_text(head + words + model + "[training]" + rest.partition("[training]")[2])
    folder = fitted(file.as_posix(), "training.epochs=6", "training.optimiser.encoder_rate=0.1")
    (one,) = read_recipe(file.as_posix())
    training = [record.text for record in toy.records if record.split == "train"]
    start = build_encoder(one, "lexical", training, 0).state_dict()["embedding.weight"]
    learnt = load_file(folder / "model.safetensors")["encoders.lexical.embedding.weight"]
    assert (learnt - start).abs().max() > 0.1
    assert report(folder)["history"][-1]["valid"]["uar"] > 0.9


def test_hiding_leaves_something_of_the_current_turn(toy: Toy, recipe: str) -> None:
    (one,) = read_recipe(recipe, (), ["training.hide={acoustic=0.5, context=0.5, gap=0.5}"])
    dataset = load_dataset(one, toy.manifest)
    model = build_fusion(one)
    features = np.load(toy.vectors)["values"]
    table = table_of(dataset, {"acoustic": list(features)}, frozenset(), model.start_window())
    turns = table.windows.targets()
    job = fitting.Job(table, turns, turns, 4, {"acoustic": "acoustic"}, one.training, 0, Path(), {})
    keep = fitting.hidden(job, np.tile(turns, 50), np.random.default_rng(0))
    assert keep is not None
    assert keep[:, 0].all()
    assert 0.1 < keep[:, 1].mean() < 0.4
    quiet = fitting.hidden(
        fitting.Job(table, turns, turns, 4, {}, read_recipe(recipe)[0].training, 0, Path(), {}),
        turns, np.random.default_rng(0),
    )  # fmt: skip
    assert quiet is None


def test_buffers_are_filled_from_the_training_part(fitted: Fit, toy: Toy, tmp_path: Path) -> None:
    (one,) = read_recipe(gated_recipe(tmp_path, f'file = "{toy.vectors}"'))
    dataset = load_dataset(one, toy.manifest)
    prepared = Preparer(one, dataset, tmp_path).prepare(dataset.folds[0])
    learner = Learner(build_fusion(one), {})
    learner.fusion.standardise = torch.nn.ModuleDict({"acoustic": Standardise(8)})
    turns = usable(one, prepared.table, dataset.folds[0].of("train"))
    fill_standardise(learner, prepared.table, turns)
    table = np.load(toy.vectors)
    rows = [table["id"].tolist().index(dataset.records[i].id) for i in turns]
    values = table["values"][rows]
    module = learner.fusion.standardise["acoustic"]
    np.testing.assert_allclose(module.mean.numpy(), values.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(module.scale.numpy(), values.std(axis=0), atol=1e-4)


def test_a_stream_of_another_width_is_named(fitted: Fit, toy: Toy, tmp_path: Path) -> None:
    recipe = gated_recipe(tmp_path, f'file = "{toy.vectors}"', width=16)
    with pytest.raises(RecipeError, match=r"stream acoustic is 8 wide, and model gated_xlstm"):
        fitted(recipe)


def test_nothing_to_train_on_is_named(fitted: Fit, toy: Toy, tmp_path: Path) -> None:
    table = dict(np.load(toy.vectors))
    own = [i for i, r in enumerate(toy.records) if r.split != "valid"]
    np.savez(tmp_path / "few.npz", id=table["id"][own], values=table["values"][own])
    recipe = gated_recipe(tmp_path, f'file = "{tmp_path}/few.npz"')
    with pytest.raises(NothingToTrainOn, match="no record of 'valid' has all streams"):
        fitted(recipe)
    np.savez(tmp_path / "few.npz", id=np.array(["x"]), values=table["values"][:1])
    with pytest.raises(NothingToTrainOn, match="stream acoustic: no record has any features"):
        fitted(recipe)


def test_the_command_says_what_is_wrong(toy: Toy, invoke, recipe: str, tmp_path: Path) -> None:
    where = ("--manifest", toy.manifest, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    said = invoke(fit.command, recipe, *where, "--cpu", "--set", "training.epochs=1")
    assert f"emotrace-train evaluate {tmp_path / 'run'}" in said.replace("\n", "")
    assert "no fold x; there are own" in invoke(
        fit.command, recipe, *where, "--cpu", "--fold", "x", code=1
    )
    assert "training.epochs" in invoke(
        fit.command, recipe, *where, "--cpu", "--set", "training.epochs=0", code=1
    )


def test_rates() -> None:
    warm = Schedule(name="linear", warmup=0.2)
    assert [rate_at(step, 10, warm) for step in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.125]
    assert rate_at(5, 10, Schedule(name="cosine")) == pytest.approx(0.5)
    assert rate_at(9, 10, Schedule()) == 1.0


@pytest.mark.long
def test_two_processes_share_each_batch(toy: Toy, recipe: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m",
        "emotrace_training", "fit", recipe, "--cpu", "--manifest", str(toy.manifest), "--out",
        str(tmp_path / "run"), "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    table = np.load(tmp_path / "run/main/own/seed-0/predictions.npz")
    assert np.isfinite(table["logits"]).all()
    assert table["part"].tolist() == ["valid"] * 12 + ["test"] * 12
    history = report(tmp_path / "run/main/own/seed-0")["history"]
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_gpu_learns_the_toy(
    toy: Toy, invoke, recipe: str, tmp_path: Path, precision: str
) -> None:
    invoke(
        fit.command, recipe, "--manifest", toy.manifest, "--out", tmp_path / "run", "--cache",
        tmp_path / "cache", "--set", f"training.precision={precision}",
    )  # fmt: skip
    history = report(tmp_path / "run/main/own/seed-0")["history"]
    assert history[-1]["loss"] < history[0]["loss"]
