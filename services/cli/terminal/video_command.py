"""A command whose argument is the id of a video, which may begin with a dash as an option does."""

from typing import Any

import typer
from typer.core import TyperCommand


class VideoCommand(TyperCommand):
    """Says what to do if what it took for an unknown option is the id of a video."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See typer, whose own classes for this are private."""
        given = list(args)  # they are used up
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            option = getattr(error, "option_name", "")
            meant = next((word for word in given if _has_option(word, option)), None)
            if meant is not None and error.message.startswith("No such option"):
                right = f"{ctx.command_path} -- {meant}"
                error.message += f". If {meant} is the id of a video, put it last, after a --: {right}"
            raise


def _has_option(word: str, option: str) -> bool:
    """Whether a word of the command line was read as that option, alone or among other letters."""
    if option.startswith("--"):
        return word.partition("=")[0] == option
    return bool(option) and word.startswith("-") and not word.startswith("--") and option[1:] in word
