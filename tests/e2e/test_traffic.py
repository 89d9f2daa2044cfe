"""Who answers a request that names no version, how that is changed while requests come in, and what the record says."""

import http.client
import json
import threading
from collections import Counter

import grpc
import numpy as np
import pytest
from supervised_tree import wait_until

from tests.e2e import models
from tests.e2e.serving import CALL_SECONDS, GrpcCalls, grpc_outputs, json_outputs, json_request, raw_request, started

WORKERS = 2
#: Of each model, what version 1, 2, … multiplies with.
FACTORS = {"1": 1.0, "2": 2.0, "3": 3.0}
ROW = np.float32([[1, 2, 3, 4]])


def write_models(root):
    for version in ("1", "2"):
        for model in ("dealt", "sticky", "changing", "mirrored", "ruled"):
            models.write_scaling(root, model, version, FACTORS[version])
        models.write_keyed_scaling(root, "keyed", version, FACTORS[version])
    models.write_scaling(root, "mirrored", "3", FACTORS["3"])
    models.write_model_yaml(root, "dealt", "traffic: {weights: {1: 90, 2: 10}}\n")
    models.write_model_yaml(root, "sticky", "traffic: {weights: {1: 90, 2: 10}, sticky: 'header:x-user'}\n")
    models.write_model_yaml(root, "keyed", "traffic: {weights: {1: 50, 2: 50}, sticky: 'column:user'}\n")
    models.write_model_yaml(
        root, "ruled", "traffic: {weights: {1: 50, 2: 50}, sticky: 'header:x-user'}\nlabels: {canary: 2}\n"
    )
    models.write_model_yaml(root, "mirrored", "traffic: {weights: {2: 1}}\n")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with started(tmp_path_factory.mktemp("traffic"), write_models, "--workers", str(WORKERS)) as gateway:
        yield gateway


@pytest.fixture
def calls(gateway):
    with GrpcCalls(gateway.port("grpc")) as calls:
        yield calls


def version_that_answered(reply) -> str:
    """Of a call with ROW: told by the model's factor, and said in the reply."""
    factor = grpc_outputs(reply)["y"][0, 0] / ROW[0, 0]
    assert FACTORS[reply.model_version] == factor
    return reply.model_version


def run(gateway, *arguments: str) -> list[dict]:
    return json.loads(gateway.run_command(*arguments, "--json"))


# The split.


def test_ten_thousand_requests_over_four_connections_are_split_to_within_two_for_each_worker(gateway):
    seen = Counter()
    connections = [GrpcCalls(gateway.port("grpc")) for _ in range(4)]
    unaries = [
        calls.channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request_serializer=bytes, response_deserializer=bytes
        )
        for calls in connections
    ]
    message = raw_request("dealt", x=ROW).SerializeToString()
    for _ in range(25):
        futures = [unary.future(message, timeout=CALL_SECONDS) for unary in unaries for _ in range(100)]
        seen.update(dict(future.trailing_metadata())["x-model-version"] for future in futures)
    for calls in connections:
        calls.__exit__()
    assert sum(seen.values()) == 10_000
    assert abs(seen["2"] - 1_000) <= 2 * WORKERS


def test_one_key_has_one_version_over_both_protocols(gateway, calls):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port("http"), timeout=CALL_SECONDS)
    seen = Counter()
    for user in range(200):
        reply, _ = calls.infer(raw_request("sticky", x=ROW), metadata=[("x-user", f"user {user}")])
        body = json.dumps(json_request(x=ROW))
        connection.request("POST", "/v2/models/sticky/infer", body, {"X-User": f"user {user}"})
        answer = connection.getresponse()
        assert json.loads(answer.read())["model_version"] == version_that_answered(reply)
        seen[reply.model_version] += 1
    connection.close()
    assert 5 <= seen["2"] <= 45  # 20 expected; 5 standard deviations


def versions_of_users(calls) -> list[str]:
    return [
        version_that_answered(calls.infer(raw_request("sticky", x=ROW), metadata=[("x-user", f"user {user}")])[0])
        for user in range(400)
    ]


def test_a_change_moves_only_keys_of_falling_versions_and_undo_brings_all_of_them_back(gateway, calls):
    before = versions_of_users(calls)
    run(gateway, "traffic", "set", "sticky", "1=60", "2=40")
    after = versions_of_users(calls)
    moves = Counter(zip(before, after, strict=True))
    assert moves["2", "1"] == 0
    assert moves["1", "2"] > 60  # 120 expected
    assert moves["1", "1"] > 0
    shown = run(gateway, "traffic", "show", "sticky")
    assert {row["version"]: (row["slots"], row["sticky"]) for row in shown} == {
        "1": (6000, "header:x-user"),
        "2": (4000, "header:x-user"),
    }
    gateway.run_command("traffic", "undo", "sticky")
    assert versions_of_users(calls) == before
    history = run(gateway, "traffic", "history", "sticky")
    assert [json.dumps(row["weights"]) for row in history][-1] == json.dumps(history[0]["weights"])
    assert history[-1]["restores"] == history[0]["number"]
    assert len(history) == 3


