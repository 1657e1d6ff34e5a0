"""What others seem to have left is overdue once it was seen for long enough."""

from vitsearch.storage.sightings import Sightings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def overdue(*looks):
    """What is overdue at the last of these looks: the seconds, and what is seen then."""
    clock = Clock()
    sightings, result = Sightings(45.0, clock), set()
    for clock.now, seen in looks:
        result = sightings.overdue(seen)
    return result


def test_what_is_seen_for_the_whole_time_is_overdue():
    assert overdue((0.0, "a"), (30.0, "ab"), (45.0, "ab")) == {"a"}


def test_what_is_seen_for_the_first_time_is_not_overdue():
    assert overdue((0.0, ""), (60.0, "a")) == set()


def test_what_was_away_for_a_look_counts_from_its_return():
    assert overdue((0.0, "a"), (30.0, ""), (40.0, "a"), (60.0, "a")) == set()


def test_after_a_break_all_is_seen_for_the_first_time():
    assert overdue((0.0, "a"), (30.0, "a"), (300.0, "a")) == set()
    assert overdue((0.0, "a"), (300.0, "a"), (330.0, "a"), (345.0, "a")) == {"a"}
