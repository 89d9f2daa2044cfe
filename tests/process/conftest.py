import pytest
from supervised_tree import Tree


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