def test_a_column_may_be_the_key_whatever_the_protocol(gateway, calls):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port("http"), timeout=CALL_SECONDS)
    seen = Counter()
    for user in range(100):
        arrays = {"user": np.array([[f"user {user}".encode()]], dtype=object), "x": ROW}
        reply, _ = calls.infer(raw_request("keyed", **arrays))
        seen[version_that_answered(reply)] += 1
        connection.request("POST", "/v2/models/keyed/infer", json.dumps(json_request(**arrays)))
        assert json.loads(connection.getresponse().read())["model_version"] == reply.model_version
        instance = {"user": [f"user {user}"], "x": ROW[0].tolist()}
        connection.request("POST", "/v1/models/keyed:predict", json.dumps({"instances": [instance]}))
        answer = connection.getresponse()
        assert json.loads(answer.read())["predictions"][0]["y"] == (ROW[0] * FACTORS[reply.model_version]).tolist()
        assert answer.headers["x-model-version"] == reply.model_version
    connection.close()
    assert min(seen.values()) > 20


def test_every_row_of_the_record_says_which_rule_chose(gateway, calls):
    def ask(rule: str, model: str = "ruled", version: str = "", **metadata: str) -> str:
        request = raw_request(model, version=version, request_id=f"by {rule}", x=ROW)
        named = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        return version_that_answered(calls.infer(request, metadata=named)[0])

    assert ask("override", x_model_version="2", x_user="anybody") == "2"
    assert ask("override", x_model_version="canary") == "2"
    assert ask("pinned", version="1", x_model_version="2") == "1"
    assert ask("label", version="canary") == "2"
    ask("sticky", x_user="somebody")
    ask("split")
    ask("split", model="dealt")
    assert ask("default", model="mirrored") == "2"
    with pytest.raises(grpc.RpcError) as refused:
        ask("nothing", x_model_version="7")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'ruled' version 7" in refused.value.details()
    path = "/v2/models/ruled/versions/1/infer"
    body = json_request(x=ROW) | {"id": "by pinned"}
    assert gateway.http(path, body)[1]["x-model-version"] == "1"

    rows = gateway.query("SELECT request_id, rule, status FROM predictions WHERE request_id LIKE 'by %'")
    assert len(rows) == 10
    for row in rows:
        if row["request_id"] == "by nothing":
            assert (row["rule"], row["status"]) == (None, "NOT_FOUND")
        else:
            assert (row["request_id"], row["status"]) == (f"by {row['rule']}", "OK")


def test_an_impossible_split_is_refused_and_nothing_changes(gateway):
    before = run(gateway, "traffic", "show", "dealt")
    for weights in (["1=90", "7=10"], ["1=-1", "2=2"], ["1=0", "2=0"], ["1=nan"]):
        said = gateway.run_command("traffic", "set", "dealt", *weights, check=False)
        assert "Traceback" not in said
    assert run(gateway, "traffic", "show", "dealt") == before


# Changes while requests come in.


class Load:
    """Callers of a model over both protocols until closed; each answer must be that of the version that it names."""

    def __init__(self, gateway, model: str, factors: dict[str, set[float]]) -> None:
        self.answers = Counter()
        self.failures = []
        self._model = model
        self._factors = factors
        self._ports = gateway.runtime()["ports"]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=caller) for caller in (self._by_grpc, self._by_grpc, self._by_http)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS)
            assert not thread.is_alive()

    def wait_for_more(self, answers: int = 100) -> None:
        goal = sum(self.answers.values()) + answers
        wait_until("more answers", lambda: self.failures or sum(self.answers.values()) >= goal, CALL_SECONDS)

    def _by_grpc(self) -> None:
        with GrpcCalls(self._ports["grpc"]) as calls:
            while not self._over.is_set():
                try:
                    reply, _ = calls.infer(raw_request(self._model, x=ROW))
                    self._note(reply.model_version, grpc_outputs(reply)["y"])
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")

    def _by_http(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["http"], timeout=CALL_SECONDS)
        while not self._over.is_set():
            connection.request("POST", f"/v2/models/{self._model}/infer", json.dumps(json_request(x=ROW)))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                self._note(answer.headers["x-model-version"], json_outputs(body)["y"])
            else:
                self.failures.append(body.decode())
        connection.close()

    def _note(self, version: str, y: np.ndarray) -> None:
        factor = y[0, 0] / ROW[0, 0]
        if factor not in self._factors[version] or not (y == ROW * factor).all():
            self.failures.append(f"version {version} answered {y}")
        self.answers[version, factor] += 1


