"""Every link, path and test that the pages name exists."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "k8s/README.md", "loadtests/README.md", "libs/tally/README.md")),
]
FOLDERS = ("docs/", "k8s/", "libs/", "loadtests/", "proto/", "services/", "tests/")
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"`([^`\s]+)`")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CALLS = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


@functools.cache
def read(page: Path) -> str:
    return FENCE.sub("", page.read_text())


@functools.cache
def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def list_tests(module: Path) -> set[str]:
    return set(CALLS.findall(module.read_text()))


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(read(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            yield link


def missing_paths(page: Path) -> Iterator[str]:
    for code in CODE.findall(read(page)):
        if code.startswith(FOLDERS) and not re.search(r"[<>A-Z$]|\.\.\.|…", code.partition("::")[0]):
            path = code.partition("::")[0].rstrip("/")
            if not (any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()):
                yield code


def missing_tests(page: Path) -> Iterator[str]:
    """`…` stands for what is the same as in the reference before it, or for any folder of tests."""
    modules = {module: "/" + module.relative_to(ROOT).as_posix() for module in (ROOT / "tests").rglob("*.py")}
    named: list[Path] = []
    for code in re.findall(r"`([^`\s]*(?:test_\w+\.py|…::)[^`\s]*)`", read(page)):
        path, _, test = code.partition("::")
        if path != "…":
            end = "/" + path.removeprefix("…").lstrip("/")
            named = [module for module, name in modules.items() if "*" in end or name.endswith(end)]
        if not named or (
            test and "*" not in path and not any(test in list_tests(module) for module in named)
        ):
            yield code


def missing_files(page: Path) -> Iterator[str]:
    """A heading that is a path is the folder of the files in the tables below it."""
    for heading, text in re.findall(
        r"^## (services/\w+)[:,] .*?\n(.*?)(?=^## |\Z)", read(page), re.DOTALL | re.MULTILINE
    ):
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
            before = ROOT / heading
            for name in re.findall(r"`([^`]+\.py)`", row):
                places = [ROOT / heading / name, before / name, ROOT / "services" / name]
                found = next((place for place in places if place.exists()), None)
                if found is None:
                    yield f"{heading}/{name}"
                else:
                    before = found.parent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_only_what_exists(page: Path) -> None:
    assert not [*broken_links(page)]
    assert not [*missing_paths(page)]
    assert not [*missing_tests(page)]


def test_the_tables_of_the_architecture_name_only_files_that_exist() -> None:
    assert not [*missing_files(ROOT / "docs" / "architecture.md")]
