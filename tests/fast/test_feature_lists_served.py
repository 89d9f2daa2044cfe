"""Lists of texts as tensors of a request, and string outputs on their way into a graph that takes strings."""

import numpy as np
import pytest

from gateway._fast.record_ring import RingReader
from gateway._fast.shadow_feed import Candidate, ShadowFeed
from gateway.config.features import parse_features
from gateway.core.errors import FeatureInputInvalid, TensorMismatch
from tests.e2e import models
from tests.fast.small_worker import SmallWorker, outputs_of, request

F32 = np.float32


def texts(rows):
    array = np.empty((len(rows), len(rows[0]) if rows else 0), dtype=object)
    for row, values in enumerate(rows):
        array[row] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


@pytest.fixture
def worker_of(tmp_path):
    """A worker that serves one model of that graph input, behind that page."""

    def make(datatype, shape, page):
        root = tmp_path / "models"
        root.mkdir()
        models.write_identity(root, datatype, "m", shape)
        return SmallWorker(tmp_path, root, m={"features": parse_features(page).model_dump(mode="json")})

    return make


TAGS = {
    "columns": {"tags": {"type": "strings", "optional": True}, "price": "float"},
    "outputs": {
        "x": {
            "features": [
                {"column": "tags", "steps": [{"multi_hot": {"categories": ["a", "b", "é"], "unknown": "ignore"}}]},
                "price",
            ]
        }
    },
}


def test_lists_of_unlike_lengths_share_a_run(worker_of):
    worker = worker_of("FP32", ["n", 4], TAGS)
    spied = worker.spy("m")
    sent = [
        {"tags": texts([["a", "é", ""], ["", "", "b"]]), "price": np.array([1.0, 2.0])},
        {"tags": texts([["b"]]), "price": np.array([3.0])},
        {"tags": texts([["", ""], ["x", "a"], ["b", "b"]]), "price": np.array([4.0, 5.0, 6.0])},
        {"tags": np.empty((2, 0), object), "price": np.array([7.0, 8.0])},
        {"tags": texts([["a"], ["b"]]).reshape(2), "price": np.array([9.0, 10.0])},
    ]
    wanted = [
        [[1, 0, 1, 1], [0, 1, 0, 2]],
        [[0, 1, 0, 3]],
        [[0, 0, 0, 4], [1, 0, 0, 5], [0, 1, 0, 6]],
        [[0, 0, 0, 7], [0, 0, 0, 8]],
        [[1, 0, 0, 9], [0, 1, 0, 10]],
    ]
    exchanges = worker.answers([request("m", **inputs) for inputs in sent])
    for expected, exchange in zip(wanted, exchanges, strict=True):
        assert np.array_equal(outputs_of(exchange)["y"], F32(expected))
    assert spied.rows == [10]


def test_column_of_lists_may_be_left_out_and_takes_no_third_dimension(worker_of):
    worker = worker_of("FP32", ["n", 4], TAGS)
    left_out, cube, numbers = worker.answers(
        [
            request("m", price=np.array([1.0])),
            request("m", price=np.array([1.0]), tags=texts([["a", "b"]]).reshape(1, 2, 1)),
            request("m", price=np.array([1.0]), tags=np.array([[1, 2]])),
        ]
    )
    assert outputs_of(left_out)["y"].tolist() == [[0, 0, 0, 1]]
    with pytest.raises(TensorMismatch, match=r"unexpected shape for input 'tags'.*Expected \[rows,any\]"):
        outputs_of(cube)
    with pytest.raises(TensorMismatch, match="data-type is 'INT64'"):
        outputs_of(numbers)


def test_long_lists_are_laid_out_like_short_ones(worker_of):
    worker = worker_of("FP32", ["n", 4], TAGS)
    wide = texts([["x" * 40] * 2000 + ["b"]] * 9)
    many = request("m", tags=wide, price=np.arange(9.0))
    exchanges = worker.answers([many, request("m", tags=texts([["a"]]), price=np.array([1.0]))])
    assert outputs_of(exchanges[0])["y"].tolist() == [[0, 1, 0, i] for i in range(9)]
    assert outputs_of(exchanges[1])["y"].tolist() == [[1, 0, 0, 1]]


NAMES = {
    "columns": {"first": "string", "second": {"type": "string", "optional": True}},
    "outputs": {
        "x": {
            "dtype": "string",
            "features": [
                {"column": "first", "steps": ["upper"]},
                {"column": "second", "steps": [{"impute": {"value": "–"}}]},
            ],
        }
    },
}


def test_string_outputs_reach_a_graph_of_strings_row_by_row(worker_of):
    worker = worker_of("BYTES", ["n", 2], NAMES)
    spied = worker.spy("m")
    sent = [
        {"first": texts([["ab"], ["é" * 700]]), "second": texts([["x"], [""]])},
        {"first": texts([[""]]), "second": texts([["y"]])},
    ]
    exchanges = worker.answers([request("m", **inputs) for inputs in sent])
    assert outputs_of(exchanges[0])["y"].tolist() == [[b"AB", b"x"], [("É" * 700).encode(), "–".encode()]]
    assert outputs_of(exchanges[1])["y"].tolist() == [[b"", b"y"]]
    assert spied.rows == [3]
    (alone,) = worker.answers([request("m", first=texts([["left out"]]))])
    assert outputs_of(alone)["y"].tolist() == [[b"LEFT OUT", "–".encode()]]


def test_text_that_is_no_utf8_fails_its_request_alone(worker_of):
    worker = worker_of("BYTES", ["n", 2], NAMES)
    bad, good = worker.answers(
        [
            request("m", first=texts([["a"], ["b"]]), second=texts([["x"], [b"\xff"]])),
            request("m", first=texts([["c"]]), second=texts([["z"]])),
        ]
    )
    with pytest.raises(FeatureInputInvalid, match="row 1: column 'second': expected text in UTF-8"):
        outputs_of(bad)
    assert outputs_of(good)["y"].tolist() == [[b"C", b"z"]]


# The record, and what reads it.


def test_a_candidate_is_fed_lists_of_unlike_lengths_from_the_record(tmp_path, worker_of):
    worker = worker_of("FP32", ["n", 4], TAGS)
    sent = [
        {"tags": texts([["a", "é", ""], ["", "", "b"]]), "price": np.array([1.0, 2.0])},
        {"tags": texts([["b"]]), "price": np.array([3.0])},
        {"price": np.array([4.0])},
        {"tags": np.empty((1, 0), object), "price": np.array([5.0])},
    ]
    worker.answers([request("m", **inputs) for inputs in sent])
    (tmp_path / "scorer").mkdir()
    scorer = SmallWorker(
        tmp_path / "scorer", worker.models, m={"features": parse_features(TAGS).model_dump(mode="json")}
    )
    feed = ShadowFeed(scorer.pipeline, RingReader(worker.ring.path, 1, start="oldest"))
    feed.adopt({"m": [Candidate(scorer.version("m"), 100)]})
    while feed.take(1 << 16):
        scorer.run()
    scorer.run()
    assert feed.without_inputs == feed.damaged == 0
    runs = scorer.frames()
    assert [run.fields["status"] for run in runs] == [0] * 4
    got = [np.frombuffer(run.outputs[0].data, F32).reshape(-1, 4).tolist() for run in runs]
    assert sorted(got, key=lambda rows: rows[0][3]) == [
        [[1, 0, 1, 1], [0, 1, 0, 2]],
        [[0, 1, 0, 3]],
        [[0, 0, 0, 4]],
        [[0, 0, 0, 5]],
    ]
