"""Which candidates a scorer runs, and what happens to those that fall behind."""

import numpy as np
import pytest

from gateway._fast.exchange import exchange_for_test
from gateway._fast.pipeline import Pipeline
from gateway._fast.record_frames import fill_exchange_for_test
from gateway._fast.record_ring import RingReader, RingWriter, create_ring
from gateway._fast.served import ServedVersion
from gateway._fast.shadow_feed import Candidate, ShadowFeed
from gateway._fast.tensor_binding import InputTable
from gateway.core.tensors import DataType, TensorSpec
from gateway.process.scorer import own_share
from gateway.serving.cost_model import CostModel
from gateway.serving.error_replies import GRPC_STATUS
from gateway.serving.fair_share import Account
from gateway.serving.lanes import InlineLane

MOST_WAITING = 4096
X = [TensorSpec("x", DataType.FP32, (-1, 4))]
Y = [TensorSpec("y", DataType.FP32, (-1, 4))]
SCHEMA = ("m", "1", "d", X, Y)


def document(versions):
    shadows = [{"version": version, "percent": 100} for version in versions]
    return {"number": 3, "models": {"m": {"versions": {}, "shadows": shadows}}}


def shares(versions, scorers):
    found = [own_share(document(versions), index, scorers)["models"]["m"]["shadows"] for index in range(scorers)]
    return [{shadow["version"] for shadow in share} for share in found]


@pytest.mark.parametrize("scorers", [1, 2, 7])
def test_every_candidate_is_run_by_exactly_one_scorer(scorers):
    versions = [str(number) for number in range(1, 30)]
    found = shares(versions, scorers)
    assert sorted(version for share in found for version in share) == sorted(versions)


def test_a_candidate_stays_with_its_scorer_whoever_else_comes():
    alone = shares(["2"], 3)
    assert [share & {"2"} for share in shares(["1", "2", "3", "4"], 3)] == alone


class SilentLane:
    """Takes a batch and never gives it back, as a run that hangs does."""

    def submit(self, job):
        pass


@pytest.fixture
def pipeline():
    return Pipeline(
        wake=lambda: None,
        placement=lambda version, rows: "thread" if version.version == "hanging" else "inline",
        inline_lane=InlineLane(),
        open_lane=lambda version: SilentLane(),
        scan_lane=None,
        ring=None,
        counters=None,
        grpc_status=GRPC_STATUS,
    )


class Doubling:
    def run(self, names, feeds):
        return [feeds["x"] * 2]


def candidate(version):
    served = ServedVersion(
        model="m",
        version=version,
        digest="d",
        inputs=InputTable("m", X, outputs=["y"], batchable=True),
        session=Doubling(),
        graph_inputs=X,
        graph_outputs=Y,
        batchable=True,
        cost=CostModel(),
        account=Account(),
    )
    return Candidate(served, 100.0)


@pytest.fixture
def ring(tmp_path):
    create_ring(tmp_path / "w0.ring", 1 << 22)
    return RingWriter(tmp_path / "w0.ring")


def commit(ring, handle, count):
    row = np.zeros((1, 4), "<f4").tobytes()
    tensors = {"inputs": [("x", "FP32", (1, 4), row)], "outputs": [("y", "FP32", (1, 4), row)], "bound": [0]}
    exchange = fill_exchange_for_test(exchange_for_test(), **tensors)
    assert ring.commit_many_for_test(exchange, handle, count) == count


def test_a_candidate_that_hangs_is_passed_over_and_its_fellow_misses_nothing(pipeline, ring):
    commit(ring, ring.register_schema(*SCHEMA), 6000)
    feed = ShadowFeed(pipeline, RingReader(ring.path, 1, start="oldest"))
    hanging, healthy = candidate("hanging"), candidate("healthy")
    feed.adopt({"m": [hanging, healthy]})
    while feed.take(1 << 18):
        while pipeline.step(0):
            pass
    assert (healthy.taken, healthy.skipped) == (6000, 0)
    assert hanging.taken + hanging.skipped == 6000
    assert hanging.version.waiting_requests == MOST_WAITING


def test_a_feed_that_comes_late_knows_the_schemas_told_before(pipeline, ring):
    handle = ring.register_schema(*SCHEMA)
    commit(ring, handle, 1)
    feed = ShadowFeed(pipeline, RingReader(ring.path, 1, start="newest"))
    shadow = candidate("healthy")
    feed.adopt({"m": [shadow]})
    commit(ring, handle, 3)
    feed.take(1 << 18)
    assert (shadow.taken, feed.without_schema) == (3, 0)
