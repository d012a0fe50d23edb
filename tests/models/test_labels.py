"""Schemes of labels: which canonical label becomes which class, in which order."""

from __future__ import annotations

import pytest

from emotrace_models.labels import ALIASES, CANONICAL, SCHEMES, UnknownLabel, canonical, strongest

# models.md section 10, row by row: scheme -> classes in index order; then what does not stay as it
# is. Everything that is not named here has no class.
CLASSES = {
    "iemocap4": "anger happiness neutral sadness",
    "iemocap4m": "anger happiness neutral sadness",
    "iemocap6": "happiness sadness neutral anger excitement frustration",
    "iemocap8": "anger happiness sadness neutral excitement frustration surprise fear",
    "ekman7": "neutral surprise fear sadness happiness disgust anger",
    "ekman6": "neutral fear sadness happiness disgust anger",
    "ekman7_frustration": "neutral surprise fear sadness happiness disgust anger",
    "mosei6": "happiness sadness anger surprise disgust fear",
    "emodb7": "anger boredom disgust fear happiness sadness neutral",
    "ravdess8": "neutral calm happiness sadness anger fear disgust surprise",
    "crema6": "anger disgust fear happiness neutral sadness",
    "nemo6": "anger fear happiness neutral sadness surprise",
    "common4": "anger happiness neutral sadness",
}
MERGED = {
    "iemocap4m": {"excitement": "happiness"},
    "common4": {"excitement": "happiness", "calm": "neutral"},
    "ekman7": {"excitement": "happiness", "calm": "neutral"},
    "ekman6": {"excitement": "happiness", "calm": "neutral"},
    "ekman7_frustration": {
        "excitement": "happiness", "calm": "neutral", "frustration": "anger",
    },
}  # fmt: skip


def test_every_scheme_is_listed_here() -> None:
    assert set(SCHEMES) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_projection_of_every_canonical_label(name: str) -> None:
    scheme = SCHEMES[name]
    classes = CLASSES[name].split()
    assert list(scheme.names) == classes
    expected = {**{c: c for c in classes}, **MERGED.get(name, {})}
    assert {label: scheme.project(label) for label in CANONICAL} == {
        label: expected.get(label) for label in CANONICAL
    }


@pytest.mark.parametrize(
    ("corpus", "names"),
    [
        ("iemocap", {"neu": "neutral", "hap": "happiness", "exc": "excitement", "sad": "sadness",
                     "ang": "anger", "fru": "frustration", "fea": "fear", "dis": "disgust",
                     "sur": "surprise", "oth": "other", "xxx": "unknown"}),
        ("meld", {"neutral": "neutral", "joy": "happiness", "sadness": "sadness",
                  "anger": "anger", "fear": "fear", "disgust": "disgust",
                  "surprise": "surprise"}),
        ("mosei", {"happy": "happiness", "sad": "sadness", "anger": "anger",
                   "surprise": "surprise", "disgust": "disgust", "fear": "fear"}),
        ("crema", {"NEU": "neutral", "HAP": "happiness", "SAD": "sadness", "ANG": "anger",
                   "FEA": "fear", "DIS": "disgust"}),
    ],
)  # fmt: skip
def test_names_of_the_corpora(corpus: str, names: dict[str, str]) -> None:
    assert {name: canonical(name) for name in names} == names


def test_every_alias_is_lower_case_and_canonical() -> None:
    assert all(name == name.lower() and label in CANONICAL for name, label in ALIASES.items())
    with pytest.raises(UnknownLabel, match="'zeal'"):
        canonical("zeal")


def test_the_strongest_score_and_its_ties() -> None:
    order = SCHEMES["mosei6"].names
    assert strongest({"sadness": 1.0, "fear": 2.0}, order) == "fear"
    assert strongest({"fear": 1.0, "sadness": 1.0, "anger": 1.0}, order) == "sadness"
    assert strongest({"happiness": 0.0, "fear": 0.0}, order) is None
    assert strongest({}, order) is None
