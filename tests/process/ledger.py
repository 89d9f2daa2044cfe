"""Clients that remember what they were told, and the comparison of that with the record."""

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import numpy as np
from supervised_tree import wait_until

from gateway.serving._generated import inference_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"
#: A caller that cannot connect tries again this soon.
RETRY_SECONDS = 0.02
CALL_SECONDS = 60.0


@dataclass
class Ledger:
    """What clients know: one entry for each reply that names a prediction."""

    told: dict[str, str] = field(default_factory=dict)
    """Prediction id → record state of the reply."""
    answered: Counter = field(default_factory=Counter)
    """Model → replies with the right answer."""
    failed: Counter = field(default_factory=Counter)
    """gRPC status name (HTTP: the number; no reply: the kind of error) → calls that ended so."""
    wrong: list[str] = field(default_factory=list)
    """Answers that were not the right ones."""
    callers: int = 0

    def acknowledged(self) -> set[str]:
        """Predictions of which a client was told that the record has them."""
        return {prediction for prediction, state in self.told.items() if state in ("committed", "synced")}


def lost(gateway, ledger: Ledger) -> set[str]:
    """Acknowledged predictions that the record does not have. Nothing is ever in here, but for a seeded bug."""
    rows = gateway.query("SELECT DISTINCT prediction_id FROM predictions WHERE role = 'primary'")
    return ledger.acknowledged() - {row["prediction_id"] for row in rows}


def assert_record_is_whole(gateway, ledger: Ledger, *, kills: int) -> list[dict]:
    """Every acknowledged prediction is in the record, everything there once, and little else; returns the rows.

    A caller has one call under way, so each kill can leave at most that many rows nobody was told of.
    """
    rows = gateway.query("SELECT prediction_id, row, role, version, status FROM predictions")
    identities = Counter((row["prediction_id"], row["row"], row["role"], row["version"]) for row in rows)
    assert [identity for identity, count in identities.items() if count > 1] == []
    primaries = Counter(row["prediction_id"] for row in rows if row["role"] == "primary")
    assert ledger.acknowledged() - primaries.keys() == set()
    assert [prediction for prediction in ledger.acknowledged() if primaries[prediction] != 1] == []
    surplus = primaries.keys() - ledger.told.keys()
    assert len(surplus) <= kills * ledger.callers, f"{len(surplus)} rows nobody was told of"
    return rows


class Load:
    """Callers over both protocols, each on a connection of its own with one request under way, until closed."""

    def __init__(
        self, gateway, ledger: Ledger, *, grpc_callers=4, http_callers=2, model="m", factor=2.0, pause=0.002
    ) -> None:
        """``pause``: seconds between a caller's calls, so that others on this machine, and shadows, get a turn."""
        self.ledger = ledger
        ledger.callers = max(ledger.callers, grpc_callers + http_callers)
        self._gateway = gateway
        self._model = model
        self._factor = factor
        self._pause = pause
        self._lock = threading.Lock()
        self._next = 0
        self._over = threading.Event()
        self._ports = gateway.runtime()["ports"]
        callers = [self._call_by_grpc] * grpc_callers + [self._call_by_http] * http_callers
        self._threads = [threading.Thread(target=caller, daemon=True) for caller in callers]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS)
            assert not thread.is_alive(), "a caller hangs"

    @property
    def answers(self) -> int:
        return sum(self.ledger.answered.values())

    def wait_for_answers(self, more: int, what: str = "") -> None:
        """Until ``more`` further requests have been answered."""
        goal = self.answers + more
        wait_until(f"{more} more answers {what}", lambda: self.answers >= goal, CALL_SECONDS)

    # Callers.

    def _call_by_grpc(self) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.enable_retries", 0),
        ]
        with grpc.insecure_channel(f"127.0.0.1:{self._ports['grpc']}", options) as channel:
            call = channel.unary_unary(
                INFER,
                request_serializer=inference_pb2.ModelInferRequest.SerializeToString,
                response_deserializer=inference_pb2.ModelInferResponse.FromString,
            )
            while not self._over.wait(self._pause):
                row = self._row()
                try:
                    reply, outcome = call.with_call(self._message(row), timeout=CALL_SECONDS)
                except grpc.RpcError as error:
                    self._note_failure(error.code().name, dict(error.trailing_metadata() or ()))
                else:
                    y = np.frombuffer(reply.raw_output_contents[0], "<f4")
                    self._note_answer(row, y, dict(outcome.trailing_metadata()))

    def _message(self, row: np.ndarray) -> inference_pb2.ModelInferRequest:
        request = inference_pb2.ModelInferRequest(model_name=self._model, raw_input_contents=[row.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        return request

    def _call_by_http(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["http"], timeout=CALL_SECONDS)
        while not self._over.wait(self._pause):
            row = self._row()
            body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": row.tolist()}]}
            try:
                connection.request("POST", f"/v2/models/{self._model}/infer", json.dumps(body))
                reply = connection.getresponse()
                said = json.loads(reply.read())
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._note_failure(type(error).__name__, {})
                continue
            if reply.status != 200:
                self._note_failure(str(reply.status), reply.headers)
            else:
                self._note_answer(row, np.float32(said["outputs"][0]["data"]), reply.headers)
        connection.close()

    def _row(self) -> np.ndarray:
        with self._lock:
            self._next += 1
            return np.float32([self._next % 65536, 1, 2, 3])

    # What they are told.

    def _note_answer(self, row, y, headers) -> None:
        with self._lock:
            self._note(headers)
            if np.array_equal(y, row * np.float32(self._factor)):
                self.ledger.answered[self._model] += 1
            else:
                self.ledger.wrong.append(f"{row} → {y}")

    def _note_failure(self, kind, headers) -> None:
        with self._lock:
            self._note(headers)
            self.ledger.failed[kind] += 1
        time.sleep(RETRY_SECONDS)

    def _note(self, headers) -> None:
        if prediction := headers.get("x-prediction-id"):
            self.ledger.told[prediction] = headers["x-record-state"]
