"""One face followed through pictures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emotrace_models.encoders.face_tracking import PATIENCE, FaceTrack, tracked
from emotrace_models.encoders.faces import FaceBox

STEP = 3_200  # samples between pictures, five a second


def face(left: float, top: float, side: float) -> FaceBox:
    return FaceBox(left, top, left + side, top + side, 0.9)


def test_the_largest_face_is_taken_and_then_followed() -> None:
    large, small = face(0, 0, 50), face(100, 0, 30)
    moved, grown = face(5, 5, 45), face(90, 0, 80)
    pictures = [[], [small, large], [grown, moved], []]
    assert tracked(pictures, [n * STEP for n in range(4)]) == [None, large, moved, moved]


def test_a_face_may_move_further_than_its_own_width_allows_overlap_for() -> None:
    track, _ = FaceTrack().follow([face(0, 0, 40)], 0)
    track, seen = track.follow([face(28, 0, 40), face(200, 0, 90)], STEP)
    assert seen == face(28, 0, 40)
    _, seen = track.follow([face(28 + 28, 0, 10)], 2 * STEP)
    assert seen is None  # so near and so much smaller: somebody else


def test_a_lost_face_is_waited_for_and_nobody_else_is_taken_meanwhile() -> None:
    own, other = face(0, 0, 50), face(200, 0, 80)
    track, _ = FaceTrack().follow([own], 0)
    waiting, seen = track.follow([other], PATIENCE)
    assert (waiting, seen) == (track, None)
    back, seen = waiting.follow([other, own], PATIENCE)
    assert (back.sample, seen) == (PATIENCE, own)
    given_up, seen = waiting.follow([other], PATIENCE + 1)
    assert seen == other
    assert given_up == FaceTrack(other, PATIENCE + 1)


boxes = st.builds(face, st.floats(0, 300), st.floats(0, 200), st.floats(5, 120))


@given(st.lists(st.lists(boxes, max_size=4), max_size=12))
def test_what_is_followed_was_found(pictures: list[list[FaceBox]]) -> None:
    track = FaceTrack()
    for number, faces in enumerate(pictures):
        before = track
        track, seen = track.follow(faces, number * STEP)
        assert seen in faces if seen is not None else track == before
        if before.box is None and faces:
            assert seen is not None


@given(st.lists(boxes, min_size=1, max_size=5), st.integers(0, 4))
def test_the_order_of_faces_does_not_matter(faces: list[FaceBox], which: int) -> None:
    own = faces[which % len(faces)]
    apart = [one for one in faces if one is own or own.distance(one) > 1]
    track = FaceTrack(own, 0)
    assert track.follow(apart, STEP)[1] == track.follow(apart[::-1], STEP)[1] == own
