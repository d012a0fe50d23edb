"""Pictures are decoded in a process that can do nothing else, and whose end costs one picture."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emotrace_models.picture_decoding import PictureUnreadable, Pixels, decode_picture
from emotrace_service import confined_pictures
from emotrace_service.confined_pictures import ConfinedPictures
from emotrace_service.pictures import MOST_PIXELS

FILTERED = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")
# A field of EXIF that announces more than there is: Pillow warns of it.
LYING = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\x1a\0\0\0\0\0\0\0"


def jpeg(width: int = 64, height: int = 48, mode: str = "RGB", **options: Any) -> bytes:
    rough = np.random.default_rng(width).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(rough).resize((width, height)).convert(mode)
    picture.save(file, **{"format": "JPEG", **options})
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def announcing(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is larger than it is."""
    good = jpeg()
    at = good.index(b"\xff\xc0") + 5
    return good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]


def with_exif(size: int) -> bytes:
    """A JPEG with so many bytes of it at least."""
    good = jpeg()
    segment = b"\xff\xe1" + struct.pack(">H", 65_008) + b"Exif\0\0" + bytes(65_000)
    return good[:2] + (size // 65_000 + 1) * segment + good[2:]


GOOD = {
    "a frame of a webcam": jpeg(640, 480),
    "grey": jpeg(mode="L"),
    "CMYK": jpeg(mode="CMYK"),
    "progressive": jpeg(progressive=True),
    "lying": jpeg(exif=turned(6)),
    "mirrored and lying": jpeg(exif=turned(5)),
    "a mebibyte of EXIF": with_exif(1 << 20),
    "several in one": jpeg(format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
    "turned by XMP": jpeg(xmp=b"<tiff:Orientation>6</tiff:Orientation>"),
    "a profile of colours": jpeg(icc_profile=b"none" * 50),
    "smaller than it says": announcing(400, 400),
    "PNG": jpeg(format="PNG"),
}
BAD = {
    "nothing": b"",
    "no picture": b"GIF89a",
    "cut in its header": jpeg()[:100],
    "cut": jpeg()[:-200],
    "65,535 x 65,535": announcing(65_535, 65_535),
    "9,500 x 9,500": announcing(9_500, 9_500),
    "lying about its EXIF": jpeg(exif=LYING),
    "a bitmap": jpeg(format="BMP"),
}
ORDINARY = GOOD["a frame of a webcam"]


@pytest.fixture
def pictures() -> Iterator[ConfinedPictures]:
    with closing(ConfinedPictures(deadline_s=60.0)) as made:
        yield made


@pytest.fixture(scope="module")
def shared_pictures() -> Iterator[ConfinedPictures]:
    with closing(ConfinedPictures(deadline_s=60.0)) as made:
        yield made


def pid_of(pictures: ConfinedPictures) -> int:
    """Of its only process, which waits."""
    (process,) = pictures._idle
    return process.pid


def works(pictures: ConfinedPictures) -> bool:
    return np.array_equal(pictures.decode(ORDINARY), decode_picture(ORDINARY))


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("name", GOOD)
def test_the_pixels_are_those_that_this_process_would_have(
    shared_pictures: ConfinedPictures, name: str
) -> None:
    found = shared_pictures.decode(GOOD[name])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, decode_picture(GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_refused_and_costs_no_process(
    shared_pictures: ConfinedPictures, name: str
) -> None:
    assert works(shared_pictures)
    before = pid_of(shared_pictures)
    with pytest.raises(PictureUnreadable):
        decode_picture(BAD[name])
    with pytest.raises(PictureUnreadable, match="cannot be decoded"):
        shared_pictures.decode(BAD[name])
    assert works(shared_pictures)
    assert pid_of(shared_pictures) == before


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_the_largest_that_a_client_may_send_has_room(
    shared_pictures: ConfinedPictures, mode: str
) -> None:
    assert MOST_PIXELS == 3_840 * 2_160
    large = jpeg(3_840, 2_160, mode, progressive=True, exif=turned(6), quality=30)
    np.testing.assert_array_equal(shared_pictures.decode(large), decode_picture(large))


def test_pixels_are_passed_on_and_need_no_process(pictures: ConfinedPictures) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    assert pictures.decode(pixels) is pixels
    with pytest.raises(PictureUnreadable):
        pictures.decode(pixels[0])
    assert pictures._idle == []


def test_a_process_that_was_killed_between_pictures_costs_none(pictures: ConfinedPictures) -> None:
    assert works(pictures)
    (killed,) = pictures._idle
    os.kill(killed.pid, signal.SIGKILL)
    while not killed.ended:
        pass
    assert works(pictures)
    assert pid_of(pictures) != killed.pid


def test_ctrl_c_does_not_end_it(pictures: ConfinedPictures) -> None:
    """The server has sessions to finish."""
    assert works(pictures)
    pid = pid_of(pictures)
    os.kill(pid, signal.SIGINT)
    assert works(pictures)
    assert pid_of(pictures) == pid


def test_a_process_that_dies_costs_its_picture_alone(pictures: ConfinedPictures) -> None:
    assert works(pictures)
    pid = pid_of(pictures)
    os.kill(pid, signal.SIGSTOP)  # so that it has the picture when it dies
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(PictureUnreadable, match="broke what decodes them"):
        pictures.decode(ORDINARY)
    assert works(pictures)
    assert not is_there(pid)


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    with closing(ConfinedPictures(deadline_s=0.5)) as pictures:
        pictures.decode(GOOD["grey"])
        pid = pid_of(pictures)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PictureUnreadable, match="broke what decodes them"):
            pictures.decode(GOOD["grey"])
        assert not is_there(pid)
        assert pictures.used_s > 0.5  # what it used is not known: at most the time that passed
        assert pictures.decode(GOOD["grey"]).shape == (48, 64, 3)


def test_a_picture_that_needs_too_much_memory_is_given_up() -> None:
    large = jpeg(3_840, 2_160, progressive=True, quality=30)
    assert decode_picture(large).shape == (2_160, 3_840, 3)
    with closing(ConfinedPictures(memory_bytes=32 * 2**20, deadline_s=60.0)) as pictures:
        with pytest.raises(PictureUnreadable):
            pictures.decode(large)
        assert works(pictures)


@pytest.mark.parametrize("program", ["/bin/false", "/nothing/is/here"])
def test_where_no_process_starts_pictures_are_lost_and_nothing_else(
    program: str, pictures: ConfinedPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(sys, "executable", program)
        for _ in range(2):
            with pytest.raises(PictureUnreadable, match="broke what decodes them"):
                pictures.decode(ORDINARY)
        assert pictures._idle == []
    assert works(pictures)


def test_threads_decode_at_once_and_processes_are_used_again(pictures: ConfinedPictures) -> None:
    all_begun = threading.Barrier(3)

    def decoded(name: str) -> Pixels:
        all_begun.wait(60)
        return pictures.decode(GOOD[name])

    with ThreadPoolExecutor(3) as threads:
        for _ in range(4):
            names = ("a frame of a webcam", "CMYK", "lying")
            for name, found in zip(names, threads.map(decoded, names), strict=True):
                np.testing.assert_array_equal(found, decode_picture(GOOD[name]))
    pids = [one.pid for one in pictures._idle]
    assert 1 <= len(pids) <= 3
    pictures.close()
    assert not any(map(is_there, pids))
    assert works(pictures)  # it may be used again


def test_a_process_is_retired_before_its_limit_ends_it(
    pictures: ConfinedPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert works(pictures)
    first = pid_of(pictures)
    monkeypatch.setattr(confined_pictures, "RETIRED_S", 0.0)
    assert works(pictures)
    assert pictures._idle == []
    assert not is_there(first)
    assert confined_pictures.RETIRED_S < confined_pictures.PROCESSOR_S


def test_what_they_use_is_counted(pictures: ConfinedPictures) -> None:
    large = jpeg(1_280, 720)
    pictures.decode(large)
    before = pictures.used_s
    for _ in range(10):
        pictures.decode(large)
    assert 0.01 < pictures.used_s - before < 30


class Liar(confined_pictures._PictureProcess):
    """Answers what it is told to, whatever it is asked."""

    lie = b""

    def __init__(self, memory_bytes: int) -> None:
        self.used_s = 0.0
        confined_pictures.ConfinedProcess.__init__(self, "liar", memory_bytes, 100)


READY = struct.pack("<BI", 0, 1) + b"\1"
LIES = {
    "a picture of 65,535 x 65,535": struct.pack("<BIIId", 1, 16, 65_535, 65_535, 0.1),
    "an answer of 4 GiB": struct.pack("<BI", 1, 2**32 - 1),
    "a picture of no pixels": struct.pack("<BIIId", 1, 16, 0, 7, 0.1),
    "no such answer": struct.pack("<BIIId", 9, 16, 1, 1, 0.1) + bytes(3),
    "half an answer": struct.pack("<BIII", 1, 8, 1, 1) + bytes(11),
    "half a picture": struct.pack("<BIIId", 1, 16, 1, 2, 0.1) + bytes(5),
    "nothing": b"",
}


def lying_process(folder: Path, answers: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "liar.py").write_text(f"import os\nos.write(1, {answers!r})\nos.read(0, 1)\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(confined_pictures, "_PictureProcess", Liar)


@pytest.mark.parametrize("name", LIES)
def test_what_a_process_answers_is_not_believed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lying_process(tmp_path, READY + LIES[name], monkeypatch)
    with closing(ConfinedPictures()) as pictures:
        tracemalloc.start()
        try:
            with pytest.raises(PictureUnreadable, match="broke what decodes them"):
                pictures.decode(ORDINARY)
            assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
        finally:
            tracemalloc.stop()
        assert pictures._idle == []


@pytest.mark.parametrize("seconds", [1e300, float("nan"), float("inf"), -1e300])
def test_nor_what_it_says_that_it_used(
    seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = struct.pack("<BIIId", 1, 16, 1, 1, seconds) + b"RGB"
    lying_process(tmp_path, READY + answer, monkeypatch)
    with closing(ConfinedPictures()) as pictures:
        begun = time.monotonic()
        assert pictures.decode(ORDINARY).tobytes() == b"RGB"
        assert 0.0 <= pictures.used_s <= time.monotonic() - begun


@pytest.mark.skipif(not FILTERED, reason="system calls are filtered on Linux alone")
def test_the_process_can_do_nothing_else(pictures: ConfinedPictures) -> None:
    """What it would be ended for, test_sandbox.py has."""
    assert works(pictures)
    proc = Path(f"/proc/{pid_of(pictures)}")
    state = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert (state["Seccomp"], state["NoNewPrivs"], state["Threads"]) == ("2", "1", "1")
    assert sorted(one.name for one in (proc / "fd").iterdir()) == ["0", "1", "2"]
    assert os.readlink(proc / "fd" / "2") == os.devnull
    given = (proc / "environ").read_bytes().split(b"\0")
    known = {"PYTHONPATH", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"}
    assert {one.split(b"=")[0].decode() for one in given if one} <= known
    limits = (proc / "limits").read_text()
    for kind in ("processes", "open files", "file size", "core file size"):
        assert re.search(rf"Max {kind} +0 +0 ", limits), limits
    assert re.search(r"Max cpu time +3600 ", limits)
    assert not re.search(r"Max address space +unlimited", limits)
