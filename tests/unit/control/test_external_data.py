"""Tensors outside of the ONNX file: found wherever they hide, and only inside the version's folder."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from gateway.control.repository.catalog import read_model
from gateway.control.repository.external_data import check_stays_inside, external_data_files
from gateway.core.errors import LoadFailed


def outside(name, location):
    """A tensor that the file says lies elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def graph(name, initializers=(), nodes=()):
    return helper.make_graph(list(nodes), name, [], [], list(initializers))


def model_with_tensors_everywhere():
    constant = helper.make_node("Constant", [], ["c"], value=outside("c", "constant.bin"))
    branch = helper.make_node(
        "If", ["x"], ["y"],
        then_branch=graph("then", [outside("t", "then.bin")]),
        else_branch=graph("else", nodes=[helper.make_node("Constant", [], ["d"], value=outside("d", "deep.bin"))]),
    )  # fmt: skip
    many = helper.make_node("Many", [], ["z"])
    many.attribute.append(
        onnx.AttributeProto(name="l", type=onnx.AttributeProto.TENSORS, tensors=[outside("l", "list.bin")])
    )
    main = graph("main", [outside("w", "weights.bin")], [constant, branch, many])
    main.sparse_initializer.add(values=outside("sv", "values.bin"), indices=outside("si", "indices.bin"))
    function = helper.make_function(
        "domain", "F", [], ["f"], [helper.make_node("Constant", [], ["f"], value=outside("f", "function.bin"))], []
    )
    model = helper.make_model(main, functions=[function])
    model.training_info.add(initialization=graph("init", [outside("i", "training.bin")]))
    return model


def test_every_place_where_onnx_keeps_tensors_is_searched(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(model_with_tensors_everywhere().SerializeToString())
    assert external_data_files(file) == {
        f"{name}.bin"
        for name in (
            "constant", "then", "deep", "list", "weights", "values", "indices", "function", "training",
        )
    }  # fmt: skip


def test_a_file_without_outside_tensors_has_none(tmp_path):
    initializer = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "location")
    file = tmp_path / "model.onnx"
    file.write_bytes(helper.make_model(graph("g", [initializer])).SerializeToString())
    assert external_data_files(file) == set()


@given(st.data())
def test_any_damage_gives_locations_or_a_load_failure(tmp_path_factory, data):
    whole = model_with_tensors_everywhere().SerializeToString()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    if at < len(damaged):
        damaged[at] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "model.onnx"
    file.write_bytes(damaged)
    try:
        external_data_files(file)
    except LoadFailed as error:
        assert "is not an ONNX model, or is truncated" in str(error)  # noqa: PT017 - either outcome is right


@pytest.fixture
def served_with(folders, tmp_path):
    """What comes of a version whose weights are said to be at ``location``."""
    (tmp_path / "secret.bin").write_bytes(b"secret")

    def read(location, files=("weights.bin", ".hidden", "sub/w.bin")):
        folder = folders.version("m", "1", helper.make_model(graph("g", [outside("w", location)])).SerializeToString())
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"\0\0\0\0")
        return read_model(folders.path, "m").broken.get("1")

    return read


@pytest.mark.parametrize("location", ["weights.bin", "sub/w.bin", "./weights.bin"])
def test_data_beside_the_model_is_part_of_the_version(served_with, location):
    assert served_with(location) is None


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("/etc/passwd", "external data '/etc/passwd' leaves the version's folder"),
        ("../2/weights.bin", "external data '../2/weights.bin' leaves the version's folder"),
        ("sub/../../x", "leaves the version's folder"),
        ("..\\x", "leaves the version's folder"),
        ("", "external data '' leaves the version's folder"),
        (".hidden", "external data '.hidden' is hidden"),
        ("absent.bin", "external data 'absent.bin' is missing"),
        ("sub", "external data 'sub' is missing"),
    ],
)
def test_data_anywhere_else_breaks_the_version(served_with, location, complaint):
    assert complaint in served_with(location)


def test_data_behind_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (tmp_path / "1" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(LoadFailed, match="is a link that leaves the version's folder"):
        check_stays_inside(tmp_path / "1", "weights.bin")


def test_a_file_that_is_not_there_is_a_load_failure(tmp_path):
    with pytest.raises(LoadFailed, match=r"model.onnx cannot be read: No such file"):
        external_data_files(tmp_path / "model.onnx")
