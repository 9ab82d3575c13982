"""JSON Web Tokens: who is let in, who is not, and what is remembered."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.rpc.security import jwt as jwt_module
from libs.rpc.security.callers import Caller, Restriction
from libs.rpc.security.jwt import JwtTokens
from libs.rpc.security.watched import CHECK_SECONDS
from tally.contract.errors import NotReady, Unauthenticated

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
NOW = 2_000_000_000


def public(key: Any, kid: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else None
    document = (algorithm or jwt.algorithms.RSAAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**document, "kid": kid, "use": "sig"}


def write(path: Path, *keys: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


def sign(key: Any = KEY, kid: str = "one", algorithm: str = "ES256", **claims: Any) -> str:
    said = {
        "sub": "web",
        "exp": NOW + 60,
        "iss": "issuer",
        "aud": "tally",
        "tally_roles": ["write"],
        **claims,
    }
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key, algorithm, headers={"kid": kid})


def read(tokens: JwtTokens, token: str) -> Caller:
    return tokens.read(token, sha256(token.encode()).hexdigest())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """PyJWT reads the time by itself; here it is NOW."""
    from datetime import UTC, datetime

    class Fixed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Fixed":
            return cls.fromtimestamp(NOW, tz or UTC)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Fixed)
    return lambda: NOW


@pytest.fixture
def tokens(tmp_path: Path, clock: Callable[[], float]) -> JwtTokens:
    jwks = write(tmp_path / "jwks.json", public(KEY, "one"))
    return JwtTokens(jwks, "issuer", "tally", time_s=clock)


def test_a_good_token_has_a_name_roles_and_a_restriction(tokens: JwtTokens) -> None:
    token = sign(tally_roles=["read", "write"], tally_video_id_prefix="a/", tally_event_types=["view"])
    caller = read(tokens, token)
    assert (caller.name, set(caller.roles)) == ("web", {"read", "write"})
    assert caller.restriction == Restriction("a/", frozenset({"view"}))
    assert read(tokens, token) is caller


def unsigned() -> str:
    return jwt.encode({"sub": "web", "exp": NOW + 60}, "", "none", headers={"kid": "one"})


def signed_with_the_public_key() -> str:
    """The confusion of RS256 and HS256: a public key, taken for a secret."""
    import base64
    import hmac

    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [
        {"alg": "HS256", "kid": "one", "typ": "JWT"},
        {"sub": "web", "exp": NOW + 60, "tally_roles": ["write"]},
    ]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    signature = hmac.new(pem, b".".join(encoded), "sha256").digest()
    return b".".join([*encoded, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: sign(exp=NOW - 60), "TOKEN_EXPIRED"),
        (lambda: sign(exp=None), "TOKEN_INVALID"),
        (lambda: sign(sub=None), "TOKEN_INVALID"),
        (lambda: sign(iss="another"), "TOKEN_INVALID"),
        (lambda: sign(aud="another"), "TOKEN_INVALID"),
        (lambda: sign(aud=None), "TOKEN_INVALID"),
        (lambda: sign(OTHER), "TOKEN_INVALID"),
        (lambda: sign(kid="two"), "TOKEN_INVALID"),
        (lambda: sign(tally_roles=None), "TOKEN_INVALID"),
        (lambda: sign(tally_roles="write"), "TOKEN_INVALID"),
        (lambda: sign(tally_roles=["admin"]), "TOKEN_INVALID"),
        (lambda: sign(tally_roles=["operate"], tally_video_id_prefix="a/"), "TOKEN_INVALID"),
        (lambda: sign(tally_roles=["write"], tally_event_types="view"), "TOKEN_INVALID"),
        (lambda: sign()[:-4] + "AAAA", "TOKEN_INVALID"),
        (lambda: "a.b.c", "TOKEN_INVALID"),
        (unsigned, "TOKEN_INVALID"),
        (signed_with_the_public_key, "TOKEN_INVALID"),
    ],
)
def test_a_bad_token_is_refused_and_not_remembered(
    tokens: JwtTokens, make: Callable[[], str], reason: str
) -> None:
    token = make()
    with pytest.raises(Unauthenticated) as caught:
        read(tokens, token)
    assert caught.value.reason == reason
    assert token not in str(caught.value)
    assert tokens._known == {}


def test_what_is_remembered_is_bounded(tokens: JwtTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_module, "_MAX_KNOWN", 3)
    for number in range(5):
        read(tokens, sign(sub=f"web {number}"))
    assert len(tokens._known) == 3


def test_a_key_that_is_taken_out_is_good_no_longer(tmp_path: Path, clock: Callable[[], float]) -> None:
    jwks = write(tmp_path / "jwks.json", public(KEY, "one"))
    tokens, token = JwtTokens(jwks, None, None, time_s=clock), sign()
    read(tokens, token)
    write(jwks, public(OTHER, "two"))
    tokens._keys._checked_at -= CHECK_SECONDS
    with pytest.raises(Unauthenticated):
        read(tokens, token)
    read(tokens, sign(OTHER, "two"))


def test_rsa_keys_are_good_too(tmp_path: Path, clock: Callable[[], float]) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    tokens = JwtTokens(write(tmp_path / "jwks.json", public(key, "r")), None, None, time_s=clock)
    assert read(tokens, sign(key, "r", "RS256")).name == "web"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "kid": "s", "alg": "HS256", "k": "c2VjcmV0"}]}',
    ],
)
def test_a_file_without_public_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(NotReady, match="cannot read the keys of JWTs"):
        JwtTokens(path, None, None)
