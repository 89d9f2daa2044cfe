"""The supervisor with real processes, descriptors and signals."""

import hashlib
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path

import psutil
from supervised_tree import greeting, wait_until


def test_connections_opened_at_once_are_spread_evenly(tree):
    tree.start(workers=4)
    connections = [tree.connect() for _ in range(16)]
    reached = Counter(greeting(connection)[0] for connection in connections)
    assert reached == {0: 4, 1: 4, 2: 4, 3: 4}


def test_a_connection_that_closes_makes_room_on_its_worker(tree):
    tree.start(workers=2)
    page = tree.page()
    first, second = tree.connect(), tree.connect()
    freed = greeting(first)[0]
    assert greeting(second)[0] != freed
    first.close()
    wait_until("the worker counts it closed", lambda: page.slot(freed).connections_closed == 1)
    assert greeting(tree.connect())[0] == freed


def test_the_user_is_told_the_ports_and_once_that_the_gateway_is_ready(tree):
    tree.start(workers=2)
    wait_until("ready", lambda: "ready after" in tree.everything_said()[-1])
    ports = tree.runtime()["ports"]
    assert tree.everything_said()[0] == (
        f"gateway supervisor: HTTP 127.0.0.1:{ports['http']}, gRPC 127.0.0.1:{ports['grpc']}, "
        f"admin 127.0.0.1:{ports['admin']}"
    )
    assert tree.stop()[0] == 0
    assert sum("ready after" in line for line in tree.everything_said()) == 1


def test_a_worker_learns_by_which_port_a_connection_came(tree):
    tree.start(workers=1)
    assert greeting(tree.connect("http"))[2] == "h"
    assert greeting(tree.connect("grpc"))[2] == "g"


def test_connections_that_a_killed_worker_had_not_taken_are_served_by_its_successor(tree):
    tree.start(workers=1)
    old = tree.worker_pid(0)
    os.kill(old, signal.SIGSTOP)
    waiting = [tree.connect() for _ in range(5)]
    page = tree.page()
    assert page.slot(0).connections_closed == 0
    os.kill(old, signal.SIGKILL)
    for connection in waiting:
        worker, pid, _port = greeting(connection)
        assert (worker, pid != old) == (0, True)


def test_connections_that_died_with_a_worker_do_not_count_as_its_load(tree):
    tree.start(workers=2)
    held = [tree.connect() for _ in range(4)]
    reached = {connection: greeting(connection) for connection in held}
    old = tree.worker_pid(0)
    os.kill(old, signal.SIGKILL)
    wait_until("a successor", lambda: tree.worker_pid(0) not in (None, old))
    lost = [connection for connection, (worker, _, _) in reached.items() if worker == 0]
    assert [connection.recv(1) for connection in lost] == [b"", b""]
    assert [greeting(tree.connect())[0] for _ in range(2)] == [0, 0]


def test_every_role_is_restarted_and_the_runtime_file_tells_the_new_pids(tree):
    tree.start(workers=1)
    before = wait_until("recorder", lambda: tree.runtime()["recorders"]) and tree.runtime()
    for pid in (before["control"], before["workers"][0]["pid"], before["recorders"][0]["pid"]):
        os.kill(pid, signal.SIGKILL)

    def all_new():
        now = tree.runtime()
        if not (now["control"] and now["workers"] and now["recorders"]):
            return False
        pids = {now["control"], now["workers"][0]["pid"], now["recorders"][0]["pid"]}
        return not pids & {before["control"], before["workers"][0]["pid"], before["recorders"][0]["pid"]}

    wait_until("three successors", all_new)
    code, said = tree.stop()
    assert code == 0
    assert sum(line.endswith("was ended by SIGKILL; it is started again") for line in said) == 3


def test_a_worker_that_cannot_start_is_retried_ever_later(tree):
    (tree.state_dir).mkdir(parents=True)
    (tree.state_dir / "fail-worker").touch()
    tree.start(wait=False)
    said = wait_until("four failures", lambda: len(tree.said()) >= 4 and tree.said()[:4])
    assert [line.rpartition("started again")[2] for line in said] == [
        "",
        " in 0.1 s",
        " in 0.1 s",
        " in 0.2 s",
    ]
    assert "exited with code 3" in said[0]
    (tree.state_dir / "fail-worker").unlink()
    wait_until("the worker", lambda: "worker 0: started" in tree.events())
    assert tree.stop()[0] == 0


