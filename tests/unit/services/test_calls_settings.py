"""TLS of the calls between services: one setting for all of them, and one for each channel that differs."""

from pathlib import Path

from libs.rpc.channel import ChannelSettings
from libs.rpc.security.tls import ChannelTlsSettings
from services.registry import SERVICES
from services.settings import CallsSettings, read_settings
from services.worker.settings import WorkerSettings

ALL, OWN = ChannelTlsSettings(ca_file=Path("all.pem")), ChannelTlsSettings(ca_file=Path("own.pem"))


def test_every_channel_of_every_service_has_the_tls_of_all_calls() -> None:
    settings = read_settings(calls=CallsSettings(tls=ALL))
    channels = [
        value
        for service in SERVICES
        for _, value in settings.of(service.settings)
        if isinstance(value, ChannelSettings)
    ]
    assert len(channels) >= 5
    assert all(channel.tls == ALL for channel in channels)


def test_a_channel_with_tls_of_its_own_keeps_it() -> None:
    worker = WorkerSettings(channel=ChannelSettings(tls=OWN))
    settings = read_settings(calls=CallsSettings(tls=ALL), worker=worker)
    found = settings.of(WorkerSettings)
    assert (found.channel.tls, found.backfill_channel.tls) == (OWN, ALL)
