"""The builder's process: it answers orders one by one, and nobody but its recorder ends it, who always does."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from supervised_tree import wait_until

from gateway.core.errors import Conflict
from gateway.process import builder as program
from gateway.recording import recorder, recovery
from gateway.recording.build_queue import READY, TIDY, Answer
from tests.unit.recording.record_places import RecordPlace, each_once

PATIENCE = 60.0
#: A recorder in name: starts the builder that it is told to, gives it an order, says its pid, and waits for ever.
PARENT = """
import os, subprocess, sys, time
order, *arguments = [str(os.getpid()) if argument == "PARENT" else argument for argument in sys.argv[1:]]
child = subprocess.Popen(arguments, stdin=subprocess.PIPE, bufsize=0)
child.stdin.write(order.encode() + b"\\n")
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def record(tmp_path):
    return RecordPlace(tmp_path)


@pytest.fixture
def start(record):
    """Starts builders; all are gone after the test."""
    with contextlib.ExitStack() as keep:

        def make(*, idle=True, index=0, command=None):
            given = command or program.command_line(record.state_dir, record.database_url, index, idle)
            process = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            keep.callback(process.wait)
            keep.callback(process.stdin.close)
            keep.callback(process.stdout.close)
            keep.callback(process.kill)
            return process

        yield make


def words(process):
    return process.stdout.readline().decode().rstrip("\n")


def ask(process, order):
    process.stdin.write(f"{order}\n".encode())
    return Answer.from_json(words(process))


def closed(record, numbers):
    record.commit(numbers)
    record.copy()
    return record.closed[-1].path.name


@pytest.mark.parametrize("idle", [True, False])
def test_it_answers_each_order_and_ends_when_these_do(record, start, idle):
    builder = start(idle=idle)
    assert words(builder) == READY
    assert ask(builder, closed(record, range(5))) == Answer(rows=5)
    assert ask(builder, TIDY) == Answer()
    assert ask(builder, closed(record, range(5, 8))) == Answer(rows=3)
    builder.stdin.close()
    assert builder.wait(PATIENCE) == 0
    assert record.numbers() == each_once(range(8))


def test_only_its_recorder_ends_it(record, start):
    builder = start()
    assert words(builder) == READY
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        builder.send_signal(number)
    assert ask(builder, closed(record, range(5))) == Answer(rows=5)


def test_it_is_below_the_workers_though_its_recorder_is_not_at_the_moment(start):
    # One that is late takes CPU from the workers, but never as much as they have.
    assert program.NICE == recorder.NICE
    builder = start(idle=False)
    assert words(builder) == READY
    assert os.getpriority(os.PRIO_PROCESS, builder.pid) == max(program.NICE, os.getpriority(os.PRIO_PROCESS, 0))


def test_it_dies_with_its_recorder_though_it_is_busy_and_does_not_hear_that_there_are_no_more_orders(record):
    command = record.builder_command("deaf")(True)
    command[command.index("--parent") + 1] = "PARENT"
    order = closed(record, range(5))
    with subprocess.Popen([sys.executable, "-c", PARENT, order, *command], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
    wait_until("the builder is gone", lambda: is_gone(pid), PATIENCE)


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"  # whoever adopted it has not asked for it yet
    except FileNotFoundError:
        return True


def test_one_whose_recorder_is_dead_before_it_could_ask_to_die_with_it_does_not_begin(record, start):
    command = program.command_line(record.state_dir, record.database_url, 0, True)
    command[command.index("--parent") + 1] = "1"
    builder = start(command=command)
    assert words(builder) == ""
    assert builder.wait(PATIENCE) == 1


def test_it_does_not_begin_before_its_predecessor_is_gone(record, start):
    first = start()
    assert words(first) == READY
    os.kill(first.pid, signal.SIGSTOP)
    second, neighbour = start(), start(index=1)
    assert words(neighbour) == READY
    wait_until("the second waits for the lock", lambda: waits_for_lock(second.pid), PATIENCE)
    first.kill()
    assert words(second) == READY


def waits_for_lock(pid):
    with open("/proc/locks") as locks:
        return any("->" in line and str(pid) in line.split() for line in locks)


def test_recovery_waits_for_a_builder_to_die_but_not_for_ever(record, start, monkeypatch):
    builder = start()
    assert words(builder) == READY
    monkeypatch.setattr(recovery, "BUILDER_EXIT_SECONDS", 0.05)
    with pytest.raises(Conflict, match="at work"):
        recovery.recover(record.state_dir, record.shm_dir, record.database_url)
    monkeypatch.setattr(recovery, "BUILDER_EXIT_SECONDS", PATIENCE)
    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (builder.kill(), pause(seconds)))
    del record.writer
    assert recovery.recover(record.state_dir, record.shm_dir, record.database_url).rings == {"w0": 0}


def test_where_the_system_refuses_to_make_it_idle_it_builds_all_the_same(record, monkeypatch, caplog):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    run = program._runner(idle=True)
    assert run(lambda: 3) == 3
    assert "cannot be made idle" in caplog.text


def test_what_is_no_order_ends_it(record, start):
    builder = start()
    assert words(builder) == READY
    builder.stdin.write(b"part-1.parquet\n")
    assert words(builder) == ""
    assert builder.wait(PATIENCE) == 1


def test_a_url_with_a_password_is_not_among_its_arguments(record):
    secret = "postgresql://gateway:secret@db/record"
    (record.state_dir / "run" / "server.json").write_text(json.dumps({"database_url": secret}))
    assert "secret" not in " ".join(program.command_line(record.state_dir, secret, 0, True))
    told = program.command_line(record.state_dir, "sqlite:////elsewhere/gateway.db", 0, True)
    assert told[-3:] == ["--database-url", "sqlite:////elsewhere/gateway.db", "--idle"]
