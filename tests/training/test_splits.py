"""Splits: disjoint, complete, the same every time; an empty part is a named error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from toy_corpus import EMOTIONS, toy_corpus

from emotrace_training.manifests import Record
from emotrace_training.splits import PARTS, Fold, Split, SplitError, counts, folds


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, ...]:
    return toy_corpus(tmp_path_factory.mktemp("toy")).records


def labels_of(records: tuple[Record, ...]) -> np.ndarray:
    return np.array([EMOTIONS.index(r.emotion) if r.emotion in EMOTIONS else -1 for r in records])


def split(records: tuple[Record, ...], need_valid: bool = True, **settings: object) -> list[Fold]:
    kind = TypeAdapter(Split).validate_python(settings)
    found = folds(records, labels_of(records), kind, need_valid)
    again = folds(records, labels_of(records), kind, need_valid)
    assert [f.parts.tolist() for f in found] == [f.parts.tolist() for f in again]
    for fold in found:
        parts = [set(fold.of(part).tolist()) for part in PARTS]
        assert sum(map(len, parts)) == len(set().union(*parts))
    return found


def dialogues(records: tuple[Record, ...], fold: Fold, part: str) -> set[str]:
    return {records[i].dialogue for i in fold.of(part)}


def test_own(records) -> None:
    (fold,) = split(records, kind="own")
    assert fold.parts.tolist() == [r.split for r in records]
    assert counts(fold, labels_of(records)) == {"train": 24, "valid": 12, "test": 12}


def test_own_without_a_part_says_so(records) -> None:
    some = tuple(r for r in records if r.split != "valid")
    with pytest.raises(SplitError, match=r"no record with a class in 'valid'; give split.valid"):
        split(some, kind="own")
    (fold,) = split(some, kind="own", validation=0.25, validation_by="dialogue")
    assert len(dialogues(some, fold, "valid")) == 2
    assert not dialogues(some, fold, "valid") & dialogues(some, fold, "train")
    (fold,) = split(some, need_valid=False, kind="own")
    assert not len(fold.of("valid"))


def test_random_utterances_by_exact_shares(records) -> None:
    (fold,) = split(records, kind="random", ratio=[70, 10, 20], seed=1)
    assert counts(fold, labels_of(records)) == {"train": 34, "valid": 4, "test": 10}
    assert (fold.parts[labels_of(records) < 0] == "").all(), "records without a class follow none"
    (other,) = split(records, kind="random", ratio=[70, 10, 20], seed=2)
    assert fold.parts.tolist() != other.parts.tolist()


def test_random_stratified(records) -> None:
    (fold,) = split(records, kind="random", ratio=[2, 1, 1], stratified=True)
    labels = labels_of(records)
    for part, count in (("train", 6), ("valid", 3), ("test", 3)):
        assert np.bincount(labels[fold.of(part)]).tolist() == [count] * 4


def test_random_by_dialogue_keeps_dialogues_whole(records) -> None:
    (fold,) = split(records, kind="random", ratio=[6, 3, 3], by="dialogue")
    found = [dialogues(records, fold, part) for part in PARTS]
    assert [len(one) for one in found] == [6, 3, 3]
    assert (fold.parts != "").all(), "turns without a class stay with their dialogue"


def test_leave_one_session_out(records) -> None:
    found = split(records, kind="leave_one_out", by="session", validation=0.25, seed=15)
    assert [fold.name for fold in found] == ["Ses01", "Ses02", "Ses03"]
    tested = np.concatenate([fold.of("test") for fold in found])
    assert sorted(tested.tolist()) == list(range(len(records)))
    for fold in found:
        assert {d[:5] for d in dialogues(records, fold, "test")} == {fold.name}
        assert counts(fold, labels_of(records)) == {"train": 24, "valid": 8, "test": 16}


def test_leave_one_speaker_out_in_folds(records) -> None:
    found = split(
        records, kind="leave_one_out", by="speaker", folds=3, validation=0.2,
        validation_by="speaker",
    )  # fmt: skip
    assert len(found) == 3
    for fold in found:
        heard = [{records[i].speaker for i in fold.of(part)} for part in PARTS]
        assert not heard[0] & heard[2]
        assert len(heard[1]) == 1
        assert not heard[1] & heard[0]
    assert len(split(records, need_valid=False, kind="leave_one_out", by="speaker")) == 6


def test_too_few_to_leave_out(records) -> None:
    with pytest.raises(SplitError, match="too few for 7 folds"):
        split(records, kind="leave_one_out", by="speaker", folds=7)
    with pytest.raises(SplitError, match="too few"):
        split(records, kind="leave_one_out", by="corpus")


def test_listed_dialogues_and_patterns(records) -> None:
    (fold,) = split(records, kind="dialogues", test=["Ses03*"], valid=["Ses01_d00", "Ses02_d01"])
    assert {d[:5] for d in dialogues(records, fold, "test")} == {"Ses03"}
    assert dialogues(records, fold, "valid") == {"Ses01_d00", "Ses02_d01"}
    assert len(dialogues(records, fold, "train")) == 6


def test_lists_that_do_not_fit(records) -> None:
    with pytest.raises(SplitError, match="no dialogue 'Ses09'"):
        split(records, kind="dialogues", test=["Ses09"])
    with pytest.raises(SplitError, match="stands in valid and in test"):
        split(records, kind="dialogues", test=["Ses01*"], valid=["Ses01_d00"])


def test_sessions_of_other_corpora(records, tmp_path: Path) -> None:
    one = Record.alone("x.wav", "toy", "toy:a", "anger", "", 1.0, "", "", "")
    with pytest.raises(SplitError, match="names no session"):
        split((*records, one), kind="leave_one_out", by="session")


def test_a_part_with_a_share_has_somebody_where_there_are_enough(records) -> None:
    (fold,) = split(records, kind="random", ratio=[92, 1, 7], by="speaker")
    heard = [{records[i].speaker for i in fold.of(part)} for part in PARTS]
    assert [len(speakers) for speakers in heard] == [4, 1, 1]
