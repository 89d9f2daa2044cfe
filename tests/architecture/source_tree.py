"""What the source says, read without importing it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gateway"
#: `from gateway.a.b cimport x` and `cimport gateway.a.b`; Cython has no parser to borrow.
CIMPORT = re.compile(r"^\s*(?:from\s+(gateway[\w.]*)\s+c?import|c?import\s+(gateway[\w.]*))", re.MULTILINE)


@dataclass(frozen=True)
class Import:
    """One import of ours by ours."""

    file: str
    importer: str
    imported: str


def imports_of_ours() -> Iterator[Import]:
    """Every import or cimport of `gateway...` in the package; those for type checkers count as well."""
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".pyi"):
            names = python_imports(path.read_text(encoding="utf-8"))
        elif path.suffix in (".pyx", ".pxd"):
            names = cython_imports(path.read_text(encoding="utf-8"))
        else:
            continue
        file = str(path.relative_to(ROOT))
        importer = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield from (Import(file, importer, name) for name in names if name.split(".")[0] == "gateway")


def python_imports(source: str) -> Iterator[str]:
    """Dotted names of the modules that `source` imports; `from gateway import core` counts as `gateway.core`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "gateway":
            yield from (f"gateway.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def cython_imports(source: str) -> Iterator[str]:
    """Dotted names of our modules that Cython `source` imports or cimports."""
    for match in CIMPORT.finditer(source):
        yield match[1] or match[2]


def extension_modules() -> list[str]:
    """Names listed in MODULES of setup.py whose source is there."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "MODULES"
            and isinstance(node.value, ast.Dict)
        ):
            listed = [ast.literal_eval(key) for key in node.value.keys if key is not None]
            return [name for name in listed if (PACKAGE / "_fast" / f"{name}.pyx").exists()]
    raise AssertionError("setup.py has no literal MODULES")
