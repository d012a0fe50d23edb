"""Cards: every part with its data and licence, and only what the bundle has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import toy_bundle

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_training.card import FIGURES, with_section, write_card
from emotrace_training.card_data import MADE_OF


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = Bundle.load(toy_bundle(tmp_path_factory.mktemp("b") / "seven", scheme="ekman7"))
    view = View(Calibration({"acoustic": 1.0}), DecoderConfig(p0=0.5))
    return replace(bundle, views={"common4": view})


def test_the_default_card_says_what_it_must(seven: Bundle) -> None:
    card = write_card(seven, MADE_OF["default"])
    for words in (
        "**CC-BY-NC-SA-4.0**", "together: **no**", "Acted speech", "Composed dialogues",
        "must not be used", "*express*", "RAVDESS", "nEMO", "DailyDialog", "GPL-3.0", "2024/1689",
        "of 7: neutral, surprise", "`common4` (anger, happiness, neutral, sadness)",
        "German, English and Polish", "Words in English only", "Not evaluated.",
    ):  # fmt: skip
        assert words in card, words


def test_a_part_that_is_not_there_is_not_told(seven: Bundle) -> None:
    card = write_card(seven, MADE_OF["default"])
    assert "FER2013:" not in card, "a source of a face tower in a bundle without one"
    assert "| tower of face |" not in card


def test_the_free_card_names_free_data_alone(seven: Bundle) -> None:
    card = write_card(seven, MADE_OF["free"])
    assert "**Apache-2.0**" in card
    assert "together: **yes**" in card
    assert "Usable commercially" in card
    for source in ("RAVDESS", "nEMO", "DailyDialog", "FER2013", "NC-SA"):
        assert source not in card


def test_the_sources_agree_with_the_licence() -> None:
    for made_of in MADE_OF.values():
        free = all(source.commercial == "yes" for source in made_of.sources)
        assert free == ("NC" not in made_of.licence)
        for source in made_of.sources:
            if source.licence.startswith("CC BY-NC-SA"):
                assert made_of.licence == "CC-BY-NC-SA-4.0", "share alike"


def test_a_section_is_replaced_or_added() -> None:
    card = f"# A\n\ntext\n\n{FIGURES}\n\nNot evaluated.\n"
    once = with_section(card, FIGURES, "uar 0.5")
    assert once == f"# A\n\ntext\n\n{FIGURES}\n\nuar 0.5\n"
    assert with_section(once, FIGURES, "uar 0.5") == once
    more = with_section(once, "## Recalibrated on site", "200 utterances\n")
    assert more.endswith("uar 0.5\n\n## Recalibrated on site\n\n200 utterances\n")
    again = with_section(more, FIGURES, "uar 0.6")
    assert again == more.replace("0.5", "0.6")
    assert with_section("# A\n", "## B", "b") == "# A\n\n## B\n\nb\n"


def test_the_folder_of_a_bundle_is_no_part_of_its_card(seven: Bundle, tmp_path: Path) -> None:
    seven.save(tmp_path / "here")
    assert str(tmp_path) not in write_card(seven, MADE_OF["default"])
