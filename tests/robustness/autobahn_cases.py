"""The cases of the Autobahn test suite, fetched from PyPI and converted from Python 2.

A case is a class that is given the fuzzing peer's protocol (autobahn_peer.py). Texts of Python 2
are bytes; here they are texts of characters up to 255, one a byte.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

VERSION = "25.10.1"
DIGEST = "b083d6e15330fc16f3e5f0975cce2b15f21bfa0c6db09547316b1852c6dbd6df"
ARCHIVE = f"autobahntestsuite-{VERSION}.tar.gz"
FOLDERS = ("case", "testdata")
MODULE = "all_cases"

CONVERSIONS = (
    (r"^# coding=utf-8$", ""),
    (r"^from case9_9_1 import \*$", ""),  # not among the cases, and needs Twisted
    (r"\bxrange\(", "range("),
    (r"^(\s*)print (.*)$", r"\1print(\2)"),
    (r"\(object, Case, \)", "(Case,)"),
    (r"^import binascii$", "import autobahn as binascii"),
    (r"\bpkg_resources, ", ""),
    (r"open\(fn, 'rb'\)\.read\(\)", "autobahn.read(fn)"),
    (r"pkg_resources\.resource_filename", "autobahn.resource_filename"),
    (r"^import copy, os, hashlib, binascii$", "import autobahn, copy, os, hashlib, binascii"),
    (r"len\(self\.payload\) / ", "len(self.payload) // "),
    (r"pickle\.dumps\(obj1\) == pickle\.dumps\(obj2\)", "obj1 == obj2"),
)
# What the cases import of the library that they were written for.
AUTOBAHN = """
from pathlib import Path

def b2a_hex(text):
    return text.encode("latin-1").hex()

def read(name):
    return Path(name).read_bytes()

def resource_filename(package, name):
    return str(Path(__file__).parents[1] / name)
"""
PROTOCOL = """
class WebSocketProtocol:
    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
"""
VALIDATOR = '''
class Utf8Validator:
    """By Python's own decoder."""
    def reset(self):
        self.text = ""
    def validate(self, text):
        import codecs
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(text.encode("latin-1"))
        except UnicodeDecodeError as error:
            return False, False, error.start, error.start
        whole = not decoder.getstate()[0]
        return True, whole, len(text), len(text)
'''
COMPRESS = """
class PerMessageDeflateOffer:
    def __init__(self, requestNoContextTakeover=False, requestMaxWindowBits=0):
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits
"""


def fetched(cache: Path) -> Path:
    """The archive as it was published. Skips where there is none to be had."""
    file = cache / ARCHIVE
    if not file.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        command += [":all:", "--dest", str(cache)]
        done = subprocess.run(
            [*command, f"autobahntestsuite=={VERSION}"], capture_output=True, timeout=120
        )
        if not file.exists():
            pytest.skip(f"autobahntestsuite {VERSION} is not to be had from the package index")
        assert done.returncode == 0
    assert sha256(file.read_bytes()).hexdigest() == DIGEST, f"{file} is not what was published"
    return file


def converted(archive: Path, folder: Path) -> None:
    """Its cases as Python 3, and what they import."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            parts = Path(member.name).parts
            if len(parts) == 4 and parts[2] in FOLDERS and member.isfile():
                stream = tar.extractfile(member)
                assert stream is not None
                data = stream.read()
                if parts[3].endswith(".py"):
                    text = data.decode("latin-1").replace("\r\n", "\n")
                    for found, replaced in CONVERSIONS:
                        text = re.sub(found, replaced, text, flags=re.M)
                    data = text.encode()
                place = folder / parts[2] / parts[3].replace("__init__", MODULE)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
    package = folder / "autobahn"
    (package / "websocket").mkdir(parents=True)
    (package / "__init__.py").write_text(AUTOBAHN)
    (package / "websocket/__init__.py").touch()
    for name, text in (
        ("protocol", PROTOCOL),
        ("utf8validator", VALIDATOR),
        ("compress", COMPRESS),
    ):
        (package / f"websocket/{name}.py").write_text(text)


def load(folder: Path) -> Sequence[type[Any]]:
    """All case classes, in their order. Nothing of what was imported stays where others find it."""
    places = [str(folder), str(folder / "case")]
    before = set(sys.modules)
    sys.path[:0] = places
    try:
        return tuple(importlib.import_module(MODULE).Cases)
    finally:
        for place in places:
            sys.path.remove(place)
        for name in set(sys.modules) - before:
            if str(folder) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]


def identity(case: type[Any]) -> str:
    """Case1_2_3 -> 1.2.3"""
    return case.__name__.removeprefix("Case").replace("_", ".")
