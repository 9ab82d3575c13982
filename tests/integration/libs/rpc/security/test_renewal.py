"""Certificates that are renewed while a server runs and while channels are open."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from libs.rpc.channel import ChannelSettings, open_channel
from libs.rpc.server import ServerSettings, open_server
from tally.contract.errors import NotReady
from tally.counting.v1 import counting_pb2
from tests.integration.libs.rpc.servicer import Counting, CountingStub, counting
from tests.support.certificates import Files, make_files
from tests.support.eventually import eventually


def trust(files: Files, other: Files) -> None:
    """Every peer with `files` trusts both authorities."""
    files.write("ca.pem", files.authority.pair.certificate + other.authority.pair.certificate)


async def append(channel: grpc.aio.Channel) -> counting_pb2.AppendResponse:
    response: counting_pb2.AppendResponse = await CountingStub(channel).Append(
        counting_pb2.AppendRequest(), timeout=10
    )
    return response


async def answers(channel: grpc.aio.Channel) -> bool:
    try:
        await append(channel)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_renewed_certificate_is_shown_to_new_connections_and_channels_follow(tmp_path: Path) -> None:
    """The authority itself is replaced: trust in both, then new certificates, then trust in the new one alone."""
    old, new = make_files(tmp_path / "tls", "old"), make_files(tmp_path / "new", "new")
    settings = ServerSettings(address="127.0.0.1:0", grace_seconds=1.0, tls=old.server())
    channel_tls = old.channel("client")
    async with (
        open_server(settings, [counting(Counting())]) as server,
        open_channel(server.address, ChannelSettings(max_attempts=1, tls=channel_tls)) as channel,
    ):
        append_by_stub = CountingStub(channel).Append  # a stub keeps its methods for life
        await append_by_stub(counting_pb2.AppendRequest(), timeout=10)
        trust(old, new)

        async def a_new_client_is_accepted() -> bool:
            tls = new.channel("client").model_copy(update={"ca_file": tmp_path / "tls" / "ca.pem"})
            async with open_channel(server.address, ChannelSettings(max_attempts=1, tls=tls)) as other:
                return await answers(other)

        await eventually(a_new_client_is_accepted)
        later = Files(old.folder, new.authority)
        later.issue("server")
        later.issue("client")
        trusting_new_alone = new.channel("another")

        async def a_new_certificate_is_shown() -> bool:
            async with open_channel(
                server.address, ChannelSettings(max_attempts=1, tls=trusting_new_alone)
            ) as other:
                return await answers(other)

        await eventually(a_new_certificate_is_shown)
        old.write("ca.pem", new.authority.pair.certificate)

        async def the_old_one_is_refused() -> bool:
            tls = make_files(tmp_path / "other").write_pair(
                "client", old.authority.issue("client", ["localhost"], until=later_than_now())
            )
            settings = trusting_new_alone.model_copy(update={"certificate_file": tls[0], "key_file": tls[1]})
            async with open_channel(server.address, ChannelSettings(max_attempts=1, tls=settings)) as other:
                return not await answers(other)

        await eventually(the_old_one_is_refused)
        await append_by_stub(counting_pb2.AppendRequest(), timeout=10)


def later_than_now() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_a_half_renewed_pair_changes_nothing(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    settings = ServerSettings(address="127.0.0.1:0", grace_seconds=1.0, tls=files.server())
    tls = files.channel("client")
    async with open_server(settings, [counting(Counting())]) as server:
        certificate = (tmp_path / "server.pem").read_bytes()
        files.issue("server")
        (tmp_path / "server.pem").write_bytes(certificate)  # the key is new, the certificate is not yet
        async with open_channel(server.address, ChannelSettings(max_attempts=1, tls=tls)) as channel:
            await append(channel)


@pytest.mark.parametrize("wrong", ["another key", "no certificate", "no file"])
async def test_a_server_does_not_start_with_files_that_it_cannot_use(tmp_path: Path, wrong: str) -> None:
    files = make_files(tmp_path)
    tls = files.server()
    if wrong == "another key":
        tls = tls.model_copy(update={"key_file": files.issue("other")[1]})
    elif wrong == "no certificate":
        files.write("server.pem", b"nothing")
    else:
        tls = tls.model_copy(update={"key_file": tmp_path / "missing.key"})
    with pytest.raises(NotReady, match="cannot read the server's certificate") as caught:
        async with open_server(ServerSettings(address="127.0.0.1:0", tls=tls), [counting(Counting())]):
            pass
    assert "PRIVATE KEY" not in str(caught.value)


async def test_a_name_that_the_certificate_does_not_have_can_be_stated(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    own = files.write_pair("own", files.authority.issue("own", ["tally"], until=later_than_now()))
    server_tls = files.server().model_copy(update={"certificate_file": own[0], "key_file": own[1]})
    client = files.channel("client")
    settings = ServerSettings(address="127.0.0.1:0", grace_seconds=1.0, tls=server_tls)
    async with open_server(settings, [counting(Counting())]) as server:
        async with open_channel(server.address, ChannelSettings(max_attempts=1, tls=client)) as channel:
            assert not await answers(channel)
        named = ChannelSettings(max_attempts=1, tls=client.model_copy(update={"server_name": "tally"}))
        async with open_channel(server.address, named) as channel:
            assert await answers(channel)
