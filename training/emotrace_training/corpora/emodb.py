"""EmoDB (Burkhardt et al., Interspeech 2005): German, ten actors, ten sentences, seven emotions.

`wav/03a01Fa.wav`: speaker 03, sentence a01, Freude, version a (models.md 9.4).
"""

from __future__ import annotations

import re
from pathlib import Path

from emotrace_training.corpora.acted import Spoken, read_named
from emotrace_training.corpora.labels_csv import LABELS, read_labels_csv
from emotrace_training.corpora.loading import Loaded, Settings, first_folder

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
    wav = first_folder([folder / "wav", folder]) or folder
    files = loaded.files(wav, ".wav", ".flac")
    read_named(loaded, files, "emodb", "de", LICENCE, _spoken, settings)
    return loaded.finish(folder, "wav/03a01Fa.wav and the like")


def _spoken(file: Path) -> Spoken | None:
    match = _NAME.fullmatch(file.stem)
    if match is None or match[1] not in SPEAKERS or match[2] not in SENTENCES:
        return None
    speaker, sentence, letter = match.groups()
    return Spoken(speaker, SPEAKERS[speaker], letter, EMOTIONS[letter], SENTENCES[sentence])
