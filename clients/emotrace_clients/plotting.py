"""A dialogue as a figure: a timeline for each speaker, valence and arousal below.

A bar is an utterance: its colour and letters the label, its height the confidence. Under it stands
the label in the light of the dialogue. Colour is never the only sign.
"""

from __future__ import annotations

from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from emotrace_clients import wording

if TYPE_CHECKING:
    from emotrace_clients.dialogue import Dialogue, Utterance

COLOURS = {
    "anger": "#b3261e",
    "happiness": "#8a5a00",
    "sadness": "#1f5fae",
    "neutral": "#565e69",
    "fear": "#7b3fa0",
    "disgust": "#3d6b1f",
    "surprise": "#00707a",
    "boredom": "#705544",
}
OTHER_COLOUR = "#8a8f98"
LANE_IN, AFFECT_IN, REST_IN = 1.3, 1.5, 1.4
MIN_WIDTH_IN, MAX_WIDTH_IN, MIN_IN_A_SECOND = 11.0, 60.0, 0.08
VERDICT_AT = -0.22  # under the bars, in shares of a confidence of 1
LETTERS_IN = 0.25  # a bar that is narrower has its letters above it
CROWDED_IN = 0.08  # a bar that is narrower has none: plot a part to see them
NO_ESTIMATE_HEIGHT = 0.12
MIN_BAR_IN = 0.03


class Timeline(Figure):
    """A figure that a notebook shows by itself; others it shows only if pyplot made them."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def figure(dialogue: Dialogue, start_ms: int, end_ms: int | None) -> Figure:
    """A figure of its own, which no global state of matplotlib knows."""
    if end_ms is None:
        heard = 0 if dialogue.totals is None else dialogue.totals.audio_ms
        end_ms = max([heard, start_ms + 1, *(one.end_ms for one in dialogue.utterances)])
    utterances = [
        one for one in dialogue.utterances if one.end_ms >= start_ms and one.start_ms <= end_ms
    ]
    affect = any(one.affect is not None for one in utterances)
    heights = [LANE_IN] * max(1, len(dialogue.speakers)) + [AFFECT_IN] * affect
    length_s = (end_ms - start_ms) / 1_000
    width_in = min(max(MIN_WIDTH_IN, MIN_IN_A_SECOND * length_s), MAX_WIDTH_IN)
    made = Timeline(figsize=(width_in, sum(heights) + REST_IN), layout="constrained")
    axes: list[Axes] = list(
        made.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    )
    axes[-1].set_xlim(start_ms / 1_000, end_ms / 1_000)
    axes[-1].set_xlabel("time")
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda s, _: _clock(s)))
    for axis, speaker in zip(axes, dialogue.speakers, strict=False):
        mine = [one for one in utterances if one.speaker == speaker]
        _draw_lane(axis, speaker, mine, width_in / length_s)
    if affect:
        _draw_affect(axes[-1], dialogue.speakers, utterances)
    _explain(made, utterances)
    made.supxlabel(dialogue.notice, fontsize=8, color="#555d68")
    return made


def _draw_lane(axis: Axes, speaker: str, utterances: list[Utterance], in_a_second: float) -> None:
    axis.set_ylim(VERDICT_AT - 0.1, 1.15)
    axis.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
    axis.set_ylabel(wording.printable(speaker), fontweight="bold")
    axis.axhline(0, color="#d4d8de", linewidth=1, zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for one in utterances:
        start = one.start_ms / 1_000
        width = max((one.end_ms - one.start_ms) / 1_000, MIN_BAR_IN / in_a_second)
        if one.final is None:
            axis.bar(
                start, NO_ESTIMATE_HEIGHT, width, align="edge", fill=False, linestyle=":",
                edgecolor=OTHER_COLOUR,
            )  # fmt: skip
            continue
        final = one.final
        colour = COLOURS.get(final.label, OTHER_COLOUR)
        axis.bar(
            start, final.confidence, width, align="edge",
            facecolor="white" if final.abstained else colour, edgecolor=colour,
            hatch="///" if final.abstained else None, linewidth=1.2,
        )  # fmt: skip
        if one.end_ms > one.start_ms and width * in_a_second < CROWDED_IN:
            continue  # a turn without sound has no width, and its letters all the same
        inside = width * in_a_second >= LETTERS_IN and final.confidence > 0.3
        inside = inside and not final.abstained
        axis.text(
            start + width / 2, final.confidence / 2 if inside else final.confidence + 0.03,
            letters(final.label) + "?" * final.abstained, fontsize=8, fontweight="bold",
            ha="center", va="center" if inside else "bottom", clip_on=True,
            color="white" if inside else colour,
        )  # fmt: skip
        last = one.label_in_dialogue or final.label
        axis.text(
            start + width / 2, VERDICT_AT, ("↺" if one.revised else "") + letters(last),
            ha="center", va="center", fontsize=8, clip_on=True,
            color=COLOURS.get(last, OTHER_COLOUR),
        )  # fmt: skip


def _draw_affect(axis: Axes, speakers: tuple[str, ...], utterances: list[Utterance]) -> None:
    known = [one for one in utterances if one.affect is not None]
    axis.set_ylim(-1.05, 1.05)
    axis.set_yticks([-1, 0, 1])
    axis.set_ylabel("valence —\narousal - -", fontsize=8)
    axis.axhline(0, color="#d4d8de", linewidth=1, zorder=0)
    by_speaker = sorted(known, key=lambda one: speakers.index(one.speaker))
    markers = "os^Dv<>p"
    for n, (speaker, mine) in enumerate(groupby(by_speaker, key=lambda one: one.speaker)):
        points = [
            ((one.start_ms + one.end_ms) / 2_000, one.affect.valence, one.affect.arousal)
            for one in mine
            if one.affect is not None
        ]
        times, valences, arousals = zip(*points, strict=True)
        marker, shade = markers[n % len(markers)], f"C{n % 10}"
        name = wording.printable(speaker)
        axis.plot(times, valences, "-", marker=marker, color=shade, markersize=4, label=name)
        axis.plot(times, arousals, "--", marker=marker, color=shade, markersize=4, alpha=0.6)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)


def _explain(made: Figure, utterances: list[Utterance]) -> None:
    """What letters and signs mean, above the lanes: only those that are there."""
    finals = [one.final for one in utterances if one.final is not None]
    used = {final.label for final in finals} | {one.label_in_dialogue for one in utterances}
    order = list(finals[0].posterior) if finals else []
    parts = [f"{letters(label)} {label}" for label in order if label in used]
    if any(final.abstained for final in finals):
        parts.append("? hatched: unsure")
    if any(one.revised for one in utterances):
        parts.append("↺ revised by what came later")
    if any(one.final is None for one in utterances):
        parts.append("dotted: no estimate")
    if finals:
        parts.append("height: confidence · below: label in the dialogue")
    made.suptitle("   ".join(parts), fontsize=9)


def letters(label: str) -> str:
    """A label's two letters, as the browser page has them."""
    return label[:1].upper() + label[1:2]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
