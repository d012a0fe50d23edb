"""What a figure was measured on: processor, memory, libraries, accelerator, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
IN_REPOSITORY = "service/emotrace_bench/"  # where this package lies in Emotrace's own repository
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LIBRARIES = ("torch", "onnxruntime", "transformers", "numpy", "xlstm")


@dataclass(frozen=True, slots=True)
class Machine:
    """cores: that this process may use. features: instructions that fast kernels need.
    libraries: versions by name, of those that are installed. accelerator: None without one."""

    processor: str
    cores: int
    memory_gib: float
    features: tuple[str, ...]
    system: str
    python: str
    libraries: Mapping[str, str]
    accelerator: str | None


def this_machine() -> Machine:
    about = _processor()
    flags = set(about.get("flags", "").split())
    return Machine(
        processor=about.get("model name", platform.machine()),
        cores=cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        features=tuple(name for name in FEATURES if name in flags),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
        accelerator=_accelerator(),
    )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """Of the repository that this package lies in, `-dirty` where it was changed; `unknown` where
    it was installed from elsewhere."""
    if _git("rev-parse", "--show-prefix") != IN_REPOSITORY:
        return "unknown"
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or "unknown"


def resident_mib() -> float | None:
    """Memory of this process that is really there; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(
            ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def _processor() -> dict[str, str]:
    """What the kernel says of the first core."""
    try:
        told = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in told.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
