"""nEMO (Christop, LREC-COLING 2024): Polish, nine actors, 90 sentences, six emotions.

`data.tsv` names the files of `samples/`; its speaker cells are padded with blanks.
"""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.labels_csv import GENDERS, LABELS, read_labels_csv
from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.tables import rows
from emotrace_training.manifests import Record

LICENCE = "CC-BY-NC-SA-4.0"
TABLE = "data.tsv"
_COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender")


def read_nemo(folder: Path, settings: Settings) -> Loaded:
    """The repository's folder, or one of this project's data folders. Raises ManifestError."""
    if (folder / LABELS).is_file():
        return read_labels_csv(folder, "nemo", "pl", LICENCE, lambda row: row.get("text", ""))
    loaded = Loaded()
    named: set[str] = set()
    for place, row in rows(folder / TABLE, _COLUMNS, "\t"):
        named.add(row["file_id"])
        emotion = loaded.label(row["emotion"], place)
        file = folder / "samples" / row["file_id"]
        seconds = loaded.seconds(file, place)
        if emotion is None or (seconds is None and settings.on_missing == "drop"):
            continue
        loaded.records.append(
            Record(
                id=file.stem, corpus="nemo", dialogue=file.stem, turn=0, start_s=0.0,
                end_s=seconds or 0.0, speaker=f"nemo:{row['speaker_id']}",
                gender=GENDERS.get(row["gender"], ""), emotion=emotion, label_raw=row["emotion"],
                split="", text=row["raw_text"], language="pl", licence=LICENCE,
                file=None if seconds is None else file.as_posix(), seconds=seconds or 0.0,
                flags=() if seconds is not None else ("no_audio",),
            )
        )  # fmt: skip
    for file in loaded.files(folder / "samples", ".wav"):
        if file.name not in named:
            loaded.fault("media without a row", file)
    return loaded.finish(folder, f"{TABLE} and samples/")
