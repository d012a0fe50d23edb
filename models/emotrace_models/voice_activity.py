"""VoiceDetector: 32 ms frames of sound and a state -> probabilities of speech and the next state.

The network is Silero VAD v6 (MIT licence), whose ONNX file ships inside faster-whisper; it is run
as a graph over channels (voice_graph.py), so that all sessions share a run. A state is a value:
stepping frame by frame gives exactly what all frames at once give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from emotrace_models.types import FloatArray
from emotrace_models.voice_graph import STATE_WIDTH, row_graph

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64  # end of the frame before, put in front of each frame
_CONTEXT = slice(0, CONTEXT_SAMPLES)
_HIDDEN = slice(_CONTEXT.stop, _CONTEXT.stop + STATE_WIDTH)
_CELL = slice(_HIDDEN.stop, _HIDDEN.stop + STATE_WIDTH)

ASSET = "silero_vad_v6.onnx"


class VoiceDetectorUnavailable(RuntimeError):
    """The network's file is missing or is not the one expected."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceState:
    """What the detector remembers of one channel.

    values: [320] the end of the last frame [64], then hidden [128] and cell [128] of the LSTM.
    """

    values: FloatArray


def asset_path() -> Path:
    """Where faster-whisper keeps the network's file. Does not import faster-whisper.

    Raises VoiceDetectorUnavailable if there is none.
    """
    spec = find_spec("faster_whisper")
    folders = () if spec is None else spec.submodule_search_locations or ()
    for folder in folders:
        path = Path(folder) / "assets" / ASSET
        if path.is_file():
            return path
    raise VoiceDetectorUnavailable(
        f"{ASSET} was not found; it ships with faster-whisper 1.2: "
        "pip install 'faster-whisper>=1.2,<2'"
    )


class VoiceDetector:
    """Silero VAD on one thread. It holds no state of a stream, so all sessions share one.

    Raises VoiceDetectorUnavailable if the file is missing or has other inputs than expected.
    """

    def __init__(self, path: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = path or asset_path()
        try:
            self._session = onnxruntime.InferenceSession(
                row_graph(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnx's and onnxruntime's own errors share no base class
            raise VoiceDetectorUnavailable(f"{path.name} cannot be loaded: {error}") from error

    def start(self) -> VoiceState:
        """The state before any sound."""
        return VoiceState(np.zeros(_CELL.stop, np.float32))

    def forward(
        self, sounds: Sequence[FloatArray], states: Sequence[VoiceState]
    ) -> tuple[list[FloatArray], list[VoiceState]]:
        """sounds: of each channel its next frames [frame, 512], any number, with a state a channel
        -> its probabilities [frame], and the next states.

        Channels may be of one session or of many: company changes no bit of a result. Raises
        ValueError where the shapes do not fit.
        """
        if len(sounds) != len(states) or any(
            sound.ndim != 2 or sound.shape[1] != FRAME_SAMPLES for sound in sounds
        ):
            raise ValueError(
                f"sounds of shapes {[sound.shape for sound in sounds]} for {len(states)} states; "
                f"expected [frame, {FRAME_SAMPLES}] for each state"
            )
        if not sounds:
            return [], []
        memory = np.stack([state.values for state in states])  # [channel, 320]
        probabilities = [np.empty(len(sound), np.float32) for sound in sounds]
        for frame in range(max(len(sound) for sound in sounds)):
            rows = [row for row, sound in enumerate(sounds) if frame < len(sound)]
            found = self._step(np.stack([sounds[row][frame] for row in rows]), memory, rows)
            for row, probability in zip(rows, found, strict=True):
                probabilities[row][frame] = probability
        return probabilities, [VoiceState(values.copy()) for values in memory]

    def _step(self, frames: FloatArray, memory: FloatArray, rows: list[int]) -> FloatArray:
        """One frame of some channels; their memory is overwritten."""
        before = memory[rows]
        found, hidden, cell = self._session.run(
            None,
            {
                "input": np.concatenate([before[:, _CONTEXT], frames], axis=1),
                "h": before[np.newaxis, :, _HIDDEN],
                "c": before[np.newaxis, :, _CELL],
            },
        )
        memory[rows] = np.concatenate([frames[:, -CONTEXT_SAMPLES:], hidden[0], cell[0]], axis=1)
        probabilities: FloatArray = found
        return probabilities
