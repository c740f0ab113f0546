"""The whole way: camera, car_client, shaper, zenoh, gateway, router, replica, and back."""

from __future__ import annotations

import json
import signal

from skyfog_core.ports import free_tcp_port
from support.car import Car, surroundings
from support.processes import Process, wait_until


def started(car: Car) -> tuple[dict[str, Process], Process]:
    """Two gateways, a replica that both ask, and a car that knows both."""
    ports = {name: (free_tcp_port(), free_tcp_port()) for name in ("one", "two")}
    gateways = {name: car.gateway(name, *pair) for name, pair in ports.items()}
    replica = car.replica([replica_port for _, replica_port in ports.values()])
    connect = [f"tcp/127.0.0.1:{port}" for port, _ in ports.values()]
    car.allocator()
    car.node("shaper", fleet="test", plan_stale_ms=1_000, zenoh={"connect": connect})
    car.client()
    return gateways, replica


def test_the_cloud_answers_and_the_car_goes_on_with_another_gateway_when_its_own_is_killed(car: Car) -> None:
    gateways, replica = started(car)
    with surroundings(car.domain) as around:
        for answer in around.wait_for("cloud", 10):
            assert answer.detections[0].class_name == "cloud"
            assert 0 < answer.latency_ms <= 1_000
        wait_until("the state says with whom", lambda: around.state is not None and around.state.gateway in gateways)
        first = around.state.gateway
        gateways[first].signal(signal.SIGKILL)
        wait_until("another is taken", lambda: around.state.gateway in set(gateways) - {first})
        around.wait_for("cloud", 5)

        status = car.processes.start(
            "status", "skyfog", "uplink", "status", "--json", "--wait", "20", env={"ROS_DOMAIN_ID": str(car.domain)}
        )
        assert status.exit_status() == 0, status.output
        (told,) = json.loads(status.output)
        assert (told["car"], told["report"]["services"][0]["service"]) == ("car", "front")
        assert told["report"]["services"][0]["outcomes"]["on_time"] > 0

        replica.signal(signal.SIGKILL)

        def only_car() -> bool:
            around.wait_for("car", 5)
            return around.sources() == {"car"}

        wait_until("only the car answers", only_car)
