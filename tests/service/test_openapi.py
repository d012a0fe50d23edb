"""docs/openapi.json: it is what the code says, and the server answers what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.routing import APIRoute
from live import DEMO, LiveServer, live_server, post_file

from emotrace_service.openapi import document, main
from emotrace_service.privacy_routes import router as privacy_router
from emotrace_service.realtime_routes import router as realtime_router
from emotrace_service.routes import router

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/openapi.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


def check(answer: httpx.Response, path: str, method: str) -> None:
    """The answer is one that the document foresees, and has the shape that it states there."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    content = responses[str(answer.status_code)]["content"]
    schema = content[answer.headers["content-type"].partition(";")[0]]["schema"]
    assert schema, "the shape is stated"
    jsonschema.validate(answer.json(), {**schema, "components": DOCUMENT["components"]})


def test_the_file_is_what_the_code_says(tmp_path: Path) -> None:
    assert FILE.read_text(encoding="utf-8") == document()
    assert main([str(FILE), "--check"]) == 0
    other = tmp_path / "openapi.json"
    assert main([str(other), "--check"]) == 1
    assert main([str(other)]) == 0
    assert main([str(other), "--check"]) == 0


def test_every_endpoint_is_in_it() -> None:
    routes = [*router.routes, *realtime_router.routes, *privacy_router.routes]
    paths = {route.path for route in routes if isinstance(route, APIRoute)}
    assert set(DOCUMENT["paths"]) == paths
    assert len(paths) >= 6


@pytest.mark.parametrize(
    ("path", "operation"), [pytest.param(path, one, id=path) for path, _, one in OPERATIONS]
)
def test_every_endpoint_is_described(path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    for response in operation["responses"].values():
        assert response["description"] not in ("", "Successful Response")
        for kind in response.get("content", {}).values():
            assert kind["schema"]


def test_answers_have_the_shapes_that_are_stated(server: LiveServer) -> None:
    for path in ("/healthz", "/readyz", "/v1/models", "/v1/notice"):
        check(httpx.get(f"{server.url}{path}"), path, "get")
    path = "/v1/audio/analyze"
    answer = post_file(server, DEMO.read_bytes())
    assert len(answer.json()["utterances"]) >= 6
    check(answer, path, "post")
    for data in (b"no sound", b""):
        check(post_file(server, data), path, "post")
    url = f"{server.url}{path}"
    check(httpx.post(url, headers={"Origin": "https://evil.example"}), path, "post")
    path = "/v1/realtime/client_secrets"
    check(httpx.post(f"{server.url}{path}"), path, "post")
    check(httpx.post(f"{server.url}{path}", content='{"ttl": 5}'), path, "post")
    check(httpx.post(f"{server.url}{path}", content="{"), path, "post")


def test_a_server_that_is_not_ready_says_so_in_the_same_shape(server: LiveServer) -> None:
    server.serving.ready = False
    try:
        check(httpx.get(f"{server.url}/readyz"), "/readyz", "get")
    finally:
        server.serving.ready = True


def test_the_body_of_a_secret_is_stated_as_it_is_read(server: LiveServer) -> None:
    operation = DOCUMENT["paths"]["/v1/realtime/client_secrets"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    good = {
        "expires_after": {"anchor": "created_at", "seconds": 60},
        "session": {
            "type": "transcription",
            "audio": {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": {}}},
        },
    }
    jsonschema.validate(good, schema)
    for bad in ({"ttl": 5}, {"expires_after": {"seconds": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_the_server_gives_the_document_itself(server: LiveServer) -> None:
    assert httpx.get(f"{server.url}/openapi.json").json() == DOCUMENT
