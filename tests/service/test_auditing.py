"""The audit log: nothing can be taken from it unseen, and no session waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from typer.testing import CliRunner

from emotrace_service.audit_chain import NOTHING, Link, head_of, verify
from emotrace_service.audit_cli import app
from emotrace_service.audit_log import MAX_WAITING, AuditLog
from emotrace_service.auditing import AuditEvent, Entry, NoAudit, open_audit
from emotrace_service.errors import StartRefused
from emotrace_service.logs import logger

OPENED = Entry(
    AuditEvent.SESSION_OPENED, session="s1", key="clinic", purpose="art", modalities=("acoustic",)
)
ENDED = Entry(AuditEvent.SESSION_ENDED, session="s1", reason="client", counts={"utterances": 3})


@contextmanager
def audit(path: Path, **options: Any) -> Iterator[tuple[AuditLog, CollectorRegistry]]:
    registry = CollectorRegistry()
    log = AuditLog(path, registry, logger(), **options)
    try:
        yield log, registry
    finally:
        log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def head(path: Path) -> Link:
    return Link.read(head_of(path).read_text())


def faults(path: Path, *older: Path, anchor: Link | None = None) -> list[str]:
    files = [(file.name, file.read_bytes()) for file in (*older, path)]
    return verify(files, [head(path) if anchor is None else anchor]).faults


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    """A log of six lines."""
    with audit(path) as (log, _):
        for entry in (OPENED, ENDED, OPENED, ENDED):
            log.record(entry)
    return path


def test_a_log_holds_what_happened_in_order(written: Path) -> None:
    told = lines(written)
    assert [line["event"] for line in told] == [
        "log.opened",
        "session.opened",
        "session.ended",
        "session.opened",
        "session.ended",
        "log.closed",
    ]
    assert [line["number"] for line in told] == list(range(6))
    assert told[1].keys() == {
        *("number", "previous", "time", "event"),
        *("session", "key", "purpose", "modalities"),
    }
    assert told[1]["purpose"] == "art"
    assert told[2]["counts"] == {"utterances": 3}
    assert told[0]["previous"] == NOTHING.digest
    found = verify([("log", written.read_bytes())], [head(written)])
    assert (found.faults, found.notes, found.lines, found.last) == ([], [], 6, head(written))
    assert oct(written.stat().st_mode)[-3:] == "600"


def test_every_flipped_bit_is_found(written: Path) -> None:
    content, anchor = written.read_bytes(), head(written)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        assert verify([("log", bytes(changed))], [anchor]).faults, place


def test_every_missing_moved_or_doubled_line_is_found(written: Path) -> None:
    raw, anchor = written.read_bytes().splitlines(keepends=True), head(written)

    def found(changed: list[bytes]) -> list[str]:
        return verify([("log", b"".join(changed))], [anchor]).faults

    for place in range(1, len(raw)):  # without its first lines a log may go on from an older file
        assert found(raw[:place] + raw[place + 1 :]), place
        assert found([*raw[:place], raw[place], raw[place], *raw[place + 1 :]]), place
    for place in range(len(raw) - 1):
        assert found([*raw[:place], raw[place + 1], raw[place], *raw[place + 2 :]]), place
    assert not found(raw)


def test_every_truncated_end_is_found_by_the_anchor(written: Path) -> None:
    content, anchor = written.read_bytes(), head(written)
    for size in range(len(content)):
        assert verify([("log", content[:size])], [anchor]).faults, size
    cut = content[: content.rindex(b"\n", 0, -1) + 1]
    without = verify([("log", cut)])
    assert not without.faults, "a missing end breaks no chain"
    assert "not closed" in without.notes[0], "but it shows"


def test_a_chain_made_anew_is_found_by_the_anchor(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    with audit(other) as (log, _):
        for entry in (OPENED, ENDED, ENDED, ENDED):
            log.record(entry)
    assert not faults(other)
    assert "not the line that the anchor" in faults(other, anchor=head(written))[0]


def test_the_chain_goes_on_over_restarts(written: Path) -> None:
    for _ in range(2):
        with audit(written) as (log, _):
            log.record(OPENED)
    assert [line["number"] for line in lines(written)] == list(range(12))
    assert not faults(written)


@pytest.mark.parametrize("restart", [False, True])
def test_the_chain_goes_on_over_a_rotation(path: Path, tmp_path: Path, restart: bool) -> None:
    older = tmp_path / "audit.jsonl.1"
    with audit(path) as (log, _):
        log.record(OPENED)
        if not restart:
            wait_for(lambda: b"session.opened" in path.read_bytes())
            path.rename(older)
        log.record(ENDED)
    if restart:
        path.rename(older)
        with audit(path) as (log, _):
            log.record(ENDED)
    assert lines(path)[0]["number"] == lines(older)[-1]["number"] + 1
    assert not faults(path, older)
    assert not faults(path), "the newer file alone"
    wrong_way = verify([("new", path.read_bytes()), ("old", older.read_bytes())])
    assert wrong_way.faults


def test_the_chain_goes_on_where_the_file_is_copied_and_emptied(path: Path, tmp_path: Path) -> None:
    older = tmp_path / "audit.jsonl.1"
    with audit(path) as (log, _):
        log.record(OPENED)
        wait_for(lambda: b"session.opened" in path.read_bytes())
        shutil.copy(path, older)
        os.truncate(path, 0)
        log.record(ENDED)
    assert not faults(path, older)


def test_lines_that_were_removed_before_a_restart_stay_missed(written: Path) -> None:
    raw = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join(raw[:4]))
    with audit(written) as (log, _):
        log.record(OPENED)
    assert "numbers 4 to 5 are missing" in faults(written)[0]


@pytest.mark.parametrize("rest", [b'{"number":6,"prev', b"\0\0\0", b"half\nhalf", b"a line\n"])
def test_half_a_line_of_a_server_that_died_is_kept_and_told(written: Path, rest: bytes) -> None:
    with written.open("ab") as file:
        file.write(rest)
    with audit(written) as (log, _):
        log.record(OPENED)
    content = written.read_bytes()
    assert rest in content, "nothing is removed from an audit log"
    found = verify([("log", content)], [head(written)])
    assert not found.faults
    assert any("when the server died" in note for note in found.notes)
    changed = content.replace(rest, b"x" * len(rest.strip()) + b"\n" * rest.endswith(b"\n"))
    assert changed != content
    assert verify([("log", changed)]).faults


def test_a_full_disk_stops_nothing_and_is_told(path: Path, tmp_path: Path) -> None:
    path.symlink_to("/dev/full")
    with capture_logs() as told, audit(path) as (log, registry):
        log.record(OPENED)
        assert registry.get_sample_value("emotrace_audit_failing") == 1
        path.unlink()  # there is room again
        log.record(ENDED)
        wait_for(lambda: registry.get_sample_value("emotrace_audit_failing") == 0)
    assert [one["event"] for one in told if one["event"] != "audit anchor"] == [
        "audit log cannot be written",
        "audit log is written again",
    ]
    assert told[0]["cause"] == "No space left on device"
    assert [line["event"] for line in lines(path)][1:3] == ["session.opened", "session.ended"]
    assert not faults(path)
    assert registry.get_sample_value("emotrace_audit_lines_total", {"result": "lost"}) == 0
    assert registry.get_sample_value("emotrace_audit_lines_total", {"result": "written"}) == 4


PARTIAL = """
import resource, signal, sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry
from emotrace_service.audit_log import AuditLog
from emotrace_service.auditing import AuditEvent, Entry
from emotrace_service.logs import logger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, registry = Path(sys.argv[1]), CollectorRegistry()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
log = AuditLog(path, registry, logger())
for number in range(9):
    log.record(Entry(AuditEvent.SESSION_OPENED, session=f"s{number}"))
