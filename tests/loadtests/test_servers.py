"""When a server's record has caught up, as the gateway itself says."""

import json
import time
from pathlib import Path

import pytest

from loadtests import servers
from loadtests.servers import Server, ServerFailed


@pytest.fixture
def server(tmp_path):
    (tmp_path / "run").mkdir()
    return Server("gateway", [], process=None, output=Path(), ready_seconds=0.0, state_dir=tmp_path)


def tell(server, index, *, at, waiting):
    status = {"at": at, "segments_waiting": waiting}
    (server.state_dir / "run" / f"recorder-{index}.json").write_text(json.dumps(status))


def test_it_is_built_when_every_recorder_has_said_since_that_no_segment_waits(server):
    for index in range(2):
        tell(server, index, at=time.time() + 60, waiting=0)
    server.wait_until_built()


@pytest.mark.parametrize(("age", "waiting"), [(60, 0), (-60, 1)])
def test_old_words_and_waiting_segments_are_waited_out_but_not_for_ever(server, monkeypatch, age, waiting):
    monkeypatch.setattr(servers, "BUILT_SECONDS", 0.1)
    tell(server, 0, at=time.time() + 60, waiting=0)
    tell(server, 1, at=time.time() - age, waiting=waiting)
    with pytest.raises(ServerFailed, match="not Parquet"):
        server.wait_until_built()
