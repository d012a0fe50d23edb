"""What the licences of weights allow, by their SPDX names.

The table is not legal advice: it holds what each licence says of use for money, of changed copies
and of credit. A licence that is not in it, or an expression that cannot be read, allows nothing
that has to be allowed: whoever serves commercially has to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["any", "commercial"]


@dataclass(frozen=True, slots=True)
class Licence:
    """commercial: use for money is allowed. changes: changed copies may be passed on.
    share_alike: ... under the same licence only. credit: the authors must be named."""

    name: str
    commercial: bool
    changes: bool = True
    share_alike: bool = False
    credit: bool = True


# By SPDX name in lower case: SPDX compares them so.
_TABLE = {
    licence.name.lower(): licence
    for licence in (
        Licence("0BSD", True, credit=False),
        Licence("Apache-2.0", True),
        Licence("BSD-2-Clause", True),
        Licence("BSD-3-Clause", True),
        Licence("CC-BY-3.0", True),
        Licence("CC-BY-4.0", True),
        Licence("CC-BY-NC-3.0", False),
        Licence("CC-BY-NC-4.0", False),
        Licence("CC-BY-NC-ND-4.0", False, changes=False),
        Licence("CC-BY-NC-SA-3.0", False, share_alike=True),
        Licence("CC-BY-NC-SA-4.0", False, share_alike=True),
        Licence("CC-BY-ND-4.0", True, changes=False),
        Licence("CC-BY-SA-3.0", True, share_alike=True),
        Licence("CC-BY-SA-4.0", True, share_alike=True),
        Licence("CC0-1.0", True, credit=False),
        Licence("CDLA-Permissive-2.0", True),
        Licence("GPL-3.0-only", True, share_alike=True),
        Licence("GPL-3.0-or-later", True, share_alike=True),
        Licence("ISC", True),
        Licence("LGPL-2.1-or-later", True, share_alike=True),
        Licence("LGPL-3.0-or-later", True, share_alike=True),
        Licence("MIT", True),
        Licence("MPL-2.0", True, share_alike=True),
        Licence("ODbL-1.0", True, share_alike=True),
        Licence("PDDL-1.0", True, credit=False),
        Licence("Unlicense", True, credit=False),
        Licence("Zlib", True),
    )
}


def licence(name: str) -> Licence | None:
    """What the table holds of one SPDX name; None where it has it not."""
    return _TABLE.get(name.strip().lower())


def forbids(expression: str, policy: Policy) -> str | None:
    """Why weights under this SPDX expression may not be used under this policy; None: they may.

    All parts of an AND must allow it. OR and parentheses are not read, which forbids.
    """
    if policy == "any":
        return None
    for name in expression.split(" AND "):
        found = licence(name)
        if found is None:
            return f"whether {name.strip()!r} allows commercial use is not known here"
        if not found.commercial:
            return f"{found.name} forbids commercial use"
    return None
