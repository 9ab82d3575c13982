"""Who a caller is: what is kept of tokens between calls."""

from hashlib import sha256
from typing import Any

import pytest

from libs.rpc.security import identity
from libs.rpc.security.callers import Caller, Callers
from libs.rpc.security.identity import Identify
from tally.contract.errors import Unauthenticated

WRITER = Caller("writer", frozenset({"write"}))


class Context:
    """The part of gRPC's context that is looked at."""

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def invocation_metadata(self) -> Any:
        return self._metadata


class File:
    """A file of callers that changes."""

    def __init__(self, *tokens: str) -> None:
        self.write(*tokens)

    def write(self, *tokens: str) -> None:
        self.current = Callers({sha256(token.encode()).hexdigest(): WRITER for token in tokens})


def make_identify(file: File) -> Identify:
    return Identify(lambda: file.current, frozenset(), None)


def test_a_token_is_hashed_once_and_not_again_with_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def note(token: bytes) -> Any:
        hashed.append(token)
        return sha256(token)

    monkeypatch.setattr(identity, "sha256", note)
    identify = make_identify(File("good"))
    assert [identify(Context("good")) for _ in range(3)] == 3 * [WRITER]
    assert hashed == [b"good"]


def test_a_token_that_is_taken_out_of_the_file_is_refused_from_then_on() -> None:
    file = File("good", "other")
    identify = make_identify(file)
    identify(Context("good"))
    file.write("other")
    with pytest.raises(Unauthenticated) as caught:
        identify(Context("good"))
    assert caught.value.reason == "TOKEN_UNKNOWN"
    assert identify(Context("other")) is WRITER


def test_refused_tokens_are_not_kept_and_of_good_ones_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "_MAX_KNOWN", 3)
    tokens = [f"good {number}" for number in range(10)]
    identify = make_identify(File(*tokens))
    for token in tokens:
        identify(Context(token))
        with pytest.raises(Unauthenticated):
            identify(Context(f"not {token}"))
    assert [*identify._known] == [f"Bearer {token}" for token in tokens[-3:]]
