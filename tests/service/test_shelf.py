"""Which bundles a server holds after changes, and which one a session goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import toy_bundle

from emotrace_models.bundle import Bundle
from emotrace_service.errors import StartRefused
from emotrace_service.loading import Origin, load_again, load_shelf, origins
from emotrace_service.settings import Settings
from emotrace_service.shelf import Shelf


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Of one bundle, as they follow each other."""
    folder = tmp_path_factory.mktemp("versions")
    return [
        Bundle.load(toy_bundle(folder / str(seed), seed=seed, scheme="ekman7", views=("common4",)))
        for seed in range(4)
    ]


def shelf(*bundles: Bundle, shadow: Bundle | None = None) -> Shelf:
    return Shelf({one.name: one for one in bundles}, shadow)


def test_versions_of_one_name_are_told_apart(versions: list[Bundle]) -> None:
    assert len({one.name for one in versions}) == 1
    assert len({one.edition for one in versions}) == len(versions)


def test_the_last_version_and_those_in_use_stay(versions: list[Bundle]) -> None:
    first, second, third, fourth = versions
    now = shelf(first).followed_by(shelf(second), frozenset())
    assert (now.default, now.earlier) == (second, (first,))
    unused = now.followed_by(shelf(third), frozenset())
    assert unused.earlier == (second,)
    used = now.followed_by(shelf(third), {first.edition})
    assert used.earlier == (second, first)
    assert set(used.held) == {first, second, third}
    assert used.followed_by(shelf(fourth), frozenset()).earlier == (third,)


def test_a_version_that_comes_back_is_held_once(versions: list[Bundle]) -> None:
    first, second, *_ = versions
    back = shelf(first).followed_by(shelf(second), ()).followed_by(shelf(first), {first.edition})
    assert (back.default, back.earlier) == (first, (second,))


def test_a_shadow_that_is_served_too_is_held_once(versions: list[Bundle]) -> None:
    first, second, *_ = versions
    other = replace(second, name="other")
    assert shelf(first, other, shadow=other).held == (first, other)
    promoted = shelf(first, shadow=second).followed_by(shelf(second), ())
    assert (promoted.default, promoted.shadow, promoted.earlier) == (second, None, (first,))


def test_a_dialogue_goes_on_with_the_version_that_understood_it(versions: list[Bundle]) -> None:
    first, second, third, _ = versions
    now = shelf(first).followed_by(shelf(second), ())
    for key in (first.key, first.projected("common4").key):
        assert now.for_dialogue(key) == {"toy": first}
    assert now.for_dialogue(None) == {"toy": second}
    assert now.for_dialogue(third.key) == {"toy": second}  # nobody here knows that one
    assert now.for_dialogue("toy") == {"toy": second}


def test_a_shadow_must_have_the_classes_of_what_it_is_compared_with(tmp_path: Path) -> None:
    served = toy_bundle(tmp_path / "four", scheme="common4")
    six = toy_bundle(tmp_path / "six", scheme="iemocap6", name="six")
    seven = toy_bundle(tmp_path / "seven", scheme="ekman7", views=("common4",), name="seven")
    with pytest.raises(StartRefused, match="no label set with the classes of 'toy'"):
        load_shelf(Settings(bundle=str(served), shadow=str(six)))
    shadow = load_shelf(Settings(bundle=str(served), shadow=str(seven))).shadow
    assert shadow is not None
    assert shadow.name == "seven"


def test_another_process_reads_the_same_files_or_refuses(tmp_path: Path) -> None:
    path = toy_bundle(tmp_path / "toy")
    (origin,) = origins([Bundle.load(path)])
    assert origin == Origin(path.resolve(), Bundle.load(path).digest)
    assert [one.digest for one in load_again([origin], Settings())] == [origin.digest]
    toy_bundle(path, seed=2)
    with pytest.raises(StartRefused, match="has changed since the server read it"):
        load_again([origin], Settings())
