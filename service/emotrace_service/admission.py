"""Who may come in: a pure count of sessions. The admitted are never put out for newcomers."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Admission:
    """limit: sessions at once. open: sessions that are open now."""

    limit: int
    open: int = 0

    def admit(self) -> Admission | None:
        """The count with one session more, or None where there is no room."""
        return None if self.open >= self.limit else replace(self, open=self.open + 1)

    def leave(self) -> Admission:
        return replace(self, open=self.open - 1)
