"""What the bundles that come with the package are made of, as values: data, licences, languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["voice", "words", "face", "dialogues"]
Commercial = Literal["yes", "no", "not settled"]

NC = "CC BY-NC-SA 4.0"


@dataclass(frozen=True, slots=True)
class Source:
    """Data that weights were trained on.

    language: empty where there is none. parts: of the bundle that learnt from it. licence: as its
    owners state it. commercial: whether that licence allows commercial use of what was trained on
    it.
    """

    name: str
    language: str
    what: str
    parts: tuple[Part, ...]
    licence: str
    authors: str
    commercial: Commercial


@dataclass(frozen=True, slots=True)
class MadeOf:
    """licence: of the weights, an SPDX name. languages: of voices and words. notes: on the data."""

    sources: tuple[Source, ...]
    licence: str
    licence_text: str
    languages: tuple[str, ...]
    notes: str

    def of(self, part: Part) -> tuple[Source, ...]:
        return tuple(source for source in self.sources if part in source.parts)


_EMODB = Source(
    "EmoDB", "German", "6 actors", ("voice",), "CC0-1.0 (audEERING's edition)",
    "Burkhardt et al. 2005", "yes",
)  # fmt: skip
_RAVDESS = Source(
    "RAVDESS", "English", "18 actors", ("voice",), NC, "Livingstone & Russo 2018", "no"
)
_NEMO = Source("nEMO", "Polish", "6 actors", ("voice",), NC, "Christop 2024", "no")
_MELD = Source(
    "MELD", "English", "a TV series", ("words", "dialogues"), "GPL-3.0 (repository)",
    "Poria et al. 2019", "not settled",
)  # fmt: skip
_EMORYNLP = Source(
    "EmoryNLP", "English", "the same TV series", ("words", "dialogues"), "Apache-2.0",
    "Zahiri & Choi 2018", "yes",
)  # fmt: skip
_DAILYDIALOG = Source(
    "DailyDialog", "English", "everyday", ("words", "dialogues"), NC, "Li et al. 2017", "no"
)
_GOEMOTIONS = Source(
    "GoEmotions", "English", "comments", ("words",), "Apache-2.0", "Demszky et al. 2020", "yes"
)
_FER2013 = Source(
    "FER2013", "", "faces, 48 x 48 grey", ("face",), "none stated (a web search)",
    "Goodfellow et al. 2013", "not settled",
)  # fmt: skip

_DEFAULT_LICENCE = """\
The weights in this folder are licensed under the Creative Commons Attribution-NonCommercial-
ShareAlike 4.0 International licence (CC BY-NC-SA 4.0):
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

They were trained on RAVDESS, nEMO and DailyDialog, which are under that licence: no commercial
use, credit to the authors of the data, and derived weights under the same terms. The face tower was
trained on FER2013, which states no licence at all: whoever cannot accept that leaves the stream
`facial` out. card.md lists all data with its authors and licences. The program code of Emotrace is
under the Apache-2.0 licence.
"""
_FREE_LICENCE = """\
The weights in this folder are licensed under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0

They were trained on nothing but EmoDB in audEERING's edition (CC0-1.0), GoEmotions (Apache-2.0,
Demszky et al. 2020) and EmoryNLP (Apache-2.0, Zahiri & Choi 2018), whose licences allow commercial
use. card.md lists the data with its authors. The program code of Emotrace is under the same
licence.
"""

_LEFT_OUT = (
    "Scenes of EmoryNLP that share a line with MELD's dev or test split were left out. Speakers of "
    "`test` were not used for training, nor for any choice."
)
MADE_OF = {
    "default": MadeOf(
        (_EMODB, _RAVDESS, _NEMO, _MELD, _EMORYNLP, _DAILYDIALOG, _GOEMOTIONS, _FER2013),
        "CC-BY-NC-SA-4.0",
        _DEFAULT_LICENCE,
        ("en", "de", "pl"),
        f"{_LEFT_OUT}\n\n"
        "FER2013 states no licence: weights made with it are for research. MELD's repository is "
        "under GPL-3.0, which says nothing of weights. The lines of MELD and EmoryNLP are the "
        "script of a TV series: their licences are of the labels and the edition.",
    ),
    "free": MadeOf(
        (_EMODB, _EMORYNLP, _GOEMOTIONS),
        "Apache-2.0",
        _FREE_LICENCE,
        ("de", "en"),
        f"{_LEFT_OUT}\n\n"
        "**Usable commercially**: every licence above allows it. What that costs: far fewer voices "
        "and words, so the figures are worse than those of `default`; compare before choosing. The "
        "lines of EmoryNLP are the script of a TV series: its licence is of the labels and the "
        "edition.",
    ),
}  # fmt: skip
