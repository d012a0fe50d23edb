"""The Batcher: nothing is lost, nothing runs twice, and the order is kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emotrace_service.batching import Batcher, BatcherFull, BatchPolicy, Item, Priority

POLICIES = {"short": BatchPolicy(4, 0.010), "long": BatchPolicy(1, 0.0)}
CAPACITY = 12


def _item(
    payload: int,
    *,
    kind: str = "short",
    priority: Priority = Priority.FINAL,
    arrival: float = 0.0,
    deadline: float | None = None,
) -> Item[int]:
    return Item(kind, payload, priority, arrival, deadline)


def _batcher(*items: Item[int]) -> Batcher[int]:
    batcher: Batcher[int] = Batcher(POLICIES, CAPACITY)
    for item in items:
        batcher.add(item)
    return batcher


def _payloads(batch: list[Item[int]] | None) -> list[int] | None:
    return None if batch is None else [item.payload for item in batch]


def test_an_item_waits_for_company_and_then_goes_alone() -> None:
    batcher = _batcher(_item(1, arrival=5.0))
    assert batcher.take(5.0) is None
    assert batcher.wait(5.0) == pytest.approx(0.010)
    assert batcher.wait(6.0) == 0
    assert _payloads(batcher.take(5.0 + 0.010)) == [1]
    assert batcher.take(9.0) is None
    assert batcher.wait(9.0) is None


def test_a_full_batch_waits_for_nobody_and_takes_no_more() -> None:
    batcher = _batcher(*(_item(number) for number in range(5)))
    assert batcher.wait(0.0) == 0
    assert _payloads(batcher.take(0.0)) == [0, 1, 2, 3]
    assert batcher.take(0.0) is None


def test_kinds_do_not_mix() -> None:
    batcher = _batcher(_item(1), _item(2, kind="long"), _item(3), _item(4, kind="long"))
    assert _payloads(batcher.take(1.0)) == [1, 3]
    assert _payloads(batcher.take(1.0)) == [2]
    assert _payloads(batcher.take(1.0)) == [4]


def test_finals_go_before_interims_that_came_earlier() -> None:
    interim = [_item(number, priority=Priority.INTERIM, arrival=0.0) for number in range(4)]
    batcher = _batcher(*interim, _item(9, arrival=0.001))
    assert _payloads(batcher.take(0.001)) == [9, 0, 1, 2]
    assert _payloads(batcher.take(1.0)) == [3]


def test_the_kind_with_the_most_urgent_item_goes_first() -> None:
    batcher = _batcher(_item(1, priority=Priority.INTERIM), _item(2, kind="long", arrival=0.5))
    assert _payloads(batcher.take(1.0)) == [2]


def test_cancelled_items_are_left_out_and_free_their_place() -> None:
    items = [_item(number) for number in range(CAPACITY)]
    batcher = _batcher(*items)
    assert batcher.full
    with pytest.raises(BatcherFull, match="12 items"):
        batcher.add(_item(99))
    items[0].cancelled = items[7].cancelled = True
    assert not batcher.full
    batcher.add(_item(99))
    taken = [payload for _ in range(3) for payload in _payloads(batcher.take(1.0)) or []]
    assert taken == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 99]


def test_late_items_are_given_back_and_never_run() -> None:
    batcher = _batcher(_item(1, deadline=1.0), _item(2), _item(3, deadline=3.0))
    assert batcher.wait(0.0) == pytest.approx(0.010)
    assert batcher.expired(0.5) == []
    assert _payloads(batcher.expired(1.0)) == [1]
    assert _payloads(batcher.take(2.0)) == [2, 3]
    alone = _batcher(_item(1, deadline=0.001))
    assert alone.wait(0.0) == pytest.approx(0.001)
    assert alone.take(1.0) is None
    assert alone.wait(1.0) == 0
    assert _payloads(alone.expired(1.0)) == [1]


def test_an_unknown_kind_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError, match="other"):
        _batcher(_item(1, kind="other"))


@pytest.mark.parametrize("policy", [(0, 0.1), (1, -0.1)])
def test_a_policy_must_make_sense(policy: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="no batch can follow"):
        BatchPolicy(*policy)


def test_a_capacity_must_make_sense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Batcher(POLICIES, 0)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Item,
            st.sampled_from(sorted(POLICIES)),
            st.integers(),
            st.sampled_from(Priority),
            st.floats(0, 1),
        ),
        max_size=CAPACITY,
    )
)
def test_waiting_as_long_as_told_is_enough_and_no_longer_than_needed(
    items: list[Item[int]],
) -> None:
    batcher = _batcher(*items)
    now, taken = 1.0, 0
    while (seconds := batcher.wait(now)) is not None:
        if seconds > 1e-9:
            assert batcher.take(now) is None
        now += seconds + 1e-12
        batch = batcher.take(now + 1e-9)
        assert batch
        taken += len(batch)
    assert taken == len(items)


class BatcherMachine(RuleBasedStateMachine):
    """Any order of adding, cancelling, taking and the passing of time, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = _batcher()
        self.waiting: list[Item[int]] = []
        self.settled: set[int] = set()
        self.now = 0.0
        self.added = 0

    @rule(
        kind=st.sampled_from(sorted(POLICIES)),
        priority=st.sampled_from(Priority),
        patience=st.none() | st.floats(0.001, 0.1),
    )
    def add(self, kind: str, priority: Priority, patience: float | None) -> None:
        deadline = None if patience is None else self.now + patience
        item = _item(self.added, kind=kind, priority=priority, arrival=self.now, deadline=deadline)
        if len(self.waiting) == CAPACITY:
            with pytest.raises(BatcherFull):
                self.batcher.add(item)
            return
        self.batcher.add(item)
        self.added += 1
        self.waiting.append(item)

    @rule(seconds=st.floats(0, 0.05))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.waiting))
        item.cancelled = True
        self.waiting.remove(item)

    @rule()
    def take(self) -> None:
        batch = self.batcher.take(self.now)
        alive = [item for item in self.waiting if item.deadline is None or item.deadline > self.now]
        if batch is None:
            for kind, policy in POLICIES.items():
                same = [item for item in alive if item.kind == kind]
                assert len(same) < policy.max_items
                assert all(item.arrival + policy.max_wait > self.now for item in same)
            return
        (kind,) = {item.kind for item in batch}
        same = sorted(
            (item for item in alive if item.kind == kind),
            key=lambda item: (item.priority, item.arrival, item.payload),
        )
        assert batch == same[: POLICIES[kind].max_items]
        self._settle(batch)

    @rule()
    def expire(self) -> None:
        late = self.batcher.expired(self.now)
        expected = [item for item in self.waiting if item.deadline is not None]
        assert set(map(id, late)) == {
            id(one) for one in expected if (one.deadline or 0) <= self.now
        }
        self._settle(late)

    def _settle(self, items: list[Item[int]]) -> None:
        for item in items:
            assert item.payload not in self.settled
            self.settled.add(item.payload)
            self.waiting.remove(item)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.batcher.full == (len(self.waiting) >= CAPACITY)
        if not self.waiting:
            assert self.batcher.wait(self.now) is None
        else:
            assert self.batcher.wait(self.now) is not None

    def teardown(self) -> None:
        for item in self.waiting:
            item.deadline = None
        self.now += 1.0
        left = len(self.waiting)
        for _ in range(left):
            batch = self.batcher.take(self.now)
            if batch is None:
                break
            self._settle(batch)
        assert not self.waiting


TestBatcherMachine = BatcherMachine.TestCase
