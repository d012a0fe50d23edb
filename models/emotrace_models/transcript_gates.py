"""Whether words were said at all: transcripts that look invented or repeated move no emotion.

Recognisers invent text where there is little speech ("Thanks for watching") and repeat themselves.
No list of phrases: the recogniser's own measures, what the text is like, and whether so much can be
said in the time. The words of an estimate are refused as a whole or used as a whole.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from emotrace_models.types import Transcript

LONG_SPEECH_S = 4.0  # from which a word or two is too little


@dataclass(frozen=True, slots=True)
class Gates:
    """When words are refused. The first four are Whisper's own, but for `sure_log_probability`.

    log_probability: if the mean log probability of a token is below.
    no_speech: if the probability of no speech is above, unless the words are likely (mean log
        probability above `sure_log_probability`).
    compression: if the text compresses better than so many times: it repeats itself.
    characters_per_second, spare_characters: if it has more than can be said. Of 1,500 clips with
        text 99.8 % have under 36 a second, without counting on any spare.
    words_per_second: if it has fewer, in long speech. voiced_s: if less of the sound has a pitch.
        Both are asked of recognised words only: a client may know what a machine cannot hear.
    """

    log_probability: float = -1.0
    no_speech: float = 0.6
    sure_log_probability: float = -0.5
    compression: float = 2.4
    characters_per_second: float = 36.0
    spare_characters: int = 20
    words_per_second: float = 0.25
    voiced_s: float = 0.12

    def refuse(self, words: Transcript, seconds: float, speech_s: float, voiced_s: float) -> bool:
        """seconds: length of the utterance. speech_s: of speech in it. voiced_s: with a pitch."""
        return (
            words.capped
            or self._unlikely(words)
            or (words.compression or compression(words.text)) > self.compression
            or len(words.text) > self.spare_characters + self.characters_per_second * seconds
            or (words.source == "server" and self._unheard(words, speech_s, voiced_s))
        )

    def _unlikely(self, words: Transcript) -> bool:
        mean = words.log_probability
        if mean is None:
            return False
        silent = words.no_speech is not None and words.no_speech > self.no_speech
        return mean < self.log_probability or (silent and mean < self.sure_log_probability)

    def _unheard(self, words: Transcript, speech_s: float, voiced_s: float) -> bool:
        few = len(words.text.split()) < self.words_per_second * speech_s
        return voiced_s < self.voiced_s or (few and speech_s > LONG_SPEECH_S)


def compression(text: str) -> float:
    """How many times smaller zlib makes the text; Whisper's measure of repetition."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
