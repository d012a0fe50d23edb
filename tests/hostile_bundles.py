"""Bundles that somebody made to do harm, or that a disk or a network broke.

`HOSTILE` has by name what is done to a good bundle's folder and what the refusal must say. Where a
hash would give a change away, the folder is sealed again: an attacker can do that too.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from emotrace_models.bundle_config import CARD, CONFIG, SEAL, WEIGHTS, seal_of

TOKENIZER = "tokenizer.json"
MARK = "executed"  # the file that a pickle of ours writes into the bundle's folder if it is read

Change = Callable[[Path], object]
Header = dict[str, Any]


def sealed(folder: Path, config: dict[str, Any] | None = None, raw: bytes | None = None) -> None:
    """Write config.json with the digests of the files that lie there, and its seal."""
    if raw is None:
        config = config or json.loads((folder / CONFIG).read_bytes())
        for name, entry in config["files"].items():
            if Path(name).name == name and (folder / name).is_file():
                data = (folder / name).read_bytes()
                entry.update(sha256=sha256(data).hexdigest(), size=len(data))
        raw = json.dumps(config).encode()
    (folder / CONFIG).write_bytes(raw)
    (folder / SEAL).write_bytes(seal_of(raw))


def _put(name: str, data: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)
        sealed(folder)

    return change


def _config(edit: Callable[[Any], object]) -> Change:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        edit(config)
        sealed(folder, config)

    return change


def _encoder(number: int, **settings: object) -> Change:
    return _config(lambda config: config["encoders"][number]["config"].update(settings))


def _fusion(**settings: object) -> Change:
    return _config(lambda config: config["fusion"]["config"].update(settings))


def _raw_config(edit: Callable[[bytes], bytes]) -> Change:
    return lambda folder: sealed(folder, raw=edit((folder / CONFIG).read_bytes()))


def _header(edit: Callable[[Header], object]) -> Change:
    """Another header before the same data."""

    def change(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + length])
        edit(header)
        text = json.dumps(header).encode()
        data = len(text).to_bytes(8, "little") + text + whole[8 + length :]
        _put(WEIGHTS, data)(folder)

    return change


def _length(claimed: int) -> Change:
    def change(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        _put(WEIGHTS, claimed.to_bytes(8, "little") + whole[8:])(folder)

    return change


def _tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def change(folder: Path) -> None:
        tensors = load((folder / WEIGHTS).read_bytes())
        edit(tensors)
        _put(WEIGHTS, save(tensors))(folder)

    return change


def _first(header: Header) -> Any:
    """The entry of the tensor whose data comes first."""
    return min(
        (entry for name, entry in header.items() if name != "__metadata__"),
        key=lambda entry: entry["data_offsets"],
    )


def _last(header: Header) -> Any:
    return max(
        (entry for name, entry in header.items() if name != "__metadata__"),
        key=lambda entry: entry["data_offsets"],
    )


def _moved(entry: Any, by: int) -> None:
    entry["data_offsets"] = [place + by for place in entry["data_offsets"]]


def _float(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(tensor for tensor in tensors.values() if tensor.is_floating_point())


def _transpose(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name, one in tensors.items() if one.ndim == 2 and len(set(one.shape)) == 2)
    tensors[name] = tensors[name].T.contiguous()


class Payload:
    """A pickle of it runs code when it is read."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


def _pickled(name: str) -> Change:
    return lambda folder: _put(name, pickle.dumps(Payload(folder.parent / MARK)))(folder)


def _torch_saved(folder: Path) -> None:
    file = io.BytesIO()
    torch.save({"fusion.weight": Payload(folder.parent / MARK)}, file)
    _put(WEIGHTS, file.getvalue())(folder)


