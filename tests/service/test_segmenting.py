"""The Segmenter: from blocks to utterances, the same whatever the cuts, numbered, bounded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotrace_models.types import FloatArray, Utterance
from emotrace_protocol.messages import AudioFormat, Endpointing
from emotrace_service.audio import FRAME_SAMPLES, Block, Framer
from emotrace_service.endpointing import EndpointingConfig
from emotrace_service.segmenting import (
    FIRST_INTERIM_SAMPLES,
    InterimDue,
    Item,
    PauseHeard,
    PauseOver,
    Segmenter,
    SpeechStarted,
    UtteranceReady,
)

# Small numbers, so that a second of sound holds many utterances.
CONFIG = EndpointingConfig(
    start_threshold=0.5,
    end_threshold=0.35,
    silence_samples=4 * FRAME_SAMPLES,
    min_speech_samples=2 * FRAME_SAMPLES,
    max_utterance_samples=24 * FRAME_SAMPLES,
    padding_samples=700,
    cut_window_samples=8 * FRAME_SAMPLES,
)
INTERIM = 3_000


def _probabilities(block: Block) -> list[float]:
    """A scripted detector: loudness is speech."""
    return [float(min(1.0, 4 * one)) for one in np.sqrt((block.samples**2).mean(axis=1))]


def _segment(blocks: list[Block], segmenter: Segmenter) -> list[Item]:
    items = [item for block in blocks for item in segmenter.push(block, _probabilities(block))]
    return items + segmenter.flush()


def _blocks(audio: AudioFormat, messages: list[bytes]) -> list[Block]:
    framer = Framer(audio)
    return [block for one in messages for block in framer.push(one)] + framer.finish().blocks


def _plain(item: Item) -> tuple[object, ...]:
    """An item as values that `==` compares bit for bit."""
    if isinstance(item, SpeechStarted):
        return ("started", item.index, item.speaker, item.start_sample)
    if isinstance(item, PauseOver):
        return ("over", item.index)
    rest: tuple[object, ...] = ()
    if isinstance(item, UtteranceReady):
        rest = (item.speech_end_sample, item.decided_sample, item.reason)
    return (type(item).__name__, *_plain_utterance(item.utterance), *rest)


def _plain_utterance(utterance: Utterance) -> tuple[object, ...]:
    assert utterance.samples is not None
    assert utterance.samples.dtype == np.float32
    return (
        utterance.index,
        utterance.speaker,
        utterance.start_sample,
        utterance.end_sample,
        utterance.samples.tobytes(),
    )


@st.composite
def dialogues(draw: st.DrawFn, rate: int = 16_000) -> FloatArray:
    """[sample, channel] of bursts and pauses, at most some seconds."""
    channels = draw(st.integers(1, 3))
    tracks = []
    for channel in range(channels):
        runs = draw(
            st.lists(
                st.tuples(st.sampled_from([0.0, 0.05, 0.2, 0.6]), st.integers(1, 16_000)),
                max_size=6,
            )
        )
        random = np.random.default_rng(channel)
        tracks.append(
            np.concatenate(
                [np.zeros(1), *(random.uniform(-1, 1, count) * level for level, count in runs)]
            )
        )
    longest = max(map(len, tracks))
    sound = np.stack([np.pad(track, (0, longest - len(track))) for track in tracks], axis=1)
    return sound[:: 16_000 // rate] if rate < 16_000 else sound


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([8_000, 16_000]).flatmap(
        lambda rate: st.tuples(st.just(rate), dialogues(rate))
    ),
    st.lists(st.integers(0, 10**6), max_size=40),
)
def test_no_cut_shows_in_the_utterances(recording: tuple[int, FloatArray], cuts: list[int]) -> None:
    rate, sound = recording
    audio = AudioFormat(sample_rate=rate, channels=sound.shape[1])
    data = (sound * 32_767).astype("<i2").tobytes()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    messages = [data[start:end] for start, end in pairwise(places)]
    speakers = "ABC"[: sound.shape[1]]
    whole = _segment(_blocks(audio, [data]), Segmenter(speakers, CONFIG, interim_samples=INTERIM))
    cut = _segment(_blocks(audio, messages), Segmenter(speakers, CONFIG, interim_samples=INTERIM))
    assert list(map(_plain, whole)) == list(map(_plain, cut))


@settings(deadline=None, max_examples=60)
@given(dialogues())
def test_the_laws_of_utterances(sound: FloatArray) -> None:
    audio = AudioFormat(channels=sound.shape[1])
    data = (sound * 32_767).astype("<i2")
    heard = (data.astype(np.float32) / 32_768).T
    speakers = tuple("ABC"[: sound.shape[1]])
    segmenter = Segmenter(speakers, CONFIG, interim_samples=INTERIM)
    items: list[Item] = []
    bound = CONFIG.max_utterance_samples + CONFIG.padding_samples + 2 * FRAME_SAMPLES
    for block in _blocks(audio, [data.tobytes()]):
        items += segmenter.push(block, _probabilities(block))
        assert segmenter.buffered_samples <= bound * len(speakers)
        opened = {one.index for one in items if isinstance(one, SpeechStarted)}
        closed = {one.utterance.index for one in items if isinstance(one, UtteranceReady)}
        assert {one.index for one in segmenter.open_utterances()} == opened - closed
    items += segmenter.flush()
    assert segmenter.open_utterances() == ()
    assert segmenter.buffered_samples == 0
    assert segmenter.position == len(sound)

    started = [one for one in items if isinstance(one, SpeechStarted)]
    ready = [one for one in items if isinstance(one, UtteranceReady)]
    assert [one.index for one in started] == list(range(len(started)))
    assert sorted(one.utterance.index for one in ready) == list(range(len(started)))
    open_now: dict[int, SpeechStarted] = {}
    last_end = dict.fromkeys(speakers, 0)
    last_interim: dict[int, int] = {}
    pauses: dict[int, Utterance] = {}
    for item in items:
        if isinstance(item, SpeechStarted):
            assert item.start_sample >= last_end[item.speaker]
            open_now[item.index] = item
            continue
        if isinstance(item, PauseOver):
            assert item.index in open_now
            del pauses[item.index]
            continue
        utterance = item.utterance
        begun = open_now[utterance.index]
        assert (begun.speaker, begun.start_sample) == (utterance.speaker, utterance.start_sample)
        track = heard[speakers.index(utterance.speaker)]
        assert utterance.samples is not None
        assert np.array_equal(
            utterance.samples, track[utterance.start_sample : utterance.end_sample]
        )
        if isinstance(item, UtteranceReady):
            del open_now[utterance.index]
            last_end[utterance.speaker] = utterance.end_sample
            assert utterance.start_sample < item.speech_end_sample <= utterance.end_sample
            assert utterance.end_sample <= item.decided_sample <= len(sound)
            # Whatever is computed in the pause before the end is of the very utterance.
            foreseen = pauses.pop(utterance.index, None)
            if item.reason == "silence":
                assert foreseen is not None
                assert _plain_utterance(foreseen) == _plain_utterance(utterance)
        elif isinstance(item, PauseHeard):
            assert utterance.index not in pauses
            pauses[utterance.index] = utterance
        else:
            length = utterance.end_sample - utterance.start_sample
            first = CONFIG.padding_samples + FIRST_INTERIM_SAMPLES
            number = (length - first) // INTERIM
            assert number > last_interim.get(utterance.index, -1)
            last_interim[utterance.index] = number
    assert not pauses


def _talk(segmenter: Segmenter, script: list[tuple[float, ...]]) -> list[Item]:
    channels = len(script[0]) if script else 1
    silence = np.zeros((channels, FRAME_SAMPLES), np.float32)
    return [
        item
        for number, probabilities in enumerate(script)
        for item in segmenter.push(Block(number * FRAME_SAMPLES, silence), probabilities)
    ]


def test_numbers_follow_the_announcements_across_channels() -> None:
    """B begins to speak first, but A is announced first: B's first sound is a blip."""
    segmenter = Segmenter(("A", "B"), CONFIG)
    script = [(0.0, 0.9)] + [(0.0, 0.0)] * 5 + [(0.9, 0.0)] * 3 + [(0.9, 0.9)] * 3
    items = _talk(segmenter, script)
    assert [(one.index, one.speaker) for one in items if isinstance(one, SpeechStarted)] == [
        (0, "A"),
        (1, "B"),
    ]
    assert [one.speaker for one in segmenter.open_utterances()] == ["A", "B"]


