"""Text as a robot meets it: a service and an action in front of replicas, of which any may die at any time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future as Answer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: ./ws extra inference")

import yaml
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import QoSProfile

from skyfog_core.ports import free_tcp_port
from skyfog_interfaces.action import Generate as GenerateAction
from skyfog_interfaces.msg import ChatMessage, RouterState, Status
from skyfog_interfaces.srv import Generate
from skyfog_router.nodes.state import state_qos
from support.faces import CONTEXT, environment, write_tiny
from support.processes import LIMIT_S, Process, Processes, wait_until
from support.ros import Caller, Fleet, caller, free_domain, from_executor, ros_node

TYPE = "skyfog_interfaces/srv/Generate"
SERVICE = "skyfog_inference.nodes.generate:GenerateService"
# One replica at a time, and always the same one while it lives.
ROUTED = {"generate": {"type": TYPE, "deadline_ms": 30_000, "policy": "single", "rank": "sticky"}}
READY_S = 120.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny")


class Cell:
    """A robot with its proxy and action, and replicas of the tiny model."""

    def __init__(self, processes: Processes, folder: Path, model: Path) -> None:
        self.fleet = Fleet(processes, folder)
        self._model = str(model)
        self.fleet.robot(services=ROUTED)
        command = ("-m", "skyfog_inference.nodes.generate_action")
        self.action = processes.python("action", *command, env={"ROS_DOMAIN_ID": str(self.fleet.robot_domain)})
        self.action.wait_for("generate_action_ready")

    def start(self, zone: str) -> Process:
        """A replica; ready once it says `warm`."""
        given = {"model": self._model, "threads": 1, "device_kv_mb": 2}
        return self.fleet.replica(
            zone, service="/generate", type=TYPE, embedded=SERVICE, concurrency=8, nodes={"generate": given}
        )


@pytest.fixture(scope="module")
def cell(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    with Processes(folder, environment()) as processes:
        made = Cell(processes, folder, model)
        made.start("a").wait_for("warm", READY_S)
        yield made


@pytest.fixture(scope="module")
def robot(cell: Cell) -> Iterator[Node]:
    with ros_node(cell.fleet.robot_domain) as node:
        yield node


@pytest.fixture(scope="module")
def service(robot: Node) -> Caller:
    return caller(robot, Generate, "/generate")


@pytest.fixture(scope="module")
def goals(robot: Node) -> Iterator[Goals]:
    client = Goals(robot)

    def heard() -> bool:
        running = client.send(max_tokens=1)
        running.result()
        return bool(running.feedback)

    # The action's writer may find our reader only after the first feedback went out.
    wait_until("feedback is heard", heard)
    yield client
    client.close()


class Goals:
    """An action client whose calls are waited for with a limit."""

    def __init__(self, node: Node) -> None:
        # By default a client keeps 10 of what it has not read yet; here each one counts.
        deep = QoSProfile(depth=1_000)
        self._node = node
        self._client = ActionClient(node, GenerateAction, "generate", feedback_sub_qos_profile=deep)
        assert self._client.wait_for_server(LIMIT_S)

    def close(self) -> None:
        self._client.destroy()

    def send(self, **fields: Any) -> Running:
        given = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 1.0, "seed": 5, "ignore_eos": True}
        return Running(self._node, self._client, GenerateAction.Goal(**{**given, **fields}))


class Running:
    """A goal on its way. All is sent from the executor's own thread: see `from_executor`."""

    def __init__(self, node: Node, client: ActionClient, goal: Any) -> None:
        self.feedback: list[Any] = []
        self._node = node

        def keep(message: Any) -> None:
            self.feedback.append(message.feedback)

        self.handle = from_executor(node, lambda: client.send_goal_async(goal, keep))
        self._result: Answer[Any] = Answer()
        if self.handle.accepted:
            asked = _answer(node.executor.create_task(self.handle.get_result_async)).result(LIMIT_S)
            asked.add_done_callback(lambda done: self._result.set_result(done.result()))

    def result(self) -> tuple[int, Any]:
        found = self._result.result(LIMIT_S)
        return found.status, found.result

    def cancel(self) -> None:
        from_executor(self._node, self.handle.cancel_goal_async)


def _answer(future: Any) -> Answer[Any]:
    answer: Answer[Any] = Answer()
    future.add_done_callback(lambda done: answer.set_result(done.result()))
    return answer


def ask(service: Caller, **fields: Any) -> Any:
    given = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 1.0, "seed": 5, "ignore_eos": True}
    return service.call(Generate.Request(**{**given, **fields}))


