"""DID documents: only the account's own host and key count."""

from typing import Any

import pytest

from services.backfill.documents import Account, NoAccount, is_resolvable, read_document, url_of

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "id": DID,
        "service": [
            {"id": "#labeler", "type": "AtprotoLabeler", "serviceEndpoint": "https://labeler"},
            {
                "id": f"{DID}#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://pds/",
            },
        ],
        "verificationMethod": [
            {"id": "#other", "type": "Multikey", "publicKeyMultibase": "zOther"},
            {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": "zKey"},
        ],
        **changes,
    }


def test_the_host_is_the_service_atproto_pds_wherever_it_is_in_the_list() -> None:
    """T002-27"""
    assert read_document(DID, document()) == Account(DID, "https://pds", "Multikey", "zKey")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"id": "did:plc:another"}, "document_malformed"),
        ({"service": []}, "no_host"),
        ({"service": None}, "no_host"),
        ({"service": [{"id": "#atproto_pds", "type": "Other", "serviceEndpoint": "https://x"}]}, "no_host"),
        ({"service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer"}]}, "no_host"),
        ({"service": ["#atproto_pds", 7]}, "no_host"),
        ({"verificationMethod": [{"id": "#atproto", "type": "Multikey"}]}, "no_key"),
        ({"verificationMethod": {}}, "no_key"),
    ],
)
def test_a_document_without_host_or_key_is_an_outcome(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(NoAccount) as refused:
        read_document(DID, document(**changed))
    assert refused.value.reason == reason


@pytest.mark.parametrize("wrong", [None, [], "text", 7])
def test_what_is_no_document_is_an_outcome(wrong: object) -> None:
    with pytest.raises(NoAccount):
        read_document(DID, wrong)


def test_dids_that_can_be_resolved_and_where() -> None:
    assert [
        is_resolvable(did)
        for did in (
            *(DID, "did:web:example.com", "did:web:localhost%3A8080"),
            *("did:plc:short", f"{DID}x", DID.replace("e", "E"), DID.replace("e", "1")),
            *(
                "did:web:example.com:path",
                "did:web:",
                "did:key:zQ3",
                "alice.example.com",
                "",
                "did:web:" + "a" * 130,
            ),
        )
    ] == [True] * 3 + [False] * 10
    assert url_of(DID, "https://directory/", simulated=False) == f"https://directory/{DID}"
    assert url_of("did:web:a.b%3A80", "", simulated=False) == "https://a.b:80/.well-known/did.json"