def test_the_stop_goes_from_whoever_produces_to_whoever_consumes(tree):
    tree.start(workers=2, scorers=1)
    tree.page().scorers_wanted = 1
    os.kill(tree.process.pid, signal.SIGUSR1)
    wait_until("scorer and recorder", lambda: {"scorer 0: started", "recorder 0: started"} <= set(tree.events()))
    greeting(tree.connect())
    shm = tree.runtime()["shm"]
    assert tree.stop() == (0, [])
    ends = [line for line in tree.events() if line.endswith("stopped")]
    assert sorted(ends[:2]) == ["worker 0: stopped", "worker 1: stopped"]
    assert ends[2:] == ["scorer 0: stopped", "control: stopped", "recorder 0: stopped"]
    assert sum("draining=True" in line for line in tree.events()) == 2
    assert not os.path.exists(shm), "after an orderly stop nothing is left in memory"


def test_sigint_to_the_whole_group_is_an_orderly_stop(tree):
    tree.start(workers=1)
    wait_until("recorder", lambda: "recorder 0: started" in tree.events())
    code, said = tree.stop(signal.SIGINT)
    assert (code, said) == (0, [])
    assert tree.events()[-1] == "recorder 0: stopped"


def test_children_weigh_as_their_nice_values_say_and_no_terminal_stops_them(tree):
    # Linux shares a CPU between sessions before it looks at nice values. A background group of a session is stopped
    # when it writes to a terminal that is set to `tostop`, unless it ignores SIGTTOU.
    tree.start(workers=1)
    child = tree.worker_pid(0)
    assert os.getsid(child) == os.getsid(tree.process.pid)
    assert os.getpgid(child) == child
    status = Path(f"/proc/{child}/status").read_text()
    ignored = int(re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)[1], 16)
    assert ignored >> (signal.SIGTTOU - 1) & 1


def test_connections_that_arrive_with_the_stop_are_handed_on_not_reset(tree):
    tree.start(workers=1)
    os.kill(tree.process.pid, signal.SIGSTOP)
    late = [tree.connect() for _ in range(3)]
    os.kill(tree.process.pid, signal.SIGTERM)
    os.kill(tree.process.pid, signal.SIGCONT)
    assert [greeting(connection)[0] for connection in late] == [0, 0, 0]
    assert tree.process.wait(30) == 0


def test_a_worker_that_does_not_end_in_time_is_killed_and_the_rest_still_ends_in_order(tree):
    tree.start(workers=1, drain_seconds=0.5)
    wait_until("recorder", lambda: "recorder 0: started" in tree.events())
    os.kill(tree.worker_pid(0), signal.SIGSTOP)
    code, said = tree.stop()
    assert code == 0
    assert said == ["worker 0 did not end in time and was killed"]
    assert tree.events()[-1] == "recorder 0: stopped"


def test_a_second_gateway_on_the_same_state_directory_is_refused_by_name(tree, make_tree):
    tree.start(workers=1)
    other = make_tree()
    other.start(wait=False)
    assert other.process.wait(20) == 1
    assert f"another gateway (pid {tree.process.pid}) uses state directory {tree.state_dir}" in other.said()[-1]


def test_a_port_in_use_is_refused_before_anything_is_started(tree, make_tree):
    tree.start(workers=1)
    other = make_tree("other")
    other.start(wait=False, http_port=tree.runtime()["ports"]["http"])
    assert other.process.wait(20) == 1
    assert "HTTP port" in other.said()[-1]
    assert "choose another port" in other.said()[-1]
    assert other.events() == []
    key = hashlib.sha256(os.path.realpath(other.state_dir).encode()).hexdigest()[:12]
    assert not os.path.exists(f"/dev/shm/onnx-gateway-{key}"), "nothing is left in memory either"


def test_children_of_a_killed_supervisor_end_by_themselves_and_the_next_one_recovers_first(tree):
    tree.start(workers=1)
    wait_until("recorder", lambda: "recorder 0: started" in tree.events())
    before = tree.runtime()
    children = [before["control"], before["workers"][0]["pid"], before["recorders"][0]["pid"]]
    tree.kill()
    wait_until("no child left", lambda: not any(map(psutil.pid_exists, children)))
    assert sum(line.endswith("orphaned") for line in tree.events()) == 3
    (tree.state_dir / "events").unlink()
    tree.start(workers=1)
    events = [line for line in tree.events() if not line.startswith("control")]
    assert events[:2] == ["recovery: ran", "rings: made ['w0', 's0']"]


