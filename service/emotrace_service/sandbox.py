"""What a process may still do that decodes a stranger's file: compute, and speak on its open pipes.

Limits of the system bound memory and processor time; on Linux a filter of system calls forbids all
but a few. No file can be opened; whoever wants a socket or a process is ended at once.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
ALLOW, KILL_PROCESS, NOT_PERMITTED = 0x7FFF0000, 0x80000000, 0x00050001
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # in struct seccomp_data

# By machine: its AUDIT_ARCH, and the numbers of read, write, mmap, munmap, brk, mremap, madvise,
# futex, rt_sigaction, rt_sigprocmask, rt_sigreturn, restart_syscall, exit, exit_group,
# clock_gettime, gettimeofday, getrandom. Then of those that are refused without ending it, since
# libsndfile looks for a file beside one that it does not know: open, openat, stat, newfstatat,
# fstat, lseek.
CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 9, 11, 12, 25, 28, 202, 13, 14, 15, 219, 60, 231, 228, 96, 318),
        (2, 257, 4, 262, 5, 8),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 222, 215, 214, 216, 233, 98, 134, 135, 139, 128, 93, 94, 113, 169, 278),
        (56, 79, 80, 62),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(memory_bytes: int, processor_s: int) -> bool:
    """For the rest of this process, which must have one thread. memory_bytes: more than it has now.

    Whether there is a filter of system calls; without one only the limits hold.
    """
    _limit(memory_bytes, processor_s)
    return _filter()


def _limit(memory_bytes: int, processor_s: int) -> None:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    limits = {
        resource.RLIMIT_CPU: processor_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        with open("/proc/self/statm") as pages:
            used = int(pages.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = used + memory_bytes
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _filter() -> bool:
    if sys.platform != "linux" or platform.machine() not in CALLS:
        return False
    architecture, calls, refused = CALLS[platform.machine()]
    lines = [(LOAD, 0, 0, ARCHITECTURE_AT), (JUMP_IF_EQUAL, 1, 0, architecture)]
    lines += [(RETURN, 0, 0, KILL_PROCESS), (LOAD, 0, 0, NUMBER_AT)]
    for answer, numbers in ((ALLOW, calls), (NOT_PERMITTED, refused)):
        for place, call in enumerate(numbers, 1):
            lines.append((JUMP_IF_EQUAL, len(numbers) - place, place == len(numbers), call))
        lines.append((RETURN, 0, 0, answer))
    lines.append((RETURN, 0, 0, KILL_PROCESS))
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    program = _Program(len(lines), code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    return bool(prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(program), 0, 0) == 0)
