"""Framer: bytes of a stream, cut anywhere -> frames of 512 samples at 16 kHz. Pure.

The frames never depend on how the bytes were cut into messages: samples and interleaved frames that
a cut splits are carried over, and the resampler hears no cuts either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import AudioFormat
from emotrace_service.pcm import SAMPLE_BYTES, decode_samples
from emotrace_service.resampling import Resampler, ResamplerState
from emotrace_service.sniffing import sniff

FRAME_SAMPLES = 512  # 32 ms, what the voice detector takes


class AudioRejected(ValueError):
    """Audio that cannot be taken in. `code` is what the client is told."""

    code: ClassVar[ErrorCode]


class AudioFormatSuspect(AudioRejected):
    """The bytes are an encoded file, or a WAV file of another format. The stream is of no use."""

    code = ErrorCode.AUDIO_FORMAT_SUSPECT


class AudioNonfinite(AudioRejected):
    """The message held NaN or infinite samples. Nothing of it was kept; the stream goes on."""

    code = ErrorCode.AUDIO_NONFINITE


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One frame of every channel, in step.

    start_sample: place of the first sample in the session, at 16 kHz.
    samples: [channel, 512] float32 in [-1, 1].
    length: how many of the 512 were heard; less than 512 only in the last block of a stream.
    """

    start_sample: int
    samples: FloatArray
    length: int = FRAME_SAMPLES


@dataclass(frozen=True, slots=True, eq=False)
class FramerState:
    """What a framer keeps between messages: a new one goes on from it.

    head: the stream's first bytes, while it is not decided what they are. carry: less than one
    sample of every channel. skip: bytes of a refused message's last step, still to come.
    pending: [sample, channel] at 16 kHz, less than one frame.
    """

    head: bytes | None
    carry: bytes
    skip: int
    pending: FloatArray
    samples_in: int
    blocks_out: int
    finished: bool
    resampler: ResamplerState | None


class Tail(NamedTuple):
    """The end of a stream: its last blocks, and the bytes too few for one sample a channel."""

    blocks: list[Block]
    leftover_bytes: int


class Framer:
    """Turns messages of bytes into blocks. One a session. state: to go on from.

    Memory: what is kept between messages is less than one frame, one resampler block and the
    resampler's own delay (at most 0.12 s).
    """

    def __init__(self, audio: AudioFormat, state: FramerState | None = None) -> None:
        self._audio = audio
        self._step_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
        if state is None:
            pending = np.empty((0, audio.channels), np.float32)
            state = FramerState(b"", b"", 0, pending, 0, 0, False, None)
        self._head = state.head
        self._carry = state.carry
        self._skip = state.skip
        self._pending = state.pending
        self._samples_in = state.samples_in
        self._blocks_out = state.blocks_out
        self._finished = state.finished
        self._resampler = (
            None
            if audio.sample_rate == SAMPLE_RATE
            else Resampler(audio.sample_rate, audio.channels, state.resampler)
        )

    @property
    def state(self) -> FramerState:
        """A value that a new framer can go on from."""
        return FramerState(
            self._head,
            self._carry,
            self._skip,
            self._pending,
            self._samples_in,
            self._blocks_out,
            self._finished,
            None if self._resampler is None else self._resampler.state,
        )

    @property
    def samples_in(self) -> int:
        """Samples a channel taken in so far, at the stream's own rate."""
        return self._samples_in

    @property
    def position(self) -> int:
        """Samples a channel given out in blocks so far, at 16 kHz."""
        return self._blocks_out * FRAME_SAMPLES

    def push(self, data: bytes) -> list[Block]:
        """The blocks that `data` completes.

        Raises AudioFormatSuspect (the stream is of no use any more) or AudioNonfinite, for the
        message that completes a sample of every channel with one that is no number: nothing of
        it was kept, nor of the samples that it completed; the stream stays aligned.
        """
        if self._head is not None:
            data = self._open(self._head + data, complete=False)
        return self._frame(self._decode(data))

    def finish(self) -> Tail:
        """The last blocks, filled up with zeros, and how many bytes were left over.

        Raises AudioRejected, as `push` does, if the whole stream was a few bytes that are no sound.
        """
        if self._finished:
            return Tail([], 0)
        self._finished = True
        steps = self._decode(b"" if self._head is None else self._open(self._head, complete=True))
        blocks = self._frame(steps, last=True)
        heard = len(self._pending)
        if heard:
            filled = np.zeros((FRAME_SAMPLES, self._audio.channels), np.float32)
            filled[:heard] = self._pending
            self._pending = self._pending[:0]
            blocks.append(self._block(filled, heard))
        return Tail(blocks, len(self._carry))

    def _open(self, head: bytes, *, complete: bool) -> bytes:
        """The samples' bytes of the stream's beginning; none while it is not decided what it is."""
        opening = sniff(head, self._audio, complete=complete)
        if opening is None:
            self._head = head
            return b""
        if opening.suspect is not None:
            raise AudioFormatSuspect(f"the stream begins like {opening.suspect}")
        self._head = None
        return head[opening.skip :]

    def _decode(self, data: bytes) -> FloatArray:
        """[step, channel] at the stream's own rate, of the whole steps that are there now."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data = self._carry + data
        whole = len(data) - len(data) % self._step_bytes
        try:
            samples = decode_samples(self._audio.encoding, data[:whole])
        except ValueError as error:
            self._skip = -len(data) % self._step_bytes
            self._carry = b""
            raise AudioNonfinite(str(error)) from error
        self._carry = data[whole:]
        steps = samples.reshape(-1, self._audio.channels)
        self._samples_in += len(steps)
        return steps

    def _resample(self, steps: FloatArray, *, last: bool) -> FloatArray:
        """[step, channel] at 16 kHz."""
        return steps if self._resampler is None else self._resampler.push(steps, last=last)

    def _frame(self, steps: FloatArray, *, last: bool = False) -> list[Block]:
        pending = np.concatenate([self._pending, self._resample(steps, last=last)])
        whole = len(pending) - len(pending) % FRAME_SAMPLES
        self._pending = pending[whole:].copy()
        return [
            self._block(pending[at : at + FRAME_SAMPLES], FRAME_SAMPLES)
            for at in range(0, whole, FRAME_SAMPLES)
        ]

    def _block(self, steps: FloatArray, length: int) -> Block:
        # A copy, because a block must not keep a whole message alive.
        samples = np.array(steps.T, order="C")
        samples.setflags(write=False)
        block = Block(self.position, samples, length)
        self._blocks_out += 1
        return block
