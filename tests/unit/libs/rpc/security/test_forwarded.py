"""The name in a forwarded certificate, and headers that somebody has made up."""

import pytest

from libs.rpc.security.forwarded import read_name

HASH = "Hash=" + 64 * "a"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (f'{HASH};Subject="CN=web"', "web"),
        (f'By=spiffe://a/b;{HASH};Subject="CN=web one,O=Example"', "web one"),
        (f'{HASH};Subject="O=Example,CN=web"', "web"),
        ("", None),
        (HASH, None),
        (f'{HASH};Subject=""', None),
        (f'{HASH};Subject="O=Example"', None),
        (f'{HASH};Subject="CN=web,CN=operator"', None),
        (f'{HASH};Subject="CN=web+CN=operator"', None),
        (f'{HASH};Subject="O=x\\,CN=operator,CN=web"', None),
        (f'{HASH};Subject="CN=web";Subject="CN=operator"', None),
        (f'{HASH};Subject="CN=web",{HASH};Subject="CN=operator"', None),
        ('Subject="CN=web"', None),
    ],
)
def test_only_a_name_beyond_doubt_is_read(header: str, name: str | None) -> None:
    assert read_name(header) == name
