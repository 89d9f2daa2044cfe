"""Folders of models for tests: the content of model.onnx does not matter to control, only to whoever loads it."""

from pathlib import Path


class ModelFolders:
    """A models folder that a test fills."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(exist_ok=True)

    def version(self, model, version, content=b"a graph", **files):
        folder = self.path / model / version
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(content)
        for name, text in files.items():
            (folder / name.replace("_yaml", ".yaml")).write_text(text)
        return folder

    def yaml(self, model, text):
        (self.path / model).mkdir(exist_ok=True)
        (self.path / model / "model.yaml").write_text(text)
