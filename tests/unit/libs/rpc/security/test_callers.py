"""The file of callers: what it says, and what it may not say."""

from hashlib import sha256

import pytest

from libs.rpc.security.callers import Restriction, read_callers

HASH = sha256(b"token").hexdigest()


def read(text: str) -> object:
    return read_callers([text.encode()])


def test_a_caller_is_found_by_its_token_and_by_its_certificate() -> None:
    callers = read_callers(
        [
            f"""
[[caller]]
name = "web"
token_sha256 = "{HASH}"
roles = ["write"]
video_id_prefix = "a/"
event_types = ["view"]

[[caller]]
name = "services"
certificate = "tally-service"
roles = ["internal", "write"]
""".encode()
        ]
    )
    web, services = callers.by_token_hash[HASH], callers.by_certificate["tally-service"]
    assert (web.name, set(web.roles)) == ("web", {"write"})
    assert web.restriction == Restriction("a/", frozenset({"view"}))
    assert services.roles == {"internal", "write", "read"}
    assert services.restriction is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[caller]", "not TOML"),
        ("[other]", "nothing else"),
        ('caller = "me"', "nothing else"),
        ('caller = ["me"]', "nothing else"),
        ('[[caller]]\nname = "a"\nroles = ["read"]', "caller 1: token_sha256 or certificate"),
        ('[[caller]]\nname = "a"\ncertificate = "a"\nroles = ["admin"]', "roles must be some of"),
        ('[[caller]]\nname = "a"\ncertificate = "a"\nroles = []', "roles must be some of"),
        ('[[caller]]\nname = "a"\ncertificate = "a"\nrole = ["read"]', "there is no key role"),
        ('[[caller]]\nname = "a"\ncertificate = "a"\nroles = "read"', "roles must be a list"),
        ('[[caller]]\nname = "a"\ntoken_sha256 = "my-secret"\nroles = ["read"]', "64 hexadecimal digits"),
        (
            '[[caller]]\nname = "a"\ncertificate = "a"\nroles = ["operate"]\nvideo_id_prefix = "a/"',
            "restrict the roles write and read alone",
        ),
        (2 * '[[caller]]\nname = "a"\ncertificate = "a"\nroles = ["read"]\n', "caller 2: certificate must"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_a_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        read(text)
    assert problem in str(caught.value)
    assert "my-secret" not in str(caught.value)


def test_what_is_known_of_tokens_is_in_no_repr() -> None:
    callers = read(f'[[caller]]\nname = "web"\ntoken_sha256 = "{HASH}"\nroles = ["read"]')
    assert HASH not in repr(callers)
