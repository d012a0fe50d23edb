"""The browser page at `/`: files of the client package, found without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CLIENT_PACKAGE = "emotrace_clients"
INDEX = "index.html"

MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Emotrace</title>
<h1>Emotrace is running</h1>
<p>The browser page is not installed beside this server. The service itself is:
clients connect to <code>/v1/stream</code>, files go to <code>POST /v1/audio/analyze</code>,
<a href="/readyz">/readyz</a> says what is live, <a href="/v1/models">/v1/models</a> what is loaded.
"""


def browser_folder() -> Path | None:
    """Where the page lies; None: it is not installed."""
    spec = find_spec(CLIENT_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        page = Path(folder) / "browser"
        if (page / INDEX).is_file():
            return page
    return None


class Pages(StaticFiles):
    """Files that a browser asks for again each time, so that an update is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_pages(app: FastAPI, folder: Path | None) -> None:
    """Must come after every other route: it answers all that is left."""
    if folder is not None:
        app.mount("/", Pages(directory=folder, html=True), name="browser")
        return

    @app.get("/", include_in_schema=False)
    async def no_page() -> HTMLResponse:
        return HTMLResponse(MISSING, status_code=404, headers={"Cache-Control": "no-cache"})
