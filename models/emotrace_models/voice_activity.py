"""VoiceDetector: one 32 ms frame of sound and a state -> probability of speech and the next state.

The network is Silero VAD v6 (MIT licence), whose ONNX file ships inside faster-whisper. Its state
is a value: stepping frame by frame gives exactly what a whole file at once gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from emotrace_models.types import FloatArray

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64  # end of the frame before, put in front of each frame
STATE_WIDTH = 128

ASSET = "silero_vad_v6.onnx"


class VoiceDetectorUnavailable(RuntimeError):
    """The network's file is missing or is not the one expected."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceState:
    """What the detector remembers of one channel.

    context: [64] the end of the last frame. hidden, cell: [128] of the LSTM.
    """

    context: FloatArray
    hidden: FloatArray
    cell: FloatArray


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
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise VoiceDetectorUnavailable(f"{path.name} cannot be loaded: {error}") from error
        names = tuple(one.name for one in self._session.get_inputs())
        if names != ("input", "h", "c"):
            raise VoiceDetectorUnavailable(
                f"{path.name} takes {names}; expected Silero VAD v6 with input, h and c"
            )

    def start(self) -> VoiceState:
        """The state before any sound."""
        zeros = np.zeros(STATE_WIDTH, np.float32)
        return VoiceState(np.zeros(CONTEXT_SAMPLES, np.float32), zeros, zeros)

    def forward(
        self, frames: FloatArray, states: Sequence[VoiceState]
    ) -> tuple[FloatArray, tuple[VoiceState, ...]]:
        """frames [row, 512] with a state a row -> probabilities [row] and the next states.

        Rows are channels, of one session or of many. The network's first axis is time, not
        rows, so each row is a run of its own, and company never changes a result.
        """
        if frames.shape != (len(states), FRAME_SAMPLES):
            raise ValueError(
                f"frames of shape {frames.shape} for {len(states)} states; "
                f"expected ({len(states)}, {FRAME_SAMPLES})"
            )
        probabilities = np.empty(len(states), np.float32)
        following = []
        for row, (frame, state) in enumerate(zip(frames, states, strict=True)):
            output, hidden, cell = self._session.run(
                None,
                {
                    "input": np.concatenate([state.context, frame])[np.newaxis],
                    "h": state.hidden[np.newaxis, np.newaxis],
                    "c": state.cell[np.newaxis, np.newaxis],
                },
            )
            probabilities[row] = output[0]
            following.append(VoiceState(frame[-CONTEXT_SAMPLES:].copy(), hidden[0, 0], cell[0, 0]))
        return probabilities, tuple(following)
