"""Writes what the endpoints say of themselves into docs/openapi.json.

python -m emotrace_service.openapi docs/openapi.json            writes
python -m emotrace_service.openapi docs/openapi.json --check    exits 1 where the file differs
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from emotrace_service.app import interface


def document() -> str:
    """The OpenAPI document of the server, as JSON."""
    return json.dumps(interface().openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m emotrace_service.openapi")
    parser.add_argument("file", type=Path, help="docs/openapi.json")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    options = parser.parse_args(arguments)
    text = document()
    if options.file.exists() and options.file.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        print(f"{options.file} differs from the code: run `python -m emotrace_service.openapi`")
        return 1
    options.file.write_text(text, encoding="utf-8")
    print(f"wrote {options.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
