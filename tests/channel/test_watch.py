"""When a silent peer is asked, by playbooks: times in, questions and verdicts out."""

from __future__ import annotations

from itertools import pairwise

from criimage.channel.watch import PingWatch


def test_a_peer_is_asked_only_while_a_call_waits() -> None:
    """Without a call nobody needs an answer, and servers hang up on those who ask without one."""
    watch = PingWatch(0)
    assert watch.tick(100, waiting=False) == (False, False)
    assert watch.tick(100, waiting=True) == (True, False)


def test_silence_is_told_once_and_ends_with_any_bytes() -> None:
    """No reply within ten seconds is a silence; the first bytes of any kind end it."""
    watch = PingWatch(0)
    assert watch.tick(6, waiting=True) == (True, False)
    assert watch.tick(11, waiting=True) == (False, False)
    assert watch.tick(16, waiting=True) == (False, True)
    during = watch.silent
    assert watch.tick(21, waiting=True) == (False, False)
    assert watch.heard(22, answer=False)
    assert (during, watch.silent) == (True, False)
    assert not watch.heard(23, answer=True)


def test_no_more_questions_than_grpc_servers_take() -> None:
    """grpc-go ends a connection at the third PING too many: one an answer, two more, then one in five minutes."""
    watch, asked = PingWatch(0), []
    for second in range(0, 3600, 5):
        ping, _ = watch.tick(second, waiting=True)
        if ping:
            asked.append(second)
            watch.heard(second + 0.1, answer=False)
    assert asked[:3] == [5, 15, 25]
    assert all(later - earlier > 300 for earlier, later in pairwise(asked[2:]))
    watch.heard(3600, answer=True)
    assert watch.tick(3606, waiting=True) == (True, False)
