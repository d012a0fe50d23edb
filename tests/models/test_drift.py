"""The drift report of a bundle: read back, and only where it is this bundle's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import toy_bundle

from emotrace_models.bundle import Bundle, BundleCorrupted, bundle_path
from emotrace_models.drift import DRIFT, LEAST, Difference, Drift, drift_of, identity


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = toy_bundle(tmp_path_factory.mktemp("drift") / "toy", scheme="ekman7", views=("common4",))
    return Bundle.load(path)


def report(of: str, agreement: float = 0.999) -> Drift:
    one = Difference(utterances=9, agreement=1.0, decoder_agreement=1.0, largest=0.01, mean=0.001)
    sets = {"ekman7": one.model_copy(update={"agreement": agreement}), "common4": one}
    return Drift(of=of, data="made up", numerics={"fusion": "fp32"}, sets=sets)


def having(bundle: Bundle, content: bytes) -> Bundle:
    return replace(bundle, assets={**bundle.assets, DRIFT: content})


def test_a_report_is_kept_with_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    made = report(identity(bundle), 0.997)
    having(bundle, made.model_dump_json().encode()).save(tmp_path / "with")
    found = drift_of(Bundle.load(tmp_path / "with"))
    assert found == made
    assert found is not None
    assert found.agreement == 0.997  # the least of both label sets


def test_without_a_report_there_is_none(bundle: Bundle) -> None:
    assert drift_of(bundle) is None


def test_a_report_of_other_weights_or_settings_is_none_of_this_bundle(bundle: Bundle) -> None:
    own = having(bundle, report(identity(bundle)).model_dump_json().encode())
    assert drift_of(own) is not None
    fusion = type(bundle.fusion)(bundle.fusion.config).eval()
    fusion.load_state_dict(bundle.fusion.state_dict())
    with torch.no_grad():
        next(fusion.parameters()).add_(1e-6)
    view = replace(bundle.views["common4"], decoder=bundle.decoder)
    others = (
        replace(own, fusion=fusion),
        replace(own, calibration=replace(bundle.calibration, abstain_below=0.9)),
        replace(own, decoder=replace(bundle.decoder, p0=0.41)),
        replace(own, views={"common4": view}),
    )
    assert all(drift_of(other) is None for other in others)


def test_a_file_that_is_no_report_is_named(bundle: Bundle) -> None:
    with pytest.raises(BundleCorrupted, match=r"drift\.json of 'toy'"):
        drift_of(having(bundle, b"{}"))


@pytest.mark.parametrize("name", ["default", "free"])
def test_the_shipped_bundles_have_a_report_that_holds(name: str) -> None:
    found = drift_of(Bundle.load(bundle_path(name)))
    assert found is not None
    assert found.agreement >= LEAST
    assert found.numerics["acoustic"] == "bf16"
