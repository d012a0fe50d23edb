"""SameSound: do the channels of a recording carry the same sound, so that nobody is told apart?"""

from __future__ import annotations

import numpy as np

from emotrace_clients.sound_readers import FloatArray

HEARD_S = 10.0  # of sound that is no silence, before it is sure
AUDIBLE = 1e-3  # root mean square, full scale 1
SAME = 1e-3  # energy of the difference, to that of the sound


class SameSound:
    """Of two channels or more. push: True once, when it is sure that they are the same."""

    def __init__(self, sample_rate: int) -> None:
        self._left = int(HEARD_S * sample_rate)
        self._open = True

    def push(self, block: FloatArray) -> bool:
        """block: [sample, channel]."""
        if not self._open or block.shape[1] < 2 or len(block) == 0:
            return False
        power = float(np.mean(np.square(block)))
        if power < AUDIBLE**2:
            return False
        apart = block - block.mean(axis=1, keepdims=True)
        if float(np.mean(np.square(apart))) > SAME * power:
            self._open = False
            return False
        self._left -= len(block)
        self._open = self._left > 0
        return not self._open
