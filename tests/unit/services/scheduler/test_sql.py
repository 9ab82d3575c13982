"""What must hold of the scheduler's statements, whatever they do."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[4] / "services" / "scheduler"
CLOCKS = re.compile(
    r"\bnow\s*\(\s*\)|\b(clock|statement|transaction)_timestamp\b|\bcurrent_(timestamp|date|time)\b|\blocaltime",
    re.IGNORECASE,
)
SQL_STRING = re.compile(r'"""(.*?)"""', re.DOTALL)


def test_no_statement_reads_the_servers_clock() -> None:
    """Time is a parameter, so that one clock decides and a test can turn it."""
    texts = {path.name: path.read_text() for path in FOLDER.rglob("*.sql")}
    for path in FOLDER.rglob("*.py"):
        statements = [
            text
            for text in SQL_STRING.findall(path.read_text())
            if re.match(r"\s*(select|insert|update|delete|with|create)\b", text)
        ]
        one_liners = re.findall(r'^_[A-Z_]+ = f?"(.*)"$', path.read_text(), re.MULTILINE)
        texts[path.name] = "\n".join([*statements, *one_liners])
    assert sum(bool(text) for text in texts.values()) > 8
    assert {name: match.group() for name, text in texts.items() if (match := CLOCKS.search(text))} == {}


def test_every_table_is_named_with_its_schema() -> None:
    table = re.compile(
        r"(?<![.\w])(?:from|join|into|update|table)\s+(?:if not exists\s+)?(youtube_\w+|sync_\w+|quota\w*)\b",
        re.IGNORECASE,
    )
    found = {
        path.name: match.group()
        for path in [*FOLDER.rglob("*.sql"), *FOLDER.rglob("*.py")]
        if (match := table.search(re.sub(r"--.*", "", path.read_text())))
    }
    assert found == {}
