"""Pieces of an HTML report: one file, nothing loaded from elsewhere, light or dark as the reader's
system is; every table has a caption and headers, every picture a text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--soft); }
figure { margin: 1rem 0; display: inline-block; vertical-align: top; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
.note { border-left: 4px solid #c70; padding-left: .8rem; }
"""


def write_html(title: str, parts: Iterable[str], file: Path) -> None:
    """A page of `parts`, which are HTML already, under a heading."""
    page = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<header><h1>{escape(title)}</h1></header><main>",
        *parts,
        "</main></body></html>\n",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(page), encoding="utf-8")


def paragraph(text: str, note: bool = False) -> str:
    return f"<p class='note'>{escape(text)}</p>" if note else f"<p>{escape(text)}</p>"


def picture(file: Path, alternative: str, caption: str) -> str:
    """A PNG file inside the page."""
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f"<figure><img alt='{escape(alternative)}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
