import json
import os

import pytest

from gateway.process import state_directory
from gateway.process.state_directory import StartError, StateDirectory
from gateway.process.supervisor_settings import read_settings


@pytest.fixture
def directory(tmp_path):
    prepared = StateDirectory(str(tmp_path / "state"))
    prepared.prepare()
    return prepared


def test_what_cannot_be_created_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"state directory .*file/state: Not a directory"):
        StateDirectory(str(tmp_path / "file" / "state")).prepare()


def test_a_directory_is_free_until_a_gateway_has_locked_it(directory, tmp_path):
    StateDirectory(str(tmp_path / "not yet there")).check_free()
    directory.check_free()
    directory.write_json("runtime.json", {"supervisor": 4711})
    held = directory.lock(patience=1)
    with pytest.raises(StartError, match=r"another gateway \(pid 4711\) uses state directory"):
        StateDirectory(directory.path).check_free()
    os.close(held)


def test_a_file_is_replaced_whole(directory):
    directory.write_json("runtime.json", {"supervisor": 1})
    directory.write_json("runtime.json", {"supervisor": 2})
    assert directory.read_json("runtime.json") == {"supervisor": 2}
    assert [name for name in os.listdir(directory.run) if name.endswith(".new")] == []


@pytest.mark.parametrize("content", ["", "{", "[1]", "\ufffd"])
def test_a_damaged_file_reads_as_empty(directory, content):
    with open(os.path.join(directory.run, "runtime.json"), "w") as file:
        file.write(content)
    assert directory.read_json("runtime.json") == {}


def test_a_log_that_grew_large_is_set_aside_once(directory, monkeypatch):
    monkeypatch.setattr(state_directory, "_LOG_BYTES", 100)
    for number in range(20):
        directory.append_line("crashes.jsonl", {"number": number})
    with open(os.path.join(directory.run, "crashes.jsonl")) as now, open(now.name + ".1") as before:
        numbers = [json.loads(line)["number"] for line in [*before, *now]]
    assert numbers == list(range(numbers[0], 20))
    assert len(numbers) < 20


def test_shared_memory_goes_to_the_state_directory_where_dev_shm_is_small(directory, monkeypatch):
    monkeypatch.setattr(state_directory, "_free_bytes", lambda path: 0 if path == "/dev/shm" else 1 << 40)
    assert directory.shared_memory(1 << 20, 1) == os.path.join(directory.path, "shm")


def test_shared_memory_that_fits_nowhere_is_refused_with_the_size(directory, monkeypatch):
    monkeypatch.setattr(state_directory, "_free_bytes", lambda _path: 0)
    with pytest.raises(StartError, match="need 82 MiB, and neither /dev/shm nor"):
        directory.shared_memory(64 << 20, 1)


def test_rings_that_are_left_keep_their_place(directory, monkeypatch):
    monkeypatch.setattr(state_directory, "_SHARED_MEMORY_ROOT", os.path.join(directory.path, "log"))
    slow = os.path.join(directory.path, "shm")
    open(os.path.join(slow, "w0.ring"), "w").close()
    assert directory.shared_memory(0, 0) == slow
    assert state_directory.leftover_rings(slow) == ["w0"]


def test_a_directory_that_somebody_else_put_there_is_not_used(directory, monkeypatch, tmp_path):
    root = tmp_path / "dev_shm"
    root.mkdir()
    monkeypatch.setattr(state_directory, "_SHARED_MEMORY_ROOT", str(root))
    fast = directory.shared_memory(0, 0)
    os.rmdir(fast)
    os.symlink(directory.path, fast)
    with pytest.raises(StartError, match="is not a directory of ours; remove it"):
        directory.shared_memory(0, 0)


def _settings(tmp_path, content):
    path = tmp_path / "server.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_settings(str(path))


def test_settings_name_a_ring_for_each_process_that_commits_and_one_reader_for_each_ring(tmp_path):
    settings = _settings(tmp_path, {"state_dir": "/s", "workers": 3, "scorers": 1, "recorders": 2, "other": None})
    assert settings.rings == ["w0", "w1", "w2", "s0"]
    assert settings.rings_of_recorder(0) + settings.rings_of_recorder(1) == ["w0", "w2", "w1", "s0"]


def test_without_recording_there_are_no_rings(tmp_path):
    assert _settings(tmp_path, {"state_dir": "/s", "recording": "off"}).rings == []
    assert _settings(tmp_path, {"state_dir": "/s", "recording": "on"}).rings == ["w0", "s0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ([], "an object with at least `state_dir`"),
        ({"state_dir": "/s", "workers": 0}, "workers: 0 is not a number from 1 to 192"),
        ({"state_dir": "/s", "workers": "4"}, "workers: '4' is not a number"),
        ({"state_dir": "/s", "http_port": 65536}, "http_port: 65536 is not a number from 0 to 65535"),
    ],
)
def test_settings_that_are_not_right_are_refused_by_field(tmp_path, content, message):
    with pytest.raises(StartError, match=message):
        _settings(tmp_path, content)
