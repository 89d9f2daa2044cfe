"""Imports point one way: docs/architecture.md."""

from tests.architecture.source_tree import ROOT, cython_imports, imports_of_ours, python_imports

#: Who stands on the same step does not know each other.
STEPS = [
    ["core"], ["config"], ["_fast"], ["features"], ["serving", "recording", "monitoring"], ["explain"], ["control"],
    ["process"], ["cli"],
]  # fmt: skip
STEP_OF = {name: height for height, names in enumerate(STEPS) for name in names}


def part(module: str) -> str:
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def test_no_part_imports_one_that_stands_above_or_beside_it() -> None:
    wrong = [
        f"{found.file} imports {found.imported}"
        for found in imports_of_ours()
        if part(found.importer) != part(found.imported)
        and part(found.importer) in STEP_OF
        and STEP_OF.get(part(found.imported), -1) >= STEP_OF[part(found.importer)]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_package_root_knows_no_part() -> None:
    """`import gateway` costs nothing and no cycle can hide in it; so everybody may ask it for the version."""
    assert [found for found in imports_of_ours() if found.importer == "gateway.__init__"] == []


def test_everything_in_the_package_has_its_place_in_the_order() -> None:
    entries = {path.name for path in (ROOT / "gateway").iterdir()} - {"__init__.py", "py.typed", "__pycache__"}
    assert entries <= STEP_OF.keys()


def test_the_order_is_the_one_that_the_architecture_page_shows() -> None:
    arrow = " → ".join(" | ".join(step) for step in STEPS)
    assert arrow in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_reader_of_imports_sees_every_form() -> None:
    source = "import gateway.core.ids\nfrom gateway import control\nif x:\n    from gateway.cli.main import main\n"
    assert list(python_imports(source)) == ["gateway.core.ids", "gateway.control", "gateway.cli.main"]
    source = (
        "from gateway._fast.ring cimport Ring\ncimport gateway._fast.batch\n    from gateway.core.errors import X\n"
    )
    assert list(cython_imports(source)) == ["gateway._fast.ring", "gateway._fast.batch", "gateway.core.errors"]
