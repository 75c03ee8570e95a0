"""What a short name may mean is tried in order; the last error counts and names the earlier ones (cri-o P2, P3)."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from criimage import errors
from criimage.backend import Phase
from criimage.credentials import Credentials
from pulls.clock import on_a_clock, settle
from pulls.fake_backend import setting

THREE = ("a.example/x:1", "b.example/x:1", "c.example/x:1")


@on_a_clock
async def test_the_first_success_ends_the_loop() -> None:
    """Each failure leads to the next candidate, shown as the one being pulled; nothing after a success."""
    async with setting() as at:
        at.backend.meanings["x:1"] = THREE
        task = await at.call("x:1")
        assert [view.resolved for view in at.pulls.running()] == [THREE[0]]
        at.attempts[0].downloading(500, 1000)
        at.attempts[0].fail(errors.RemoteImageMissing("manifest unknown"))
        await settle()
        (view,) = at.pulls.running()
        assert (view.reference, view.resolved) == ("x:1", THREE[1])
        assert (view.progress.phase, view.progress.bytes_done, view.progress.bytes_total) == (Phase.RESOLVING, 0, None)
        at.attempts[1].succeed()
        pulled = await task
        assert str(pulled.reference) == THREE[1]
        assert len(at.attempts) == 2


@on_a_clock
async def test_the_last_error_counts() -> None:
    """Its kind and its text first, then the earlier ones by candidate; each is in the log at debug."""
    async with setting() as at:
        at.backend.meanings["x:1"] = THREE
        task = await at.call("x:1")
        with capture_logs() as logs:
            for error in (
                errors.AccessDenied("unauthorized"),
                errors.RemoteImageMissing("unknown"),
                errors.RegistryUnavailable("refused"),
            ):
                at.attempts[-1].fail(error)
                await settle()
            with pytest.raises(errors.RegistryUnavailable) as caught:
                await task
        text = f"refused; earlier: {THREE[0]}: unauthorized; {THREE[1]}: unknown"
        assert (caught.value.text, str(caught.value)) == (text, text)
        tried = [line for line in logs if line["event"] == "candidate failed"]
        assert [line["candidate"] for line in tried] == list(THREE)
        assert {line["log_level"] for line in tried} == {"debug"}


@on_a_clock
async def test_one_candidates_error_is_left_as_it_is() -> None:
    """No additions where there is nothing earlier."""
    async with setting() as at:
        task = await at.call("a.example/x")
        at.attempts[0].fail(errors.RateLimited("slow down"))
        with pytest.raises(errors.RateLimited, match=r"^slow down$"):
            await task


@on_a_clock
async def test_no_candidate_is_an_error() -> None:
    """A backend that resolves to nothing breaks its contract; the caller hears of it."""
    async with setting() as at:
        at.backend.meanings["x:1"] = ()
        with pytest.raises(errors.CriimageError):
            await (await at.call("x:1"))


@on_a_clock
async def test_a_cancel_ends_the_loop() -> None:
    """The operator's cancel is not taken for the failure of a candidate."""
    async with setting() as at:
        at.backend.meanings["x:1"] = THREE
        task = await at.call("x:1")
        at.pulls.cancel("1")
        with pytest.raises(errors.PullCancelled):
            await task
        await at.work.drain()
        assert len(at.attempts) == 1


@on_a_clock
async def test_credentials_go_where_they_are_meant_to() -> None:
    """Another host gets none, and a failure there says that they were not sent (design section 4)."""
    async with setting() as at:
        at.backend.meanings["x:1"] = THREE
        sent = Credentials("bob", "s", server_address="https://b.example/v2/")
        task = await at.call("x:1", sent)
        for _ in THREE:
            at.attempts[-1].fail(errors.AccessDenied("unauthorized"))
            await settle()
        assert [attempt.credentials for attempt in at.attempts] == [None, sent, None]
        with pytest.raises(errors.AccessDenied) as caught:
            await task

        def note(host: str) -> str:
            return f"unauthorized (the credentials were not sent: they name another registry than {host})"

        earlier = f"{THREE[0]}: {note('a.example')}; {THREE[1]}: unauthorized"
        assert caught.value.text == f"{note('c.example')}; earlier: {earlier}"
