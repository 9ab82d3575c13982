"""What a channel is told to do."""

from libs.rpc.channel import ChannelSettings, service_config


def test_only_unavailable_is_retried() -> None:
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    assert service_config(ChannelSettings())["methodConfig"] == [{"name": [{}], "retryPolicy": policy}]


def test_no_timeout_is_left_to_the_service_config() -> None:
    assert "timeout" not in str(service_config(ChannelSettings()))


def test_health_is_watched_only_when_a_service_is_named() -> None:
    assert "healthCheckConfig" not in service_config(ChannelSettings())
    config = service_config(ChannelSettings(health_service="tally.query.v1.QueryService"))
    assert config["healthCheckConfig"] == {"serviceName": "tally.query.v1.QueryService"}


def test_without_further_attempts_there_is_no_policy() -> None:
    config = service_config(ChannelSettings(max_attempts=1))
    assert "methodConfig" not in config
    assert "retryThrottling" not in config
