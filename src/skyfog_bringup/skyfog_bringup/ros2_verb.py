"""`ros2 skyfog`: the verbs of the `skyfog` command under ros2."""

from __future__ import annotations

import argparse
from typing import Any

from ros2cli.command import CommandExtension

from skyfog_bringup.cli import app, main


class SkyfogCommand(CommandExtension):  # type: ignore[misc]  # ros2cli has no types
    """Skyfog: cloud compute as if it never failed."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str, **_: Any) -> None:
        """Take all words as they are: their meaning is the skyfog command's."""
        verbs = ", ".join(
            sorted(str(command.callback.__name__) for command in app.registered_commands if command.callback)
        )
        parser.add_argument("words", nargs=argparse.REMAINDER, metavar="VERB …", help=f"one of {verbs}")

    def main(self, *, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
        """Returns the exit status."""
        try:
            main(args.words, name="ros2 skyfog")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0
