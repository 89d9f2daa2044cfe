import pytest
from running_gateway import RunningGateway
from supervised_tree import Tree
from tiny_models import write_scaling


@pytest.fixture
def make_tree(tmp_path):
    """Builds trees, each with its own state directory unless told; all are gone after the test."""
    trees = []

    def make(name="state"):
        trees.append(Tree(tmp_path / name))
        return trees[-1]

    yield make
    for tree in reversed(trees):
        tree.clean_up()


@pytest.fixture
def tree(make_tree):
    return make_tree()


@pytest.fixture
def make_gateway(tmp_path):
    """Builds real gateways, not started yet; all are gone after the test, and what they said is shown if it failed."""
    gateways = []

    def make(name="gateway", **how):
        folder = tmp_path / name
        folder.mkdir()
        gateways.append(RunningGateway(folder, **how))
        return gateways[-1]

    yield make
    for gateway in reversed(gateways):
        gateway.clean_up()
        print(f"--- {gateway.state_dir} said:\n{gateway.said()}")


@pytest.fixture
def gateway(make_gateway):
    """A real gateway with model ``m``, y = 2·x; not started yet."""
    gateway = make_gateway()
    write_scaling(gateway.models / "m" / "1", 2.0)
    return gateway
