"""docs/faults.md says of each row which test proves it, and that is true."""

from __future__ import annotations

from collections import Counter

import pytest
from faults.rows import LEFT_OUT, PAGE, ROWS, STATES, TESTS, functions, numbered, read

TABLE = read(PAGE.read_text("utf-8"))
MOST_LEFT_OUT = 6


def test_every_row_is_there_once() -> None:
    assert [row.number for row in TABLE] == list(range(1, ROWS + 1))
    assert {row.state for row in TABLE} <= set(STATES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.number:03}")
def test_a_row_has_tests_that_exist_or_a_reason(row: object) -> None:
    assert isinstance(row, type(TABLE[0]))
    if row.state == LEFT_OUT:
        assert len(row.gets.split()) > 6, "say why"
        assert not row.tests
        return
    assert row.tests
    for test in row.tests:
        file, _, name = test.partition("::")
        assert name in functions(TESTS / file), test


def test_every_test_that_is_named_after_a_row_stands_in_it() -> None:
    by_number = {row.number: row.tests for row in TABLE}
    assert numbered()
    for test, number in numbered().items():
        assert test in by_number[number]


def test_few_are_left_out_and_the_page_counts_right() -> None:
    counts = Counter(row.state for row in TABLE)
    assert counts[LEFT_OUT] <= MOST_LEFT_OUT
    said = ", ".join(f"{counts[state]} {state}" for state in STATES)
    assert said in PAGE.read_text("utf-8")
