"""Debian's Prometheus: its programs, a server on a free port, and what it answers."""

import asyncio
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from libs.rpc import ports


def find_program(name: str) -> str:
    """The path of `prometheus` or `promtool`. Fails with what to install."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing. Install it: apt-get install -y prometheus (Debian, Ubuntu)"
    return path


class Prometheus:
    """A server that runs."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, now."""
        found = await self._get("query", {"query": expression})
        result: list[dict[str, Any]] = found["result"]
        return result

    async def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = (await self._get("alerts", {}))["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def is_ready(self) -> bool:
        """Whether it has been started."""

        def ask() -> bool:
            try:
                with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=10) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        return await asyncio.to_thread(ask)

    async def _get(self, what: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"

        def ask() -> Any:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error

        data: dict[str, Any] = await asyncio.to_thread(ask)
        return data


@asynccontextmanager
async def open_prometheus(folder: Path, targets: Path, rules: Mapping[str, Any]) -> AsyncIterator[Prometheus]:
    """Scrape the targets of a file each second, and evaluate the rules as often."""
    address = f"127.0.0.1:{ports.find_free(1)[0]}"
    (folder / "rules.json").write_text(json.dumps(rules))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.json"],
        "scrape_configs": [{"job_name": "tally", "file_sd_configs": [{"files": [str(targets)]}]}],
    }
    (folder / "prometheus.json").write_text(json.dumps(configuration))
    log = (folder / "prometheus.log").open("w")
    process = await asyncio.create_subprocess_exec(
        find_program("prometheus"),
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stdout=log,
        stderr=log,
    )
    try:
        yield Prometheus(address)
    finally:
        process.terminate()
        await process.wait()
        log.close()
