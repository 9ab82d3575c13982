"""The commands of the catalog on the real data set, with two replicas of which one is killed."""

import json
from pathlib import Path
from typing import Any

from loadtests.catalog.resources import DATA, read_resources
from services.cli.terminal.failure import OK, REFUSED, USAGE
from tests.support.processes import run_service
from tests.support.terminal import run

TYPES = Path(__file__).parents[2] / "loadtests" / "catalog" / "types.toml"
SOON_STALE = {"TALLY_CATALOG__RIGHTS__MAX_STALENESS_SECONDS": "2"}
VIEWER = ("--viewer", "us/48/mobile")


async def test_videos_are_loaded_found_hidden_and_paged_while_a_replica_is_killed(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    resources = list(read_resources(DATA))
    videos = {each["id"]: each["details"] for each in resources if each["id"].endswith("v")}
    file = tmp_path / "videos.jsonl"
    bad = '{"id": "7v", "details": {"title": "A", "title": "B"}}\n{"id": "x", "details": {}}\n'
    file.write_text("".join(json.dumps(each) + "\n" for each in resources) + bad)
    async with (
        run_service("catalog", dsn, valkey_url, tmp_path, env=SOON_STALE) as first,
        run_service("catalog", dsn, valkey_url, tmp_path, env=SOON_STALE) as second,
    ):

        async def tally(*command: str, address: str = first.address) -> str:
            done = await run("catalog", *command, address=address)
            assert (done.exit_code, done.err) == (OK, ""), done
            return done.out

        async def find(*command: str, address: str = first.address) -> Any:
            return json.loads(await tally("find", *command, *VIEWER, "--json", address=address))

        assert "type video" in await tally("types", "put", str(TYPES))
        loaded = await run("catalog", "load", str(file), address=first.address)
        assert loaded.exit_code == REFUSED
        assert "tally: 2 lines were refused" in loaded.err
        assert loaded.out.startswith(f"{len(resources):,} resources, of which {len(resources):,} were new")
        rejected = [json.loads(line) for line in Path(f"{file}.rejected").read_text().splitlines()]
        assert [each["line"] for each in rejected] == [len(resources) + 1, len(resources) + 2]
        again = await run("catalog", "load", str(file), address=second.address)
        assert f"of which {0:,} were new" in again.out

        ranked = sorted(videos, key=lambda each: (videos[each]["views"], int(each[:-1])), reverse=True)
        page = await find(
            "t:clips", "--sort", "views", "--total", "--facets", "genre", address=second.address
        )
        assert [item["id"] for item in page["items"]] == ranked[:20]
        assert page["total"] == len(videos)
        assert sum(page["facets"]["genre"].values()) == len(videos)

        top = ranked[0]
        rules = tmp_path / "rules.csv"
        rules.write_text(
            f"subject,priority,allow,countries,from,reason\n{top},1,no,US CA,2017-01-01T00:00:00Z,not ours\n"
        )
        assert "in force in 2 processes" in await tally("rules", "put", str(rules))
        for address in (first.address, second.address):
            hidden = await find("t:clips", "--sort", "views", "--total", address=address)
            assert [item["id"] for item in hidden["items"]] == ranked[1:21]
            assert hidden["total"] == len(videos) - 1
        assert (await run("catalog", "get", top, *VIEWER, address=first.address)).exit_code == REFUSED
        assert json.loads(await tally("get", top))["details"]["title"] == videos[top]["title"]
        assert (await tally("rules", "list")).splitlines()[1].startswith(f"{top},1,no,CA US,")

        channel = videos[ranked[1]]["container"]
        members = [each for each in ranked[1:] if videos[each]["container"] == channel]
        of_channel = await find(f"{channel}:videos", "--sort", "views", "--limit", "500")
        assert [item["id"] for item in of_channel["items"]] == members

        walked: list[str] = []
        token = ""
        while True:
            address = second.address if len(walked) < 1_000 else first.address
            if token and len(walked) == 1_000:
                second.kill()
            page = await find(
                "t:clips", "--sort", "views", "--limit", "500", "--page", token, address=address
            )
            walked += [item["id"] for item in page["items"]]
            token = page["next_page_token"]
            if not token:
                break
        assert walked == ranked[1:]

        keys = await tally("keys", ranked[1])
        assert f"r:{channel}:videos  member" in keys
        assert "r:x:t:clips  member" in keys
        status = json.loads(await tally("status", "--json"))
        assert status["projection_state"] == "complete"

        assert (await tally("delete", ranked[1])).startswith(f"{ranked[1]}: removed by change")
        assert [item["id"] for item in (await find("--sort", "views", "--limit", "1"))["items"]] == [
            ranked[2]
        ]
        assert (await run("catalog", "find", "typo:x", *VIEWER, address=first.address)).exit_code == REFUSED
        assert (await run("catalog", "find", "--viewer", "us", address=first.address)).exit_code == USAGE
