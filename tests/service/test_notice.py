"""The notice: in every language, the same, and true of the server that gives it."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from doubles import Stage

from emotrace_models.types import Modality
from emotrace_protocol import ProtocolError, decode_message
from emotrace_protocol.events import NOTICE
from emotrace_protocol.messages import ProhibitedPurpose
from emotrace_service.app import interface
from emotrace_service.memory_store import MemoryStore
from emotrace_service.notice_texts import TEXTS, NoticeText
from emotrace_service.privacy_notice import (
    Disclosure,
    accepted_language,
    accepts_text,
    known_language,
    write_notice,
)
from emotrace_service.serving import Serving

LANGUAGES = {"en", "de", "fr", "es", "it", "nl", "pl", "pt"}
EVERYTHING = Disclosure(contact="privacy@example.org", recording_days=30, passed_on=True)
ALL = [modality.value for modality in Modality]


def strings(text: NoticeText) -> dict[str, str]:
    """All texts of a language, by the path to each."""
    found = {}
    for name, value in asdict(text).items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}": part for key, part in parts.items()}
    return found


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_language_says_everything_that_english_says() -> None:
    assert set(TEXTS) >= LANGUAGES
    english = strings(TEXTS["en"])
    assert TEXTS["en"].short == NOTICE, "what every session sends"
    for language, text in TEXTS.items():
        told = strings(text)
        assert told.keys() == english.keys(), language
        for name, value in told.items():
            assert value.strip() == value, (language, name)
            assert value.isprintable(), (language, name)
            assert placeholders(value) == placeholders(english[name]), (language, name)
            if language != "en":
                assert value != english[name], (language, name, "is not translated")


def test_the_parts_cover_every_modality_and_every_prohibited_purpose() -> None:
    for text in TEXTS.values():
        assert set(text.by_modality) == set(ALL)
        assert set(text.purposes) == {one.value for one in ProhibitedPurpose}
    assert {"{seconds}", "{days}", "{contact}"} <= {
        f"{{{name}}}"
        for value in strings(TEXTS["en"]).values()
        for name in placeholders(value)
    }  # fmt: skip


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_text_names_contact_times_and_purposes(language: str) -> None:
    notice = write_notice(language, EVERYTHING, modalities=ALL, labels=("x",), resume_seconds=120)
    told = notice.text()
    text = TEXTS[language]
    for part in ("privacy@example.org", "120", "30", text.passed_on, text.short, text.mistakes):
        assert part in told
    for purpose in text.purposes.values():
        assert purpose in told
    assert "{" not in told


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_text_says_nothing_that_is_not_so(language: str) -> None:
    notice = write_notice(
        language, Disclosure(), modalities=["acoustic"], labels=("x",), resume_seconds=0
    )
    told, text = notice.text(), TEXTS[language]
    assert text.not_stored in told
    assert text.no_contact in told
    assert text.by_modality["facial"] not in told
    assert text.passed_on not in told
    for sentence in (text.resumed, text.recorded):
        assert sentence.partition("{")[0] not in told


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at, en;q=0.8", "de"),
        ("ja, fr;q=0.5, it;q=0.9", "it"),
        ("ja", "en"),
        ("*", "en"),
        ("pl;q=0", "en"),
        ("pl;q=zwei, nl;q=0.1", "nl"),
        ("es;q=nan", "en"),
        (";;;,,,q=1;pt", "en"),
        ("x," * 100_000 + "de", "en"),
    ],
)
def test_the_language_is_chosen_by_the_header(header: str, language: str) -> None:
    assert accepted_language(header) == language


def test_languages_are_known_by_their_primary_tag() -> None:
    assert known_language("pt-BR") == "pt"
    assert known_language("português") is None
    assert known_language("") is None


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", True),
        ("text/html, text/*;q=0.5", True),
        ("application/json, text/plain, */*", False),
        ("text/plain;q=0.1, application/json;q=0.2", False),
    ],
)
def test_text_is_given_to_whoever_likes_it_best(header: str, text: bool) -> None:
    assert accepts_text(header) is text


@asynccontextmanager
async def client(toy: Path, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Serving]]:
    app = interface()
    app.state.serving = serving = Stage(toy, **options).serving
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield http, serving


async def test_the_notice_over_http(toy: Path) -> None:
    async with client(toy) as (http, serving):
        answer = await http.get("/v1/notice", headers={"Accept-Language": "de-AT, en;q=0.5"})
        told = answer.json()
        assert answer.headers["content-language"] == told["language"] == "de"
        assert "Accept-Language" in answer.headers["vary"]
        assert set(told["languages"]) >= LANGUAGES
        assert told["notice"] == TEXTS["de"].short
        assert told["modalities"] == ["acoustic", "lexical"], "words too: clients may send them"
        assert told["labels"] == list(serving.bundle.labels.names)
        assert told["prohibited_purposes"] == [one.value for one in ProhibitedPurpose]
        assert (told["contact"], told["recording_days"], told["passed_on"]) == (None, None, False)
        assert told["resume_seconds"] == 0

        refused = await http.get("/v1/notice?language=tlh")
        assert refused.status_code == 422
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("config_invalid", "language")
        assert "de" in error["message"]


async def test_the_notice_as_text_says_what_the_operator_chose(toy: Path) -> None:
    chosen = {"contact": "privacy@example.org", "webhook_url": "https://example.org/"}
    async with client(toy, **chosen) as (http, serving):
        serving.store = MemoryStore(120_000, 10)
        answer = await http.get(
            "/v1/notice?language=fr", headers={"Accept-Language": "de", "Accept": "text/plain"}
        )
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-language"] == "fr", "?language= goes before the header"
    for part in (TEXTS["fr"].short, "120 secondes", "privacy@example.org", TEXTS["fr"].passed_on):
        assert part in answer.text


SPELLINGS = {
    "as it is": lambda name: name,
    "capitals": str.upper,
    "title": str.title,
    "spaces": lambda name: f"  {name.replace('_', '   ')} ",
    "hyphens": lambda name: name.replace("_", "-"),
    "dots": lambda name: name.replace("_", "."),
    "digits": lambda name: f"1. {name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("purpose", list(ProhibitedPurpose))
def test_prohibited_purposes_are_refused_however_they_are_spelt(
    purpose: ProhibitedPurpose, spelling: str
) -> None:
    spelt = SPELLINGS[spelling](purpose.value)
    with pytest.raises(ProtocolError) as refused:
        decode_message(f'{{"type": "session.start", "purpose": "{spelt}"}}')
    assert refused.value.code.value == "purpose_prohibited"


def test_other_purposes_are_not_refused() -> None:
    for purpose in ("art", "staff training", "insurance_free_clinic", "law", ""):
        decode_message(f'{{"type": "session.start", "purpose": "{purpose}"}}')
