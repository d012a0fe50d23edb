"""Loudness of a block, for a level meter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR_DBFS = -60.0
SILENT_DBFS = -58.0  # no room is so quiet: nothing comes in
METER_CELLS = 12


def levels_dbfs(samples: NDArray[np.int16]) -> tuple[float, ...]:
    """Root mean square of each channel of int16 [sample, channel], in dB of full scale."""
    power: NDArray[Any] = np.mean(np.square(samples / 32_768.0), axis=0)
    return tuple(float(one) for one in np.maximum(10 * np.log10(power + 1e-12), FLOOR_DBFS))


def meter(level_dbfs: float) -> str:
    """A level as cells and a number: `▮▮▮▮▯▯ -23 dB`."""
    share = 1 - max(level_dbfs, FLOOR_DBFS) / FLOOR_DBFS
    filled = round(min(share, 1.0) * METER_CELLS)
    return f"{'▮' * filled}{'▯' * (METER_CELLS - filled)} {level_dbfs:4.0f} dB"
