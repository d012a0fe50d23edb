"""EmoDB (Burkhardt et al., Interspeech 2005): German, ten actors, ten sentences, seven emotions."""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.clips import read_clips
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


def prepare_emodb(folder: Path) -> list[Record]:
    """Raises ManifestError."""
    return read_clips(
        folder, "emodb", "de", LICENCE, lambda row: SENTENCES.get(row.get("text_code", ""), "")
    )