def test_the_service_answers_with_text_tokens_and_pieces(service: Caller) -> None:
    response = ask(service)
    assert (response.status.code, response.status.message) == (Status.OK, "")
    assert response.status.replica == "a/0"
    assert len(response.tokens) == len(response.pieces) == len(response.logprobs) == 40
    assert "".join(response.pieces) == response.text
    assert (response.finish_reason, response.model_name, response.prompt_tokens) == ("", "tiny", 16)
    assert max(response.logprobs) <= 0
    assert 0 < response.first_token_ms <= response.total_ms


def test_a_call_goes_on_with_what_another_one_drew(service: Caller) -> None:
    whole = ask(service)
    first = ask(service, max_tokens=13, partial=True)
    rest = ask(service, max_tokens=27, generated=first.tokens)
    assert [*first.tokens, *rest.tokens] == list(whole.tokens)
    assert first.text + rest.text == whole.text
    assert rest.prompt_tokens == 16
    assert rest.cached_tokens >= 16


def test_a_conversation_goes_through_the_chat_template(service: Caller) -> None:
    response = ask(service, prompt="", messages=[ChatMessage(role="user", content="Hi")], max_tokens=1)
    assert response.prompt_tokens == len("user: Hi\nassistant: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": float("nan")}, "temperature: should be between 0 and 100, not nan"),
        ({"max_tokens": 0}, "max_tokens: should be between 1 and"),
        ({"prompt": ""}, "neither of prompt and messages given"),
        ({"prompt": "x" * 300}, "prompt: 300 tokens"),
        ({"model": "gpt"}, "model: there is no 'gpt'; there is 'tiny'"),
        ({"generated": [9_999]}, "token 9999 is not one of the model's"),
        ({"stop": [""]}, "stop: "),
    ],
)
def test_a_wrong_request_is_told_why_and_the_next_is_answered(
    service: Caller, fields: dict[str, Any], message: str
) -> None:
    response = ask(service, **fields)
    assert response.status.code == Status.INVALID_REQUEST
    assert message in response.status.message
    assert ask(service, max_tokens=1).status.code == Status.OK


def test_the_action_gives_the_text_of_the_service_token_by_token(service: Caller, goals: Goals) -> None:
    whole = ask(service)
    running = goals.send()
    status, result = running.result()
    assert (status, result.status.code) == (GoalStatus.STATUS_SUCCEEDED, Status.OK)
    assert (result.text, list(result.tokens), result.finish_reason) == (whole.text, list(whole.tokens), "length")
    assert (result.seed, result.calls, result.replicas) == (5, 8, ["a/0"])  # 1, 2, 4, then 8 and in the end 1
    wait_until("feedback", lambda: len(running.feedback) == 40)
    assert [each.index for each in running.feedback] == list(range(40))
    assert [each.token for each in running.feedback] == list(whole.tokens)
    assert "".join(each.text for each in running.feedback) == whole.text


def test_a_call_that_just_fills_the_context_says_that_there_is_no_more(service: Caller) -> None:
    room = CONTEXT - len("Once upon a time")
    assert ask(service, max_tokens=room - 1).finish_reason == ""
    assert ask(service, max_tokens=room).finish_reason == "length"


def test_a_stop_text_across_two_calls_ends_the_action_before_it(service: Caller, goals: Goals) -> None:
    whole = ask(service)
    # A piece of text on both sides of the seventh token, which is the last one of the third call.
    text = "".join(whole.pieces[:9])
    stop = text[-4:]
    cut = ask(service, stop=[stop])
    _, result = goals.send(stop=[stop]).result()
    assert (result.text, result.finish_reason) == (cut.text, cut.finish_reason) == (whole.text.split(stop)[0], "stop")


def test_a_seed_is_drawn_where_none_is_given_and_repeats_the_text(goals: Goals) -> None:
    _, first = goals.send(seed=0, max_tokens=9).result()
    assert first.seed != 0
    _, again = goals.send(seed=first.seed, max_tokens=9).result()
    assert again.text == first.text


def test_a_wrong_goal_is_aborted_with_the_reason(goals: Goals) -> None:
    status, result = goals.send(temperature=-1.0).result()
    assert (status, result.status.code) == (GoalStatus.STATUS_ABORTED, Status.INVALID_REQUEST)
    assert (result.finish_reason, result.calls) == ("error", 1)
    assert "temperature: should be" in result.status.message


