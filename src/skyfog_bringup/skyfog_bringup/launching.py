"""What launch files share: arguments that come from the schemas, and nodes with their parameter files.

A launch argument stands for one parameter of a node's schema. Its description is the schema's; it has no default of
its own: left empty, the parameter is what the files say, else the schema's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity, Substitution
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteLocal,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from skyfog_core.config.base import S, parse
from skyfog_core.errors import ConfigError
from skyfog_core.ports import free_tcp_port

PROFILES = ("sim", "lab", "prod")
ROLES = ("detect", "generate")  # what a replica serves: config/base, then config/roles/<role>.yaml where there is one
WORLDS = ("warehouse", "tabletop", "street")
# How long a node may take to end after SIGINT, and then after SIGTERM, before it is killed.
END_LIMIT_S = 5.0
AGAIN_S = 1.0  # between the death of a node and its next start
EXIT_CONFIG = 2  # of a node whose set-up is wrong, see skyfog_core.nodes.main


def share() -> Path:
    """Where this package's launch files and configuration are installed."""
    return Path(get_package_share_directory("skyfog_bringup"))


def include(name: str) -> IncludeLaunchDescription:
    """Another launch file of this package, with every launch argument of the including one."""
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(share() / "launch" / name)))


def include_with(name: str, **arguments: Any) -> GroupAction:
    """Another launch file of this package, with `arguments` and no others."""
    given = {key: value if isinstance(value, Substitution) else str(value) for key, value in arguments.items()}
    return GroupAction([include(name)], forwarding=False, launch_configurations=given)


def include_from(package: str, name: str, **arguments: str) -> IncludeLaunchDescription:
    """A launch file of another package, found when the launch begins."""
    path = PathJoinSubstitution([FindPackageShare(package), "launch", name])
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments.items())


def common_arguments() -> list[DeclareLaunchArgument]:
    """The arguments of every component."""
    return [
        DeclareLaunchArgument("profile", default_value="sim", choices=PROFILES, description="which config/profiles"),
        DeclareLaunchArgument("namespace", default_value="", description="ROS namespace of the nodes"),
        DeclareLaunchArgument("params", default_value="", description="one more parameter file, read last"),
    ]


def arguments_of(schema: type[BaseModel], *names: str) -> list[DeclareLaunchArgument]:
    """A launch argument for each named parameter; `zenoh.listen` is given as `listen:=…`."""
    return [
        DeclareLaunchArgument(short(name), default_value="", description=_field(schema, name).description or name)
        for name in names
    ]


def component(
    package: str,
    executable: str,
    schema: type[BaseModel],
    *,
    arguments: Sequence[str],
    files: Sequence[str],
    again: bool = False,
    roles: bool = False,
) -> LaunchDescription:
    """One node with its launch arguments. `files` name its parameter files, base and profile.

    `again`: where it dies, it is started again; where its set-up is wrong, all of the launch ends. `roles`: it has an
    argument `role`, one of ROLES.
    """
    role = [DeclareLaunchArgument("role", default_value=ROLES[0], choices=ROLES, description="what it serves")]

    def node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        profile = LaunchConfiguration("profile").perform(context)
        given = given_by(context, schema, arguments)
        namespace = LaunchConfiguration("namespace").perform(context)
        written = [str(path) for path in parameter_files(share() / "config", profile, files)]
        if roles:
            path = share() / "config" / "roles" / f"{LaunchConfiguration('role').perform(context)}.yaml"
            written += [str(path)] if path.is_file() else []
        written += [path for path in [LaunchConfiguration("params").perform(context)] if path]
        name = LaunchConfiguration("node").perform(context)
        made = Node(
            package=package,
            executable=executable,
            name=name,  # so that its arguments are not also those of a service embedded in it
            namespace=namespace,
            # which of several replicas, or of several clients, a line of output is from
            exec_name=namespace if namespace and name == executable else name,
            parameters=[*written, *([given] if given else [])],
            output="screen",
            sigterm_timeout=str(END_LIMIT_S),
            sigkill_timeout=str(END_LIMIT_S),
            respawn=again,
            respawn_delay=AGAIN_S,
        )
        return [made, *([end_if_wrong(made, name)] if again else [])]

    named = DeclareLaunchArgument("node", default_value=executable, description="its name")
    return LaunchDescription(
        [
            *common_arguments(),
            *(role if roles else []),
            named,
            *arguments_of(schema, *arguments),
            OpaqueFunction(function=node),
        ]
    )


def end_if_wrong(process: ExecuteLocal, name: str) -> RegisterEventHandler:
    """End the launch where a process finds its set-up wrong: started again, it would only find so again."""

    def on_exit(event: ProcessExited, _context: LaunchContext) -> list[LaunchDescriptionEntity]:
        wrong = event.returncode == EXIT_CONFIG
        return [EmitEvent(event=Shutdown(reason=f"{name} cannot run as it is set up"))] if wrong else []

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=on_exit))


def parameter_files(config: Path, profile: str, names: Sequence[str]) -> list[Path]:
    """Those that exist of config/base/<name>.yaml and config/profiles/<profile>/<name>.yaml, the latter last."""
    folders = (config / "base", config / "profiles" / profile)
    return [path for folder in folders for name in names if (path := folder / f"{name}.yaml").is_file()]


def short(name: str) -> str:
    """The launch argument that stands for a parameter: the last part of its name."""
    return name.rpartition(".")[2]


class FreeEndpoint(Substitution):  # type: ignore[misc]  # launch has no types
    """A zenoh endpoint on loopback whose port is free when the launch begins."""

    def perform(self, context: LaunchContext) -> str:
        """Choose the port."""
        return f"tcp/127.0.0.1:{free_tcp_port()}"

    def describe(self) -> str:
        """As `ros2 launch --show-args` prints it."""
        return "a free port of loopback"


def _field(schema: type[BaseModel], name: str) -> FieldInfo:
    *parents, leaf = name.split(".")
    here: Any = schema
    for parent in parents:
        here = here.model_fields[parent].annotation
    field: FieldInfo = here.model_fields[leaf]
    return field


def given_by(context: LaunchContext, schema: type[BaseModel], names: Iterable[str]) -> dict[str, Any]:
    """The parameters whose launch arguments are not empty. What is no number stays text, for the schema to refuse."""
    texts = {name: LaunchConfiguration(short(name)).perform(context) for name in names}
    return {name: _value(_field(schema, name).annotation, text) for name, text in texts.items() if text != ""}


def configured(context: LaunchContext, schema: type[S], *names: str) -> S:
    """`schema` from launch arguments. Raises ConfigError that names the argument and what is allowed."""
    return parse(schema, given_by(context, schema, names), "launch arguments")


def _value(annotation: Any, text: str) -> Any:
    if annotation == list[str]:
        return text.split(",")
    if annotation is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return text


def pairs(text: str, argument: str, form: str) -> dict[str, str]:
    """`a=1,b=2` as a launch argument has it. Raises ConfigError that names the argument and the form."""
    found: dict[str, str] = {}
    for each in filter(None, text.split(",")):
        key, separator, value = (part.strip() for part in each.partition("="))
        if not (key and separator and value) or key in found:
            raise ConfigError(f"launch arguments: {argument}: {each!r} is not {form}, or not the first of its name")
        found[key] = value
    if not found:
        raise ConfigError(f"launch arguments: {argument}: is empty; give {form}, …")
    return found
