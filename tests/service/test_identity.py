"""Keys and tickets: who is let in, who is not, and that nothing can be guessed or used twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotrace_protocol.errors import ProtocolError
from emotrace_service.errors import StartRefused
from emotrace_service.identity import Keys, bearer, digest_of, entry, in_query, new_key
from emotrace_service.tickets import LIFE_S, NotedHere, Tickets


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def keys_of(folder: Path, *names: str) -> tuple[Keys, dict[str, str]]:
    made = {name: new_key() for name in names}
    path = folder / "keys.toml"
    path.write_text("\n".join(entry(name, key, 3) for name, key in made.items()))
    return Keys.load(path), made


def tickets_of(keys: Keys) -> tuple[Tickets, Clock]:
    clock = Clock()
    return Tickets(keys, NotedHere(clock), clock), clock


def test_a_key_opens_what_its_entry_says(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "chatbot", "page")
    for name, key in made.items():
        caller = keys.find(key)
        assert caller is not None
        assert (caller.name, caller.sessions) == (name, 3)
    for wrong in ("", "emk_", made["page"][:-1], made["page"] + "x", digest_of(made["page"])):
        assert keys.find(wrong) is None
    assert made["page"] not in (tmp_path / "keys.toml").read_text()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "keys"),
        ("keys = [", "cannot be read"),
        ('[[keys]]\nname = "../x"\nsha256 = "' + "0" * 64 + '"', "keys.0.name"),
        ('[[keys]]\nname = "a"\nsha256 = "plain"', "keys.0.sha256"),
        ('[[keys]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\nsession = 3', "keys.0.session"),
        ('[[keys]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\nsessions = "3"', "keys.0.sessions"),
        (('[[keys]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\n') * 2, "two keys have one name"),
    ],
)
def test_a_wrong_file_of_keys_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(StartRefused, match=named):
        Keys.load(path)
    with pytest.raises(StartRefused, match="cannot be read"):
        Keys.load(tmp_path / "none.toml")


async def test_a_ticket_serves_once(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "page")
    tickets, _ = tickets_of(keys)
    caller = keys.find(made["page"])
    assert caller is not None
    ticket = tickets.issue(caller)
    assert await tickets.redeem(ticket.value) == caller
    with pytest.raises(ProtocolError, match="ticket_used"):
        await tickets.redeem(ticket.value)
    assert await tickets.redeem(tickets.issue(caller).value) == caller


async def test_a_ticket_serves_for_a_minute(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "page")
    tickets, clock = tickets_of(keys)
    caller = keys.find(made["page"])
    assert caller is not None
    early, late = tickets.issue(caller), tickets.issue(caller)
    clock.now += LIFE_S - 1
    await tickets.redeem(early.value)
    clock.now += 1
    with pytest.raises(ProtocolError, match="unauthenticated"):
        await tickets.redeem(late.value)


async def test_another_server_with_the_same_keys_takes_a_ticket(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "page")
    caller = keys.find(made["page"])
    assert caller is not None
    one, _ = tickets_of(keys)
    other, _ = tickets_of(Keys.load(tmp_path / "keys.toml"))
    assert await other.redeem(one.issue(caller).value) == caller


async def test_a_ticket_of_a_key_that_was_taken_away_is_void(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "page", "other")
    caller = keys.find(made["page"])
    assert caller is not None
    ticket = tickets_of(keys)[0].issue(caller)
    fewer, _ = tickets_of(Keys([(digest_of(made["other"]), caller)]))
    with pytest.raises(ProtocolError, match="unauthenticated"):
        await fewer.redeem(ticket.value)


async def test_no_changed_ticket_is_taken(tmp_path: Path) -> None:
    keys, made = keys_of(tmp_path, "page")
    tickets, _ = tickets_of(keys)
    caller = keys.find(made["page"])
    assert caller is not None
    value = tickets.issue(caller).value
    for place in range(4, len(value)):
        changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
        if changed.rstrip("AQgw") == value.rstrip("AQgw"):
            continue  # base64's last character has bits that mean nothing
        with pytest.raises(ProtocolError, match="unauthenticated"):
            await tickets.redeem(changed)


@given(st.text(max_size=80))
async def test_no_text_is_a_ticket(text: str) -> None:
    tickets, _ = tickets_of(Keys([]))
    with pytest.raises(ProtocolError, match="unauthenticated"):
        await tickets.redeem(text)


async def test_used_tickets_are_forgotten_once_they_are_void() -> None:
    clock = Clock()
    noted = NotedHere(clock)
    assert await noted.first("a", 10.0)
    assert not await noted.first("a", 10.0)
    clock.now += 11
    assert await noted.first("b", 10.0)
    assert list(noted._used) == ["b"]


def test_what_a_header_says() -> None:
    assert bearer("Bearer emk_x") == bearer("bearer  emk_x ") == "emk_x"
    assert bearer(None) is bearer("Basic abc") is None


@pytest.mark.parametrize("name", ["token", "API_KEY", "access_token", "Ticket"])
def test_secrets_in_an_address_are_seen(name: str) -> None:
    assert in_query([json.dumps(1), name])
    assert not in_query(["intent", "model", "language"])
