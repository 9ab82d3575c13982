"""`python -m loadtests.youtube`: the simulated api with the videos of loadtests/data, until Ctrl-C."""

import argparse
import asyncio
import csv
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from loadtests.demo.__main__ import FILE
from loadtests.demo.dataset import read_dataset
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog, Video

CHANNEL = "UC_simulated_channel"
"""The data set has titles of channels, and no ids."""


def read_videos() -> list[Video]:
    """The videos of the data set, as of the last day on which each was trending."""
    latest = {row.video_id: row for row in sorted(read_dataset(FILE).rows, key=lambda row: row.day)}
    return [
        Video(
            row.video_id,
            row.title,
            CHANNEL,
            view_count=row.views,
            like_count=row.likes,
            comment_count=row.comments,
        )
        for row in latest.values()
    ]


def write_videos(videos: Iterable[Video], file: TextIO) -> None:
    """The ids, as CSV for `tally videos import`; the rest is for a sync to find out."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["youtube_id"])
    rows.writerows([video.id] for video in videos)


async def serve(port: int, units_per_day: int) -> None:
    """Serve until cancelled."""
    simulator = Simulator(Catalog(read_videos()), Meter(units_per_day))
    async with open_simulator(simulator, port):
        print(
            f"YouTube's api, simulated, is at {simulator.url} for the key {simulator.key}. Ctrl-C stops it."
        )
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="where to listen on 127.0.0.1 (default: 8090)")
    parser.add_argument("--units", type=int, default=10_000, help="units a Pacific day (default: 10000)")
    parser.add_argument("--list", action="store_true", help="print the ids of its videos as CSV, and end")
    options = parser.parse_args()
    if options.list:
        write_videos(read_videos(), sys.stdout)
    else:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(options.port, options.units))
