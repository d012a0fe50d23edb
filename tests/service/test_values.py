"""Values as bytes: what comes back is equal, shared where it was shared, and nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from fakes import toy_bundle
from hypothesis import given
from hypothesis import strategies as st

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.types import Transcript, Utterance
from emotrace_protocol.messages import AudioFormat, SessionStart
from emotrace_service.audio import Framer
from emotrace_service.session_store import Snapshot
from emotrace_service.understood import Understood
from emotrace_service.values import Encoder, ValueInvalid, decode, encode


def same(one: Any, other: Any) -> bool:
    """Equal in depth, arrays bit for bit."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and np.array_equal(one, other, equal_nan=True)
        )
    if isinstance(one, Mapping):
        # Features are keys by identity, so keys are met in order.
        return len(one) == len(other) and all(
            same(a, b) for a, b in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    return type(one) is type(other) and one == other


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.tuples(inner, inner)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.integers(0, 9) | st.tuples(st.text()), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(plain)
def test_plain_values(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_an_encoder_looks_once_at_an_array_and_writes_it_each_time() -> None:
    encoder = Encoder()
    arrays = [np.full(3, value, np.float32) for value in (0.5, 0.3, 7.0)]
    for held in (arrays[:2], arrays[1:], [np.zeros(3, np.float32) for _ in range(9)], arrays):
        value = (tuple(held), held[0])
        assert encoder.encode(value) == encode(value)
    assert same(decode(encoder.encode((arrays[2],))), (arrays[2],))


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with suppress(ValueInvalid):
        decode(data)


@pytest.mark.parametrize(
    "name", ["os:system", "builtins:eval", "emotrace_service.values:sys.exit", "emotrace_x:Y"]
)
def test_no_class_but_our_own_values_is_made(name: str) -> None:
    for tag in (6, 8, 9):
        with pytest.raises(ValueInvalid):
            decode(msgpack.packb([tag, f"{name}:00000000", "echo"]))


def test_what_a_version_with_other_fields_wrote_is_not_misread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = encode(Transcript("words", "client"))
    assert decode(written) == Transcript("words", "client")
    other = make_dataclass("Transcript", ["source", "text"], namespace={"__module__": "x"})
    monkeypatch.setattr("emotrace_models.types.Transcript", other)
    with pytest.raises(ValueInvalid, match="Transcript has other fields"):
        decode(written)


def test_a_session_comes_back_as_it_was(tmp_path: Path) -> None:
    predictor = Predictor(Bundle.load(toy_bundle(tmp_path / "toy")))
    random = np.random.default_rng(0)
    dialogue = predictor.start()
    for index in range(5):
        sound = random.normal(0, 0.1, 16_000).astype(np.float32)
        utterance = Utterance(
            index=index,
            speaker="AB"[index % 2],
            start_sample=0,
            end_sample=16_000,
            samples=sound,
            voice=np.ones(32, np.float32),
            transcript=Transcript(f"words {index}", "client"),
        )
        ((dialogue, _),) = predictor.predict([(dialogue, utterance)])
    framer = Framer(AudioFormat(sample_rate=44_100))
    framer.push(random.integers(0, 99, 40_001, np.uint8).tobytes())
    snapshot = Snapshot(
        start=SessionStart(speakers=("A",), resume=True),
        sent=5,
        counts={"emotion.final": 3},
        through=7,
        ahead=frozenset({9, 11}),
        others=2,
        age_s=7.5,
        understood=replace(Understood(framer=framer.state), utterances=5),
    )
    data = encode((snapshot, dialogue))
    again, dialogue_again = decode(data)
    assert same(again.understood, snapshot.understood)
    assert (again.start, again.ahead, again.sent) == (snapshot.start, snapshot.ahead, 5)
    assert same(dialogue_again, dialogue)
    # The features that are known from earlier turns are those of the window, not copies of them.
    window = {id(one) for pair in dialogue_again.window.pairs for one in pair if one is not None}
    assert dialogue_again.read
    assert any(id(features) in window for _, features in dialogue_again.read)
    assert len(data) < 200_000
