"""The shelf: which bundles a server holds, and who gets which.

New sessions get those that are served now. A session that began with another version keeps it: what
was served before stays for those that it understands, and, until the next change, for those whose
connection broke and that may come back. The shadow is given to nobody.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from emotrace_models.bundle import Bundle


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """bundles: that sessions may ask for, by name, the default first. shadow: understands the same
    beside the default, unseen; None: none does. earlier: served before."""

    bundles: Mapping[str, Bundle]
    shadow: Bundle | None = None
    earlier: tuple[Bundle, ...] = ()

    @property
    def default(self) -> Bundle:
        return next(iter(self.bundles.values()))

    @property
    def served(self) -> tuple[Bundle, ...]:
        """Those of now, each once: the shadow may be one that sessions may ask for."""
        shadow = () if self.shadow is None else (self.shadow,)
        every = (*self.bundles.values(), *shadow)
        return tuple({bundle.key: bundle for bundle in every}.values())

    @property
    def held(self) -> tuple[Bundle, ...]:
        """All of them."""
        return (*self.served, *self.earlier)

    def followed_by(self, new: Shelf, in_use: Container[str]) -> Shelf:
        """The shelf after a change. in_use: editions of the bundles that open sessions have."""
        served = {bundle.key for bundle in new.served}
        kept = (
            *self.bundles.values(),
            *(bundle for bundle in self.earlier if bundle.edition in in_use),
        )
        return replace(new, earlier=tuple(one for one in kept if one.key not in served))

    def for_dialogue(self, key: str | None) -> Mapping[str, Bundle]:
        """What a session may have whose dialogue the bundle of this key, or a view of it, has
        understood: that one alone, while it is held. None: nothing is understood yet."""
        if key is not None:
            for bundle in (*self.bundles.values(), *self.earlier):
                if key.partition(":")[0] == bundle.edition:
                    return {bundle.name: bundle}
        return self.bundles
