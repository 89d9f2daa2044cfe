"""The recorder's process: told to stop it ends with everything safe; killed it has lost nothing."""

import os
import signal
import subprocess
import sys
import time

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


def test_recovery_that_cannot_be_says_so_with_its_exit_code(tmp_path):
    (tmp_path / "state").write_text("a file")
    arguments = ["--recover", "--state-dir", str(tmp_path / "state"), "--shm-dir", str(tmp_path)]
    assert program.main([*arguments, "--database-url", "sqlite://"]) == 1
