"""The 8-bit graph that the profile `fast` needs of the text tower, made as anybody makes it: by
`emotrace-train fast`, which runs as a program of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from emotrace_bench.dialogue import dialogue
from emotrace_bench.full_size import LABELS, bundle_of
from emotrace_models.bundle import Bundle
from emotrace_models.encoders.clap_text import ClapText
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.profiles import graph_name
from emotrace_models.types import Modality

MAKERS = ("emotrace_training", "onnx", "onnxscript")


class GraphUnavailable(RuntimeError):
    """The graph cannot be made here. The message says what to do."""


def with_text_graph(bundle: Bundle, text: ClapText) -> Bundle:
    """The bundle with the graph of its text tower. Takes half a minute at full size.

    Raises GraphUnavailable.
    """
    if missing := [name for name in MAKERS if importlib.util.find_spec(name) is None]:
        raise GraphUnavailable(
            f"the profile fast needs {', '.join(missing)} to make its 8-bit graph: pip install "
            "'emotrace[training]', or measure --profile exact"
        )
    name = graph_name(text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        _alone(text).save(path)
        manifest = Path(folder) / "manifest.jsonl"
        manifest.write_text("".join(f"{json.dumps(record)}\n" for record in _records()))
        # --least 0: random weights need not agree with anything; how far they do is measured here.
        command = ["fast", str(path), "--manifest", str(manifest), "--least", "0"]
        made = subprocess.run(
            [sys.executable, "-m", "emotrace_training", *command], capture_output=True, text=True
        )
        if made.returncode:
            raise GraphUnavailable(f"emotrace-train fast failed:\n{made.stderr}")
        graph = (path / name).read_bytes()
    return replace(bundle, assets={**bundle.assets, name: graph})


def _alone(text: ClapText) -> Bundle:
    """The text tower and the smallest model that takes it."""
    config = GatedxLSTM.small_config(len(LABELS.names))
    fusion = GatedxLSTM(replace(config, modalities=(Modality.LEXICAL,), embedding=text.width))
    return bundle_of("text", (text,), fusion.eval())


def _records() -> list[dict[str, object]]:
    """A dialogue of words, as a manifest holds it: `fast` measures its drift on some."""
    said = [
        (one, one.transcript.text) for one in dialogue(2, 1.0, 10, 0) if one.transcript is not None
    ]
    return [
        {
            "id": f"turn-{one.index}",
            "corpus": "made-up",
            "dialogue": "made-up",
            "turn": one.index,
            "start_s": float(one.index),
            "end_s": one.index + 1.0,
            "speaker": f"made-up:{one.speaker}",
            "emotion": "unknown",
            "split": "test",
            "text": text,
            "language": "en",
        }
        for one, text in said
    ]
