"""A new token, and what servers know of it."""

from hashlib import sha256

import pytest

from libs.rpc.security.callers import Restriction, read_callers
from services.cli.suite.token import make_token
from services.cli.terminal.failure import Failure


def test_the_entry_knows_the_token_by_its_hash_alone() -> None:
    made = make_token('the "web" of ü', ["write"], "a/", ["view"])
    assert made.token not in made.entry
    assert made.token not in repr(made)
    caller = read_callers([made.entry.encode()]).by_token_hash[sha256(made.token.encode()).hexdigest()]
    assert (caller.name, set(caller.roles)) == ('the "web" of ü', {"write"})
    assert caller.restriction == Restriction("a/", frozenset({"view"}))


def test_each_token_is_another_one() -> None:
    assert make_token("a", ["read"], "", None).token != make_token("a", ["read"], "", None).token


def test_a_role_that_there_is_not_is_refused() -> None:
    with pytest.raises(Failure, match="roles must be some of"):
        make_token("a", ["admin"], "", None)