def test_at_the_same_frame_the_first_channel_goes_first() -> None:
    items = _talk(Segmenter(("A", "B"), CONFIG), [(0.9, 0.9)] * 3)
    assert [(one.index, one.speaker) for one in items if isinstance(one, SpeechStarted)] == [
        (0, "A"),
        (1, "B"),
    ]


def test_a_turn_without_audio_takes_its_number_in_the_same_row() -> None:
    segmenter = Segmenter(("A",), CONFIG)
    speech = [(0.9,)] * 3
    assert segmenter.claim_number() == 0
    items = _talk(segmenter, speech)
    assert [one.index for one in items if isinstance(one, SpeechStarted)] == [1]
    assert segmenter.claim_number() == 2


def test_interims_come_with_each_second_of_speech_and_none_in_silence() -> None:
    config = EndpointingConfig.from_wire(Endpointing(silence_ms=2_000))
    segmenter = Segmenter(("A",), config)
    second = 16_000
    script = [(0.0,)] * 20 + [(0.9,)] * (int(2.4 * second) // FRAME_SAMPLES) + [(0.0,)] * 40
    interims = [one for one in _talk(segmenter, script) if isinstance(one, InterimDue)]
    ends = [one.utterance.end_sample - 20 * FRAME_SAMPLES for one in interims]
    assert [end // second for end in ends] == [0, 1]  # at 0.5 s and at 1.5 s: 2.5 is not reached
    assert all(
        0 <= end - second // 2 - n * second < 2 * FRAME_SAMPLES for n, end in enumerate(ends)
    )
    (ready,) = segmenter.flush()
    assert isinstance(ready, UtteranceReady)
    assert ready.speech_end_sample < ready.utterance.end_sample < ready.decided_sample


def test_interims_can_be_off() -> None:
    items = _talk(Segmenter(("A",), CONFIG, interim_samples=None), [(0.9,)] * 200)
    assert items
    assert not any(isinstance(one, InterimDue) for one in items)


def test_the_wait_of_the_endpointing_is_told() -> None:
    items = _talk(Segmenter(("A",), CONFIG), [(0.9,)] * 6 + [(0.0,)] * 10)
    (ready,) = (one for one in items if isinstance(one, UtteranceReady))
    assert ready.decided_sample - ready.speech_end_sample == CONFIG.silence_samples
    assert ready.utterance.end_sample - ready.speech_end_sample == CONFIG.padding_samples


def test_silence_for_ever_keeps_nothing_but_the_padding() -> None:
    segmenter = Segmenter(("A", "B"), CONFIG)
    assert _talk(segmenter, [(0.0, 0.1)] * 2_000) == []
    assert segmenter.buffered_samples <= 2 * (CONFIG.padding_samples + FRAME_SAMPLES)


def test_samples_given_out_do_not_change_afterwards() -> None:
    segmenter = Segmenter(("A",), replace(CONFIG, padding_samples=0))
    loud = np.full((1, FRAME_SAMPLES), 0.5, np.float32)
    items: list[Item] = []
    for number in range(12):
        items += segmenter.push(Block(number * FRAME_SAMPLES, loud), [0.9 if number < 5 else 0.0])
    (ready,) = (one for one in items if isinstance(one, UtteranceReady))
    assert ready.utterance.samples is not None
    assert not ready.utterance.samples.flags.writeable
    loud[:] = 0.0
    assert (ready.utterance.samples == 0.5).all()


def test_channels_that_do_not_fit_are_refused() -> None:
    segmenter = Segmenter(("A", "B"), CONFIG)
    block = Block(0, np.zeros((2, FRAME_SAMPLES), np.float32))
    with pytest.raises(ValueError, match="2 channels and 1 probabilities for 2 speakers"):
        segmenter.push(block, [0.1])
    with pytest.raises(ValueError, match="1 channels and 2 probabilities for 2 speakers"):
        segmenter.push(Block(0, np.zeros((1, FRAME_SAMPLES), np.float32)), [0.1, 0.1])


def test_a_gap_in_the_blocks_is_refused() -> None:
    segmenter = Segmenter(("A",), CONFIG)
    with pytest.raises(ValueError, match="begins at sample 512, not at 0"):
        segmenter.push(Block(FRAME_SAMPLES, np.zeros((1, FRAME_SAMPLES), np.float32)), [0.1])


@settings(deadline=None, max_examples=40)
@given(dialogues(), st.sets(st.integers(0, 60), max_size=6))
def test_a_new_segmenter_goes_on_from_the_state_of_another(
    sound: FloatArray, breaks: set[int]
) -> None:
    audio = AudioFormat(channels=sound.shape[1])
    blocks = _blocks(audio, [(sound * 32_767).astype("<i2").tobytes()])
    speakers = "ABC"[: sound.shape[1]]
    whole = _segment(blocks, Segmenter(speakers, CONFIG, interim_samples=INTERIM))
    segmenter = Segmenter(speakers, CONFIG, interim_samples=INTERIM)
    items: list[Item] = []
    for number, block in enumerate(blocks):
        items += segmenter.push(block, _probabilities(block))
        if number in breaks:
            state = segmenter.state
            segmenter = Segmenter(speakers, CONFIG, interim_samples=INTERIM, state=state)
    items += segmenter.flush()
    assert list(map(_plain, items)) == list(map(_plain, whole))
