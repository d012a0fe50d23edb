"""How far the fast form of a bundle is from the exact one: both follow the same dialogues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotrace_models.bundle import Bundle
from emotrace_models.drift import Difference, Drift, identity
from emotrace_models.predictor import NothingToHear, Predictor
from emotrace_models.profiles import describe
from emotrace_models.types import Utterance
from emotrace_training.telling import TrainingError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What a Predictor made of dialogues, turn by turn: posterior [turn, class] and decoder
    [turn], its label as soon as the turn ended."""

    posterior: NDArray[np.float64]
    decoder: NDArray[np.int64]


def drift(
    exact: Bundle,
    fast: Bundle,
    dialogues: Sequence[Sequence[T]],
    said: Callable[[int, T], Utterance],
    data: str,
    reads: Callable[[Bundle], Bundle] | None = None,
) -> Drift:
    """The report over dialogues of any kind of turn; said: turn number and turn -> utterance.

    data: which dialogues these are, for people. reads: gives each form the encoders that these
    dialogues need; None for its own. Raises TrainingError without a turn.
    """
    forms = [form if reads is None else reads(form) for form in (exact, fast)]
    sets = {}
    for scheme in exact.schemes:
        followed = [follow(Predictor(f.projected(scheme)), dialogues, said) for f in forms]
        sets[scheme] = difference(*followed)
    return Drift(of=identity(exact), data=data, numerics=dict(describe(fast)), sets=sets)


def follow(
    predictor: Predictor, dialogues: Sequence[Sequence[T]], said: Callable[[int, T], Utterance]
) -> Followed:
    """One utterance at a time, as live. Turns with nothing to go by are left out, as live.

    Raises TrainingError where no turn is left.
    """
    posteriors, labels = [], []
    turns = sum(len(dialogue) for dialogue in dialogues)
    with tqdm(total=turns, unit="turn", leave=False, disable=None) as bar:
        for dialogue in dialogues:
            state = predictor.start()
            for number, turn in enumerate(dialogue):
                bar.update()
                try:
                    state, outcome = predictor.predict([(state, said(number, turn))])[0]
                except NothingToHear:
                    continue
                posteriors.append(outcome.prediction.posterior)
                labels.append(outcome.decision.label)
    if not posteriors:
        raise TrainingError("the test dialogues have no turn that this bundle can estimate")
    return Followed(np.array(posteriors), np.array(labels))


def difference(exact: Followed, fast: Followed) -> Difference:
    apart = np.abs(exact.posterior - fast.posterior).max(axis=1)
    same = exact.posterior.argmax(axis=1) == fast.posterior.argmax(axis=1)
    return Difference(
        utterances=len(apart),
        agreement=float(same.mean()),
        decoder_agreement=float((exact.decoder == fast.decoder).mean()),
        largest=float(apart.max()),
        mean=float(apart.mean()),
    )
