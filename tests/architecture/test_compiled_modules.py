"""The compiled modules are the ones loaded, and each has a stub that says what Python may call."""

import ast
import importlib
import importlib.machinery
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture.source_tree import PACKAGE, extension_modules

MODULES = extension_modules()


def names_in_stub(name: str) -> set[str]:
    """Public functions, classes and constants; `A = B` and `A: TypeAlias = B` are words for type checkers alone."""
    names: set[str] = set()
    for node in ast.parse((PACKAGE / "_fast" / f"{name}.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "TypeAlias":
            names.add(ast.unparse(node.target))
    return {name for name in names if not name.startswith("_")}


def functions_at_runtime(module: ModuleType) -> set[str]:
    """Public functions that the module itself defines."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and type(value).__name__ in ("builtin_function_or_method", "cython_function_or_method", "function")
        and value.__module__ == module.__name__
    }


def test_setup_lists_every_cython_module() -> None:
    assert {path.stem for path in (PACKAGE / "_fast").glob("*.pyx")} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_the_module_loaded_is_the_compiled_one(name: str) -> None:
    module = importlib.import_module(f"gateway._fast.{name}")
    assert isinstance(module.__spec__ and module.__spec__.loader, importlib.machinery.ExtensionFileLoader)
    assert Path(str(module.__file__)).parent == PACKAGE / "_fast"


@pytest.mark.parametrize("name", MODULES)
def test_the_module_is_newer_than_its_source(name: str) -> None:
    """Else the other tests would speak of code that nobody reads; `make build` mends it."""
    compiled = Path(str(importlib.import_module(f"gateway._fast.{name}").__file__))
    for suffix in (".pyx", ".pxd"):
        source = PACKAGE / "_fast" / f"{name}{suffix}"
        assert not source.exists() or source.stat().st_mtime <= compiled.stat().st_mtime


@pytest.mark.parametrize("name", MODULES)
def test_the_stub_names_only_what_is_there_and_every_function(name: str) -> None:
    module = importlib.import_module(f"gateway._fast.{name}")
    named = names_in_stub(name)
    assert {name for name in named if not hasattr(module, name)} == set()
    assert functions_at_runtime(module) - named == set()
