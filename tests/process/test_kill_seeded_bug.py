"""The check can fail: a build that hands out replies before it commits loses acknowledged predictions."""

import shutil
import subprocess
import sys

import pytest
from ledger import Ledger, Load, lost
from running_gateway import REPOSITORY
from tiny_models import write_scaling

pytestmark = pytest.mark.timeout(400)

#: The one place where an exchange is committed, just before its reply is handed out …
COMMIT_FIRST = """\
        self.commit(exchange, version)
"""
#: … and with the mistake: the reply is on its way, the frame comes a little later.
RELEASE_FIRST = """\
        if version is not None:
            exchange.record_state = RECORD_COMMITTED
            exchange.state = COMMITTED
            self.release(exchange)
            self.flush_ports()
            time.sleep(0.005)
            self.commit(exchange, version)
            return 0
"""


@pytest.fixture
def buggy_source(tmp_path):
    """A copy of the package whose pipeline releases before it commits."""
    source = tmp_path / "buggy"
    ignored = shutil.ignore_patterns("__pycache__", "pipeline.cpython*")
    shutil.copytree(REPOSITORY / "gateway", source / "gateway", ignore=ignored)
    shutil.copy(REPOSITORY / "setup.py", source)
    pipeline = source / "gateway" / "_fast" / "pipeline.pyx"
    text = pipeline.read_text()
    assert text.count(COMMIT_FIRST) == 1
    pipeline.write_text(text.replace(COMMIT_FIRST, RELEASE_FIRST) + "\nimport time\n")
    subprocess.run(
        [sys.executable, "-c", BUILD_PIPELINE_ALONE], cwd=source, check=True, capture_output=True, timeout=300
    )
    return source


#: The project's own setup, its list cut down to one module and without the optimiser, which takes most of the time.
BUILD_PIPELINE_ALONE = """
import sys
source = open("setup.py").read()
start = source.index("MODULES = {"), source.index("}\\n", source.index("MODULES = {")) + 2
source = source[: start[0]] + 'MODULES = {"pipeline": []}\\n' + source[start[1] :]
sys.argv = ["setup.py", "build_ext", "--inplace"]
exec(compile(source.replace("-O3", "-O0"), "setup.py", "exec"))
"""


def test_the_check_for_lost_predictions_finds_a_build_that_releases_before_it_commits(make_gateway, buggy_source):
    gateway = make_gateway("buggy-gateway", source=buggy_source)
    write_scaling(gateway.models / "m" / "1", 2.0)
    gateway.start("--workers", "1")
    assert _module_loaded_by(gateway).startswith(str(buggy_source))
    ledger = Ledger()
    with Load(gateway, ledger) as load:
        for _ in range(5):
            load.wait_for_answers(20)
            old = gateway.kill("worker")
            gateway.wait_for_successor("worker", old)
    assert ledger.wrong == []
    assert lost(gateway, ledger) != set()


def _module_loaded_by(gateway):
    with open(f"/proc/{gateway.pid_of('worker')}/maps") as maps:
        return next(line.split()[-1] for line in maps if "/_fast/pipeline." in line)
