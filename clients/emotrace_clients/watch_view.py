"""`emotrace watch`: a server's state on the screen, refreshed; in a pipe, one line at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emotrace_clients import wording
from emotrace_clients.errors import EmotraceError
from emotrace_clients.health import read_metrics, read_ready
from emotrace_clients.watching import Spread, Status, Watch

GOOD, DOUBTFUL, BAD = "green", "yellow", "red"
LATE_S = 1.0  # an estimate that comes later is no longer live

Sleep = Callable[[float], object]


def watch(url: str, every_s: float, console: Console, sleep: Sleep, *, once: bool) -> None:
    """Shows the server until Ctrl-C. Where it does not answer, says so and goes on.

    once: shows it a single time, as a line. Raises ServerUnreachable where nothing answers then.
    """
    seen = Watch()
    if once:
        console.print(line(_look(url, seen)), soft_wrap=True, highlight=False, markup=False)
        return
    with (
        Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live
    ):
        while True:
            try:
                status = _look(url, seen)
            except EmotraceError as error:
                told = f"{_now()}  {error} Trying again."
                shown: RenderableType = Text(told, style=BAD)
            else:
                told, shown = line(status), screen(url, status)
            if live is None:
                console.print(told, soft_wrap=True, highlight=False, markup=False)
            else:
                live.update(shown, refresh=True)
            sleep(every_s)


def line(status: Status) -> str:
    """The state as one line."""
    parts = [
        _now(),
        "ready" if status.ready else f"not ready ({wording.printable(status.reason or '?')})",
        f"sessions {status.sessions}",
        f"cores {_number(status.busy_cores)}",
        f"lag p50 {_ms(status.lag.p50)} p95 {_ms(status.lag.p95)}",
        f"queue p95 {_ms(status.queue.p95)}",
        f"finals {status.finals} rejected {status.rejected} failed {status.failed}",
        f"level {status.level}",
    ]
    off = [name for name, why in status.modalities.items() if why is not None]
    if off:
        parts.append(f"off: {wording.printable(' '.join(off))}")
    if status.refusals:
        told = " ".join(f"{code}={total}" for code, (total, _) in status.refusals.items())
        parts.append(f"refusals {wording.printable(told)}")
    return "  ".join(parts)


def screen(url: str, status: Status) -> Group:
    """The state as a table with what each figure means."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    state = Text("ready", style=GOOD) if status.ready else Text("not ready", style=BAD)
    if status.reason:
        state.append(f": {wording.printable(status.reason)}")
    table.add_row("server", state)
    table.add_row("bundle", wording.printable(f"{status.bundle}, computed by {status.backend}"))
    for name, why in status.modalities.items():
        sense = wording.SENSES.get(name, name)
        if why is None:
            table.add_row(wording.printable(sense), Text("live", style=GOOD))
        else:
            told = Text("off", style=DOUBTFUL).append(f": {wording.printable(why)}", style="dim")
            table.add_row(wording.printable(sense), told)
    table.add_row("sessions", f"{status.sessions} open{_room(status)}")
    table.add_row("machine", _machine(status))
    level = Text(f"level {status.level}: {status.level_words}")
    level.style = GOOD if status.level == 0 else DOUBTFUL if status.level < 3 else BAD
    table.add_row("service", level)
    table.add_row("lag", _lag(status.lag))
    table.add_row("queue", f"{_times(status.queue)} of audio waits in a session's queue")
    table.add_row("event loop", f"{_times(status.loop_lag)} late")
    table.add_row(
        "utterances",
        f"{status.finals} estimated, {status.rejected} no speech, {status.failed} failed",
    )
    table.add_row("refusals", _refusals(status))
    caption = f"{_now()}  {wording.printable(url)}  figures of the last minute, Ctrl-C ends"
    return Group(Text(caption, style="dim"), table)


def _look(url: str, seen: Watch) -> Status:
    """Raises ServerUnreachable."""
    _, ready = read_ready(url)
    return seen.push(time.monotonic(), ready, read_metrics(url))


def _room(status: Status) -> str:
    if not status.session_share or not status.budget:
        return ""
    fit = int(status.budget / status.session_share)
    return f"; about {fit} that are heard fit on this machine"


def _machine(status: Status) -> str:
    cores = f"{_number(status.busy_cores)} cores busy"
    memory = "" if status.memory_bytes is None else f", {status.memory_bytes / 2**30:.1f} GiB"
    if status.session_share is None or status.budget is None:
        return cores + memory
    share = wording.percent(status.sessions * status.session_share).strip()
    budget = wording.percent(status.budget).strip()
    return f"{cores}{memory}; sessions take at most {share} of the machine, and may take {budget}"


def _lag(lag: Spread) -> Text:
    told = Text(f"{_times(lag)} from the end of an utterance's audio to its estimate")
    if lag.p95 is not None and lag.p95 > LATE_S:
        told.style = BAD
    return told


def _refusals(status: Status) -> Text:
    if not status.refusals:
        return Text("none", style=GOOD)
    told = Text()
    for code, (total, lately) in sorted(status.refusals.items(), key=lambda one: -one[1][0]):
        told.append(f"{wording.printable(code)} {total}", style=BAD if lately else "")
        told.append(f" (+{lately})  " if lately else "  ", style=BAD)
    return told


def _times(spread: Spread) -> str:
    return f"p50 {_ms(spread.p50)}, p95 {_ms(spread.p95)}"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1_000:.0f} ms"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _now() -> str:
    return time.strftime("%H:%M:%S")
