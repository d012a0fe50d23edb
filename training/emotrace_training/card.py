"""The card of a bundle that comes with the package: what it is made of, does, and is not for.

It has no figures at first; `report` measures them and puts them in.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from emotrace_models.bundle import Bundle
from emotrace_models.types import Modality
from emotrace_training.card_data import Commercial, MadeOf, Part, Source

FIGURES = "## Figures"
DATA = "## Data and licences"
NOT_EVALUATED = f"{FIGURES}\n\nNot evaluated."

PARTS: dict[Modality, tuple[Part, str]] = {
    Modality.ACOUSTIC: ("voice", "an acoustic tower (log-mel, running statistics of the speaker)"),
    Modality.LEXICAL: ("words", "a lexical tower (subwords)"),
    Modality.FACIAL: ("face", "a face tower (one face followed from picture to picture)"),
}

_ACTED = """\
* **Acted speech.** All voices are of actors who were asked to show an emotion. Everyday speech is
  weaker and more mixed; expect lower figures than those below."""
_COMPOSED = """\
* **Composed dialogues.** There were no recorded emotional dialogues to train on. Dialogues were put
  together from real labelled text dialogues and real clips of the same emotion, whose words differ
  from the line. What voices and words do together in one sentence was never seen. Speakers of the
  text (a TV series) change their emotion often, so context and decoder help little on this test."""
_FACES = """\
* **Faces** were single pictures from the web, put to utterances of the same emotion by other
  people: a face that moves while it speaks was never seen."""
USE = """\
It must not be used for decisions about a person: not for hiring, school or work assessment, not for
credit, insurance, policing, borders or courts, not for diagnosis or as a safety device, not to find
lies or intent, not on people who have not been told and have not agreed, and not on children. In
the European Union, emotion recognition at work and in education is prohibited (Regulation (EU)
2024/1689, article 5), and elsewhere people must be told of it (article 50)."""


def write_card(bundle: Bundle, made_of: MadeOf) -> str:
    """card.md, without figures: `report` puts them in."""
    parts = [PARTS[encoder.modality] for encoder in bundle.encoders]
    models = (*bundle.encoders, bundle.fusion)
    sizes = zip((*(name for name, _ in parts), "fusion"), map(_size, models), strict=True)
    towers = _listed([text for _, text in parts])
    names = bundle.labels.names
    limits = [_ACTED, _COMPOSED, _languages(made_of, [name for name, _ in parts])]
    if any(name == "face" for name, _ in parts):
        limits.append(_FACES)
    paragraphs = [
        f"# Bundle `{bundle.name}`, version {bundle.version}",
        f"{towers[0].upper()}{towers[1:]}, and GatedxLSTM over the last three utterances and whom "
        "they answered, followed by the Dialogical Emotion Decoder. Parameters: "
        f"{', '.join(f'{count:,} {name}' for name, count in sizes)}.",
        f"Licence of the weights: **{made_of.licence}**. Commercial use of every part together: "
        f"**{_commercial(made_of.sources)}**.",
        "## What it does, and what it does not",
        f"It estimates the emotion that {_expressed(bundle.fusion.modalities)} *express*, of "
        f"{len(names)}: {', '.join(names)}. It cannot know what a person feels. Everything else "
        f"(irony, mixed emotions, moods) is outside its set, and comes out as one of them."
        f"{_views(bundle)}",
        "\n".join(limits),
        USE,
        f"{DATA}\n\n{_data_table(made_of, parts)}\n\n{made_of.notes}",
        f"By part:\n\n{_part_table(made_of, parts)}",
        NOT_EVALUATED,
    ]
    return "\n\n".join(paragraphs) + "\n"


def with_section(card: str, heading: str, text: str) -> str:
    """The card with the section of this heading (`## …`) replaced, or added at its end."""
    before, found, after = card.partition(f"{heading}\n")
    if not found:
        return f"{card.rstrip()}\n\n{heading}\n\n{text.strip()}\n"
    rest = after.partition("\n## ")
    later = f"\n\n## {rest[2].strip()}" if rest[1] else ""
    return f"{before}{heading}\n\n{text.strip()}{later}\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def section(card: str, heading: str) -> str:
    """What stands under a heading (`## …`); empty where there is none."""
    return card.partition(f"{heading}\n")[2].partition("\n## ")[0].strip()


def _views(bundle: Bundle) -> str:
    if not bundle.views:
        return ""
    sets = [f"`{name}` ({', '.join(bundle.projected(name).labels.names)})" for name in bundle.views]
    return (
        f" A session may ask for {_listed(sets)} instead: the same models, with only those classes "
        "to choose from, and a calibration of their own."
    )


def _languages(made_of: MadeOf, parts: Sequence[Part]) -> str:
    voices, words = (
        list(dict.fromkeys(source.language for source in made_of.of(part)))
        for part in ("voice", "words")
    )
    actors = ", ".join(f"{source.what} in {source.language}" for source in made_of.of("voice"))
    text = (
        f"* **Languages.** Voices in {_listed(voices)} ({actors}), all adults. Age groups, "
        "accents, illness and noise are not covered evenly."
    )
    if "words" in parts:
        text += (
            f" Words in {_listed(words)} only: those of other languages carry little information "
            "for it, and it may read them wrongly; the voice carries on."
        )
    return text


def _data_table(made_of: MadeOf, parts: Sequence[tuple[Part, str]]) -> str:
    there = {name for name, _ in parts} | {"dialogues"}
    return markdown_table(
        ("data", "used for", "licence", "commercial use", "authors"),
        [
            (
                f"{s.name}: {', '.join(filter(None, (s.language, s.what)))}",
                ", ".join(part for part in s.parts if part in there),
                s.licence,
                s.commercial,
                s.authors,
            )
            for s in made_of.sources
            if there & set(s.parts)
        ],
    )


def _part_table(made_of: MadeOf, parts: Sequence[tuple[Part, str]]) -> str:
    names: list[Part] = [*(name for name, _ in parts), "dialogues"]
    rows = []
    for name in names:
        sources = made_of.of(name)
        licences = "; ".join(dict.fromkeys(source.licence for source in sources))
        part = "fusion (dialogues)" if name == "dialogues" else f"tower of {name}"
        rows.append((part, ", ".join(s.name for s in sources), licences, _commercial(sources)))
    return markdown_table(("part", "data", "licences of the data", "commercial use"), rows)


def _commercial(sources: Sequence[Source]) -> Commercial:
    """Of several licences together: the strictest."""
    found = {source.commercial for source in sources}
    order: tuple[Commercial, ...] = ("no", "not settled", "yes")
    return next(answer for answer in order if answer in found)


def _expressed(modalities: Sequence[Modality]) -> str:
    nouns = {
        Modality.ACOUSTIC: "a voice",
        Modality.LEXICAL: "its words",
        Modality.FACIAL: "the speaker's face",
    }
    return _listed([nouns[modality] for modality in modalities])


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
