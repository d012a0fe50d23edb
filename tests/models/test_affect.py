"""Valence and arousal as a reading of the labels: golden values, laws, and the labels covered."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotrace_models.affect import POINTS, Affect, read_affect
from emotrace_models.labels import CANONICAL, SCHEMES

NO_FEELING = {"other", "unknown"}
EKMAN = SCHEMES["ekman7"].names

shares = st.lists(st.floats(0, 1), min_size=len(EKMAN), max_size=len(EKMAN)).filter(
    lambda weights: sum(weights) > 1e-6
)


def posterior(weights: list[float]) -> dict[str, float]:
    values = np.array(weights) / np.sum(weights)
    return dict(zip(EKMAN, values.tolist(), strict=True))


def test_every_label_has_a_point_or_is_no_feeling() -> None:
    assert set(CANONICAL) == set(POINTS) | NO_FEELING
    assert all(-1 <= one <= 1 for p in POINTS.values() for one in (p.valence, p.arousal))
    assert {name for scheme in SCHEMES.values() for name in scheme.names} <= set(POINTS)


def test_the_page_and_its_picture_have_the_same_points(root: Path) -> None:
    row = r"^\| (\w+) \| (−?\d\.\d\d) \| (−?\d\.\d\d) \|"
    page = (root / "docs" / "affect.md").read_text(encoding="utf-8").replace("−", "-")
    rows = re.findall(row.replace("−", "-"), page, re.MULTILINE)
    assert {name: Affect(float(v), float(a)) for name, v, a in rows} == POINTS
    picture = (root / "docs" / "images" / "affect.svg").read_text(encoding="utf-8")
    dots = re.findall(r'<circle cx="(\S+)" cy="(\S+)" [^>]*><title>(\w+)<', picture)
    assert len(dots) == len(POINTS)
    for x, y, name in dots:
        place = (float(x) / 100, -float(y) / 100)
        assert place == pytest.approx((POINTS[name].valence, POINTS[name].arousal))


@pytest.mark.parametrize(
    ("shares", "valence", "arousal"),
    [
        ({"anger": 1.0, "neutral": 0.0}, -0.51, 0.59),
        ({"anger": 0.0, "neutral": 1.0}, 0.0, 0.0),
        ({"anger": 0.2, "happiness": 0.5, "neutral": 0.2, "sadness": 0.1}, 0.24, 0.346),
        ({"fear": 0.5, "surprise": 0.5}, -0.12, 0.635),
    ],
)
def test_golden_values(shares: dict[str, float], valence: float, arousal: float) -> None:
    found = read_affect(shares)
    assert found is not None
    assert (found.valence, found.arousal) == pytest.approx((valence, arousal))


def test_a_label_without_a_point_gives_no_reading_rather_than_a_part_of_one() -> None:
    assert read_affect({"anger": 0.9, "other": 0.1}) is None
    assert read_affect({"delight": 1.0}) is None


@given(one=shares, other=shares, share=st.floats(0, 1))
def test_a_mixture_of_posteriors_reads_as_the_mixture_of_their_readings(
    one: list[float], other: list[float], share: float
) -> None:
    first, second = posterior(one), posterior(other)
    mixed = {name: share * first[name] + (1 - share) * second[name] for name in EKMAN}
    a, b, both = read_affect(first), read_affect(second), read_affect(mixed)
    assert a is not None
    assert b is not None
    assert both is not None
    assert both.valence == pytest.approx(share * a.valence + (1 - share) * b.valence, abs=1e-12)
    assert both.arousal == pytest.approx(share * a.arousal + (1 - share) * b.arousal, abs=1e-12)


@given(weights=shares)
def test_a_reading_lies_among_the_points(weights: list[float]) -> None:
    found = read_affect(posterior(weights))
    assert isinstance(found, Affect)
    for axis in ("valence", "arousal"):
        values = [getattr(POINTS[name], axis) for name in EKMAN]
        assert min(values) - 1e-12 <= getattr(found, axis) <= max(values) + 1e-12
