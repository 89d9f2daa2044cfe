"""The commands that a user meets, against a real admin port: what they print, and how they end."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import main as cli
from gateway.cli.models import parse_target
from gateway.cli.traffic import parse_weights
from gateway.core.errors import ConfigurationError, GatewayError, InvalidRequest
from tests.unit.control.admin_port import admin_port
from tests.unit.control.model_folders import ModelFolders


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, result):
        self.out, self.err, self.code = result.stdout, result.stderr, result.exit_code
        self.error = result.exception if isinstance(result.exception, GatewayError) else None
        if result.exception is not None and self.error is None and not isinstance(result.exception, SystemExit):
            raise result.exception

    @property
    def rows(self):
        return json.loads(self.out)


def gateway(*arguments):
    return Outcome(CliRunner().invoke(cli.app, [str(argument) for argument in arguments]))


@pytest.fixture
def folders(tmp_path):
    folders = ModelFolders(tmp_path / "models")
    for version in ("1", "2", "3"):
        folders.version("m", version)
    folders.yaml("m", "{traffic: {weights: {1: 100}}, labels: {stable: 1}}")
    return folders


@pytest.fixture
def against_a_gateway(folders, tmp_path, monkeypatch):
    """Run a blocking scenario in a thread, with the tree and its state directory."""
    monkeypatch.chdir(tmp_path)

    def run(scenario, state_dir=tmp_path / "gateway-state", **settings):
        state_dir.mkdir()

        async def whole():
            async with admin_port(folders, state_dir, **settings) as t:
                await asyncio.to_thread(scenario, t)

        asyncio.run(asyncio.wait_for(whole(), 60))

    return run


def test_traffic_is_shown_planned_set_and_undone(against_a_gateway):
    def scenario(t):
        (row,) = gateway("traffic", "show", "m", "--json").rows
        assert (row["version"], row["weight"], row["slots"], row["labels"]) == ("1", 1.0, 10_000, ["stable"])
        planned = gateway("traffic", "plan", "m", "1=80", "2=20", "--json").rows
        assert [(row["version"], row["gains"], row["loses"]) for row in planned] == [("1", 0, 2_000), ("2", 2_000, 0)]
        done = gateway("traffic", "set", "m", "1=90", "2=10", "--sticky", "header:x-user", "--json")
        assert [(row["version"], row["slots"], row["sticky"]) for row in done.rows] == [
            ("1", 9_000, "header:x-user"), ("2", 1_000, "header:x-user"),
        ]  # fmt: skip
        assert "in force as number 2; 10 % of the keys have another version now" in done.err
        kept = gateway("traffic", "set", "m", "1=1", "2=1", "--json")
        assert {row["sticky"] for row in kept.rows} == {"header:x-user"}
        undone = gateway("traffic", "undo", "m", "--json")
        assert [row["slots"] for row in undone.rows] == [9_000, 1_000]
        assert "the split of number 2 is back" in undone.err
        assert [row["slots"] for row in gateway("traffic", "undo", "m", "3", "--json").rows] == [5_000, 5_000]
        history = gateway("traffic", "history", "m", "--json").rows
        assert [(row["number"], row["restores"]) for row in history] == [
            (1, None), (2, None), (3, None), (4, 2), (5, 3),
        ]  # fmt: skip

    against_a_gateway(scenario)


def test_people_get_a_table_with_one_line_a_row(against_a_gateway):
    def scenario(t):
        lines = gateway("traffic", "set", "m", "1=90", "2=10").out.splitlines()
        assert lines[0].split()[:3] == ["VERSION", "WEIGHT", "SLOTS"]
        assert [line.split()[:4] for line in lines[1:]] == [["1", "90.00", "%", "9000"], ["2", "10.00", "%", "1000"]]
        assert len(gateway("models", "list").out.splitlines()) == 4
        assert "x FP32[-1, 4]" in gateway("models", "show", "m@1").out
        assert len(gateway("traffic", "history", "m").out.splitlines()) == 3

    against_a_gateway(scenario)


def test_models_are_listed_shown_loaded_unloaded_and_verified(against_a_gateway, folders):
    def scenario(t):
        assert [row["version"] for row in gateway("models", "list", "--json").rows] == ["1", "2", "3"]
        assert [row["version"] for row in gateway("models", "show", "m", "--json").rows] == ["1", "2", "3"]
        unloaded = gateway("models", "unload", "m@3", "--json")
        assert unloaded.rows[0]["state"] == "unloaded"
        loaded = gateway("models", "load", "m@3", "--json")
        assert (loaded.rows[0]["state"], loaded.code) == ("ready", 0)
        refused = gateway("models", "unload", "m@1")
        assert (refused.error.code, refused.code) == ("conflict", 1)
        assert "gateway traffic set" in refused.error.hint
        assert gateway("models", "unload", "m@1", "--force").code == 0
        assert gateway("models", "verify").code == 0
        folders.version("m", "2", b"something else")
        verified = gateway("models", "verify", "--json")
        assert (verified.code, [row["ok"] for row in verified.rows]) == (1, [True, False, True])
        folders.version("m", "4", b"")
        whole = gateway("models", "load", "m")
        assert "warning: version 4: model.onnx is empty" in whole.err
        assert gateway("models", "show", "m@9").error.code == "version_not_found"

    against_a_gateway(scenario)


def test_shadows_diff_and_audit(against_a_gateway):
    def scenario(t):
        assert gateway("diff").code == 0
        added = gateway("shadow", "add", "m", "2", "--percent", "25", "--json").rows
        assert [(row["version"], row["percent"], row["state"]) for row in added] == [("2", 25.0, "shadow")]
        differing = gateway("diff", "--json")
        assert (differing.code, differing.rows[0]["setting"]) == (1, "shadows")
        assert gateway("shadow", "remove", "m", "2", "--json").rows == []
        rows = gateway("audit", "--last", "2", "--json").rows
        assert [row["action"] for row in rows] == ["shadow add", "shadow remove"]
        assert rows[0]["actor"].startswith("admin:")
        t.store.audit = lambda: []  # somebody emptied the table: nothing to complain about
        assert gateway("audit", "--json").rows == []

    against_a_gateway(scenario)


def test_an_audit_that_was_tampered_with_fails(against_a_gateway):
    def scenario(t):
        gateway("traffic", "set", "m", "2=1")
        rows = t.store.audit()
        t.store.audit = lambda: rows[1:]
        told = gateway("audit", "--json")
        assert (told.code, str(told.error)) == (1, "row 1 of the audit is not what was written")

    against_a_gateway(scenario)


def test_the_gateway_is_found_by_its_port_alone(against_a_gateway, tmp_path, monkeypatch):
    def scenario(t):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        place = t.url.removeprefix("http://")
        assert gateway("traffic", "set", "m", "2=1", "--admin", place).code == 0
        assert gateway("traffic", "show", "m", "--admin", t.url, "--json").rows[0]["version"] == "2"
        assert gateway("traffic", "show", "m", "--state-dir", tmp_path / "other", "--json").code == 0

    against_a_gateway(scenario, tmp_path / "other")


def test_a_token_is_not_sent_to_a_port_that_is_not_its_gateways(against_a_gateway, tmp_path, monkeypatch):
    def scenario(t):
        # What listens names a state directory that says of itself that it listens elsewhere.
        runtime = tmp_path / "other" / "run" / "runtime.json"
        runtime.write_text(json.dumps({"ports": {"admin": 1}}))
        refused = gateway("traffic", "show", "m", "--admin", t.url)
        assert refused.error.code == "unauthenticated"
        runtime.write_text(json.dumps({"ports": {"admin": int(t.url.rpartition(":")[2])}}))
        assert gateway("traffic", "show", "m", "--admin", t.url).code == 0
        (tmp_path / "other").chmod(0o755)
        assert gateway("traffic", "show", "m", "--admin", t.url).error.code == "unauthenticated"

    against_a_gateway(scenario, tmp_path / "other")


def test_a_token_file_is_used_and_a_wrong_token_refused(against_a_gateway, tmp_path):
    def scenario(t):
        (tmp_path / "token").write_text(t.token)
        (tmp_path / "wrong").write_text("wrong")
        ask = ("traffic", "show", "m", "--admin", t.url, "--token-file")
        assert gateway(*ask, tmp_path / "token").code == 0
        assert gateway(*ask, tmp_path / "wrong").error.code == "unauthenticated"
        assert "cannot be read" in str(gateway(*ask, tmp_path / "missing").error)

    against_a_gateway(scenario, tmp_path / "other")


def test_where_no_gateway_answers_the_command_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = gateway("traffic", "show", "m", "--admin", "127.0.0.1:9")
    assert "no gateway answers at http://127.0.0.1:9" in str(refused.error)
    stopped = gateway("traffic", "show", "m", "--state-dir", tmp_path)
    assert str(stopped.error) == f"no gateway runs on state directory {tmp_path}"
    for url in ("ftp://x", "http://x:port", ""):
        assert gateway("models", "list", "--admin", url).error.code == "invalid_request"


def test_what_is_no_gateway_is_told_from_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scenario():
        async def other(_reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            writer.close()

        server = await asyncio.start_server(other, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outcome = await asyncio.to_thread(gateway, "models", "list", "--admin", url)
        assert "is no gateway's admin port" in str(outcome.error)
        server.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


# Arguments


def test_weights_are_read_and_mistakes_named():
    assert parse_weights(["1=90", "v=2=0.5"]) == {"1": 90.0, "v=2": 0.5}
    for pairs, complaint in (
        (["1"], "'1' is not VERSION=WEIGHT"),
        (["=1"], "'=1' is not VERSION=WEIGHT"),
        (["1=x"], "'1=x' is not VERSION=WEIGHT"),
        (["1=1", "1=2"], "version 1 stands twice"),
    ):
        with pytest.raises(InvalidRequest, match=complaint):
            parse_weights(pairs)


def test_targets_are_read_and_mistakes_named():
    assert parse_target("m") == ("m", None)
    assert parse_target("m@2") == ("m", "2")
    for target in ("", "@", "m@", "@2"):
        with pytest.raises(InvalidRequest, match="is not MODEL or MODEL@VERSION"):
            parse_target(target)


def commands():
    """Every command of the nouns that this test is about, as words."""
    group = typer.main.get_command(cli.app)
    found = []
    for noun in ("serve", "check", "models", "traffic", "shadow", "diff", "audit"):
        below = getattr(group.get_command(None, noun), "commands", None)
        found += [[noun, name] for name in below] if below else [[noun]]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_help_has_an_example(command):
    shown = gateway(*command, "--help")
    assert (shown.code, f"Example: gateway {' '.join(command)}" in shown.out.replace("\n", " ")) == (0, True)


def test_a_noun_that_does_not_exist_is_a_usage_error():
    outcome = gateway("nonsense")
    assert outcome.code == 2
    assert "No such command 'nonsense'" in outcome.err


def test_the_program_prints_errors_and_ends_with_1(tmp_path):
    command = [sys.executable, "-m", "gateway.cli.main", "traffic", "show", "m", "--admin", "127.0.0.1:9"]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: no gateway answers at http://127.0.0.1:9")
    assert "Traceback" not in ended.stderr


def test_a_command_that_asks_the_gateway_loads_neither_web_framework_nor_database():
    code = (
        "import sys; from gateway.cli import main, traffic;"
        "print(sorted({'fastapi', 'sqlalchemy', 'pydantic', 'httpx', 'numpy', 'duckdb'} & sys.modules.keys()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


# serve and check


def test_serve_writes_private_settings_and_becomes_the_supervisor(folders, tmp_path, monkeypatch):
    became = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: became.append(arguments))
    state_dir = tmp_path / "state" / "deep"
    served = gateway(
        "serve", folders.path, "--state-dir", state_dir, "--http-port", 0, "--workers", 3, "--ring-bytes", "2MiB"
    )
    assert served.code == 0
    settings = state_dir / "run" / "server.json"
    assert became == [[sys.executable, "-m", "gateway.process.supervisor", "--config", str(settings)]]
    written = json.loads(settings.read_text())
    assert (written["http_port"], written["grpc_port"], written["workers"], written["recorders"]) == (0, 8001, 3, 1)
    assert (written["ring_bytes"], written["models_dir"], written["recording"]) == (2 << 20, str(folders.path), "on")
    assert oct(settings.stat().st_mode & 0o777) == "0o600"
    assert oct(state_dir.stat().st_mode & 0o777) == oct(settings.parent.stat().st_mode & 0o777) == "0o700"


def test_serve_tells_every_wrong_setting(folders, tmp_path):
    refused = gateway("serve", folders.path, "--recording", "maybe", "--admin-host", "0.0.0.0", "--workers", 0)
    assert isinstance(refused.error, ConfigurationError)
    assert [problem.path for problem in refused.error.problems] == ["--admin-host", "--workers", "--recording"]
    (tmp_path / "file").write_text("")
    blocked = gateway("serve", folders.path, "--state-dir", tmp_path / "file")
    assert "cannot be written" in str(blocked.error)


def test_serve_leaves_the_settings_of_a_running_gateway_alone(folders, tmp_path):
    (tmp_path / "state" / "run").mkdir(parents=True)
    with open(tmp_path / "state" / "run" / "supervisor.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = gateway("serve", folders.path, "--state-dir", tmp_path / "state")
    assert refused.error.code == "conflict"
    assert not (tmp_path / "state" / "run" / "server.json").exists()


def test_check_tells_every_problem_and_fails(tmp_path):
    onnx = pytest.importorskip("onnx")
    folders = ModelFolders(tmp_path / "models")
    folders.version("good", "1", graph(onnx, columns=4))
    folders.version("bad", "1", graph(onnx, columns=4))
    folders.version("bad", "2", graph(onnx, columns=5))
    folders.version("bad", "3", graph(onnx, columns=4)[:40])
    folders.version("bad", "4", b"")
    folders.yaml("bad", "traffic: {weights: {1: 1, 2: 1}}")
    folders.version("worse", "1", graph(onnx, columns=4))
    folders.yaml("worse", "{trafic: {}, lane: warp}")
    told = gateway("check", folders.path, "--json")
    assert told.code == 1
    found = {(row["file"], row["path"]): row["message"] for row in told.rows}
    assert found["bad/4", ""] == "model.onnx is empty"
    assert found["bad/3", ""].startswith("model.onnx: ")
    assert found["bad/model.yaml", "traffic"] == "input x is FP32[-1, 4] in version 1 and FP32[-1, 5] in version 2"
    assert found["worse/model.yaml", "trafic"] == "unknown key; did you mean `traffic`?"
    assert found["worse/model.yaml", "lane"].startswith("input should be 'auto'")
    assert len(found) == 5
    assert "5 problem(s)" in told.err


def test_check_says_where_in_features_yaml_each_mistake_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    folders = ModelFolders(tmp_path / "models")
    a_feature = "{column: a, steps: [{standard_scale: {mean: 0.0, skale: 1.0}}]}"
    grammar = f"columns: {{a: flaot, b: float}}\noutputs: {{x: {{features: [b, {a_feature}]}}}}"
    folders.version("m", "1", graph(onnx, columns=2), features_yaml=grammar)
    meaning = "columns: {a: float}\noutputs: {x: {features: [a, c]}}"
    folders.version("m", "2", graph(onnx, columns=2), features_yaml=meaning)
    only_loading_shows = "columns: {a: float}\noutputs: {z: {features: [a]}}"
    folders.version("m", "3", graph(onnx, columns=2), features_yaml=only_loading_shows)
    told = gateway("check", folders.path, "--json")
    assert [(row["file"], row["path"]) for row in told.rows] == [
        ("m/1/features.yaml", "columns.a.type"),
        ("m/1/features.yaml", "outputs.x.features.1.steps.0.standard_scale.skale"),
        ("m/2/features.yaml", "outputs.x.features.1.column"),
        ("m/3/features.yaml", "outputs.z"),
        ("m/3/features.yaml", "outputs"),
    ]
    assert told.rows[2]["message"] == "no column is called 'c'; known are a"
    assert not any("features.yaml" in row["message"] for row in told.rows)
    lines = gateway("check", folders.path).out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[row["file"], row["path"]] for row in told.rows]


def test_check_passes_what_can_be_served(tmp_path):
    onnx = pytest.importorskip("onnx")
    folders = ModelFolders(tmp_path / "models")
    folders.version("good", "1", graph(onnx, columns=4))
    passed = gateway("check", folders.path)
    assert (passed.code, passed.err.strip()) == (0, "1 model(s), 1 version(s): no problems")
    (tmp_path / "empty").mkdir()
    assert gateway("check", tmp_path / "empty").code == 1
    assert isinstance(gateway("check", tmp_path / "nope").error, ConfigurationError)


def graph(onnx, columns):
    """The bytes of a model that adds up its columns."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    ones = onnx.numpy_helper.from_array(__import__("numpy").ones((columns, 1), "float32"), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", float32, [None, columns])]
    outputs = [helper.make_tensor_value_info("y", float32, [None, 1])]
    model = helper.make_model(
        helper.make_graph(nodes, "sum", inputs, outputs, [ones]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=10,
    )  # fmt: skip
    return model.SerializeToString()
