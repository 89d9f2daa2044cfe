import pytest

from tests.e2e import models
from tests.e2e.serving import GrpcCalls, started


def write_all_kinds(root):
    for datatype in models.ELEMENT_TYPES:
        models.write_identity(root, datatype)
    models.write_add_sub(root)
    models.write_add_sub(root, "three_rows", rows=3)
    models.write_identity(root, "FP32", "open_inside", ["n", "k", 3])
    models.write_many_kinds(root)
    models.write_column_sums(root)
    models.write_lookup(root)
    models.write_patient(root)
    # On a thread: a client that gives up is noticed while the model runs, not after.
    models.write_model_yaml(root, "patient", "lane: thread\n")
    models.write_scaling(root, "unbatched", shape=[3])
    models.write_scaling(root, "scalar", shape=[])
    models.write_scaling(root, "twice")
    models.write_scaling(root, "twice", "2", factor=3.0)
    models.write_model_yaml(root, "twice", "traffic: {weights: {1: 1}}\nlabels: {next: 2}\n")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """Two workers and a model of every kind. Shared: tests leave it as they found it."""
    with started(tmp_path_factory.mktemp("e2e"), write_all_kinds, "--workers", "2") as gateway:
        yield gateway


@pytest.fixture
def grpc_calls(gateway):
    with GrpcCalls(gateway.port("grpc")) as calls:
        yield calls
