"""Whether valence and arousal rise or fall over a speaker's last turns."""

from __future__ import annotations

import numpy as np
import pytest
from tracking import after, ann, at, final, revised

from emotrace_clients.tracker import EmotionTracker
from emotrace_clients.trend import FEWEST, MOST, direction, smoothed


class TestTrend:
    def test_a_clear_fall_is_falling(self) -> None:
        tracker = after(*[final(n, affect=at(0.6 - 0.2 * n, 0.1)) for n in range(6)])
        trend = ann(tracker).trend
        assert trend is not None
        assert (trend.valence_direction, trend.arousal_direction) == ("falling", "steady")
        assert trend.turns == 6

    def test_too_few_turns_have_no_direction(self) -> None:
        trend = ann(after(*[final(n, affect=at(0.3 * n)) for n in range(3)])).trend
        assert trend is not None
        assert trend.valence_direction is None

    def test_it_rests_on_the_last_turns_only(self) -> None:
        old = [final(n, affect=at(-1.0)) for n in range(9)]
        new = [final(n, affect=at(0.1 * n - 1)) for n in range(10, 14)]
        tracker = after(*old, *new, turns=4)
        assert ann(tracker).trend == ann(after(*new, turns=4)).trend
        known = tracker.state()
        tracker.push(final(2, "sadness", affect=at(1.0)), revised(3, "sadness"))
        assert tracker.state() == known  # they are forgotten

    def test_unsure_turns_and_labels_without_a_place_are_left_out(self) -> None:
        sure = [final(n, affect=at(0.1 * n)) for n in range(4)]
        wild = final(9, affect=at(-1.0), abstained=True)
        assert ann(after(*sure, wild)).trend == ann(after(*sure)).trend
        assert ann(after(final(0))).trend is None

    def test_the_newest_turn_weighs_most(self) -> None:
        assert smoothed([0.0, 0.0, 1.0]) == 0.5
        assert smoothed([1.0, 0.0, 0.0]) == 0.25

    def test_a_change_too_small_to_matter_is_steady(self) -> None:
        assert direction([0.00, 0.03, 0.06, 0.09]) == "steady"
        assert direction([0.0, 0.1, 0.2, 0.3]) == "rising"

    @pytest.mark.parametrize("count", [FEWEST, 6, MOST])
    def test_noise_alone_seldom_has_a_direction(self, count: int) -> None:
        rows = np.random.default_rng(5).uniform(-1, 1, (2_000, count))
        wrong = sum(direction(list(row)) != "steady" for row in rows) / len(rows)
        assert 0.01 < wrong < 0.07  # one in twenty, whatever the length

    def test_too_many_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at most 12"):
            direction([0.0] * 13)
        for turns in (3, 13):
            with pytest.raises(ValueError, match="4 to 12"):
                EmotionTracker(turns=turns)
