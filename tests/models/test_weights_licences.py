"""What licences allow, and what is not known to be allowed."""

from __future__ import annotations

import pytest

from emotrace_models.licences import forbids, licence


@pytest.mark.parametrize(
    "expression",
    ["Apache-2.0", "MIT", "mit", "CC0-1.0", "CC-BY-4.0 AND MIT", "GPL-3.0-only", "CC-BY-SA-4.0"],
)
def test_these_may_be_used_for_money(expression: str) -> None:
    assert forbids(expression, "commercial") is None


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 forbids"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0 forbids"),
        ("CC-BY-NC-ND-4.0", "forbids"),
        ("MIT AND CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 forbids"),
        ("LicenseRef-unknown", "'LicenseRef-unknown' allows commercial use is not known"),
        ("MIT AND LicenseRef-unknown", "not known"),
        ("MIT OR CC-BY-NC-4.0", "not known"),
        ("(MIT)", "not known"),
        ("", "not known"),
        ("Apache-2.0 and whatever", "not known"),
    ],
)
def test_these_may_not_and_what_cannot_be_read_may_not_either(expression: str, said: str) -> None:
    assert said in (forbids(expression, "commercial") or "")
    assert forbids(expression, "any") is None


def test_what_a_licence_asks_for() -> None:
    mixed = licence("CC-BY-NC-SA-4.0")
    assert mixed is not None
    assert (mixed.commercial, mixed.changes, mixed.share_alike, mixed.credit) == (
        False, True, True, True,
    )  # fmt: skip
    fixed, free = licence("CC-BY-ND-4.0"), licence("CC0-1.0")
    assert fixed is not None
    assert not fixed.changes
    assert free is not None
    assert not free.credit
    assert licence("Llama-2") is None
