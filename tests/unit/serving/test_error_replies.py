"""The table of error statuses has a row for every error there is, and for nothing else."""

import json

import pytest

from gateway.core.errors import GatewayError, MalformedBody, Refused, Unavailable
from gateway.serving.error_replies import GRPC_STATUS, HTTP_STATUS, WIRE_STATUS, error_body


def tree(root=GatewayError):
    yield root
    for branch in root.__subclasses__():
        if branch.__module__ == root.__module__:
            yield from tree(branch)


def test_every_error_has_a_row_and_every_row_an_error():
    assert set(WIRE_STATUS) == {error.code for error in tree()}
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(WIRE_STATUS)


def test_codes_are_unique():
    """The root stands for what went wrong without a name, which is ours: it shares the code of InternalError."""
    codes = [error.code for error in tree() if error is not GatewayError]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("root", [Refused, Unavailable])
def test_what_may_be_tried_again_says_so_in_both_protocols(root):
    """KServe's client retries exactly UNAVAILABLE, proxies retry 503; deadlines and cancels are not for retrying."""
    for error in tree(root):
        if error.code not in ("deadline_exceeded", "cancelled"):
            assert (HTTP_STATUS[error.code], GRPC_STATUS[error.code]) == (503, 14), error.code


def test_the_body_holds_message_and_hint():
    assert json.loads(error_body(MalformedBody("broken", hint="mend it"))) == {"error": "broken (mend it)"}
