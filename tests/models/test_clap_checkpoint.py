"""LAION's checkpoints, converted: the same vectors as an independent reading of the same weights.

`laion_reference` is that reading; it says how it was itself held against the laion-clap package.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import laion_reference as laion
import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from transformers import ClapAudioModelWithProjection, ClapConfig, ClapModel
from typer.testing import CliRunner

from emotrace_models.encoders.clap_audio import CLIP, ClapAudio, ClapAudioConfig, log_mel
from emotrace_models.encoders.clap_checkpoint import (
    BadCheckpoint,
    clap_model,
    configs_of,
    convert,
    converted,
    read_checkpoint,
)
from emotrace_models.encoders.clap_pretrained import clap_configs, clap_tower
from emotrace_models.encoders.clap_text import ClapText, ClapTextConfig
from emotrace_models.encoders.subwords import byte_tokenizer
from emotrace_models.types import Transcript, Utterance
from emotrace_training.convert_clap import command

SIZES = laion.Sizes()


def utterance(samples: np.ndarray | None = None, text: str | None = None) -> Utterance:
    words = None if text is None else Transcript(text, "client")
    return Utterance(0, "a", 0, 1, samples, words)


def vector(encoder: ClapAudio | ClapText, heard: Utterance) -> np.ndarray:
    [(features, _)] = encoder.encode([(None, heard)])
    assert features is not None
    return features[0]


def text_reference(state: dict[str, Tensor], text: str) -> Tensor:
    """As laion-clap reads a text: padded to 77 and masked."""
    ids = byte_tokenizer().encode(text).ids
    padded = torch.tensor(ids + [1] * (77 - len(ids)))
    with torch.no_grad():
        return laion.text_vector(state, SIZES, padded, (padded != 1).long())


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return laion.random_state(SIZES)


@pytest.fixture(scope="module")
def folder(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict as laion-clap saves it, numpy numbers beside it, then converted."""
    root = tmp_path_factory.mktemp("clap")
    saved = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 45, "best": np.float64(0.5), "state_dict": saved}, root / "best.pt")
    byte_tokenizer().save(str(root / "tokenizer.json"))
    convert(root / "best.pt", root / "clap", root / "tokenizer.json", SIZES.text_heads)
    return root / "clap"


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * 16_000)) * 0.1).astype(np.float32)


def test_sound_gives_the_vector_of_laion_s_own_network(
    state: dict[str, Tensor], folder: Path
) -> None:
    encoder = ClapAudio.from_pretrained(folder)
    for seconds in (2.3, 10.0):
        mel = encoder.front(utterance(noise(seconds)))
        with torch.no_grad():
            expected = laion.audio_vector(state, SIZES, torch.from_numpy(mel))
        np.testing.assert_allclose(
            vector(encoder, utterance(noise(seconds))), expected, atol=1e-5, rtol=0
        )


def test_words_give_the_vector_of_laion_s_own_network(
    state: dict[str, Tensor], folder: Path
) -> None:
    encoder = ClapText.from_pretrained(folder)
    for text in ("No.", "I told you that I would come back, and here I am."):
        np.testing.assert_allclose(
            vector(encoder, utterance(text=text)), text_reference(state, text), atol=1e-5, rtol=0
        )


def test_the_text_towers_norms_keep_robertas_epsilon(
    state: dict[str, Tensor], folder: Path, tmp_path: Path
) -> None:
    """The config of the public conversion says 1e-12. Where activations are small that shows."""
    small = dict(state)
    for key in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        small[f"text_branch.embeddings.{key}.weight"] = (
            state[f"text_branch.embeddings.{key}.weight"] * 0.002
        )
    model = clap_model(small, SIZES.text_heads)
    model.config.text_config.layer_norm_eps = 1e-12
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_bytes(
        (folder / "tokenizer_config.json").read_bytes()
    )
    expected = text_reference(small, "here I am")
    ours = vector(ClapText.from_pretrained(tmp_path), utterance(text="here I am"))
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    missed = vector(ClapText.from_pretrained(tmp_path, norm_eps=1e-12), utterance(text="here I am"))
    assert np.abs(missed - expected.numpy()).max() > 1e-3


def test_a_fused_network_is_refused(state: dict[str, Tensor], folder: Path, tmp_path: Path) -> None:
    fused = {**state, "audio_branch.patch_embed.mel_conv2d.weight": torch.zeros(8, 1, 4, 12)}
    with pytest.raises(BadCheckpoint, match="fused"):
        configs_of(fused)
    config = ClapConfig.from_pretrained(folder)
    config.audio_config.enable_fusion = True
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fused CLAP"):
        ClapAudio.from_pretrained(tmp_path)


def test_a_checkpoint_of_the_real_size_fits_the_default_configs() -> None:
    state = laion.random_state(laion.REAL, device="meta")
    assert configs_of(state) == (ClapAudioConfig(), ClapTextConfig())
    with torch.device("meta"):
        model = ClapModel(
            ClapConfig(
                audio_config=ClapAudioConfig().network().to_dict(),
                text_config=ClapTextConfig().network().to_dict(),
            )
        )
    ours = {key: value.shape for key, value in converted(state).items()}
    theirs = {key: value.shape for key, value in model.state_dict().items()}
    assert {key for key in theirs if key not in ours} == {
        "text_model.embeddings.position_ids",
        "text_model.embeddings.token_type_ids",
    }
    assert {key: theirs[key] for key in ours} == ours


def test_another_mel_spectrum_is_refused(state: dict[str, Tensor]) -> None:
    bank = state["audio_branch.logmel_extractor.melW"].roll(1, 0)
    with pytest.raises(BadCheckpoint, match="mel spectrum"):
        configs_of({**state, "audio_branch.logmel_extractor.melW": bank})


