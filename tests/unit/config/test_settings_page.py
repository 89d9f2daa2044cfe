"""docs/settings.md says what the specs say."""

from pathlib import Path

from gateway.config.model import ModelSpec
from gateway.config.server import ServerConfig
from gateway.config.settings_page import render

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "run: python -m gateway.config.settings_page > docs/settings.md"
    )


def test_every_setting_has_a_meaning():
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert all(line.split(" | ")[-1].strip(" |") for line in rows)
    top = {line.split("`")[1].split(".")[0].removesuffix("[]") for line in rows}
    assert top == {*ServerConfig.model_fields, *ModelSpec.model_fields}
