"""Events in words: what the terminal prints, as plain text."""

from __future__ import annotations

from emotrace_protocol.errors import DoubtCode
from emotrace_protocol.estimates import Contribution
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionRevised,
    Estimate,
    SessionStarted,
    SpeechRejected,
    Totals,
)

SENSES = {"acoustic": "voice", "lexical": "words", "facial": "face"}
DOUBTS: dict[str, str] = {
    DoubtCode.CLIPPING: "sound overdriven",
    DoubtCode.OFFSET: "sound has an offset",
    DoubtCode.LOW_LEVEL: "very quiet",
    DoubtCode.NOISE: "noisy",
    DoubtCode.NARROW_BAND: "telephone sound",
    DoubtCode.SHORT: "very short",
    DoubtCode.MUSIC: "sounds like music",
    DoubtCode.TEXT_UNRELIABLE: "transcript not trusted",
    DoubtCode.LANGUAGE: "words of another language",
    DoubtCode.FACE_UNUSABLE: "no usable face",
}
NO_SPEECH = {
    "not_speech": "no speech",
    "music": "music or tones, not speech",
    "noise": "noise, not speech",
    "too_short": "too short to judge",
}
BAR_CELLS = 10


def printable(text: str) -> str:
    """Text from elsewhere with every control character made visible: nothing steers a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def clock(ms: int) -> str:
    """A position in the audio: `1:05.4`."""
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes}:{rest / 1000:04.1f}"


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A share of 0 to 1 as filled and empty cells."""
    filled = round(min(max(share, 0.0), 1.0) * cells)
    return "█" * filled + "░" * (cells - filled)


def percent(share: float) -> str:
    return f"{share:4.0%}".replace("%", " %")


def counted(number: int, thing: str) -> str:
    """`1 utterance`, `2 utterances`."""
    return f"{number} {thing}{'s' * (number != 1)}"


def emotion(estimate: Estimate) -> str:
    """The label, or that the model abstained."""
    label = printable(estimate.label)
    return f"unsure ({label}?)" if estimate.abstained else label


def dialogue(final: EmotionFinal) -> str:
    """What the decoder makes of it in the light of the dialogue, or nothing where that is the
    label that it has already."""
    if final.decoder.label == final.label:
        return ""
    return f"in dialogue: {printable(final.decoder.label)}"


def basis(estimate: Estimate) -> str:
    """What the estimate had to do without, or nothing."""
    missing = [SENSES.get(one, one) for one in estimate.missing]
    return f"without {' and '.join(missing)}" if missing else ""


def doubts(estimate: Estimate) -> str:
    """Why to trust it less, or nothing. That the confidence is low, `emotion` says already."""
    codes = [code for code in estimate.doubts if code != DoubtCode.LOW_CONFIDENCE]
    if not codes:
        return ""
    return f"doubtful: {', '.join(DOUBTS.get(code) or _plain(code) for code in codes)}"


def affect(estimate: Estimate) -> str:
    """Valence and arousal, or nothing."""
    found = estimate.affect
    return "" if found is None else f"valence {found.valence:+.1f} arousal {found.arousal:+.1f}"


def rejected(event: SpeechRejected) -> str:
    return (
        f"{clock(event.start_ms)}-{clock(event.end_ms)}  {printable(event.speaker)}  "
        f"no estimate: {NO_SPEECH.get(event.reason, _plain(event.reason))}"
    )


def weight(contribution: Contribution, label: str) -> float:
    """What a slot did for a label, against what it did for the labels on average.

    A share that all labels get alike changes no probability, so it is left out.
    """
    logits = contribution.logits
    return logits[label] - sum(logits.values()) / len(logits)


def strongest(final: EmotionFinal) -> Contribution | None:
    """The slot that did most for the label; None where no slot spoke for it."""
    heard = [one for one in final.explanation.contributions if one.utterance is not None]
    best = max(heard, key=lambda one: weight(one, final.label), default=None)
    return best if best is not None and weight(best, final.label) > 0 else None


def why(final: EmotionFinal) -> str:
    """The strongest reason: `Ben's voice one utterance earlier spoke for anger (+0.8)`."""
    best = strongest(final)
    if best is None:
        return f"nothing heard spoke for {printable(final.label)}; it is what the model expects"
    sense = SENSES.get(best.modality, best.modality)
    when = _when(final.utterance - (best.utterance or 0))
    return (
        f"{printable(best.speaker or 'somebody')}'s {sense}{when} spoke for "
        f"{printable(final.label)} ({weight(best, final.label):+.1f})"
    )


def _when(utterances_ago: int) -> str:
    if utterances_ago == 0:
        return ""
    return (
        " one utterance earlier" if utterances_ago == 1 else f" {utterances_ago} utterances earlier"
    )


def revision(event: EmotionRevised) -> str:
    return (
        f"{printable(event.speaker)} at {clock(event.start_ms)}: {printable(event.previous)} → "
        f"{printable(event.label)}, after utterance {event.cause} was heard"
    )


def opening(started: SessionStarted) -> list[str]:
    """What the session runs with, in sentences; the notice last."""
    bundle = started.bundle
    lines = [
        f"Connected. Bundle {printable(bundle.name)} {printable(bundle.version)} "
        f"({printable(bundle.licence)}): {printable(', '.join(started.labels))}. "
        f"Speakers: {printable(', '.join(started.speakers))}."
    ]
    if len(started.label_sets) > 1:
        sets = printable(", ".join(started.label_sets))
        lines.append(f"Label sets to choose from: {sets}.")
    for one in started.modalities:
        if not one.live:
            sense = SENSES.get(one.modality, one.modality)
            lines.append(f"Not used: {sense} ({printable(one.reason or 'no reason was given')})")
    return [*lines, printable(started.notice)]


def closing(totals: Totals, reason: str) -> list[str]:
    """The totals, in sentences. That they fit what came, the session has checked already."""
    lines = [
        f"{totals.audio_ms / 1000:.1f} s of sound, {counted(totals.utterances, 'utterance')}, "
        f"{counted(totals.finals, 'estimate')}, {counted(totals.revisions, 'revision')}; "
        "nothing was lost."
    ]
    if totals.utterances == totals.rejected:
        lines.append("No speech was found in the sound.")
    if totals.rejected:
        lines.append(
            f"What was no speech has no estimate: {counted(totals.rejected, 'utterance')}."
        )
    if totals.failed:
        lines.append(
            f"An error left {counted(totals.failed, 'utterance')} without estimate: see above."
        )
    if reason != "client":
        lines.append(f"The server ended the session: {_plain(reason)}.")
    return lines


def _plain(code: str) -> str:
    """A code without words of its own: `going_away` as `going away`."""
    return printable(code).replace("_", " ")
