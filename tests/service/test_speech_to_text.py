"""Real speech to text, from bytes: Framer, voice detector, Segmenter, and a Transcriber.

The transcriber is pocketsphinx, because its wheel ships a model. About one word in two is wrong,
so it serves here to show that sound goes in and the right words come out, and nowhere else.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from pocketsphinx import Decoder

from emotrace_models.transcription import Transcriber
from emotrace_models.types import SAMPLE_RATE, FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector
from emotrace_protocol.messages import AudioFormat, Endpointing
from emotrace_service.audio import Block, Framer
from emotrace_service.endpointing import EndpointingConfig
from emotrace_service.segmenting import Segmenter, UtteranceReady

CLIPS = 6
SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}


class SphinxTranscriber:
    """pocketsphinx behind the Transcriber protocol: English only."""

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def supports(self, language: str | None) -> bool:
        return language in (None, "en")

    def transcribe(self, items: Sequence[tuple[Utterance, str | None]]) -> list[Transcript | None]:
        return [self._heard(utterance) for utterance, _ in items]

    def _heard(self, utterance: Utterance) -> Transcript | None:
        if utterance.samples is None:
            return None
        pcm = (utterance.samples * 32_767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        if hypothesis is None:
            return None
        return Transcript(hypothesis.hypstr, "server", "en")


def _word_errors(reference: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(reference, start=1):
        before, row = row, [number]
        for place, other in enumerate(heard, start=1):
            row.append(min(before[place] + 1, row[-1] + 1, before[place - 1] + (word != other)))
    return row[-1]


def _clips(corpus: Path) -> Iterator[tuple[FloatArray, str]]:
    with (corpus / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    random.Random(0).shuffle(rows)
    for row in rows[:CLIPS]:
        samples, rate = soundfile.read(corpus / row["file"], dtype="float32")
        assert rate == SAMPLE_RATE
        yield samples, SENTENCES[row["statement"]]


def _utterances(recording: FloatArray, message_bytes: int) -> list[UtteranceReady]:
    framer = Framer(AudioFormat())
    detector = VoiceDetector()
    segmenter = Segmenter(("A",), EndpointingConfig.from_wire(Endpointing()))
    states = [detector.start()]
    items = []

    def hear(blocks: list[Block]) -> None:
        nonlocal states
        for block in blocks:
            (probabilities,), states = detector.forward([block.samples], states)
            items.extend(segmenter.push(block, probabilities.tolist()))

    data = (recording * 32_767).astype("<i2").tobytes()
    for at in range(0, len(data), message_bytes):
        hear(framer.push(data[at : at + message_bytes]))
    hear(framer.finish().blocks)
    items.extend(segmenter.flush())
    return [item for item in items if isinstance(item, UtteranceReady)]


def test_words_arrive_from_real_speech(shared: Path) -> None:
    transcriber: Transcriber = SphinxTranscriber()
    errors = words = exact = 0
    pause = np.zeros(SAMPLE_RATE, np.float32)
    for recording, sentence in _clips(shared / "data" / "ravdess_speech"):
        utterances = _utterances(np.concatenate([pause, recording, pause]), message_bytes=641)
        assert utterances, "the voice detector heard no speech"
        transcripts = transcriber.transcribe([(one.utterance, "en") for one in utterances])
        heard = [word for one in transcripts if one for word in one.text.split()]
        assert heard
        errors += _word_errors(sentence.split(), heard)
        words += len(sentence.split())
        exact += heard == sentence.split()
    print(f"word error rate {errors / words:.2f} over {words} words, {exact} of {CLIPS} exact")
    assert errors / words < 0.65
    assert exact >= 1
