"""decode_message: each bad input of the table gets its code; encode gives it back."""

from __future__ import annotations

import json

import pytest

from emotrace_protocol import (
    MAX_CONTROL_BYTES,
    MAX_MESSAGE_BYTES,
    ErrorCode,
    ProtocolError,
    UnknownEvent,
    decode_event,
    decode_message,
    encode,
)
from emotrace_protocol.events import Failed, SessionStarted, Warned
from emotrace_protocol.messages import (
    MAX_IMAGE_CHARACTERS,
    AudioEncoding,
    Image,
    ProhibitedPurpose,
    SessionStart,
    UtteranceText,
)


def refused(text: str) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode_message(text)
    return caught.value


def start(**fields: object) -> str:
    return json.dumps({"type": "session.start", **fields})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello", id="not JSON"),
        pytest.param("", id="empty"),
        pytest.param("[1]", id="array"),
        pytest.param("5", id="number"),
        pytest.param("null", id="null"),
        pytest.param('"session.start"', id="string"),
        pytest.param('\ufeff{"type":"marker","id":"a"}', id="byte order mark"),
        pytest.param('{"type":"marker","id":"a"} x', id="text behind"),
        pytest.param('{"type":"marker","id":"' + "\ud800" + '"}', id="lone surrogate"),
        pytest.param(r'{"type":"marker","id":"\udfff"}', id="escaped lone surrogate"),
        pytest.param(r'{"type":"marker","\ud800":1,"id":"a"}', id="lone surrogate in a key"),
        pytest.param(r'{"type":"marker","x":["\ud83d"],"id":"a"}', id="half pair in a list"),
        pytest.param(r'{"type":"marker","id":"a\u0000"}', id="NUL"),
        pytest.param('{"type":"marker","id":"a\0"}', id="raw NUL"),
        pytest.param('{"type":"ack","sequence":' + "9" * 10_000 + "}", id="10,000 digits"),
        pytest.param('{"type":"ack","sequence":9223372036854775808}', id="65 bits"),
        pytest.param('{"type":"ack","sequence":1,"x":1e999}', id="1e999"),
        pytest.param('{"type":"ack","sequence":1,"x":NaN}', id="NaN"),
        pytest.param('{"type":"ack","sequence":1,"x":-Infinity}', id="infinity"),
        pytest.param('{"type":"ack","sequence":1,"sequence":2}', id="field twice"),
        pytest.param('{"type":"ack","sequence":1,"x":{"a":1,"a":1}}', id="field twice, nested"),
        pytest.param('{"sequence":1}', id="no type"),
        pytest.param('{"type":7}', id="type is a number"),
    ],
)
def test_what_is_no_message_is_invalid(text: str) -> None:
    error = refused(text)
    assert error.code is ErrorCode.MESSAGE_INVALID
    assert not error.code.kind.fatal


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "ack", "sequence": -1}, "sequence"),
        ({"type": "ack", "sequence": True}, "sequence"),
        ({"type": "ack", "sequence": 1.0}, "sequence"),
        ({"type": "ack", "sequence": "1"}, "sequence"),
        ({"type": "ack"}, "sequence"),
        ({"type": "marker", "id": ""}, "id"),
        ({"type": "marker", "id": "x" * 129}, "id"),
        ({"type": "utterance.text", "text": "hi"}, "speaker"),
        ({"type": "utterance.text", "text": 5, "speaker": "A"}, "text"),
        ({"type": "utterance.text", "text": "hi", "speaker": "a\r\nb"}, "speaker"),
        ({"type": "utterance.text", "text": "hi", "utterance": False}, "utterance"),
        ({"type": "image", "speaker": "A", "jpeg": None}, "jpeg"),
    ],
)
def test_a_wrong_field_is_named(message: dict[str, object], param: str) -> None:
    error = refused(json.dumps(message))
    assert (error.code, error.param) == (ErrorCode.MESSAGE_INVALID, param)
    assert error.message_type == message["type"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"protocol_version": True}, "protocol_version"),
        ({"protocol_version": "1"}, "protocol_version"),
        ({"protocol_version": None}, "protocol_version"),
        ({"audio": 5}, "audio"),
        ({"audio": [1]}, "audio"),
        ({"audio": {"channels": True}}, "audio.channels"),
        ({"audio": {"sample_rate": "16000"}}, "audio.sample_rate"),
        ({"audio": {"encoding": 16}}, "audio.encoding"),
        ({"speakers": "AB"}, "speakers"),
        ({"speakers": ["A", "B"]}, "speakers"),
        ({"audio": {"channels": 2}, "speakers": ["A", "A"]}, "speakers"),
        ({"audio": {"channels": 2}, "speakers": ["A", ""]}, "speakers.1"),
        ({"speakers": ["x" * 65]}, "speakers.0"),
        ({"language": "not a language"}, "language"),
        ({"transcription": "perhaps"}, "transcription"),
        ({"endpointing": {"silence_ms": -1}}, "endpointing.silence_ms"),
        ({"endpointing": {"threshold": 1.5}}, "endpointing.threshold"),
        ({"interim": 1}, "interim"),
        ({"bundle": "x" * 65}, "bundle"),
        ({"labels": [1]}, "labels"),
        ({"labels": 4}, "labels"),
        ({"labels": {"common4": 1}}, "labels"),
        ({"purpose": ["research"]}, "purpose"),
    ],
)
def test_a_wrong_start_is_a_config_error(fields: dict[str, object], param: str) -> None:
    error = refused(start(**fields))
    assert (error.code, error.param) == (ErrorCode.CONFIG_INVALID, param)
    assert error.message_type == "session.start"


