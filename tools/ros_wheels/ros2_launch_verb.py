"""`ros2 launch`, for a ROS 2 made of wheels: they hold the launch library but not its verb."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
from ros2cli.command import CommandExtension

LAUNCH_SUFFIXES = ("launch.py", "launch.xml", "launch.yaml", "launch.yml")


def launch_files(share: Path) -> list[Path]:
    """Every launch file a package installs."""
    return sorted(path for path in share.rglob("*") if path.name.endswith(LAUNCH_SUFFIXES))


def find_launch_file(package: str, name: str) -> Path:
    """The launch file NAME of a package. Raises RuntimeError, which ros2 prints, with what there is instead."""
    try:
        share = Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError):
        raise RuntimeError(f"package '{package}' not found: is it built, and its setup.bash sourced?") from None
    there = launch_files(share)
    found = [path for path in there if path.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise RuntimeError(f"package '{package}' has several '{name}':\n  " + "\n  ".join(map(str, found)))
    known = "\n  ".join(str(path.relative_to(share)) for path in there) or "none"
    raise RuntimeError(f"package '{package}' has no launch file '{name}'; it has:\n  {known}")


def parse_arguments(words: Iterable[str]) -> list[tuple[str, str]]:
    """NAME:=VALUE words as pairs."""
    pairs = []
    for word in words:
        name, sign, value = word.partition(":=")
        if not (name and sign):
            raise RuntimeError(f"malformed launch argument '{word}', expected NAME:=VALUE")
        pairs.append((name, value))
    return pairs


def print_arguments(description: LaunchDescription) -> None:
    """List what a launch file can be given."""
    arguments = description.get_launch_arguments()
    print("Arguments (pass as NAME:=VALUE):" if arguments else "No arguments.")
    for argument in arguments:
        default = "".join(part.describe() for part in argument.default_value or [])
        print(f"\n    '{argument.name}': {argument.description}{f' (default: {default})' if default else ''}")


class LaunchCommand(CommandExtension):  # type: ignore[misc]  # ros2cli has no types
    """Run a launch file."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str) -> None:
        """Declare the words of `ros2 launch`."""
        parser.add_argument("-d", "--debug", action="store_true", help="show what the launch system does")
        parser.add_argument("-n", "--noninteractive", action="store_true", help="no terminal is attached")
        parser.add_argument("-s", "--show-args", action="store_true", help="list the launch file's arguments and end")
        parser.add_argument("package", metavar="PACKAGE|PATH", help="a package, or the path of a launch file")
        parser.add_argument("words", metavar="FILE|NAME:=VALUE", nargs="*", help="launch file, then its arguments")

    def main(self, *, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
        """Returns the exit status of the launch."""
        path, words = Path(args.package), args.words
        if not path.is_file():
            if not words:
                raise RuntimeError(f"which launch file of '{args.package}'? No file of that name is here either")
            path, words = find_launch_file(args.package, words[0]), words[1:]
        source = AnyLaunchDescriptionSource(str(path.resolve()))
        include = IncludeLaunchDescription(source, launch_arguments=parse_arguments(words))
        service = LaunchService(
            argv=words, noninteractive=args.noninteractive or not sys.stdin.isatty(), debug=args.debug
        )
        if args.show_args:
            print_arguments(source.get_launch_description(service.context))
            return 0
        service.include_launch_description(LaunchDescription([include]))
        status: int = service.run()
        return status
