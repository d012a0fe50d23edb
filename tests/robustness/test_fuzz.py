"""Whatever is read, the answer is a value or a typed error: short runs always, long ones on demand,
and for ever what once led to something else."""

from __future__ import annotations

import os
import random

import pytest
from fuzzing import CRASHES, Target, fuzz, tried
from targets import TARGETS

SHORT = 2_000
LONG = 5_000_000


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_few_thousand_changed_inputs(target: Target) -> None:
    report = fuzz(target, SHORT, seed=7)
    assert report.crashes == {}
    assert report.accepted >= len(target.inputs), "what somebody sends is refused"
    # "entrance" refuses everything in one way, and itself fails where anybody comes in.
    assert len(report.outcomes) > (10 if target.errors else 1)


def test_what_is_sent_is_accepted() -> None:
    """So that the fuzzer begins with what reaches every part of a reader."""
    for target in TARGETS:
        for data in target.inputs:
            if target.name == "safetensors" and len(data) == 8_192:
                continue  # the beginning of a bundle's weights
            assert tried(target, data).startswith("+"), target.name


@pytest.mark.parametrize("file", sorted(CRASHES.iterdir()), ids=lambda file: file.name)
def test_what_was_once_a_fault(file: os.PathLike[str]) -> None:
    name = os.fspath(file).rpartition("/")[2].partition(".")[0].replace("-", " ")
    (target,) = [one for one in TARGETS if one.name == name]
    with open(file, "rb") as stream:
        tried(target, stream.read())


@pytest.mark.long
@pytest.mark.timeout(3 * 3_600)
def test_five_million_changed_inputs() -> None:
    seed = random.randrange(2**32)
    whole = sum(target.share for target in TARGETS)
    reports = [fuzz(one, round(LONG * one.share / whole), seed) for one in TARGETS]
    print(f"seed {seed}", *reports, sep="\n")
    assert {report.target: report.crashes for report in reports if report.crashes} == {}