@pytest.mark.parametrize("labels", [["anger", "neutral"], [], "common4", None])
def test_a_label_set_is_its_names_or_its_scheme(labels: list[str] | str | None) -> None:
    message, unknown = decode_message(start(labels=labels))
    assert isinstance(message, SessionStart)
    assert message.labels == (tuple(labels) if isinstance(labels, list) else labels)
    assert unknown == ()
    assert decode_message(encode(message))[0] == message


@pytest.mark.parametrize(
    "audio",
    [
        {"sample_rate": 0},
        {"sample_rate": 4_000_000_000},
        {"sample_rate": 11_025},
        {"channels": 0},
        {"channels": 65_535},
        {"encoding": "s24le"},
    ],
)
def test_an_unsupported_audio_format_has_its_own_code(audio: dict[str, object]) -> None:
    error = refused(start(audio=audio))
    assert error.code is ErrorCode.AUDIO_FORMAT_UNSUPPORTED
    assert error.param == f"audio.{next(iter(audio))}"


@pytest.mark.parametrize("version", [0, 2, -1])
def test_another_protocol_version_is_refused_whatever_else_is_there(version: int) -> None:
    error = refused(start(protocol_version=version, audio="of a later version"))
    assert (error.code, error.param) == (ErrorCode.PROTOCOL_UNSUPPORTED, "protocol_version")


@pytest.mark.parametrize("purpose", list(ProhibitedPurpose))
def test_prohibited_purposes_are_refused_however_written(purpose: ProhibitedPurpose) -> None:
    for written in (purpose.value, purpose.value.upper(), f" {purpose.replace('_', '-')} "):
        error = refused(start(purpose=written))
        assert (error.code, error.param) == (ErrorCode.PURPOSE_PROHIBITED, "purpose")
    assert decode_message(start(purpose="research"))[1] == ()


def test_an_unknown_type_is_said_to_be_unknown() -> None:
    error = refused('{"type":"session.pause"}')
    assert (error.code, error.param) == (ErrorCode.TYPE_UNKNOWN, "type")


def nested(depth: int) -> str:
    lists = depth - 1  # the message itself is the first level
    return '{"type":"marker","id":"a","x":' + "[" * lists + "]" * lists + "}"


def test_sixteen_levels_are_the_limit() -> None:
    assert decode_message(nested(16))[1] == ("x",)
    assert refused(nested(17)).code is ErrorCode.MESSAGE_INVALID


