"""A fuzzer in the process: millions of changed inputs into what reads them.

Whatever comes, a target gives a value or raises one of its own errors; anything else is a fault. An
input that is answered in a way not seen before is kept, and later ones are made from it.

    python tests/robustness/fuzzing.py --inputs 5000000
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from mutation import Mutator

CRASHES = Path(__file__).with_name("crashes")
MOST_KEPT = 2_000
DIGITS = re.compile(r"\d+|'[^']*'")


@dataclass(frozen=True)
class Target:
    """name: of what is tried. read: raises one of `errors`, or gives a word for what it made of
    the input. share: of all inputs."""

    name: str
    inputs: Sequence[bytes]
    read: Callable[[bytes], str]
    errors: tuple[type[Exception], ...]
    words: Sequence[bytes] = ()
    share: float = 1.0


@dataclass
class Report:
    """outcomes: kinds of answers. crashes: by place, the smallest input that led there."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    accepted: int = 0
    outcomes: set[str] = field(default_factory=set)
    crashes: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.target:<22} {self.inputs:>9,} inputs in {self.seconds:7.1f} s, "
            f"{self.accepted:>9,} accepted, {len(self.outcomes):>4} kinds of answers, "
            f"{len(self.crashes)} crashes"
        )


def tried(target: Target, data: bytes) -> str:
    """The kind of answer. Raises what is no answer."""
    try:
        return "+" + target.read(data)
    except target.errors as error:
        code = getattr(error, "code", None)
        return f"{type(error).__name__} {code} {DIGITS.sub('', str(error))[:80]}"


def fuzz(target: Target, inputs: int, seed: int) -> Report:
    """inputs: how many."""
    report = Report(target.name)
    mutator = Mutator(seed, target.words)
    good, known = list(target.inputs), list(target.inputs)
    begun = time.perf_counter()
    for number in range(inputs):
        if number < len(target.inputs):
            data = target.inputs[number]
        else:  # half of them from what is accepted: most changes of what is refused are refused
            data = mutator.mutated(good if number % 2 else known)
        try:
            outcome = tried(target, data)
        except Exception as fault:
            last = traceback.extract_tb(fault.__traceback__)[-1]
            place = f"{type(fault).__name__} at {last.filename}:{last.lineno}"
            if len(data) < len(report.crashes.get(place, data + b" ")):
                report.crashes[place] = data
            continue
        report.accepted += outcome.startswith("+")
        if outcome not in report.outcomes and len(report.outcomes) < MOST_KEPT:
            report.outcomes.add(outcome)
            known.append(data)
            if outcome.startswith("+"):
                good.append(data)
    report.inputs = inputs
    report.seconds = time.perf_counter() - begun
    return report


def keep(report: Report) -> list[str]:
    """Crashing inputs become files, which test_fuzz.py reads again for ever."""
    kept = []
    for place, data in report.crashes.items():
        CRASHES.mkdir(exist_ok=True)
        file = CRASHES / f"{report.target.replace(' ', '-')}.{sha256(data).hexdigest()[:12]}"
        file.write_bytes(data)
        kept.append(f"{place}: {file.name}")
    return kept


def main() -> int:
    from targets import TARGETS  # which imports this

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", help="targets whose names have this in them")
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.only in target.name]
    whole = sum(target.share for target in chosen)
    failed, done, seconds = [], 0, 0.0
    print(f"seed {options.seed}", flush=True)
    for target in chosen:
        report = fuzz(target, round(options.inputs * target.share / whole), options.seed)
        print(report, flush=True)
        failed += keep(report)
        done += report.inputs
        seconds += report.seconds
    print(f"{done:,} inputs in {seconds:.0f} s, {len(failed)} crashes", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