while path.stat().st_size < 700 or not registry.get_sample_value("emotrace_audit_failing"):
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.close()
"""


def test_a_line_of_which_half_was_written_is_finished_later(path: Path) -> None:
    subprocess.run([sys.executable, "-c", PARTIAL, path], check=True, timeout=60)
    assert len(lines(path)) == 11
    assert not faults(path)


def test_no_session_waits_for_a_disk_that_hangs(path: Path) -> None:
    registry = CollectorRegistry()
    log = AuditLog(path, registry, logger())
    path.unlink()
    os.mkfifo(path)  # nobody reads: writing stops after 64 KiB
    for _ in range(MAX_WAITING + 3_000):
        log.record(OPENED)
    for _ in range(MAX_WAITING):
        log.record(OPENED)
    lost = registry.get_sample_value("emotrace_audit_lines_total", {"result": "lost"})
    assert lost is not None
    assert lost > 0, "what waits is bounded, and what is lost is counted"
    drained = bytearray()
    reader = os.open(path, os.O_RDONLY)
    closing = threading.Thread(target=log.close)
    closing.start()
    while b'"log.closed"' not in drained:
        drained += os.read(reader, 1 << 16)
    closing.join()
    os.close(reader)
    told = [json.loads(line) for line in bytes(drained).splitlines()]
    counted = sum(line["counts"]["lines"] for line in told if line["event"] == "log.lost")
    written = sum(line["event"] == "session.opened" for line in told)
    assert counted == lost
    assert written + counted == 2 * MAX_WAITING + 3_000


def test_a_flood_of_refusals_is_told_by_its_number(path: Path) -> None:
    with audit(path, clock=lambda: 5.0) as (log, _):
        for number in range(1_000):
            code = ("capacity", "unauthenticated")[number % 2]
            log.record(Entry(AuditEvent.REFUSED, code=code))
        log.record(OPENED)
    told = lines(path)
    refused = [line for line in told if line["event"] == "refused"]
    assert len(refused) == 22
    for code in ("capacity", "unauthenticated"):
        counts = [line.get("counts", {"refusals": 1}) for line in refused if line["code"] == code]
        assert sum(count["refusals"] for count in counts) == 500
    assert any(line["event"] == "session.opened" for line in told)


def test_each_server_has_a_log_of_its_own(path: Path) -> None:
    with audit(path), pytest.raises(StartRefused, match="Another server"):
        AuditLog(path, CollectorRegistry(), logger())


def test_a_log_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="No such file or directory"):
        AuditLog(tmp_path / "no" / "audit.jsonl", CollectorRegistry(), logger())


def test_without_the_setting_there_is_no_log() -> None:
    registry = CollectorRegistry()
    log = open_audit(None, registry, logger())
    assert isinstance(log, NoAudit)
    log.record(OPENED)
    log.close()
    assert not list(registry.collect())


def test_anchors_are_told_in_the_ordinary_log_and_verify_takes_them(path: Path) -> None:
    with capture_logs() as told, audit(path) as (log, _):
        log.record(OPENED)
    anchors = [line["anchor"] for line in told if line["event"] == "audit anchor"]
    assert [Link.read(anchor).number for anchor in anchors] == [0, 2]
    run = CliRunner().invoke
    fine = run(app, ["verify", str(path), "--anchor", anchors[-1]])
    assert fine.exit_code == 0, fine.output
    assert f"3 lines, unbroken; the last is {anchors[-1]}" in fine.output

    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    broken = run(app, ["verify", str(path)])
    assert broken.exit_code == 1
    assert "FAULT: the log ends with number 0: numbers 1 to 2 are missing" in broken.output
    head_of(path).unlink()
    assert "without an anchor" in run(app, ["verify", str(path)]).output
    by_hand = run(app, ["verify", str(path), "--anchor", anchors[-1]])
    assert by_hand.exit_code == 1
    for wrong in (["--anchor", "x"], ["--anchor", "1:abc"]):
        assert run(app, ["verify", str(path), *wrong]).exit_code == 2
    assert run(app, ["verify", str(path) + ".no"]).exit_code == 2


def wait_for(happened: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(1_000):
        if happened():
            return
        done.wait(0.01)
    pytest.fail("it did not happen")