def test_brackets_in_texts_are_no_levels() -> None:
    text = '[{"' * 20 + "\\"
    message, _ = decode_message(
        json.dumps({"type": "utterance.text", "text": text, "speaker": "A"})
    )
    assert isinstance(message, UtteranceText)
    assert message.text == text


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a":[' * 10_000])
def test_deep_nesting_is_refused_before_it_is_parsed(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotrace_protocol.codec._DECODER", None)
    assert refused(text).code is ErrorCode.MESSAGE_INVALID


def test_control_messages_have_a_limit_in_bytes() -> None:
    def padded(size: int, letter: str = "a") -> str:
        frame = len('{"type":"marker","id":"a","x":""}')
        count = (size - frame) // len(letter.encode())
        return '{"type":"marker","id":"a","x":"' + letter * count + '"}'

    assert decode_message(padded(MAX_CONTROL_BYTES))[1] == ("x",)
    assert refused(padded(MAX_CONTROL_BYTES + 1)).code is ErrorCode.MESSAGE_TOO_LARGE
    assert refused(padded(MAX_CONTROL_BYTES + 9, "é")).code is ErrorCode.MESSAGE_TOO_LARGE
    values = '{"type":"image","x":[' + "1," * MAX_CONTROL_BYTES + "1]}"
    assert refused(values).code is ErrorCode.MESSAGE_TOO_LARGE
    assert refused(" " * (MAX_MESSAGE_BYTES + 1)).code is ErrorCode.MESSAGE_TOO_LARGE


def test_an_image_may_be_longer_than_a_control_message() -> None:
    jpeg = "A" * MAX_IMAGE_CHARACTERS
    message, _ = decode_message(json.dumps({"type": "image", "speaker": "A", "jpeg": jpeg}))
    assert isinstance(message, Image)
    too_long = json.dumps({"type": "image", "speaker": "A", "jpeg": jpeg + "A"})
    assert refused(too_long).code is ErrorCode.IMAGE_INVALID


def test_a_text_has_a_limit_before_and_after_it_is_normalised() -> None:
    def said(text: str) -> str:
        return json.dumps({"type": "utterance.text", "text": text, "utterance": 0})

    message, _ = decode_message(said("e\u0301"))
    assert isinstance(message, UtteranceText)
    assert message.text == "é"
    assert refused(said("x" * 4_097)).code is ErrorCode.TEXT_TOO_LONG
    # U+FB2C becomes three characters under NFC.
    assert refused(said("\ufb2c" * 4_000)).code is ErrorCode.TEXT_TOO_LONG


def test_unknown_fields_are_named_and_ignored() -> None:
    text = start(colour="red", audio={"encoding": "f32le", "bits": 32}, **{"a\nb": 1})
    message, unknown = decode_message(text)
    assert message == SessionStart(audio={"encoding": AudioEncoding.F32LE})
    assert unknown == ("colour", "audio.bits", "?")


def test_in_code_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="colour"):
        SessionStart(colour="red")


def test_the_answer_never_repeats_what_the_client_said() -> None:
    secret = "my secret"
    for text in (
        secret,
        start(language=secret),
        start(purpose=[secret]),
        json.dumps({"type": secret}),
        json.dumps({"type": "utterance.text", "text": secret}),
        json.dumps({"type": "marker", "id": secret * 20}),
    ):
        error = refused(text)
        assert secret not in error.message + str(error) + str(error.param)


def test_messages_are_compact_json() -> None:
    assert encode(SessionStart()).startswith('{"type":"session.start","protocol_version":1,')


def test_a_newer_servers_events_are_skipped_and_counted() -> None:
    event = decode_event('{"type":"mood.music","sequence":4,"tempo":120,"deep":{"a":[1]}}')
    assert event == UnknownEvent(type="mood.music", sequence=4)


def test_a_newer_servers_fields_and_codes_do_no_harm() -> None:
    warned = decode_event('{"type":"warning","sequence":1,"code":"new","message":"m","since":2}')
    assert isinstance(warned, Warned)
    assert warned.code == "new"
    fields = ProtocolError(ErrorCode.INTERNAL, "It broke.").fields()
    failed = decode_event(encode(Failed(sequence=0, **fields)))
    assert isinstance(failed, Failed)
    assert failed.code is ErrorCode.INTERNAL


def test_a_newer_servers_audio_fields_are_skipped(started: SessionStarted) -> None:
    text = encode(started).replace('"encoding":', '"bits":16,"encoding":')
    assert decode_event(text) == started


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"type":"heartbeat"}', '{"type":"new"}'])
def test_what_is_no_event_is_an_error(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode_event(text)
