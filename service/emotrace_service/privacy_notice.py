"""The notice for people who talk where the server listens: what is true of this server. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from emotrace_protocol.messages import ProhibitedPurpose
from emotrace_service.notice_texts import ENGLISH, TEXTS, NoticeText

MAX_HEADER = 1_000  # characters that are looked at


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What the operator chose. contact: whom people may ask. recording_days: how long recordings
    are kept at most; None: there are none. passed_on: estimates are sent elsewhere too."""

    contact: str | None = None
    recording_days: int | None = None
    passed_on: bool = False


class NoticePart(BaseModel):
    heading: str
    paragraphs: tuple[str, ...]


class Notice(BaseModel):
    """`parts` is for people; the other fields say the same to programs."""

    language: str
    languages: tuple[str, ...] = Field(description="in which this can be had")
    title: str
    notice: str = Field(description="in one breath: what every session sends in English")
    parts: tuple[NoticePart, ...]
    modalities: tuple[str, ...] = Field(description="what is processed of a person")
    labels: tuple[str, ...] = Field(description="emotions that the default bundle tells apart")
    resume_seconds: float = Field(description="for how long after a break a session is kept")
    recording_days: int | None = Field(
        description="for how long recordings with consent are kept at most; null: there are none"
    )
    passed_on: bool = Field(description="estimates are sent to another system of the operator")
    contact: str | None
    prohibited_purposes: tuple[str, ...] = Field(description="refused in session.start")

    def text(self) -> str:
        """For people, as plain text."""
        blocks = [self.title, self.notice]
        blocks += ["\n".join((part.heading, *part.paragraphs)) for part in self.parts]
        return "\n\n".join(blocks) + "\n"


def write_notice(
    language: str,
    disclosure: Disclosure,
    *,
    modalities: Sequence[str],
    labels: Sequence[str],
    resume_seconds: float,
) -> Notice:
    """The notice of a server with these modalities. Raises KeyError: there is no such language."""
    text = TEXTS[language]
    estimated = NoticePart(heading=text.estimated, paragraphs=(text.estimate, text.mistakes))
    processed = NoticePart(
        heading=text.processed, paragraphs=tuple(f"- {text.by_modality[one]}" for one in modalities)
    )
    kept = NoticePart(heading=text.kept, paragraphs=_kept(text, disclosure, resume_seconds))
    contact = disclosure.contact
    asked = text.no_contact if contact is None else text.contact.format(contact=contact)
    whom_to_ask = NoticePart(heading=text.whom_to_ask, paragraphs=(asked,))
    prohibited = NoticePart(
        heading=text.prohibited,
        paragraphs=tuple(f"- {text.purposes[one.value]}" for one in ProhibitedPurpose),
    )
    return Notice(
        language=language,
        languages=tuple(TEXTS),
        title=text.title,
        notice=text.short,
        parts=(estimated, processed, kept, whom_to_ask, prohibited),
        modalities=tuple(modalities),
        labels=tuple(labels),
        resume_seconds=resume_seconds,
        recording_days=disclosure.recording_days,
        passed_on=disclosure.passed_on,
        contact=contact,
        prohibited_purposes=tuple(one.value for one in ProhibitedPurpose),
    )


def _kept(text: NoticeText, disclosure: Disclosure, resume_seconds: float) -> tuple[str, ...]:
    kept = [text.not_stored]
    if resume_seconds:
        kept.append(text.resumed.format(seconds=f"{resume_seconds:g}"))
    if disclosure.recording_days is not None:
        kept.append(text.recorded.format(days=disclosure.recording_days))
    if disclosure.passed_on:
        kept.append(text.passed_on)
    return tuple(kept)


def known_language(tag: str) -> str | None:
    """The notice's language for a BCP 47 tag: `de` for de-AT; None: there is none."""
    primary = tag.strip().lower().partition("-")[0]
    return primary if primary in TEXTS else None


def accepted_language(header: str) -> str:
    """The language that an Accept-Language header likes best of those that there are; English
    where it likes none of them."""
    return _preferred(header, known_language) or ENGLISH


def accepts_text(header: str) -> bool:
    """Whether an Accept header likes plain text better than JSON."""
    return _preferred(header, _media) == "text"


def _media(range_: str) -> str | None:
    if range_ in ("text/plain", "text/*"):
        return "text"
    return "json" if range_ in ("application/json", "application/*", "*/*") else None


def _preferred(header: str, known: Callable[[str], str | None]) -> str | None:
    """Of what a header lists, the known one of the highest quality; of equals the first."""
    best, best_quality = None, 0.0
    for entry in header[:MAX_HEADER].split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = _quality(parameters)
        if quality > best_quality and (found := known(name)) is not None:
            best, best_quality = found, quality
    return best


def _quality(parameters: Sequence[str]) -> float:
    """From 0 to 1; what is no number counts as 0."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
