"""The microphone against a sound driver of the test's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emotrace_clients import microphone as microphone_module
from emotrace_clients.errors import MicrophoneError
from emotrace_clients.levels import levels_dbfs, meter
from emotrace_clients.microphone import MAX_WAITING_MS, Microphone, device_names

STATUS = SimpleNamespace(input_overflow=False)


class PortAudioError(Exception):
    """As sounddevice has it."""


class FakeStream:
    def __init__(self, driver: FakeDriver, **options: Any) -> None:
        if driver.busy:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.options = options
        self.closed = False
        driver.stream = self

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self.options["finished_callback"]()


class FakeDriver:
    """What of sounddevice the microphone uses."""

    PortAudioError = PortAudioError

    def __init__(
        self,
        *,
        inputs: int = 2,
        rates: tuple[int, ...] = (16_000,),
        busy: bool = False,
        default: bool = True,
    ):
        self.inputs, self.rates, self.busy, self.default = inputs, rates, busy, default
        self.stream: FakeStream | None = None

    def query_devices(self, device: object = None, kind: str | None = None) -> Any:
        found = {"index": 3, "name": "Toy", "max_input_channels": self.inputs}
        if kind is None:
            return [{"index": 0, "name": "Speaker", "max_input_channels": 0}, found]
        if device == "o":
            raise ValueError("Multiple input devices found for 'o':\n[3] Toy\n[4] Other")
        if device is None and not self.default:
            raise PortAudioError("Error querying device -1")
        if device not in (None, 3, "Toy"):
            raise ValueError(f"No input device matching {device!r}")
        return found

    def check_input_settings(self, *, samplerate: int, **_: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    def RawInputStream(self, **options: Any) -> FakeStream:
        return FakeStream(self, **options)


Install = Callable[..., FakeDriver]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def use(**options: Any) -> FakeDriver:
        driver = FakeDriver(**options)
        monkeypatch.setitem(sys.modules, "sounddevice", driver)
        return driver

    return use


def opened(channels: int = 1, device: int | str | None = None) -> Microphone:
    return Microphone(device, channels, 40, lambda levels: None)


async def test_blocks_come_in_order_with_their_levels(install: Install) -> None:
    driver = install()
    levels: list[tuple[float, ...]] = []
    microphone = Microphone("Toy", 2, 40, levels.append)
    async with microphone:
        assert driver.stream is not None
        options = driver.stream.options
        assert (options["samplerate"], options["channels"], options["device"]) == (16_000, 2, 3)
        assert options["blocksize"] == 640
        half = np.full((640, 2), [16_384, 0], dtype="<i2").tobytes()
        for block in (half, bytes(2_560)):
            options["callback"](memoryview(block), 640, None, STATUS)
        blocks = microphone.blocks()
        assert [await anext(blocks), await anext(blocks)] == [half, bytes(2_560)]
        await blocks.aclose()
    assert driver.stream.closed
    assert microphone.dropped == 0
    assert levels[0] == pytest.approx((-6.02, -60.0), abs=0.01)


async def test_the_first_rate_that_the_device_takes(install: Install) -> None:
    install(rates=(44_100, 48_000))
    assert opened().sample_rate == 48_000


async def test_sound_that_the_system_left_out_is_counted(install: Install) -> None:
    driver = install()
    async with opened() as microphone:
        assert driver.stream is not None
        overflow = SimpleNamespace(input_overflow=True)
        driver.stream.options["callback"](bytes(1_280), 640, None, overflow)
        await asyncio.sleep(0)
        assert microphone.dropped == 1


async def test_sound_that_piles_up_is_an_error_and_not_a_gap(install: Install) -> None:
    driver = install()
    async with opened() as microphone:
        assert driver.stream is not None
        for _ in range(MAX_WAITING_MS // 40 + 1):
            driver.stream.options["callback"](bytes(1_280), 640, None, STATUS)
        await asyncio.sleep(0)
        with pytest.raises(MicrophoneError, match="40 s of sound wait"):
            await anext(microphone.blocks())


async def test_a_microphone_that_stops_is_an_error(install: Install) -> None:
    driver = install()
    async with opened() as microphone:
        assert driver.stream is not None
        driver.stream.options["finished_callback"]()
        with pytest.raises(MicrophoneError, match="still plugged in"):
            await anext(microphone.blocks())


async def test_a_microphone_that_falls_silent_without_a_word_is_an_error(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone_module, "STALL_S", 0.02)
    driver = install()
    async with asyncio.timeout(5), opened() as microphone:
        assert driver.stream is not None
        driver.stream.options["callback"](bytes(1_280), 640, None, STATUS)
        blocks = microphone.blocks()
        assert await anext(blocks) == bytes(1_280)
        with pytest.raises(MicrophoneError, match="still plugged in"):
            await anext(blocks)


@pytest.mark.parametrize(
    ("driver", "arguments", "told"),
    [
        ({"inputs": 0}, {}, "No microphone was found"),
        ({"inputs": 1}, {"channels": 2}, "has 1 input channel"),
        ({"rates": ()}, {}, "none of the rates"),
        ({}, {"device": "other"}, "no input device 'other'.* 3 Toy"),
        ({}, {"device": 7}, "no input device 7.* 3 Toy"),
        ({}, {"device": "o"}, "Several inputs are called 'o'.* 3 Toy"),
        ({"default": False}, {}, "no input that is used by default.* 3 Toy"),
    ],
)
async def test_what_cannot_work_is_said_with_the_cure(
    install: Install, driver: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    install(**driver)
    with pytest.raises(MicrophoneError, match=told) as failure:
        opened(**arguments)
    assert any(cure in str(failure.value) for cure in ("--list-devices", "--device"))


async def test_a_busy_device_is_said(install: Install) -> None:
    install(busy=True)
    with pytest.raises(MicrophoneError, match="another program using it"):
        async with opened():
            pass


def test_inputs_are_listed(install: Install) -> None:
    install()
    assert device_names() == ["  3  Toy  (2 in)"]
    install(inputs=0)
    with pytest.raises(MicrophoneError, match="No microphone"):
        device_names()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MicrophoneError, match="pip install"):
        device_names()


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoPortAudio:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    with pytest.raises(MicrophoneError, match="libportaudio2"):
        device_names()


def test_the_meter_has_a_floor_and_a_ceiling() -> None:
    assert levels_dbfs(np.zeros((640, 1), dtype=np.int16)) == (-60.0,)
    assert meter(-60.0).startswith("▯")
    assert "▯" not in meter(0.0)
    assert meter(3.0).startswith(meter(0.0).split()[0])
