"""When a picture goes out to the broker: once for each connection, when there is room, and never again and again."""

from yiagent.model import Picture
from yiagent.picturefeed import FIRST_WAIT_S, LONGEST_WAIT_S, LOOK_AGAIN_S, REST, SUSPICIOUS_S, PictureFeed

ONE = Picture(b"one", 1.0)
TWO = Picture(b"two", 2.0)


def feed_that_sent(at: float = 0.0) -> PictureFeed:
    feed = PictureFeed()
    feed.connected(at)
    assert feed.next(ONE, at, has_room=True) == (ONE, LOOK_AGAIN_S)
    feed.sent(ONE, at)
    return feed


def test_nothing_is_sent_before_there_is_a_picture() -> None:
    """And nothing is waited for but news."""
    feed = PictureFeed()
    feed.connected(0)
    assert feed.next(None, 0, has_room=True) == (None, None)


def test_a_picture_is_sent_once() -> None:
    """Until there is another, or another connection."""
    feed = feed_that_sent()
    assert feed.next(ONE, 1, has_room=True) == (None, None)
    assert feed.next(TWO, 100, has_room=True)[0] is TWO
    feed.sent(TWO, 100)
    assert feed.next(TWO, 101, has_room=True) == (None, None)
    assert not feed.connected(200)
    assert feed.next(TWO, 200, has_room=True)[0] is TWO


def test_it_waits_for_room() -> None:
    """Telemetry and log that have not left yet go first."""
    feed = PictureFeed()
    feed.connected(0)
    assert feed.next(ONE, 0, has_room=False) == (None, LOOK_AGAIN_S)
    assert feed.next(TWO, 1, has_room=True)[0] is TWO


def test_a_slow_way_is_left_to_the_others_for_most_of_the_time() -> None:
    """A picture that took ten seconds to leave is followed by none for four times as long."""
    feed = feed_that_sent()
    assert feed.next(TWO, 5, has_room=False) == (None, LOOK_AGAIN_S)
    assert feed.next(TWO, 10, has_room=True) == (None, REST * 10)
    assert feed.next(TWO, 10 + REST * 10 - 1, has_room=True) == (None, 1)
    assert feed.next(TWO, 10 + REST * 10, has_room=True)[0] is TWO


def test_connections_that_end_for_a_picture_make_pictures_wait() -> None:
    """Once is chance; then longer each time, up to an hour. A connection that holds behind a picture ends that."""
    feed = feed_that_sent()
    assert not feed.connected(1)
    now, waits = 1.0, []
    for _ in range(10):
        assert feed.next(ONE, now, has_room=True)[0] is ONE
        feed.sent(ONE, now)
        now += 1
        assert feed.connected(now)
        _, wait_s = feed.next(ONE, now, has_room=True)
        assert wait_s is not None
        waits.append(wait_s)
        now += wait_s
    assert waits[:2] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S
    feed.sent(ONE, now)
    feed.next(ONE, now + 1, has_room=True)
    assert not feed.connected(now + SUSPICIOUS_S + 1)
    assert feed.next(ONE, now + SUSPICIOUS_S + 1, has_room=True)[0] is ONE


def test_a_picture_that_never_left_is_suspected_however_late_the_end() -> None:
    """On a way too slow for it the connection lives until a ping is missed."""
    feed = feed_that_sent()
    assert not feed.connected(100)
    feed.sent(ONE, 100)
    feed.next(ONE, 190, has_room=False)
    assert feed.connected(200)


def test_connections_without_a_picture_prove_nothing() -> None:
    """What ended before one was sent neither adds to the suspicion nor lifts it."""
    feed = feed_that_sent()
    assert not feed.connected(1)
    assert not feed.connected(2)
    feed.sent(ONE, 2)
    assert feed.connected(3)


def test_a_picture_that_is_done_with_is_not_offered_again() -> None:
    """One that the broker does not take for its length is told once."""
    feed = PictureFeed()
    feed.connected(0)
    feed.told(ONE)
    assert feed.next(ONE, 1, has_room=True) == (None, None)
    assert feed.next(TWO, 1, has_room=True)[0] is TWO
