"""Splits of records into train, valid and test: one or many folds, the same on every machine.

Kinds: `own` (the corpus's split column), `random` (shares of utterances, dialogues or speakers),
`leave_one_out` (a speaker, session, corpus or group of them a fold), `dialogues` (lists). Only
records with a class are split at random; the rest follow their dialogue, or stand in no split.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emotrace_training.manifests import Record

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
Unit = Literal["utterance", "speaker", "dialogue", "session", "corpus"]
NONE = ""  # of a record in no split

# The published session names: IEMOCAP's `Ses01F_impro01`.
_SESSION = re.compile(r"^(Ses\d+)")


class SplitError(ValueError):
    """Records that cannot be split as asked."""


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Validated(_Kind):
    """validation: the share of the training part that is taken for validation where there is none
    yet; validation_by: in whole utterances (stratified by class), speakers or dialogues."""

    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    validation_by: Unit = "utterance"
    seed: int = 0


class Own(_Validated):
    kind: Literal["own"] = "own"


class Random(_Kind):
    """ratio: shares of train, valid and test, whatever they sum to. by: what is kept together.
    stratified: every class by these shares."""

    kind: Literal["random"]
    ratio: tuple[float, float, float]
    seed: int = 0
    stratified: bool = False
    by: Unit = "utterance"

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if min(self.ratio) < 0 or not self.ratio[0] or not self.ratio[2]:
            raise ValueError("ratio: shares of train, valid and test; train and test above 0")
        if self.stratified and self.by != "utterance":
            raise ValueError("stratified: only where by is utterance")
        return self


class LeaveOneOut(_Validated):
    """folds: None for as many as there are; else whole units are dealt to this many folds."""

    kind: Literal["leave_one_out"]
    by: Literal["speaker", "session", "dialogue", "corpus"]
    folds: Annotated[int, Field(ge=2)] | None = None


class Dialogues(_Validated):
    """test, valid: names of dialogues, or patterns (`Ses05*`); all others are for training."""

    kind: Literal["dialogues"]
    test: tuple[str, ...] = Field(min_length=1)
    valid: tuple[str, ...] = ()


Split = Annotated[Own | Random | LeaveOneOut | Dialogues, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """name: of the fold, for folders and tables. parts [record]: the part of each, or NONE."""

    name: str
    parts: NDArray[np.str_]

    def of(self, part: Part) -> NDArray[np.int64]:
        """Indices of the records of a part."""
        return np.flatnonzero(self.parts == part)


def session(record: Record) -> str:
    """The session of an IEMOCAP dialogue. Raises SplitError for other corpora."""
    found = _SESSION.match(record.dialogue)
    if found is None:
        raise SplitError(
            f"{record.place or record.id}: dialogue {record.dialogue!r} names no session; "
            "split by speaker, dialogue or corpus"
        )
    return found[1]


def unit(record: Record, by: Unit) -> str:
    """What a record is kept together with."""
    match by:
        case "utterance":
            return f"{record.corpus}:{record.id}"
        case "dialogue":
            return f"{record.corpus}:{record.dialogue}"
        case "speaker":
            return record.speaker
        case "corpus":
            return record.corpus
        case "session":
            return f"{record.corpus}:{session(record)}"


def folds(
    records: Sequence[Record], labels: NDArray[np.int64], split: Split, valid: bool
) -> list[Fold]:
    """The folds of `split`. labels [record]: class index, below 0 for none.

    valid: a validation part is needed. Raises SplitError where a part is empty; every record
    stands in at most one part of a fold by construction.
    """
    found: dict[str, list[str]]
    match split:
        case Own():
            found = {"own": [str(record.split) for record in records]}
        case Random():
            found = {f"seed-{split.seed}": _random(records, labels, split)}
        case LeaveOneOut():
            found = _leave_one_out(records, labels, split)
        case Dialogues():
            found = {"dialogues": _listed(records, split)}
    result = []
    for name, parts in found.items():
        column = np.array(parts, dtype="<U5")
        if isinstance(split, _Validated) and split.validation:
            _take_validation(records, labels, column, split)
        fold = Fold(name, column)
        _check(fold, labels, PARTS if valid else ("train", "test"))
        result.append(fold)
    return result


def counts(fold: Fold, labels: NDArray[np.int64]) -> dict[str, int]:
    """Records with a class in each part."""
    return {part: int((labels[fold.of(part)] >= 0).sum()) for part in PARTS}


def _check(fold: Fold, labels: NDArray[np.int64], needed: Sequence[Part]) -> None:
    for part in needed:
        if not (labels[fold.of(part)] >= 0).any():
            cure = (
                'give split.validation a share, or training.keep = "last"'
                if part == "valid"
                else "check data.corpora, data.only and data.split"
            )
            raise SplitError(f"fold {fold.name}: no record with a class in {part!r}; {cure}")


def _random(records: Sequence[Record], labels: NDArray[np.int64], split: Random) -> list[str]:
    """Whole units in a seeded order, cut at the shares: of all, or of each class if stratified."""
    names = [unit(record, split.by) for record in records]
    generator = np.random.default_rng(split.seed)
    strata: dict[int, list[str]] = defaultdict(list)
    for name, label in zip(names, labels.tolist(), strict=True):
        if label >= 0:
            strata[label if split.stratified else 0].append(name)
    given: dict[str, str] = {}
    for _, members in sorted(strata.items()):
        order = sorted(set(members))
        generator.shuffle(order)
        taken = iter(order)
        for part, size in zip(PARTS, _sizes(len(order), split.ratio), strict=True):
            given.update(dict.fromkeys(islice(taken, size), part))
    return [given.get(name, NONE) for name in names]


def _sizes(count: int, ratio: Sequence[float]) -> list[int]:
    """`count` by shares; a part with a share has at least one where there are enough."""
    cuts = np.rint(np.cumsum(ratio) / sum(ratio) * count).astype(int)
    sizes = np.diff(cuts, prepend=0)
    for part, share in enumerate(ratio):
        if share and not sizes[part] and sizes.max(initial=0) > 1:
            sizes[int(sizes.argmax())] -= 1
            sizes[part] += 1
    return [int(size) for size in sizes]


def _leave_one_out(
    records: Sequence[Record], labels: NDArray[np.int64], split: LeaveOneOut
) -> dict[str, list[str]]:
    names = [unit(record, split.by) for record in records]
    sizes = Counter(n for n, label in zip(names, labels.tolist(), strict=True) if label >= 0)
    order = sorted(sizes)
    if len(order) < max(2, split.folds or 2):
        raise SplitError(
            f"leave_one_out by {split.by}: {len(order)} of them with a class are too few"
            + (f" for {split.folds} folds" if split.folds else "")
        )
    if split.folds is None:
        home = {name: name.rpartition(":")[2] for name in order}
        if len(set(home.values())) < len(order):
            home = {name: name.replace(":", "-") for name in order}
    else:  # the next largest to the fold that has fewest
        np.random.default_rng(split.seed).shuffle(order)
        load = [0] * split.folds
        home = {}
        for name in sorted(order, key=lambda n: -sizes[n]):
            fold = min(range(split.folds), key=lambda f: (load[f], f))
            home[name] = f"{fold}"
            load[fold] += sizes[name]
    return {
        fold: [
            NONE if name not in home else "test" if home[name] == fold else "train"
            for name in names
        ]
        for fold in sorted(set(home.values()))
    }


def _listed(records: Sequence[Record], split: Dialogues) -> list[str]:
    dialogues = sorted({record.dialogue for record in records})
    given: dict[str, str] = {}
    for part, patterns in (("valid", split.valid), ("test", split.test)):
        for pattern in patterns:
            found = [d for d in dialogues if fnmatchcase(d, pattern)]
            if not found:
                raise SplitError(f"split.{part}: no dialogue {pattern!r} among the records")
            if twice := [d for d in found if given.get(d, part) != part]:
                raise SplitError(f"split: dialogue {twice[0]!r} stands in valid and in test")
            given.update(dict.fromkeys(found, part))
    return [given.get(record.dialogue, "train") for record in records]


def _take_validation(
    records: Sequence[Record], labels: NDArray[np.int64], parts: NDArray[np.str_], split: _Validated
) -> None:
    """Move a share of the training part to `valid`, where that is empty."""
    if ((parts == "valid") & (labels >= 0)).any():
        return
    train = np.flatnonzero((parts == "train") & (labels >= 0))
    generator = np.random.default_rng(split.seed)
    strata: Mapping[int, set[str]] = defaultdict(set)
    names = {
        int(i): unit(records[i], split.validation_by)
        for i in np.flatnonzero(parts == "train").tolist()
    }
    for i in train.tolist():
        stratum = int(labels[i]) if split.validation_by == "utterance" else 0
        strata[stratum].add(names[i])
    chosen: set[str] = set()
    for _, members in sorted(strata.items()):
        order = sorted(members)
        generator.shuffle(order)
        least = 1 if split.validation_by != "utterance" else 0
        chosen.update(order[: max(least, round(split.validation * len(order)))])
    for i, name in names.items():
        if name in chosen:
            parts[i] = "valid"
