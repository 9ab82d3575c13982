"""What several commands of `tally jobs` take."""

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="The job's name.", show_default=False)]
RequestId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Of an earlier try without an answer, so that one run is planned."),
]
