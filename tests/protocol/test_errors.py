"""The closed lists are complete, and every error says what to do."""

from __future__ import annotations

from typing import get_args

import pytest

from emotrace_protocol import ClientMessage, ErrorCode, ProtocolError, ServerEvent, WarningCode
from emotrace_protocol.errors import ERROR_KINDS, WARNING_MEANINGS
from emotrace_protocol.events import EVENTS, Failed
from emotrace_protocol.messages import MESSAGES


def test_every_code_has_a_kind_and_every_warning_a_meaning() -> None:
    assert list(ERROR_KINDS) == list(ErrorCode)
    assert list(WARNING_MEANINGS) == list(WarningCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_names_cause_and_cure(code: ErrorCode) -> None:
    assert code.kind.cure.endswith(".")
    error = ProtocolError(code, "It was wrong.", "field", utterance=3, retry_after_ms=10)
    event = Failed(sequence=0, **error.fields())
    assert event.message == f"It was wrong. {code.kind.cure}"
    assert event.fatal == (code.kind.close is not None)
    assert (event.code, event.param, event.utterance) == (code, "field", 3)
    assert event.retry_after_ms == 10


def test_close_codes_are_registered_or_an_http_status() -> None:
    closes = {kind.close for kind in ERROR_KINDS.values() if kind.close is not None}
    assert closes <= {1011, 1012, 1013} | {
        4000 + status for status in (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 480)
    }


def test_only_a_connection_that_broke_off_can_be_followed_by_another() -> None:
    assert {code for code, kind in ERROR_KINDS.items() if kind.resume} == {ErrorCode.SLOW_CONSUMER}


def test_the_dictionaries_hold_the_unions() -> None:
    for union, models in ((ClientMessage, MESSAGES), (ServerEvent, EVENTS)):
        members = get_args(get_args(union)[0])
        assert tuple(models.values()) == members
        for name, model in models.items():
            assert model.model_fields["type"].default == name
    assert (len(MESSAGES), len(EVENTS)) == (9, 16)
