"""How far the sending of a file has come, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from emotrace_clients.sound_readers import FloatArray


class FileProgress:
    """bar: for a terminal; it knows the time left from the pace so far.

    total_s: how long the sound is; None where the file does not say.
    """

    def __init__(self, total_s: float | None, console: Console) -> None:
        length = "?" if total_s is None else position(total_s)
        self.bar = Progress(
            TextColumn(" {task.fields[position]} of {task.fields[length]} sent"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._sent_s = 0.0
        self._task = self.bar.add_task("", total=total_s, position=position(0), length=length)

    def counted(self, blocks: Iterator[FloatArray], sample_rate: int) -> Iterator[FloatArray]:
        """The same blocks; the sound of each counts once the next is asked for."""
        for block in blocks:
            yield block
            self._sent_s += len(block) / sample_rate
            self.bar.update(self._task, completed=self._sent_s, position=position(self._sent_s))


def position(seconds: float) -> str:
    """A position in a recording: `2:05` or `1:02:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