def test_another_architecture_is_refused_by_name(state: dict[str, Tensor]) -> None:
    with pytest.raises(BadCheckpoint, match=r"patch_embed\.proj\.weight"):
        configs_of({k: v for k, v in state.items() if "patch_embed" not in k})
    lacking = {k: v for k, v in state.items() if k != "audio_branch.norm.bias"}
    with pytest.raises(BadCheckpoint, match=r"audio_encoder\.norm\.bias"):
        clap_model(lacking, SIZES.text_heads)
    with pytest.raises(BadCheckpoint, match="extra"):
        clap_model({**state, "extra": torch.zeros(1)}, SIZES.text_heads)


def test_a_folder_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """The library would fill them with random numbers and say so in a log line."""
    model = ClapModel.from_pretrained(folder)
    state = model.state_dict()
    del state["audio_projection.linear2.bias"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"audio_projection\.linear2\.bias"):
        ClapAudio.from_pretrained(tmp_path)


def test_the_public_conversions_config_is_read_and_its_pickle_is_not(tmp_path: Path) -> None:
    """That config names no size at all, and norms of 1e-12 by default."""
    towers = {"audio_config": "clap_audio_model", "text_config": "clap_text_model"}
    config = {
        name: {"model_type": kind, "projection_hidden_size": 768} for name, kind in towers.items()
    }
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clap", "projection_dim": 512, **config})
    )
    torch.save({}, tmp_path / "pytorch_model.bin")
    audio, text = clap_configs(tmp_path)
    assert audio.to_diff_dict() == ClapAudioConfig().network().to_diff_dict() | {
        "projection_hidden_size": 768
    }
    assert (text.hidden_size, text.layer_norm_eps) == (768, 1e-12)
    with pytest.raises(OSError, match="convert-clap"):
        clap_tower(ClapAudioModelWithProjection, tmp_path, audio)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(ValueError, match="is a roberta, not a CLAP"):
        clap_configs(tmp_path)


def test_only_numbers_are_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": SimpleNamespace()}, tmp_path / "a.pt")
    with pytest.raises(BadCheckpoint, match="weights only"):
        read_checkpoint(tmp_path / "a.pt")
    torch.save({"state_dict": {"a": "text"}}, tmp_path / "b.pt")
    with pytest.raises(BadCheckpoint, match="no state dict"):
        read_checkpoint(tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadCheckpoint, match=r"c\.pt"):
        read_checkpoint(tmp_path / "c.pt")


def test_the_command_converts_or_names_what_is_wrong(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(command)
    torch.save(state, tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    out = str(tmp_path / "out")
    result = CliRunner().invoke(app, [str(tmp_path / "good.pt"), "-o", out])
    assert result.exit_code == 2
    assert "--tokenizer" in result.output
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    result = CliRunner().invoke(app, [str(tmp_path / "bad.pt"), "-o", out])
    assert result.exit_code == 2
    assert "bad.pt" in result.output
    assert not Path(out).exists()
    arguments = [str(tmp_path / "good.pt"), "-o", out, "--text-heads", "4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert ClapText.from_pretrained(out).config.heads == 4


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_reference_is_the_laion_clap_package_itself(state: dict[str, Tensor]) -> None:
    """Needs laion-clap and torchlibrosa; only HTSAT's own file is imported of the package, whose
    __init__ goes to the network."""
    found = importlib.util.find_spec("laion_clap")
    if found is None or importlib.util.find_spec("torchlibrosa") is None:
        pytest.skip("laion-clap and torchlibrosa are not installed")
    root = Path(found.submodule_search_locations[0])
    stubs = {"laion_clap": ModuleType("laion_clap")}
    stubs["laion_clap"].__path__ = [str(root)]
    stubs["laion_clap.clap_module"] = ModuleType("laion_clap.clap_module")
    stubs["laion_clap.clap_module"].__path__ = [str(root / "clap_module")]
    utils = stubs["laion_clap.clap_module.utils"] = ModuleType("laion_clap.clap_module.utils")
    utils.do_mixup = None
    utils.interpolate = lambda x, ratio: x.repeat_interleave(ratio, 1)
    sys.modules.update(stubs)
    try:
        htsat = importlib.import_module("laion_clap.clap_module.htsat")
        config = SimpleNamespace(
            mel_bins=64, sample_rate=48_000, window_size=1024, hop_size=480, fmin=50, fmax=14_000
        )
        network = htsat.HTSAT_Swin_Transformer(
            embed_dim=SIZES.patch,
            depths=list(SIZES.depths),
            num_heads=list(SIZES.heads),
            num_classes=SIZES.classes,
            config=config,
        ).eval()
    finally:
        for name in [key for key in sys.modules if key.split(".")[0] == "laion_clap"]:
            del sys.modules[name]
    rebuilt = ("attn_mask", "conv_real.weight", "conv_imag.weight")
    own = {k.removeprefix("audio_branch."): v for k, v in state.items() if "audio_branch." in k}
    theirs = network.state_dict()
    assert own.keys() == theirs.keys()
    network.load_state_dict(own | {k: v for k, v in theirs.items() if k.endswith(rebuilt)})
    wave = torch.from_numpy(noise(30.0)[:CLIP])
    with torch.no_grad():
        pooled = network({"waveform": wave[None]}, device="cpu")["embedding"][0]
        expected = laion.projected(state, "audio", pooled)
        mine = laion.audio_vector(state, SIZES, laion.log_mel(wave))
    torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(log_mel(wave.numpy()), laion.log_mel(wave), atol=1e-3, rtol=0)
