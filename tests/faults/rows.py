"""The fault table of docs/faults.md, read. Run it to see how far it is kept:

python tests/faults/rows.py
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"
ROWS = 108
LEFT_OUT = "left out"
STATES = ("kept", "changed", LEFT_OUT)


@dataclass(frozen=True)
class Row:
    """tests: `file::function`, the file as seen from tests/. state: one of STATES."""

    number: int
    fault: str
    gets: str
    tests: tuple[str, ...]
    state: str


def read(page: str) -> list[Row]:
    """Of the page's tables. Raises ValueError where a line is no row."""
    rows = []
    for line in page.splitlines():
        if re.match(r"\|\s*\d", line):
            number, fault, gets, tests, state = map(str.strip, line.strip("|").split(" | "))
            named = tuple(test.strip("`") for test in tests.split("<br>") if test)
            rows.append(Row(int(number), fault, gets, named, state))
    return rows


def functions(file: Path) -> set[str]:
    """Names of a file's test functions."""
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, found) and node.name.startswith("test_")
    }


def numbered() -> dict[str, int]:
    """The tests of this folder that are named after a row, and its number."""
    return {
        f"faults/{file.name}::{name}": int(number[1])
        for file in sorted(Path(__file__).parent.glob("test_*.py"))
        for name in functions(file)
        if (number := re.match(r"test_row_(\d{3})_", name))
    }


def main() -> None:
    rows = read(PAGE.read_text("utf-8"))
    for state, count in Counter(row.state for row in rows).items():
        print(f"{count:4} {state}")
    for row in rows:
        if row.state == LEFT_OUT:
            print(f"row {row.number}, {row.fault}: {row.gets}")


if __name__ == "__main__":
    main()
