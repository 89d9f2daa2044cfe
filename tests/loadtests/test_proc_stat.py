"""Reading /proc: whatever a process calls itself, its numbers are found."""

import os
import socket
import subprocess
import sys

import pytest

from loadtests import proc_stat
from loadtests.proc_stat import ProcessStat

TICK = 1 / proc_stat.TICKS_A_SECOND


def stat_line(name="worker", *, pid=42, parent=7, user=120, system=30, reaped_user=5, reaped_system=1):
    return f"{pid} ({name}) S {parent} 42 42 0 -1 4194304 10 0 0 0 {user} {system} {reaped_user} {reaped_system} 20 0 1"


class TestStatLine:
    def test_times_are_user_plus_system_in_seconds(self):
        stat = proc_stat.parse_stat(stat_line())
        assert stat == ProcessStat(42, "worker", 7, pytest.approx(150 * TICK), pytest.approx(6 * TICK))

    @pytest.mark.parametrize("name", ["a b", "a) S 1 (b", "()", "))"])
    def test_names_with_spaces_and_parentheses_do_not_shift_the_fields(self, name):
        stat = proc_stat.parse_stat(stat_line(name))
        assert (stat.name, stat.parent) == (name, 7)

    def test_own_process_is_read(self):
        stat = proc_stat.read_stat(os.getpid())
        assert stat is not None
        assert (stat.pid, stat.parent) == (os.getpid(), os.getppid())
        assert stat.cpu_seconds > 0

    def test_a_process_that_is_gone_is_none_and_costs_nothing(self):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        assert proc_stat.read_stat(ended.pid) is None
        assert proc_stat.cpu_seconds([ended.pid]) == 0


class TestFamily:
    def test_descendants_of_every_generation_belong_to_it_and_strangers_do_not(self):
        parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20}
        everybody = [ProcessStat(pid, "p", parent, 1.0, 0.5) for pid, parent in parents.items()]
        assert sorted(stat.pid for stat in proc_stat.family_of(10, everybody)) == [10, 11, 12, 13]

    def test_a_root_that_is_gone_leaves_its_children(self):
        assert [stat.pid for stat in proc_stat.family_of(9, [ProcessStat(10, "p", 9, 0, 0)])] == [10]

    def test_cpu_of_children_that_ended_is_counted(self):
        before = proc_stat.family_cpu_seconds(os.getpid())
        busy = "import time\nwhile time.process_time() < 0.1: pass"
        subprocess.run([sys.executable, "-c", busy], check=True)
        assert proc_stat.family_cpu_seconds(os.getpid()) - before >= 0.1 - 2 * TICK


class TestMachine:
    TEXT = "cpu  100 10 50 800 20 5 15 40 0 0\ncpu0 50 5 25 400 10 2 8 20 0 0\nintr 1 2\nctxt 5\n"

    def test_busy_and_stolen_are_told_apart(self):
        times = proc_stat.parse_cpu_times(self.TEXT)
        assert sorted(times) == ["cpu", "cpu0"]
        assert times["cpu"].busy == pytest.approx(180 * TICK)
        assert times["cpu"].stolen == pytest.approx(40 * TICK)
        assert times["cpu"].total == pytest.approx(1040 * TICK)

    def test_this_machine_is_read(self):
        assert proc_stat.read_cpu_times()["cpu"].total > 0


class TestMemory:
    def test_resident_and_shared_are_in_mb(self):
        memory = proc_stat.parse_memory("Name:\tx\nVmRSS:\t  125000 kB\nRssAnon:\t 1 kB\nRssShmem:\t   31250 kB\n")
        assert memory == proc_stat.Memory(resident=128.0, shared=32.0)

    def test_own_memory_is_read(self):
        assert proc_stat.memory_of(os.getpid()).resident > 1


class TestSockets:
    TABLE = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 100 1\n"
        "   1: 0100007F:1F41 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  0  0 101 1\n"
        "   2: 0100007F:9C40 0100007F:1F41 01 00000000:00000000 00:00000000 00000000  0  0 102 1\n"
    )

    def test_only_established_connections_on_the_local_port_count(self):
        assert proc_stat.established_inodes(self.TABLE, 8001) == {101}

    def test_accepted_connections_are_counted_for_their_holder(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                accepted, _ = listener.accept()
                with accepted:
                    assert proc_stat.sockets_by_process([os.getpid()], port) == {os.getpid(): 1}
