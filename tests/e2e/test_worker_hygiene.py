"""What is not in a worker: other libraries, other threads that work, other connections."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from supervised_tree import wait_until

from gateway.config.features import parse_features
from gateway.config.yaml_reader import parse_yaml
from tests.e2e import models
from tests.e2e.serving import CALL_SECONDS, GrpcCalls, raw_request, started
from tests.fast.small_worker import snapshot

FORBIDDEN = (
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "pyarrow",
    "duckdb",
    "grpc",
    "opentelemetry",
    "pydantic",
    "yaml",
    "onnx",
    "pandas",
    "scipy",
    "sklearn",
    "typer",
    "rich",
    "httpx",
    "sqlite3",
    "multiprocessing",
    "unittest",
    "http.client",
    "http.server",
    "importlib.metadata",
    "logging.config",
    "logging.handlers",
    "numpy.fft",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.random",
    "numpy.testing",
)
#: The same as files of native code.
FORBIDDEN_LIBRARIES = ("pyarrow", "duckdb", "cygrpc", "pydantic_core", "sqlalchemy", "yaml")
IMPORTS_AND_LOADS = f"""
import json, os, sys
from pathlib import Path
telemetry = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            telemetry.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import gateway.process.worker
from gateway.serving.snapshot import NOTHING, prepare
report = prepare(json.load(sys.stdin), NOTHING).report
assert report["columns"]["1"]["ok"], report
print(json.dumps([[name for name in {FORBIDDEN!r} if name in sys.modules], telemetry]))
"""
#: Steps of every sort: with categories, constants, a chain, and a second one for the indicator.
FEATURES = """
columns: {amount: float, place: string, at: timestamp}
outputs:
  x:
    features:
      - {column: amount, steps: [impute: {value: 1.5, indicator: true}, log1p]}
      - {column: place, steps: [ordinal: {categories: [near, far], unknown: nan}]}
      - {column: at, steps: [timestamp_part: {part: hour, time_zone: Europe/Berlin}]}
"""
#: A worker with the demo's models takes 113 MB of which the ring is 34, shared with those who read it.
MOST_PRIVATE_BYTES = 96_000_000


def write_models(root):
    models.write_scaling(root, "twice")
    write_columns(root)
    models.write_patient(root)
    models.write_model_yaml(root, "patient", "lane: thread\n")


def write_columns(root):
    models.write_scaling(root, "columns")
    (root / "columns" / "1" / "features.yaml").write_text(FEATURES)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with started(tmp_path_factory.mktemp("hygiene"), write_models, "--workers", "1") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def worker(gateway):
    return psutil.Process(gateway.pid_of("worker"))


def test_a_worker_with_features_has_no_control_plane_and_told_onnx_runtime_to_be_quiet_before_its_import(tmp_path):
    write_columns(tmp_path)
    features = parse_features(parse_yaml(FEATURES, "features.yaml")).model_dump(mode="json")
    document = snapshot(tmp_path, columns={})
    document["models"]["columns"]["versions"]["1"]["features"] = features
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_AND_LOADS],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=True,
    )
    loaded, telemetry = json.loads(done.stdout)
    assert loaded == []
    assert telemetry == ["1"]


def test_a_running_worker_has_none_of_their_libraries_mapped(worker):
    mapped = {Path(line.split()[-1]).as_posix() for line in Path(f"/proc/{worker.pid}/maps").read_text().splitlines()}
    assert any("onnxruntime" in path for path in mapped)
    assert [path for path in mapped if any(name in path for name in FORBIDDEN_LIBRARIES)] == []


def test_a_worker_is_small(worker):
    memory = worker.memory_info()
    ring = next(region.rss for region in worker.memory_maps() if region.path.endswith("w0.ring"))
    assert memory.rss - ring < MOST_PRIVATE_BYTES


def test_the_threads_of_a_worker_are_its_loop_and_its_lanes(gateway, worker):
    # The loop, and the lane that reads large bodies; a thread that loads a snapshot ends with it.
    wait_until("snapshots are loaded", lambda: worker.num_threads() == 2)
    with GrpcCalls(gateway.port("grpc")) as calls:
        for _ in range(100):
            calls.infer(raw_request("twice", x=np.ones((1, 4), np.float32)))
        assert worker.num_threads() == 2
        calls.infer(raw_request("patient", x=np.ones((1, 4), np.float32)))
    assert worker.num_threads() == 3  # and one for the model that asked for its own


def test_while_small_models_serve_nobody_but_the_loop_works(gateway, worker):
    def others() -> float:
        return sum(thread.user_time + thread.system_time for thread in worker.threads() if thread.id != worker.pid)

    def loops() -> float:
        return sum(thread.user_time + thread.system_time for thread in worker.threads() if thread.id == worker.pid)

    before, loop_before = others(), loops()
    message = raw_request("twice", x=np.ones((1, 4), np.float32)).SerializeToString()
    with GrpcCalls(gateway.port("grpc")) as calls:
        unary = calls.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        while loops() < loop_before + 0.2:  # clock ticks are 10 ms
            for call in [unary.future(message, timeout=CALL_SECONDS) for _ in range(200)]:
                call.result()
    assert others() == before


def test_a_worker_has_no_connections_but_those_of_its_clients(gateway, worker):
    ports = {gateway.port("http"), gateway.port("grpc")}
    with GrpcCalls(gateway.port("grpc")) as calls:
        calls.infer(raw_request("twice", x=np.ones((1, 4), np.float32)))
        connections = worker.net_connections(kind="inet")
    assert len(connections) >= 1
    assert {connection.laddr.port for connection in connections} <= ports
    assert all(connection.laddr.ip == "127.0.0.1" for connection in connections)
