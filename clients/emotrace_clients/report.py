"""A session's report: one HTML document that shows its events, and needs no server and no network.

The document carries the browser page's own views and draws itself when it is opened, so that page
and command line give the same report (`exports.js` puts together the same parts).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from emotrace_protocol import Event

PARTS = Path(__file__).parent / "browser"
TEMPLATE = "report.html"  # names its parts: {{timeline.js}}
_PART = re.compile(r"\{\{([\w.]+)\}\}")
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:class|const|function) (\w+)", re.MULTILINE)
_EXPORTED = re.compile(r"^export ", re.MULTILINE)


def report_html(events: Sequence[Event], title: str) -> str:
    """The report of a session: timeline, transcript, explanations, plots.

    events: all that the server sent, in order, `session.started` first. Titles, names and
    transcripts are data: they are shown as they are, whatever they hold. Nothing is fetched; the
    document's own policy (CSP) forbids it.
    """
    told = {"title": title, "events": [event.model_dump(mode="json") for event in events]}
    data = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for one in "<\u2028\u2029":
        data = data.replace(one, f"\\u{ord(one):04x}")
    values = {"nonce": secrets.token_urlsafe(18), "data": data}

    def part(found: re.Match[str]) -> str:
        name = found[1]
        return values[name] if name in values else _inlined(PARTS / name)

    return _PART.sub(part, (PARTS / TEMPLATE).read_text(encoding="utf-8"))


def _inlined(path: Path) -> str:
    """A part's text. Modules become one script: what each exports is seen by those that follow."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".js":
        return text
    names = ", ".join(_EXPORT.findall(text))
    body = _EXPORTED.sub("", _IMPORT.sub("", text))
    return f"const {{ {names} }} = (() => {{\n{body}return {{ {names} }};\n}})();"
