"""What the profile `fast` gains and changes, part by part: one thread, full sizes, random weights.

The exact form and the fast one take turns, so that what else the machine does meets both alike;
times are of this thread's processor, not of the clock on the wall. `change` is the length of the
difference between both outputs over that of the exact one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from emotrace_models.encoders import Encoder
from emotrace_models.encoders.clap_audio import ClapAudio, ClapAudioConfig
from emotrace_models.encoders.clap_text import ClapText, ClapTextConfig
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.face_tower import SIDE, FaceTower, FaceTowerConfig
from emotrace_models.encoders.hubert import Hubert, HubertConfig
from emotrace_models.encoders.onnx_text import OnnxText
from emotrace_models.encoders.subwords import TOKENIZER, byte_tokenizer
from emotrace_models.encoders.tera import Tera, TeraConfig
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Sequences
from emotrace_models.layers.resnet import ResNet, ResNetConfig
from emotrace_models.profiles import has_bf16, has_int8
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_training.text_graphs import text_graph

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
ROUNDS = 9
SECONDS = 3.0
WORDS = "is it not so, and why?"[:18]  # 20 tokens of a letter each, with the marks

Work = Callable[[], NDArray[np.float32]]


def milliseconds(work: Work) -> float:
    start = time.thread_time()
    work()
    return 1000 * (time.thread_time() - start)


def compare(name: str, exact: Work, fast: Work) -> None:
    one, other = exact(), fast()
    fast(), exact()
    times = [(milliseconds(exact), milliseconds(fast)) for _ in range(ROUNDS)]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    change = np.linalg.norm(one - other) / np.linalg.norm(one)
    print(f"{name:44} {before:8.1f} {after:8.1f} {before / after:6.2f} {change:9.1e}")


def utterance() -> Utterance:
    samples = np.random.default_rng(0).normal(0, 0.1, round(16_000 * SECONDS)).astype(np.float32)
    return Utterance(0, "A", 0, len(samples), samples, Transcript(WORDS, "client"))


def features_of(encoder: Encoder) -> Work:
    def work() -> NDArray[np.float32]:
        found = encoder.encode([(encoder.start(), utterance())])[0][0]
        assert found is not None
        return found

    return work


def encoders() -> None:
    sound: tuple[tuple[str, Encoder], ...] = (
        ("CLAP audio with its front end, 10 s", ClapAudio(ClapAudioConfig())),
        ("HuBERT base, 3 s", Hubert(HubertConfig())),
        ("TERA, 3 s", Tera(TeraConfig())),
        ("compact acoustic with its front end, 3 s", CompactAcoustic(CompactAcousticConfig())),
    )
    for name, encoder in sound:
        encoder.eval()
        compare(name, features_of(encoder), features_of(encoder.in_bf16()))


def clap_tower() -> None:
    """The lean pass against transformers' own over the same weights, both in float32."""
    encoder = ClapAudio(ClapAudioConfig()).eval()
    spectra = torch.randn(1, 1, 1001, 64) * 20 - 40
    model = encoder.tower.audio_model
    compare(
        "CLAP audio tower: transformers, then ours",
        lambda: model(input_features=spectra).pooler_output.numpy(),
        lambda: encoder._read(spectra)[1].numpy(),
    )


def text() -> None:
    encoder = ClapText(ClapTextConfig(), {TOKENIZER: byte_tokenizer().to_str().encode()}).eval()
    graph = OnnxText(encoder, text_graph(encoder).graph).eval()
    compare("CLAP text, 20 tokens", features_of(encoder), features_of(graph))


def pictures() -> None:
    network = ResNet(ResNetConfig()).eval()
    quick = ResNet(ResNetConfig()).eval()
    quick.load_state_dict(network.state_dict())
    quick.to_bf16()
    frames = torch.randn(16, 3, 224, 224)
    compare(
        "ResNet-18, 16 pictures", lambda: network(frames).numpy(), lambda: quick(frames).numpy()
    )
    tower, low = (FaceTower(FaceTowerConfig()).eval() for _ in range(2))
    low.load_state_dict(tower.state_dict())
    low.network.to_bf16()
    faces = torch.rand(8, 1, SIDE, SIDE) * 255
    compare(
        "compact face, 8 faces", lambda: tower.seen(faces).numpy(), lambda: low.seen(faces).numpy()
    )


def fusion() -> None:
    for share in ("none", "modality"):
        config = GatedxLSTMConfig(BOTH, 4, share=share)
        exact = GatedxLSTM(config).eval()
        quick = exact.in_bf16()
        for batch in (1, 8):
            inputs = {
                modality.value: Sequences(
                    torch.nn.functional.normalize(torch.randn(batch, 6, 1, 512), dim=-1),
                    torch.ones(batch, 6, dtype=torch.int64),
                )
                for modality in BOTH
            }
            compare(
                f"GatedxLSTM, {config.encoders} stacks of 8 x 512, batch {batch}",
                lambda m=exact, x=inputs: m(x).explain["features"].numpy(),  # type: ignore[misc]
                lambda m=quick, x=inputs: m(x).explain["features"].numpy(),  # type: ignore[misc]
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"units of this processor: bf16 {has_bf16()}, int8 {has_int8()}")
    print(f"{'':44} {'exact':>8} {'fast':>8} {'ratio':>6} {'change':>9}   ms")
    with torch.inference_mode():
        clap_tower()
        encoders()
        pictures()
        fusion()
    text()
