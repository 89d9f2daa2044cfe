"""Invariant: a reply read by google.protobuf is the response that google.protobuf would have made."""

from __future__ import annotations

import struct
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast import oip_wire
from gateway._fast.exchange import exchange_for_test
from gateway.core.errors import InferenceFailed
from gateway.core.tensors import DataType, TensorSpec
from gateway.serving._generated import inference_pb2 as pb
from tests.reference import oip_messages

PREDICTION = uuid.UUID("0192f8a0-1234-7abc-8def-0123456789ab")


def reply_of(outputs, *, id="", typed=False, wanted=None, version="3"):
    """Bytes of the reply for ``(name, datatype, shape, data)`` outputs, its gRPC prefix included."""
    exchange = exchange_for_test(pb.ModelInferRequest(model_name="m", id=id).SerializeToString())
    oip_wire.read_for_test(exchange)
    template = oip_wire.ReplyTemplate("m", version, [TensorSpec(name, dtype, (-1,)) for name, dtype, _, _ in outputs])
    values = [(dtype, shape, data) for _, dtype, shape, data in outputs]
    return oip_wire.write_for_test(exchange, template, values, PREDICTION.bytes, wanted, typed)


def message_of(reply: bytes) -> pb.ModelInferResponse:
    assert reply[0] == 0
    assert int.from_bytes(reply[1:5], "big") == len(reply) - 5
    return pb.ModelInferResponse.FromString(reply[5:])


@st.composite
def outputs(draw):
    made = []
    for _ in range(draw(st.integers(0, 3))):
        datatype = draw(st.sampled_from(list(DataType)))
        shape = draw(st.lists(st.one_of(st.integers(0, 3), st.just(130)), max_size=2))
        count = int(np.prod(shape, dtype=int))
        if datatype is DataType.BYTES:
            part = draw(st.binary(max_size=300))
            data = (struct.pack("<I", len(part)) + part) * count
        elif datatype is DataType.BOOL:
            data = bytes(i % 3 == 0 for i in range(count))
        else:
            random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            data = random.bytes(count * datatype.itemsize)
            if datatype in (DataType.FP32, DataType.FP64):  # any value but signalling NaNs, which Python quiets
                special = [0.0, -0.0, np.inf, -np.inf, np.nan]
                data = np.append(special, random.standard_normal(count))[:count].astype(datatype.numpy).tobytes()
        made.append((draw(st.text(max_size=8)), datatype, shape, data))
    return made


@given(outputs(), st.text(max_size=200), st.booleans(), st.text(max_size=4))
def test_replies_say_what_protobuf_would(made, id, typed, version):
    expected = oip_messages.write(
        model="m", version=version, id=id, prediction_id=str(PREDICTION), outputs=made, typed=typed
    )
    answer = message_of(reply_of(made, id=id, typed=typed, version=version))
    # As bytes, in protobuf's own order: NaN is not equal to itself.
    assert answer.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_the_reply_repeats_the_callers_id_and_names_the_prediction():
    answer = message_of(reply_of([("y", DataType.FP32, [1], bytes(4))], id="mine"))
    assert answer.id == "mine"
    assert answer.parameters["prediction_id"].string_param == str(PREDICTION)
    assert (answer.model_name, answer.model_version) == ("m", "3")


def test_without_an_id_the_reply_carries_the_prediction_id():
    assert message_of(reply_of([])).id == str(PREDICTION)


def test_only_wanted_outputs_are_written_in_the_order_asked_for():
    made = [(name, DataType.UINT8, [1], name.encode()) for name in "abc"]
    answer = message_of(reply_of(made, wanted=[2, 0]))
    assert [tensor.name for tensor in answer.outputs] == ["c", "a"]
    assert list(answer.raw_output_contents) == [b"c", b"a"]


def test_half_floats_force_the_raw_form_on_the_whole_reply():
    made = [("a", DataType.INT8, [1], b"\x01"), ("h", DataType.FP16, [1], b"\x00\x3c")]
    answer = message_of(reply_of(made, typed=True))
    assert list(answer.raw_output_contents) == [b"\x01", b"\x00\x3c"]
    assert not any(tensor.HasField("contents") for tensor in answer.outputs)


def test_half_floats_that_nobody_asked_for_leave_the_reply_typed():
    made = [("a", DataType.INT8, [1], b"\xff"), ("h", DataType.FP16, [1], b"\x00\x3c")]
    answer = message_of(reply_of(made, typed=True, wanted=[0]))
    assert list(answer.outputs[0].contents.int_contents) == [-1]
    assert not answer.raw_output_contents


def test_an_output_without_elements_keeps_its_entry():
    answer = message_of(reply_of([("y", DataType.FP32, [0, 4], b"")]))
    assert list(answer.raw_output_contents) == [b""]
    assert list(answer.outputs[0].shape) == [0, 4]


def test_a_large_reply_is_written_whole():
    data = np.arange(200_000, dtype="<f4").tobytes()
    answer = message_of(reply_of([("y", DataType.FP32, [1, 200_000], data)]))
    assert answer.raw_output_contents[0] == data


def test_an_error_has_no_body():
    exchange = exchange_for_test(b"")
    exchange.error = InferenceFailed("no")
    template = oip_wire.ReplyTemplate("m", "1", [])
    assert oip_wire.write_for_test(exchange, template, [], PREDICTION.bytes) == b""


def test_a_reply_beyond_two_gigabytes_is_refused_not_cut():
    # One page of zeros stands in for 2 GiB: what does not fit is refused before anything is copied.
    exchange = exchange_for_test(b"")
    template = oip_wire.ReplyTemplate("m", "1", [TensorSpec("y", DataType.UINT8, (-1,))])
    oip_wire.write_for_test(exchange, template, [(DataType.UINT8, [2**31], b"")], PREDICTION.bytes, data_size=2**31)
    assert exchange.error.code == "inference_failed"
    assert "a protobuf message takes at most 2147483647" in exchange.error.message


@pytest.mark.parametrize("count", [0, 3])
def test_template_tells_itself(count):
    template = oip_wire.ReplyTemplate("m", "7", [TensorSpec("y", DataType.FP32, (-1,))] * count)
    assert repr(template) == f"<ReplyTemplate 'm' version '7', {count} outputs>"