def test_a_cancelled_goal_ends_with_what_there_is(goals: Goals) -> None:
    running = goals.send(max_tokens=200)
    wait_until("a first token", lambda: bool(running.feedback))
    running.cancel()
    status, result = running.result()
    assert (status, result.finish_reason) == (GoalStatus.STATUS_CANCELED, "abort")
    assert 0 < len(result.tokens) < 200
    told = [each.token for each in running.feedback]
    assert told == list(result.tokens)[: len(told)]


def test_a_replica_that_is_killed_costs_time_and_no_token(model: Path, tmp_path: Path) -> None:
    with Processes(tmp_path, environment()) as processes:
        cell = Cell(processes, tmp_path, model)
        replicas = {f"{zone}/0": cell.start(zone) for zone in ("a", "b")}
        for process in replicas.values():
            process.wait_for("warm", READY_S)
        with ros_node(cell.fleet.robot_domain) as node:
            states: list[RouterState] = []
            node.create_subscription(RouterState, "/robot_proxy/state", states.append, state_qos(10))
            wait_until("the robot knows both", lambda: bool(states) and len(states[-1].replicas) == 2)
            service = caller(node, Generate, "/generate")
            whole = ask(service, max_tokens=240)
            goals = Goals(node)
            running = goals.send(max_tokens=240)
            wait_until("some tokens", lambda: len(running.feedback) >= 7)
            replicas[whole.status.replica].signal(signal.SIGKILL)
            status, result = running.result()
            goals.close()
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert list(result.tokens) == list(whole.tokens)
    assert result.text == whole.text
    assert result.replicas[0] == whole.status.replica
    assert set(result.replicas) == set(replicas)


def test_a_model_that_is_not_there_is_told_by_file_and_key(tmp_path: Path) -> None:
    with Processes(tmp_path, environment()) as processes:
        fleet = Fleet(processes, tmp_path)
        process = fleet.replica(
            "a", service="/generate", type=TYPE, embedded=SERVICE, nodes={"generate": {"model": "/no/such/model"}}
        )
        assert process.exit_status(READY_S) == 2
        assert ".yaml: model: /no/such/model: is neither a folder" in process.output


def test_the_launch_files_bring_up_a_robot_and_a_replica_of_the_role(model: Path, tmp_path: Path) -> None:
    params = tmp_path / "tiny.yaml"
    given = {"model": str(model), "threads": 1, "device_kv_mb": 2}
    params.write_text(yaml.safe_dump({"/**/generate": {"ros__parameters": given}}))
    endpoint, domain = f"tcp/127.0.0.1:{free_tcp_port()}", free_domain()
    with Processes(tmp_path, {**environment(), "ROS_DOMAIN_ID": str(domain)}) as processes:
        launch = ("ros2", "launch", "skyfog_bringup")
        robot = processes.start("robot", *launch, "robot.launch.py", "language:=true", f"listen:={endpoint}")
        cloud = ("cloud.launch.py", "role:=generate", f"connect:={endpoint}", f"params:={params}", "namespace:=cloud")
        processes.start("cloud", *launch, *cloud).wait_for("warm", READY_S)
        robot.wait_for("generate_action_ready", READY_S)
        with ros_node(domain) as node:
            goals = Goals(node)
            status, result = goals.send(max_tokens=5).result()
            goals.close()
        assert (status, len(result.tokens), result.model_name) == (GoalStatus.STATUS_SUCCEEDED, 5, "tiny")


def test_the_replica_tells_how_its_engine_is(cell: Cell) -> None:
    found: list[DiagnosticStatus] = []
    with ros_node(cell.fleet.replica_domain) as node:
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda message: found.extend(message.status), 10)
        wait_until("a diagnosis", lambda: any(each.name == "generate: engine" for each in found))
    engine = next(each for each in found if each.name == "generate: engine")
    assert (engine.level, engine.hardware_id) == (DiagnosticStatus.OK, "tiny")
    assert "device blocks" in {value.key for value in engine.values}


def test_the_node_alone_answers_and_ends_on_a_signal(model: Path, tmp_path: Path) -> None:
    domain = free_domain()
    words = ("-m", "skyfog_inference.nodes.generate", "--ros-args", "-p", f"model:={model}", "-p", "threads:=1")
    with Processes(tmp_path, {**environment(), "ROS_DOMAIN_ID": str(domain)}) as processes:
        process = processes.python("generate", *words, "-p", "device_kv_mb:=2")
        process.wait_for("model_ready", READY_S)
        with ros_node(domain) as node:
            assert len(ask(caller(node, Generate, "/generate"), max_tokens=4).tokens) == 4
        process.signal(signal.SIGTERM)
        assert process.exit_status() == 0
