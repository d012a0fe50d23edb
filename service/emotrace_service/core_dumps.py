"""No core dumps: one would put on a disk what everybody in the process's memory is saying."""

from __future__ import annotations

# A limit of one byte also keeps Linux from handing a dump to a program, which a limit of 0 does not
# (core_pattern with a pipe; fs/coredump.c).
LIMIT = 1


def forbid_core_dumps() -> None:
    """For this process and all that it will start, where the system has such limits."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = LIMIT if most == resource.RLIM_INFINITY else min(LIMIT, most)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
