import pytest

from tests.unit.control.model_folders import ModelFolders


@pytest.fixture
def folders(tmp_path):
    return ModelFolders(tmp_path / "models")


@pytest.fixture
def state_dir(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path / "state"
