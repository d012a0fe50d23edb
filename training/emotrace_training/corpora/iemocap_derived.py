"""Tables derived from IEMOCAP: transcripts, times and labels of all labelled turns, no audio.

For research figures only; nothing that is fitted to them may ship. `speaker` in the table is the
letter of the turn, `pos_ded` its place in the transcript.
"""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.tables import rows
from emotrace_training.manifests import Record

NAME = "iemocap_derived"
LICENCE = "IEMOCAP, by its owners' agreement; research only, never shipped"
TABLE = "utterances.csv"
BAD_ROW = "row cannot be read"
_COLUMNS = ("utt", "dialog", "pos_ded", "speaker", "session", "start", "end", "text", "label_raw")
_GENDERS = {"F": "female", "M": "male"}


def read_iemocap_derived(folder: Path, settings: Settings) -> Loaded:
    """Records without audio. Raises ManifestError."""
    loaded = Loaded()
    for place, row in rows(folder / TABLE, _COLUMNS):
        emotion = loaded.label(row["label_raw"], place)
        if emotion is None:
            continue
        try:
            turn, start, end = int(row["pos_ded"]), float(row["start"]), float(row["end"])
            gender = _GENDERS[row["speaker"]]
        except (ValueError, KeyError) as error:
            loaded.fault(BAD_ROW, place, repr(error))
            continue
        loaded.records.append(
            Record(
                id=row["utt"], corpus=NAME, dialogue=row["dialog"], turn=turn, start_s=start,
                end_s=end, speaker=f"{NAME}:{row['session']}{row['speaker']}", gender=gender,
                emotion=emotion, label_raw=row["label_raw"], split="", text=row["text"],
                language="en", licence=LICENCE,
            )
        )  # fmt: skip
    return loaded.finish(folder, TABLE)
