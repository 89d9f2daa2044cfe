"""The recorder's process: told to stop it ends with everything safe; killed it has lost nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from gateway.process import recorder as program
from gateway.recording.moment import count_rows
from tests.unit.recording.record_places import RecordPlace, each_once


@pytest.fixture
def record(tmp_path):
    return RecordPlace(tmp_path, capacity=16 << 20)


def start(record, *options, life_fd=None):
    command = [sys.executable, "-m", "gateway.process.recorder", "--state-dir", str(record.state_dir)]
    command += ["--shm-dir", str(record.shm_dir), "--ring", "w0", *options]
    if life_fd is not None:
        command += ["--life-fd", str(life_fd)]
    return subprocess.Popen(command, pass_fds=() if life_fd is None else (life_fd,), stderr=subprocess.DEVNULL)


def wait_until(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def is_at_work(record):
    return (record.state_dir / "run" / "recorder-0.json").exists()


def status(record):
    return json.loads((record.state_dir / "run" / "recorder-0.json").read_text())


def builder_of(process):
    """Pid of the recorder's child that builds; None while there is none."""
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # dead, and perhaps not buried yet
            if "gateway.process.builder" in child.cmdline():
                return child.pid
    return None


def test_told_to_stop_it_builds_what_is_there_and_exits_0(record):
    process = start(record)
    wait_until(lambda: is_at_work(record))
    record.commit(range(20))
    record.writer = None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert len(record.part_files()) == 1
    assert record.numbers() == each_once(range(20))


def test_it_stays_until_nobody_commits_any_more(record):
    process = start(record)
    wait_until(lambda: is_at_work(record))
    process.send_signal(signal.SIGTERM)
    record.commit(range(5))
    wait_until(lambda: list(record.segments.glob("*.seg")))
    assert process.poll() is None
    record.commit(range(5, 9))
    record.writer = None
    assert process.wait(30) == 0
    assert record.numbers() == each_once(range(9))


def test_a_hang_up_or_interrupt_does_not_end_it(record):
    process = start(record)
    wait_until(lambda: is_at_work(record))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    record.commit(range(5))
    wait_until(lambda: list(record.segments.glob("*.seg")))
    record.writer = None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_the_death_of_the_supervisor_ends_it_like_a_signal(record):
    read, write = os.pipe()
    process = start(record, life_fd=read)
    os.close(read)
    wait_until(lambda: is_at_work(record))
    record.commit(range(5))
    record.writer = None
    os.close(write)
    assert process.wait(30) == 0
    assert record.numbers() == each_once(range(5))


def test_killed_again_and_again_under_load_it_loses_and_doubles_nothing(record):
    number = 0
    for _ in range(5):
        process = start(record, "--segment-bytes", "20000")
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            assert len(record.commit(range(number, number + 20))) == 20
            number += 20
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert count_rows(record.place) == number
    assert record.numbers() == each_once(range(number))
    assert program.main(["--recover", "--state-dir", str(record.state_dir), "--shm-dir", str(record.shm_dir)]) == 0
    assert record.numbers() == each_once(range(number))


def test_its_builder_killed_again_and_again_under_load_nothing_is_lost_or_doubled(record):
    process = start(record, "--segment-bytes", "20000")
    number = 0
    for kill in range(5):
        for _ in range(10 + 30 * kill):  # it is killed as it starts, and at work
            assert len(record.commit(range(number, number + 20))) == 20
            number += 20
            time.sleep(0.005)
        wait_until(lambda: kill_builder_of(process))
    record.writer = None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert status(record)["failures"] >= 1
    assert "the builder was ended by signal 9" in status(record)["last_failure"]
    assert record.numbers() == each_once(range(number))
    # Nothing stays of what the killed were making; of a merge that was broken off, the next one removes it.
    left = set(record.part_files()) - record.manifest().files()
    assert {name for name in left if "merged" not in name} == set()


def kill_builder_of(process):
    with contextlib.suppress(ProcessLookupError):
        if builder := builder_of(process):
            os.kill(builder, signal.SIGKILL)
            return True
    return False


def test_when_it_is_killed_its_builder_goes_too(record):
    process = start(record, "--segment-bytes", "1")
    record.commit(range(5))
    wait_until(lambda: builder_of(process))
    builder = psutil.Process(builder_of(process))
    process.kill()
    process.wait()
    wait_until(lambda: not builder.is_running() or builder.status() == psutil.STATUS_ZOMBIE)


def test_its_builder_works_below_everybody_and_nothing_of_arrow_is_in_the_recorder(record):
    process = start(record, "--segment-bytes", "1")
    record.commit(range(5))
    wait_until(lambda: builder_of(process))
    assert "--idle" in psutil.Process(builder_of(process)).cmdline()
    wait_until(record.listed_parts)
    wait_until(lambda: is_at_work(record) and status(record)["builder"]["pid"] == builder_of(process))
    assert mapped_libraries(builder_of(process)) >= {"arrow"}
    assert mapped_libraries(process.pid) == set()
    record.writer = None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def mapped_libraries(pid):
    paths = [mapping.path for mapping in psutil.Process(pid).memory_maps()]
    return {name for name in ("arrow", "duckdb") if any(name in os.path.basename(path) for path in paths)}


def test_recovery_that_cannot_be_says_so_with_its_exit_code(tmp_path):
    (tmp_path / "state").write_text("a file")
    arguments = ["--recover", "--state-dir", str(tmp_path / "state"), "--shm-dir", str(tmp_path)]
    assert program.main([*arguments, "--database-url", "sqlite://"]) == 1
