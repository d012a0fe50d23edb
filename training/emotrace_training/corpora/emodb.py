"""EmoDB (Burkhardt et al., Interspeech 2005): German, ten actors, ten sentences, seven emotions.

`wav/03a01Fa.wav`: speaker 03, sentence a01, Freude, version a (models.md 9.4).
"""

from __future__ import annotations

import re
from pathlib import Path

from emotrace_training.corpora.labels_csv import LABELS, read_labels_csv
from emotrace_training.corpora.loading import NAME, Loaded, Settings
from emotrace_training.manifests import Record

LICENCE = "CC0-1.0"

SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
# Letters of the German words: A is Angst, so fear and not anger.
EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness",
    "N": "neutral",
}  # fmt: skip
SPEAKERS = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male", "12": "male",
    "13": "female", "14": "female", "15": "male", "16": "female",
}  # fmt: skip
_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])[a-z]")


def read_emodb(folder: Path, settings: Settings) -> Loaded:
    """The folder with `wav/`, or one of this project's data folders. Raises ManifestError."""
    if (folder / LABELS).is_file():
        return read_labels_csv(
            folder, "emodb", "de", LICENCE, lambda row: SENTENCES.get(row.get("text_code", ""), "")
        )
    loaded = Loaded()
    wav = folder / "wav"
    for file in loaded.files(wav if wav.is_dir() else folder, ".wav", ".flac"):
        match = _NAME.fullmatch(file.stem)
        if match is None or match[1] not in SPEAKERS or match[2] not in SENTENCES:
            loaded.fault(NAME, file)
            continue
        speaker, sentence, letter = match.groups()
        seconds = loaded.seconds(file)
        if seconds is None and settings.on_missing == "drop":
            continue
        loaded.records.append(
            Record(
                id=file.stem, corpus="emodb", dialogue=file.stem, turn=0, start_s=0.0,
                end_s=seconds or 0.0, speaker=f"emodb:{speaker}", gender=SPEAKERS[speaker],
                emotion=EMOTIONS[letter], label_raw=letter, split="", text=SENTENCES[sentence],
                language="de", licence=LICENCE, seconds=seconds or 0.0,
                file=None if seconds is None else file.as_posix(),
                flags=() if seconds is not None else ("no_audio",),
            )
        )  # fmt: skip
    return loaded.finish(folder, "wav/03a01Fa.wav and the like")
