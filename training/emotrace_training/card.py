"""The model card of the compact bundle: what it is made of, what it reached, what it is not for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

LICENCE = "CC-BY-NC-SA-4.0"
LANGUAGES = ("en", "de", "pl")
LICENCE_TEXT = """\
The weights in this folder are licensed under the Creative Commons Attribution-NonCommercial-
ShareAlike 4.0 International licence (CC BY-NC-SA 4.0):
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

They were trained on RAVDESS, nEMO and DailyDialog, which are under that licence: no commercial
use, credit to the authors of the data, and derived weights under the same terms. card.md lists all
data with its authors. The program code of Emotrace is under the Apache-2.0 licence.
"""

_DATA = """\
| data | used for | licence | authors |
|---|---|---|---|
| EmoDB: German, 6 actors | voice | CC0-1.0 (audEERING's edition) | Burkhardt et al. 2005 |
| RAVDESS: English, 18 actors | voice | CC BY-NC-SA 4.0 | Livingstone & Russo 2018 |
| nEMO: Polish, 6 actors | voice | CC BY-NC-SA 4.0 | Christop 2024 |
| MELD: English, a TV series | words, dialogues | GPL-3.0 (repository) | Poria et al. 2019 |
| EmoryNLP: English, the same series | words, dialogues | Apache-2.0 | Zahiri & Choi 2018 |
| DailyDialog: English, everyday | words, dialogues | CC BY-NC-SA 4.0 | Li et al. 2017 |
| GoEmotions: English, comments | words | Apache-2.0 | Demszky et al. 2020 |

Scenes of EmoryNLP that share a line with MELD's dev or test split were left out. Speakers of
`test` were not used for training, nor for any choice."""

_LIMITS = """\
## What it does, and what it does not

It estimates the emotion that a voice and its words *express*, of four: anger, happiness, neutral,
sadness. It cannot know what a person feels. Everything else (fear, disgust, surprise, irony,
mixed emotions) is outside its set, and comes out as one of the four.

* **Acted speech.** All voices are of actors who were asked to show an emotion. Everyday speech is
  weaker and more mixed; expect lower figures than those below.
* **Composed dialogues.** There were no recorded emotional dialogues to train on. Dialogues were put
  together from real labelled text dialogues and real clips of the same emotion, whose words differ
  from the line. What voices and words do together in one sentence was never seen. Speakers of the
  text (a TV series) change their emotion often, so context and decoder help little on this test.
* **Languages.** Voices in English, German and Polish; words in English only. 30 actors, all adults.
  Age groups, accents, illness and noise are not covered evenly.
* **Words** of other languages carry little information for it, and it may read them wrongly.

It must not be used for decisions about a person: not for hiring, school or work assessment, not for
credit, insurance, policing, borders or courts, not for diagnosis or as a safety device, not to find
lies or intent, not on people who have not been told and have not agreed, and not on children. In
the European Union, emotion recognition at work and in education is prohibited (Regulation (EU)
2024/1689, article 5), and elsewhere people must be told of it (article 50)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """clips: `evaluate-clips --json` by corpus. dialogues: `evaluate-dialogues --json`, or None."""

    clips: Mapping[str, Mapping[str, Any]]
    dialogues: Mapping[str, Any] | None

    @classmethod
    def read(cls, clips: Sequence[Path], dialogues: Path | None) -> Figures:
        """From files; a corpus is called like its file, without the ending."""
        return cls(
            {file.stem: json.loads(file.read_text()) for file in clips},
            None if dialogues is None else json.loads(dialogues.read_text()),
        )


def write_card(name: str, version: str, models: Sequence[nn.Module], figures: Figures) -> str:
    """card.md. models: acoustic tower, lexical tower, fusion model."""
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    parts = [
        f"# Bundle `{name}`, version {version}",
        "An acoustic tower (log-mel, running statistics of the speaker), a lexical tower (subwords)"
        " and GatedxLSTM over the last three utterances and whom they answered, followed by the"
        " Dialogical Emotion Decoder. "
        f"Parameters: {sizes[0]:,} acoustic, {sizes[1]:,} lexical, {sizes[2]:,} fusion.",
        f"Licence of the weights: **{LICENCE}** (no commercial use, share alike).",
        _LIMITS,
        f"## Data\n\n{_DATA}",
        "## Figures",
    ]
    if figures.clips:
        parts.append(_clip_table(figures.clips))
    if figures.dialogues is not None:
        parts.append(_dialogue_table(figures.dialogues))
    if not figures.clips and figures.dialogues is None:
        parts.append("Not evaluated.")
    return "\n\n".join(parts) + "\n"


def _clip_table(clips: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        f"| {corpus} | {found['split']} | {found['counts']['used']} | {found['uar']:.3f} "
        f"| {found['accuracy']:.3f} | {found['f1_weighted']:.3f} | {found['ece']:.3f} |"
        for corpus, found in clips.items()
    ]
    mean = sum(found["uar"] for found in clips.values()) / len(clips)
    return "\n".join(
        [
            "Single clips of speakers never heard in training, by sound alone, without context "
            "(`emotrace-train evaluate-clips`):",
            "",
            "| corpus | split | clips | uar | accuracy | f1_weighted | ece |",
            "|---|---|---|---|---|---|---|",
            *rows,
            f"| mean | | | {mean:.3f} | | | |",
        ]
    )


def _dialogue_table(found: Mapping[str, Any]) -> str:
    def cell(row: str, metric: str) -> str:
        return f"{found['mean'][row][metric]:.3f} ± {found['sd'][row][metric]:.3f}"

    rows = [
        f"| {row} | {cell(row, 'uar')} | {cell(row, 'accuracy')} | {cell(row, 'f1_weighted')} |"
        for row in found["mean"]
    ]
    calibration, faith = found["calibration"], found["faithfulness"]
    return "\n".join(
        [
            f"Composed dialogues: MELD test lines spoken by the actors of `test`, "
            f"{found['turns']} turns of the four classes, {len(found['seeds'])} seeds, mean and "
            "standard deviation (`emotrace-train evaluate-dialogues`):",
            "",
            "| | uar | accuracy | f1_weighted |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Expected calibration error: {calibration['before']:.3f} before, "
            f"{calibration['after']:.3f} after temperature scaling.",
            "",
            f"Faithfulness of explanations: taking away the slot that contributed most moves the "
            f"posterior by {faith['most_contributing']:.3f} (total variation), a random one by "
            f"{faith['random']:.3f}.",
        ]
    )
