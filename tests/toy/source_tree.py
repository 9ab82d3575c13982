"""A copy of this repository with one more service in it: the files of `files/`, and a row of the table."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FILES = Path(__file__).parent / "files"
_COPIED = (
    "Makefile",
    "pyproject.toml",
    "requirements*.lock",
    "docs",
    "k8s",
    "libs",
    "proto",
    "services",
    "tests",
)
_PASSING = shutil.ignore_patterns("*.pyc.*", "*.egg-info", "build")
"""what other tests may write meanwhile, and what is made of the original"""
_MARKS = (".made", ".run", ".dev", ".protoc")
"""what the Makefile knows an environment by"""
_TABLE = Path("services", "registry.py")
_END_OF_TABLE = ')\nALL = "all"\n'
_ROW = """    Service(
        name="toy",
        purpose="keeps toys",
        serves=_services_of("toy", "toy"),
        routed=_services_of("toy", "toy"),
        calls={"query": "query"},
        needs=frozenset({Need.POSTGRES}),
        replicas=1,
        commands=("toy",),
    ),
"""


def make_tree(folder: Path) -> None:
    """Make the copy, and in it what the Makefile makes: the code of the protos, and what follows from the table.

    The environment is this one; what `environment_of` returns makes its Python take the modules of the copy.
    """
    for source in (path for pattern in _COPIED for path in _ROOT.glob(pattern)):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=_PASSING)
        else:
            shutil.copy(source, folder / source.name)
    shutil.copytree(_FILES, folder, dirs_exist_ok=True)
    table = folder / _TABLE
    text = table.read_text()
    assert text.count(_END_OF_TABLE) == 1
    table.write_text(text.replace(_END_OF_TABLE, _ROW + _END_OF_TABLE))
    _link_environment(folder / ".venv")
    done = subprocess.run(
        ["make", "docs"],  # noqa: S607 - the one that runs the tests
        cwd=folder,
        env=environment_of(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def environment_of(folder: Path) -> dict[str, str]:
    """The variables with which a program runs on the modules of the copy, and with no setting of the test run's."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "MAKE", "MFLAGS"))
    }
    return {**environment, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "libs" / "tally")])}


def _link_environment(folder: Path) -> None:
    """An environment that is this one, but for the mark of what was made of the protos."""
    own = Path(sys.prefix)
    folder.mkdir()
    for each in own.iterdir():
        if not each.name.startswith("."):
            (folder / each.name).symlink_to(each)
    now = time.time()
    for name in _MARKS:
        (folder / name).touch()
        os.utime(folder / name, (now, now))