def _zipped(folder: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escaped", "out")
    _put(WEIGHTS, file.getvalue())(folder)


def _linked_out(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def _linked_inside(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).symlink_to("LICENSE.txt")


def _linked_config(folder: Path) -> None:
    (folder / CONFIG).rename(folder.parent / CONFIG)
    (folder / CONFIG).symlink_to(folder.parent / CONFIG)


def _pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def _folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _socket(folder: Path) -> None:
    (folder / TOKENIZER).unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket is short
        try:
            listener.bind(TOKENIZER)
        finally:
            os.chdir(here)


def _listed(name: str) -> Change:
    """The card under another name, which the config lists."""

    def edit(config: Any) -> None:
        config["files"][name] = config["files"][TOKENIZER]

    return _config(edit)


def _sparse(folder: Path) -> None:
    """A terabyte that takes no room on disk, sealed with a size as large."""
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(1 << 40)
    config = json.loads((folder / CONFIG).read_bytes())
    config["files"][WEIGHTS]["size"] = 1 << 40
    raw = json.dumps(config).encode()
    sealed(folder, raw=raw)


def _flip(name: str) -> Change:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


def _cut(name: str, end: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:end])


def _longer(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"\0")


HOSTILE: dict[str, tuple[Change, str]] = {
    # files that are not those that were exported
    "a flipped bit of the weights": (_flip(WEIGHTS), WEIGHTS),
    "a flipped bit of the config": (_flip(CONFIG), CONFIG),
    "a flipped bit of the seal": (_flip(SEAL), SEAL),
    "weights cut short": (_cut(WEIGHTS, -1), "bytes, not"),
    "weights with a byte more": (_longer, "bytes, not"),
    "empty weights": (_cut(WEIGHTS, 0), "has 0 bytes"),
    "an empty config": (_cut(CONFIG, 0), CONFIG),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "no tokenizer": (lambda folder: (folder / TOKENIZER).unlink(), f"{TOKENIZER} is missing"),
    "no seal": (lambda folder: (folder / SEAL).unlink(), f"{SEAL} is missing"),
    "the seal of another config": (
        lambda folder: (folder / SEAL).write_bytes(seal_of(b"{}")),
        "SHA-256 differs",
    ),
    "a seal of a gigabyte": (
        lambda folder: os.truncate(folder / SEAL, 1 << 30),
        f"{SEAL} has 1073741824 bytes",
    ),
    "a config of two megabytes": (
        _raw_config(lambda raw: raw + b" " * (2 << 20)),
        f"{CONFIG} has",
    ),
    "a terabyte of weights": (_sparse, "files.model.safetensors.size"),
    # what lies in the folder
    "a file more": (
        lambda f: (f / "preprocessor_config.json").write_text("{}"),
        "is no file of the bundle",
    ),
    "a hidden file": (lambda folder: (folder / ".hidden").touch(), ".hidden is no file"),
    "a module of Python": (lambda folder: (folder / "modeling.py").touch(), "modeling.py"),
    "a folder more": (lambda folder: (folder / "snapshots").mkdir(), "snapshots"),
    "weights that are a link out of it": (_linked_out, "is a link"),
    "a card that is a link inside it": (_linked_inside, "is a link"),
    "a config that is a link": (_linked_config, "is a link"),
    "weights that are a pipe": (_pipe(WEIGHTS), f"{WEIGHTS} is no plain file"),
    "a config that is a pipe": (_pipe(CONFIG), f"{CONFIG} is no plain file"),
    "a card that is a folder": (_folder(CARD), f"{CARD} is no plain file"),
    "a tokenizer that is a socket": (_socket, f"{TOKENIZER} cannot be read"),
    "a listed file above it": (_listed("../card.md"), "'../card.md'"),
    "a listed file elsewhere": (_listed("/etc/passwd"), "'/etc/passwd'"),
    "a listed file beyond a folder": (_listed("a/../../card.md"), "own folder"),
    "a listed file with a line feed": (_listed("card.md\nx.json"), "own folder"),
    "a listed pickle": (_listed("model.pkl"), "'model.pkl'"),
    # weights that are something else
    "a pickle under the weights' name": (_pickled(WEIGHTS), "not a safetensors file"),
    "a checkpoint of torch under the weights' name": (_torch_saved, "not a safetensors file"),
    "a zip with ../ under the weights' name": (_zipped, "not a safetensors file"),
    "a pickle under the tokenizer's name": (_pickled(TOKENIZER), "no tokenizer"),
    "a card that is no text": (_put(CARD, b"\xff\xfe\x00"), f"{CARD} is no text"),
    # headers that lie
    "a header of 2^63 bytes": (_length(1 << 63), "9223372036854775808 bytes"),
    "a header of 2^64 - 1 bytes": (_length((1 << 64) - 1), "18446744073709551615 bytes"),
    "a header above a megabyte": (_length((1 << 20) + 1), "at most 1048576"),
    "a header beyond the file's end": (_length(1 << 20), "would end at byte"),
    "a header of no bytes": (_length(0), "does not begin with"),
    "a header that is no JSON": (_length(9), "not proper JSON"),
    "tensors that overlap": (_header(lambda h: _moved(_last(h), -4)), "overlap"),
    "tensors with a gap": (_header(lambda h: _moved(_last(h), 4)), "gap"),
    "data before the begin": (_header(lambda h: _moved(_first(h), -4)), "data_offsets"),
    "data that ends before it begins": (
        _header(lambda h: _first(h)["data_offsets"].reverse()),
        "cannot lie in",
    ),
    "places of 2^64": (_header(lambda h: _moved(_last(h), 1 << 64)), "gap|overlap"),
    "a shape of 2^62": (_header(lambda h: _first(h).update(shape=[1 << 31, 1 << 31])), "cannot"),
    "a negative shape": (_header(lambda h: _first(h).update(shape=[-1, -4])), "no proper shape"),
    "a shape of 100,000 dimensions": (
        _header(lambda h: _first(h).update(shape=[1] * 100_000)),
        "no proper shape",
    ),
    "a type that is another": (_header(lambda h: _last(h).update(dtype="I32")), "is int32"),
    "a type that is half as wide": (_header(lambda h: _last(h).update(dtype="F16")), "cannot lie"),
    "a type that there is not": (_header(lambda h: _first(h).update(dtype="F8")), "of type 'F8'"),
    "a tensor that says more": (_header(lambda h: _first(h).update(code="x")), "nothing else"),
    "metadata that is code": (
        _header(lambda h: h.update(__metadata__={"run": ["os.system"]})),
        "__metadata__",
    ),
    # tensors that are wrong
    "a tensor of not a number": (
        _tensors(lambda t: _float(t).view(-1)[:1].fill_(torch.nan)),
        "NaN",
    ),
    "a tensor with infinity": (_tensors(lambda t: _float(t).view(-1)[:1].fill_(-torch.inf)), "NaN"),
    "a transposed tensor": (_tensors(_transpose), "does not fit"),
    "a tensor less": (_tensors(lambda t: t.popitem()), "is missing"),
    "a tensor more": (_tensors(lambda t: t.update(more=torch.ones(1))), "belongs to no model"),
    "no tensors": (_tensors(lambda t: t.clear()), "is missing"),
    # configs that ask for more
    "auto_map": (_config(lambda c: c.update(auto_map={"AutoModel": "x.Model"})), "auto_map"),
    "trust_remote_code in the fusion model": (_fusion(trust_remote_code=True), "trust_remote_code"),
    "_attn_implementation_internal in an encoder": (
        _encoder(1, _attn_implementation_internal="someone/kernel"),
        "_attn_implementation_internal",
    ),
    "an unknown key of the decoder": (_config(lambda c: c["decoder"].update(x=1)), "decoder.x"),
    "an unknown encoder": (
        _config(lambda c: c["encoders"][0].update(name="os.system")),
        "no encoder is called 'os.system'",
    ),
    "a model as wide as memory": (_fusion(width=1 << 40), "fusion 'gated_xlstm': width"),
    "a model wider than its file": (_fusion(width=1 << 17), "does not fit"),
    "a million members": (_encoder(0, members=1_000_000), "far more layers"),
    "a number in quotes": (_fusion(width="16"), "width: Input should be a valid integer"),
    "a number that is true": (_fusion(blocks=True), "blocks"),
    "a number with a fraction": (_encoder(0, members=1.5), "members"),
    "a negative width": (_fusion(width=-16), "width must be"),
    "a width of nothing": (_fusion(width=0), "width must be"),
    "a text of a megabyte": (_fusion(share="x" * 1_000_000), "share has 1000000 items"),
    "fewer labels than classes": (
        _config(lambda c: c["labels"]["names"].pop()),
        "4 classes, not 3",
    ),
    "a label with escapes of a terminal": (
        _config(lambda c: c["labels"]["names"].__setitem__(0, "\x1b[2J")),
        "labels.names.0",
    ),
    "a temperature of nothing": (
        _config(lambda c: c["calibration"]["temperatures"].update(acoustic=0.0)),
        "calibration.temperatures.acoustic",
    ),
    "a threshold above one": (
        _config(lambda c: c["calibration"].update(abstain_below=1.5)),
        "calibration.abstain_below",
    ),
    "a beam of a milliard": (_config(lambda c: c["decoder"].update(beam=10**9)), "decoder.beam"),
    "a shift probability above one": (_config(lambda c: c["decoder"].update(p0=7)), "decoder.p0"),
    "another format": (_config(lambda c: c.update(format=99)), "format 99"),
    "a name that is a path": (_config(lambda c: c.update(name="../up")), "name"),
    "a config that is a list": (_raw_config(lambda raw: b"[]"), CONFIG),
    "a config that is no JSON": (_raw_config(lambda raw: raw[:-2]), r"line \d+ column"),
    "a config in Latin-1": (_raw_config(lambda raw: b'{"name": "\xe9"}'), "utf-8"),
    "a config with a key twice": (
        _raw_config(lambda raw: b'{"name": "mine", ' + raw.lstrip()[1:]),
        "'name' stands there twice",
    ),
    "a config with NaN": (_raw_config(lambda raw: b'{"format": NaN}'), "NaN is no number"),
    "a config of 100,000 levels": (_raw_config(lambda raw: b"[" * 100_000), "nested deeper"),
    "a config of 17 levels": (
        _raw_config(lambda raw: b'{"a":' + b"[" * 17 + b"]" * 17 + b"}"),
        "nested deeper",
    ),
    "a number of 10,000 digits": (
        _raw_config(lambda raw: b'{"format": ' + b"9" * 10_000 + b"}"),
        "has 10000 digits",
    ),
}
