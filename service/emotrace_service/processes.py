"""Compute processes: the models outside of the server's own process.

In one process all Python takes turns, and a network of a thousand small steps asks for its turn a
thousand times: a hundred live dialogues then wait for the interpreter, not for the processor. So a
compute thread hands its batch to a process of its own and sleeps until the answer is there. A
process that hangs can be ended, and one that dies takes nothing with it but its batch.

    thread   pack(work, bundle, items) ─►  process: computing.compute
             unpack(answer)            ◄─  results, or what failed, told without its text

Messages are packed values between our own processes (packing.py), never what a client sent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from emotrace_models.types import SAMPLE_RATE, Utterance
from emotrace_service import computing
from emotrace_service.confined_pictures import PICTURES
from emotrace_service.errors import EngineError, UtteranceIncomplete, place
from emotrace_service.loading import Origin, load_again, load_predictors
from emotrace_service.packing import pack, parts, unpack
from emotrace_service.settings import Settings

NICENESS = 10  # the event loop goes first
END_S = 2.0  # until a process that was asked to end is ended


class ProcessModels:
    """The models of one compute thread, in a process that is started at once and loads meanwhile.

    origins: of the bundles. settings: how they compute. `compute` as computing.compute. used_s:
    processor time of it and of those before it.
    """

    def __init__(self, origins: Sequence[Origin], settings: Settings) -> None:
        self._origins = tuple(origins)
        self._settings = settings
        self._lock = threading.Lock()
        self._closed = False
        self._used_before_s = self._used_now_s = 0.0
        self._start()

    @property
    def used_s(self) -> float:
        return self._used_before_s + self._used_now_s

    def compute(
        self, work: str, bundle: str, items: Sequence[tuple[Any, ...]], arrivals: Sequence[float]
    ) -> list[Any]:
        """Raises EngineError: what failed there, or that the process is gone; the next call has
        another one."""
        request = (work, bundle, tuple(items), tuple(arrivals))
        try:
            self._ours.send_bytes(pack(request))
            answer, self._used_now_s = unpack(self._ours.recv_bytes(), parts(request))
        except (EOFError, OSError):
            self._restart()
            raise EngineError("a compute process ended") from None
        if isinstance(answer, EngineError):
            raise answer
        results: list[Any] = answer
        return results

    def ready(self) -> None:
        """Raises EngineError."""
        self.compute("appraise", "", (), ())

    def kill(self) -> None:
        """End it for good, whatever it is doing: whoever waits for it gets an error."""
        with self._lock:
            self._closed = True
        self._process.kill()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        with suppress(OSError):
            self._ours.close()  # which it takes as the end
        self._process.join(END_S)
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = _context()
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, self._origins, self._settings),
            name="emotrace-compute",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def _restart(self) -> None:
        with self._lock:
            if not self._closed:
                self._process.kill()
                self._process.join()
                self._ours.close()
                self._used_before_s, self._used_now_s = self.used_s, 0.0
                self._start()


def _context() -> Any:
    """A fork server imports the models once for all processes, and has no threads to fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def serve(pipe: Connection, origins: Sequence[Origin], settings: Settings) -> None:
    """A compute process, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the server ends it
    with suppress(AttributeError, OSError):  # a courtesy of Linux
        os.nice(NICENESS)
    computing.begin_thread()
    predictors = load_predictors(load_again(origins, settings), settings.device)
    for key in predictors:
        _run_once(predictors, key)
    ready_s = time.process_time()  # what came before is the price of starting, not of sessions
    with suppress(EOFError, OSError):
        while True:
            request = unpack(pipe.recv_bytes())
            work, bundle, items, arrivals = request
            try:
                answer: Any = computing.compute(predictors, work, bundle, items, arrivals)
            except Exception as error:
                answer = _told(error)
            used_s = time.process_time() - ready_s + PICTURES.used_s
            pipe.send_bytes(pack((answer, used_s), parts(request)))
    PICTURES.close()


def _run_once(predictors: computing.Predictors, key: str) -> None:
    """The first run of a network is slow."""
    noise = np.random.default_rng(0).normal(0.0, 0.01, SAMPLE_RATE).astype(np.float32)
    utterance = Utterance(0, "A", 0, SAMPLE_RATE, noise)
    with suppress(EngineError):
        computing.compute(predictors, "appraise", key, [(utterance,)], [time.monotonic()])
        with suppress(Exception):  # what the bundle cannot do without may be missing here
            state = predictors[key].start()
            computing.compute(
                predictors, "predict", key, [(state, utterance, None)], [time.monotonic()]
            )


def _told(error: Exception) -> EngineError:
    """What failed, without its text, which may quote what somebody said."""
    failure = computing.failure(error)
    if isinstance(failure, UtteranceIncomplete):
        return failure
    return EngineError(f"{failure} at {place(error)}")
