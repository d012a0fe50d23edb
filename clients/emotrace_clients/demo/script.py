"""What the two voices of the demo say, and how each turn is acted.

Prosody follows the usual findings on acted speech (Banse & Scherer 1996, Table 6): anger and
happiness are faster, louder and higher with a wide pitch range, sadness slower, softer and lower
with a narrow one.
"""

from __future__ import annotations

from dataclasses import dataclass

SPEAKERS = ("Ann", "Ben")  # left channel, right channel
VOICES = {"Ann": "en-us+Annie", "Ben": "en-us+m3"}
BASE_PITCH = {"Ann": 60, "Ben": 38}


@dataclass(frozen=True, slots=True)
class Prosody:
    """How an emotion is acted, in the synthesiser's own units.

    speed: words a minute. pitch: added to the voice's base (0 to 99). pitch_range: per cent of the
    usual range. gain: of full scale, the peak of the turn.
    """

    speed: int
    pitch: int
    pitch_range: int
    gain: float


PROSODY = {
    "neutral": Prosody(speed=165, pitch=0, pitch_range=80, gain=0.4),
    "happiness": Prosody(speed=185, pitch=18, pitch_range=190, gain=0.6),
    "anger": Prosody(speed=200, pitch=12, pitch_range=150, gain=0.9),
    "sadness": Prosody(speed=125, pitch=-12, pitch_range=35, gain=0.25),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One turn. gap_ms: from the end of the turn before; negative means an interruption."""

    speaker: str
    acted: str
    text: str
    gap_ms: int = 350


LINES = (
    Line("Ann", "neutral", "Hi Ben. Do you have a minute?", gap_ms=500),
    Line("Ben", "neutral", "Sure. I was just reading the paper."),
    Line("Ann", "happiness", "I got the job! I'm so happy, I can't believe it!"),
    Line("Ben", "happiness", "Wow, that's wonderful! Congratulations!"),
    Line("Ann", "neutral", "The only thing is, the office is in Chicago."),
    Line("Ben", "anger", "What? You never told me that! How could you do this?"),
    Line("Ann", "anger", "Don't you yell at me! You never listen!", gap_ms=-250),
    Line("Ben", "sadness", "I'm sorry, I just don't want to lose you."),
    Line("Ann", "sadness", "I know, I'm going to miss you so much."),
    Line("Ben", "neutral", "Okay. Let's sit down and look at the map."),
)
