"""The commands of the service `scheduler`."""

import typer

from services.cli.scheduler.job_commands import make_jobs
from services.cli.scheduler.member_commands import make_channels, make_videos
from services.cli.scheduler.quota_commands import make_quota


def add_commands(app: typer.Typer) -> None:
    """`tally videos`, `channels`, `quota` and `jobs`."""
    app.add_typer(make_videos(), name="videos")
    app.add_typer(make_channels(), name="channels")
    app.add_typer(make_quota(), name="quota")
    app.add_typer(make_jobs(), name="jobs")
