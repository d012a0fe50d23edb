"""Features on disk: shards that name their own content, so that none can be half there or altered.

    FOLDER/ENCODER-KEY/key.json               what the features depend on
    FOLDER/ENCODER-KEY/SHA256.safetensors     some of them, by the key of their utterance

A shard is written whole or not at all: a run that was killed loses the shard it was filling.
Several runs may fill one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from emotrace_models.weights import sha256_of

SHARD_BYTES = 32 << 20
SHARD_ENTRIES = 1024
NOTHING = np.zeros(0, dtype=np.int8)  # an utterance that has nothing for this encoder

Features = NDArray[Any] | None


class CacheCorrupted(ValueError):
    """A file of the cache is not what was written; the message names it and the cure."""


class FeatureCache:
    """The features of one encoder, by utterance key."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, indent=2)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = folder / f"{key['encoder']}-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "key.json").write_text(text + "\n")
        self._where: dict[str, Path] = {}
        self._new: dict[str, NDArray[Any]] = {}
        self._bytes = 0
        for shard in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(shard, "numpy") as file:
                    self._where.update(dict.fromkeys(file.keys(), shard))
            except SafetensorError as error:
                raise _corrupted(shard) from error

    def __contains__(self, key: str) -> bool:
        return key in self._where or key in self._new

    def add(self, key: str, features: Features) -> None:
        """Keep features; on disk at the latest after `flush`."""
        self._new[key] = NOTHING if features is None else np.ascontiguousarray(features)
        self._bytes += self._new[key].nbytes
        if self._bytes >= SHARD_BYTES or len(self._new) >= SHARD_ENTRIES:
            self.flush()

    def flush(self) -> None:
        if not self._new:
            return
        data = save(self._new)
        shard = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        part = shard.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(shard)
        self._where.update(dict.fromkeys(self._new, shard))
        self._new, self._bytes = {}, 0

    def read(self, keys: Iterable[str]) -> dict[str, Features]:
        """Features by key. Raises CacheCorrupted; KeyError for a key that is not there."""
        self.flush()
        shards: dict[Path, list[str]] = {}
        for key in dict.fromkeys(keys):
            shards.setdefault(self._where[key], []).append(key)
        found: dict[str, Features] = {}
        for shard, wanted in shards.items():
            if sha256_of(shard) != shard.stem:
                raise _corrupted(shard)
            tensors = load(shard.read_bytes())
            for key in wanted:
                array = tensors[key]
                found[key] = array if array.size else None
        return found


def _corrupted(shard: Path) -> CacheCorrupted:
    return CacheCorrupted(
        f"{shard}: not what was written (SHA-256 differs); delete this file and run again: only "
        "what it held is made anew"
    )
