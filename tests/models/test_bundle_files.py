"""Reading what somebody else wrote: files of a folder, headers of safetensors, configs, JSON."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from emotrace_models import registry, strict_json
from emotrace_models.blueprint import BlueprintMismatch, check_described
from emotrace_models.bundle import shipped_bundles
from emotrace_models.bundle_config import WEIGHTS, PartEntry, model_config
from emotrace_models.safetensors_header import (
    HeaderInvalid,
    TensorSpec,
    read_header,
)
from emotrace_models.sealed_files import (
    FileAbsent,
    FileRefused,
    check_sealed,
    read_at_most,
    read_sealed,
    strangers,
)

DATA = bytes(range(256)) * 64
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(DATA)
    return tmp_path


# Files -------------------------------------------------------------------------------------------


def test_a_file_is_read_whole_or_not_at_all(folder: Path) -> None:
    assert read_sealed(folder, "a.bin", len(DATA), DIGEST) == DATA
    assert read_at_most(folder, "a.bin", len(DATA)) == DATA
    check_sealed(folder, "a.bin", len(DATA), DIGEST)
    for size, digest in ((len(DATA) - 1, DIGEST), (len(DATA), "0" * 64)):
        with pytest.raises(FileRefused):
            read_sealed(folder, "a.bin", size, digest)
        with pytest.raises(FileRefused):
            check_sealed(folder, "a.bin", size, digest)
    with pytest.raises(FileRefused, match="at most"):
        read_at_most(folder, "a.bin", len(DATA) - 1)
    with pytest.raises(FileAbsent):
        read_at_most(folder, "b.bin", 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../a.bin", "/a.bin", "b/a.bin", "..\\a.bin"])
def test_a_path_is_no_name_of_a_file(folder: Path, name: str) -> None:
    with pytest.raises(FileRefused, match="names no file"):
        read_at_most(folder, name, 1 << 20)


def test_strangers_are_found(folder: Path) -> None:
    assert strangers(folder, {"a.bin", "b.bin"}) == []
    (folder / ".b").touch()
    assert strangers(folder, {"a.bin"}) == [".b"]
    with pytest.raises(FileRefused, match="nowhere cannot be read"):
        strangers(folder / "nowhere", ())


# Headers -----------------------------------------------------------------------------------------

TENSORS = {
    "half": torch.ones(3, dtype=torch.float16),
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 4),
    "whole": torch.arange(12).reshape(3, 4),
    "flags": torch.tensor([True, False]),
}
FILE = save(TENSORS)
LENGTH = int.from_bytes(FILE[:8], "little")


def specs(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict[str, TensorSpec]:
    return {prefix + key: TensorSpec(one.dtype, tuple(one.shape)) for key, one in tensors.items()}


def test_a_header_says_what_the_library_reads() -> None:
    assert read_header(FILE) == specs(TENSORS) == specs(load(FILE))


@pytest.mark.parametrize("name", shipped_bundles())
def test_the_headers_of_the_shipped_bundles_are_proper(name: str) -> None:
    data = (shipped_bundles()[name] / WEIGHTS).read_bytes()
    assert read_header(data) == specs(load(data))


@settings(max_examples=300)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\x02" + bytes(7) + b"{}")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _as_the_library(data)


@settings(max_examples=500)
@given(
    place=st.integers(0, LENGTH + 7),
    put=st.binary(max_size=3),
    take=st.integers(0, 3),
)
def test_a_changed_header_is_refused_or_still_says_what_the_library_reads(
    place: int, put: bytes, take: int
) -> None:
    _as_the_library(FILE[:place] + put + FILE[place + take :])


def _as_the_library(data: bytes) -> None:
    """What is let through, the library reads just so."""
    try:
        found = read_header(data)
    except HeaderInvalid:
        return
    with suppress(SafetensorError):  # it may be stricter still: then the bundle is refused as well
        assert found == specs(load(data))


# Configs of models -------------------------------------------------------------------------------

KINDS = [(kind, name) for kind in registry.MODULES for name in registry.names(kind)]


def small(kind: registry.Kind, name: str) -> PartEntry:
    """As a bundle's config.json has it."""
    found = registry.lookup(kind, name)
    config = found.small()[0] if kind == "encoder" else found.small_config(4)
    return PartEntry(name=name, config=json.loads(json.dumps(asdict(config))))


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_every_models_config_comes_back_and_every_wrong_type_is_named(
    kind: registry.Kind, name: str
) -> None:
    entry = small(kind, name)
    config = model_config(kind, entry)
    assert type(config) is registry.lookup(kind, name).config_type
    for key in entry.config:
        wrong = PartEntry(name=name, config={**entry.config, key: {"auto_map": [None]}})
        with pytest.raises(registry.BadConfig, match=key):
            model_config(kind, wrong)
    for key in ("auto_map", "_attn_implementation_internal"):
        with pytest.raises(registry.BadConfig, match=key):
            model_config(kind, PartEntry(name=name, config={**entry.config, key: "x"}))


# Blueprints --------------------------------------------------------------------------------------


def test_what_is_described_takes_no_memory() -> None:
    described = {"a.weight": TensorSpec(torch.float32, (1 << 20, 1 << 20))}
    check_described(lambda: {"a.": nn.Linear(1 << 20, 1 << 20, bias=False)}, described)
    with pytest.raises(BlueprintMismatch, match=r"a\.weight is float32 \[2, 1\]"):
        check_described(
            lambda: {"a.": nn.Linear(1 << 20, 1 << 20, bias=False)},
            {"a.weight": TensorSpec(torch.float32, (2, 1))},
        )


def test_an_endless_model_is_given_up() -> None:
    def endless() -> dict[str, nn.Module]:
        return {"a.": nn.ModuleList(nn.Linear(1, 1) for _ in range(10**9))}

    with pytest.raises(BlueprintMismatch, match="far more layers"):
        check_described(endless, {})
    assert torch.is_grad_enabled()
    assert torch.empty(1).device == torch.device("cpu")


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_every_model_is_described_within_the_bound(kind: registry.Kind, name: str) -> None:
    entry, found = small(kind, name), registry.lookup(kind, name)
    assets = [found.small()[1]] if kind == "encoder" else []
    model = found(model_config(kind, entry), *assets)
    check_described(lambda: {"a.": found(model.config, *assets)}, specs(model.state_dict(), "a."))


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "a": 1}', "'a' stands there twice"),
        (b'{"b": {"a": 1, "a": 1}}', "twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[" + b"9" * 21 + b"]", "21 digits"),
        (b"[" * 17 + b"]" * 17, "nested"),
        (b"[" * 200_000, "nested|Expecting"),
        (b"\xff", "utf-8"),
        (b"[1,]", "line 1 column"),
        (b"", "Expecting value"),
    ],
)
def test_json_of_two_meanings_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strict_json.parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_proper_json_comes_back(value: object) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value
