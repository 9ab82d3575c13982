"""What may be under way, and what is refused."""

import asyncio
from contextlib import suppress

import pytest

from libs.rpc.admission import Admission
from tally.contract.errors import Overloaded


def test_beyond_what_may_be_under_way_requests_are_refused_until_others_have_ended() -> None:
    admission = Admission(1000)
    with admission.admit(600):
        with pytest.raises(Overloaded, match="send the same request again") as caught, admission.admit(401):
            pass
        assert caught.value.delay_s > 0
        assert caught.value.nothing_done
        with admission.admit(400):
            assert admission.bytes == 1000
    with admission.admit(1000):
        pass


def test_one_request_alone_is_admitted_however_large_it_is() -> None:
    admission = Admission(1000)
    with admission.admit(5000), pytest.raises(Overloaded), admission.admit(1):
        pass


async def test_whoever_fails_or_is_cancelled_is_under_way_no_more() -> None:
    admission = Admission(1000)

    async def wait() -> None:
        with admission.admit(1000):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded), admission.admit(1):
        pass
    waiting.cancel()
    await asyncio.wait({waiting})
    with suppress(ValueError), admission.admit(1000):
        raise ValueError
    with admission.admit(1000):
        pass