def test_traffic_is_changed_under_load_without_a_failed_request(gateway):
    with Load(gateway, "changing", {version: {factor} for version, factor in FACTORS.items()}) as load:
        load.wait_for_more()
        for share in (10, 50, 90):
            run(gateway, "traffic", "set", "changing", f"1={100 - share}", f"2={share}")
            load.wait_for_more()
        gateway.run_command("traffic", "undo", "changing")
        load.wait_for_more()
    assert load.failures == []
    assert {version for version, _ in load.answers} == {"1", "2"}


def test_versions_are_loaded_replaced_and_unloaded_under_load_without_a_failed_request(gateway, calls):
    factors = {"1": {1.0}, "2": {2.0, 20.0}, "3": {3.0}}
    run(gateway, "traffic", "set", "changing", "1=50", "2=50")
    with Load(gateway, "changing", factors) as load:
        load.wait_for_more()

        models.write_scaling(gateway.models, "changing", "3", FACTORS["3"])
        (row,) = run(gateway, "models", "load", "changing@3")
        assert row["state"] == "ready"
        assert version_that_answered(calls.infer(raw_request("changing", version="3", x=ROW))[0]) == "3"
        load.wait_for_more()

        models.write_scaling(gateway.models, "changing", "2", 20.0)
        run(gateway, "models", "load", "changing@2")
        reply, _ = calls.infer(raw_request("changing", version="2", x=ROW))
        assert grpc_outputs(reply)["y"][0, 0] == 20.0  # the command returned: nobody runs the old one any more
        load.wait_for_more()

        run(gateway, "traffic", "set", "changing", "1=0", "2=50", "3=50")
        load.wait_for_more()
        run(gateway, "models", "unload", "changing@1")
        load.wait_for_more()
        with pytest.raises(grpc.RpcError) as refused:
            calls.infer(raw_request("changing", version="1", x=ROW))
        assert refused.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
    assert load.failures == []
    assert load.answers.keys() >= {("1", 1.0), ("2", 2.0), ("2", 20.0), ("3", 3.0)}


def test_a_version_with_traffic_is_not_unloaded_by_mistake(gateway, calls):
    said = gateway.run_command("models", "unload", "dealt@1", check=False)
    assert "traffic" in said
    assert version_that_answered(calls.infer(raw_request("dealt", version="1", x=ROW))[0]) == "1"


# Shadows.


def test_a_shadow_sees_every_request_and_answers_none(gateway, calls):
    def send(count: int) -> set[str]:
        rows = [ROW + number for number in range(count)]
        answers = [calls.infer(raw_request("mirrored", x=row)) for row in rows]
        assert {reply.model_version for reply, _ in answers} == {"2"}
        return {told["x-prediction-id"] for _, told in answers}

    def shadow_rows() -> list[dict]:
        return gateway.query(
            "SELECT prediction_id, version, rule, status, inputs, outputs, request_id FROM predictions"
            " WHERE model = 'mirrored' AND role = 'shadow'"
        )

    alone = send(20)
    run(gateway, "shadow", "add", "mirrored", "3", "--percent", "100")
    # Nothing waits for the scorer, which starts now: the shadow begins with the first request that it sees.
    early, before = set(), gateway.ring_head("s0")
    wait_until("the shadow begins", lambda: early.update(send(1)) or gateway.ring_head("s0") > before, CALL_SECONDS)
    mirrored = send(300)
    wait_until("all of them", lambda: mirrored <= {row["prediction_id"] for row in shadow_rows()}, CALL_SECONDS)
    rows = shadow_rows()
    seen = Counter(row["prediction_id"] for row in rows)
    assert seen.keys() <= mirrored | early
    assert set(seen.values()) == {1}
    assert {(row["version"], row["rule"], row["status"]) for row in rows} == {("3", "shadow", "OK")}
    for row in rows:
        x = np.float32([row["inputs"]["x"]])
        want = models.expected(gateway.models, "mirrored", {"x": x}, "3")["y"][0]
        assert row["outputs"] == {"y": want.tolist()}
    (report,) = run(gateway, "shadow", "report", "mirrored")
    assert (report["version"], report["coverage"], report["pairs"], report["errors"]) == ("3", 1.0, len(rows), 0)

    run(gateway, "shadow", "remove", "mirrored", "3")
    unmirrored = send(20)
    assert {row["prediction_id"] for row in shadow_rows()} == seen.keys()
    assert not seen.keys() & (alone | unmirrored)