def test_a_successor_waits_for_orphans_and_kills_those_that_hang(tree):
    tree.start(workers=1)
    hanging = tree.worker_pid(0)
    os.kill(hanging, signal.SIGSTOP)
    tree.kill()
    (tree.state_dir / "events").unlink()
    tree.start(workers=1, drain_seconds=0.3)
    wait_until("the orphan gone", lambda: not psutil.pid_exists(hanging))
    assert tree.worker_pid(0) != hanging


def test_a_failed_recovery_stops_the_gateway_and_keeps_the_rings(tree):
    tree.start(workers=1)
    shm = tree.runtime()["shm"]
    tree.kill()
    (tree.state_dir / "fail-recovery").touch()
    tree.start(wait=False)
    assert tree.process.wait(30) == 1
    assert "recovery failed (exited with code 1)" in tree.said()[-1]
    assert os.path.exists(os.path.join(shm, "w0.ring"))


def test_a_crash_is_told_with_its_suspects_and_the_third_quarantines_the_version(tree):
    tree.start(workers=1)
    for crashes in range(1, 4):
        client = wait_until("a worker", tree.connect)
        greeting(client)
        client.sendall(b"crash")
        assert client.recv(1) == b""
        wait_until("the obituary", lambda n=crashes: len(_lines(tree, "crashes.jsonl")) == n)
        assert (tree.state_dir / "run" / "quarantine.json").exists() == (crashes == 3)
    told = json.loads(_lines(tree, "crashes.jsonl")[0])
    assert told["end"] == "was ended by SIGSEGV"
    assert told["suspects"] == [
        {
            "model": "flights",
            "version": "3",
            "rows": 5,
            "requests": [{"prediction_id": bytes(range(16)).hex(), "fingerprint": "0000000000000abc"}],
        }
    ]
    held_back = json.loads((tree.state_dir / "run" / "quarantine.json").read_text())["versions"]
    assert [(entry["model"], entry["version"]) for entry in held_back] == [("flights", "3")]


def test_accepting_pauses_without_descriptors_and_goes_on_when_there_are_some(tree):
    # A stopped worker takes nothing, so descriptors pile up; the supervisor itself closes each at once, so the
    # limit is reached by holding the few it has: its own files leave room for very few connections.
    tree.start(workers=1, descriptors=64)
    supervisor = psutil.Process(tree.process.pid)
    spare = 64 - supervisor.num_fds()
    limit = supervisor.num_fds()
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (limit, 64))
    waiting = tree.connect()
    waiting.settimeout(0.3)
    try:
        heard = waiting.recv(1)
    except TimeoutError:
        heard = None
    assert (heard, spare > 0) == (None, True)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (64, 64))
    waiting.settimeout(20)
    assert greeting(waiting)[0] == 0
    assert tree.stop() == (0, [])


def test_without_recording_there_are_neither_rings_nor_recorders(tree):
    tree.start(workers=1, recording="off")
    assert tree.runtime()["rings"] == []
    assert tree.stop()[0] == 0
    assert {line.split(":")[0] for line in tree.events()} == {"control", "rings", "worker 0"}
    assert "rings: made []" in tree.events()


def test_with_the_grpcio_transport_the_grpc_port_is_only_reserved(tree):
    import socket

    tree.start(workers=1, grpc_transport="grpcio")
    port = tree.runtime()["ports"]["grpc"]
    with socket.socket() as worker_side:
        worker_side.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker_side.bind(("127.0.0.1", port))
        worker_side.listen()
        client = tree.connect("grpc")
        accepted, _ = worker_side.accept()
        accepted.close()
        client.close()


def test_the_state_directory_is_private(tree):
    tree.start(workers=1)
    folders = [tree.state_dir, *(tree.state_dir / name for name in ("run", "snapshots", "segments", "log", "shm"))]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert os.stat(tree.runtime()["shm"]).st_mode & 0o777 == 0o700


def _lines(tree, name):
    path = tree.state_dir / "run" / name
    return path.read_text().splitlines() if path.exists() else []
