"""ROS parameters from a schema: declared once with type, bounds and description, then frozen."""

from __future__ import annotations

import contextlib
import itertools
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from skyfog_core.config.base import S
from skyfog_core.config.parameters import Parameter, file_of, from_flat, parameters_of
from skyfog_core.errors import ConfigError

# Parameters that every rclpy node has of its own.
_OF_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides.")

# How a node of ours must be made, so that keys its schema does not know are seen and refused, not dropped.
NODE_OPTIONS: dict[str, Any] = {"automatically_declare_parameters_from_overrides": True}


def params_files(argv: Sequence[str] | None = None) -> list[Path]:
    """The `--params-file` arguments of this process, in order."""
    words = sys.argv if argv is None else argv
    return [Path(value) for word, value in itertools.pairwise(words) if word == "--params-file"]


@contextlib.contextmanager
def blame(key: str) -> Iterator[None]:
    """Put the file that sets `key`, and the key, before the message of a ConfigError raised inside."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{file_of(key, params_files())}: {key}: {error}") from None


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    described = ParameterDescriptor(
        name=parameter.name,
        type=RosParameter.Type.from_parameter_value(parameter.value).value if parameter.value != [] else 9,
        description=parameter.description,
        read_only=not parameter.live,
        # rclpy takes an empty list for bytes, and then nothing else; the schema knows the type
        dynamic_typing=parameter.live and parameter.value == [],
    )
    if isinstance(parameter.value, bool) or (parameter.low is None and parameter.high is None):
        return described
    if isinstance(parameter.value, int):
        low = -(2**63) if parameter.low is None else int(parameter.low)
        high = 2**63 - 1 if parameter.high is None else int(parameter.high)
        described.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif isinstance(parameter.value, float):
        low_f = -sys.float_info.max if parameter.low is None else float(parameter.low)
        high_f = sys.float_info.max if parameter.high is None else float(parameter.high)
        described.floating_point_range = [FloatingPointRange(from_value=low_f, to_value=high_f, step=0.0)]
    return described


def declare(node: Node, schema: type[S]) -> S:
    """Read `node`'s parameters into `schema` and declare each with bounds and description.

    The node must have been made with NODE_OPTIONS. Raises ConfigError that names file, key and bound.
    """
    given = {
        name: list(parameter.value) if isinstance(parameter.value, array) else parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(_OF_ROS) and parameter.value is not None
    }
    config = from_flat(schema, given, params_files())
    for parameter in parameters_of(config):
        described = _descriptor(parameter)
        if node.has_parameter(parameter.name):
            if parameter.name in given and type(given[parameter.name]) is not type(parameter.value):
                node.set_parameters([RosParameter(parameter.name, value=parameter.value)])
            node.set_descriptor(parameter.name, described)
        else:
            node.declare_parameter(parameter.name, parameter.value, described, ignore_override=True)
    return config


def follow(node: Node, config: S, apply: Callable[[S], None]) -> None:
    """Call `apply` with the new config whenever live parameters are set; the setter hears what the schema refuses.

    `apply` is called in the executor's thread, before the setter has its answer; a ConfigError that it raises is the
    setter's answer, anything else a fault.
    """
    schema = type(config)
    values = {parameter.name: parameter.value for parameter in parameters_of(config)}

    def on_set(parameters: list[RosParameter]) -> SetParametersResult:
        ours = {p.name: list(p.value) if isinstance(p.value, array) else p.value for p in parameters}
        changed = {name: value for name, value in ours.items() if not name.startswith(_OF_ROS)}
        if not changed:
            return SetParametersResult(successful=True)
        wanted = values | changed
        try:
            apply(from_flat(schema, wanted))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        values.update(wanted)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
