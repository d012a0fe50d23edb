"""Which pulled weights a setting means: a name, `auto` or `none`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from emotrace_models.weights import Kind, WeightSet, find_weights, is_present, load_lock, of_kind
from emotrace_service.settings import AUTO, NONE


def chosen_weights(
    name: str, kind: Kind, root: Path, first: Callable[[list[WeightSet]], WeightSet]
) -> WeightSet | None:
    """None: the setting asks for none, or for any where there are none. Raises WeightsError.

    first: which of those that are here `auto` takes, given in the lock's order.
    """
    meant = meant_weights(name, kind, root)
    return first(meant) if meant else None


def meant_weights(name: str, kind: Kind, root: Path) -> list[WeightSet]:
    """All that the setting may mean: the one of that name, or for `auto` those that are here.

    Raises WeightsError.
    """
    if name == NONE:
        return []
    lock = of_kind(load_lock(), kind)
    if name != AUTO:
        return [find_weights(name, lock)]
    return [one for one in lock.values() if is_present(one, root)]
