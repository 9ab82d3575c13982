"""Manifests as Kubernetes would get them."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from services.devcluster.certificates import make_certificates

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[2] / "k8s"
BASE = ROOT / "base"
OVERLAYS = sorted(path.parent for path in ROOT.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent for path in ROOT.glob("components/*/kustomization.yaml"))
# The wheel puts it beside this Python; whatever else is called kubectl may be of another version.
KUBECTL = Path(sysconfig.get_path("scripts")) / "kubectl"


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody may render: an overlay, or the base with some of the components."""

    folder: Path
    components: Sequence[Path] = ()

    @property
    def is_overlay(self) -> bool:
        return self.folder != BASE

    def __str__(self) -> str:
        return " + ".join([self.folder.name, *(component.name for component in self.components)])


def list_choices() -> Iterator[Choice]:
    """Every overlay, and the base with every set of components."""
    yield from map(Choice, OVERLAYS)
    for size in range(len(COMPONENTS) + 1):
        for components in combinations(COMPONENTS, size):
            yield Choice(BASE, components)


@cache
def render(choice: Choice) -> Sequence[Manifest]:
    """The objects, as kustomize makes them. Fails with its words when it cannot."""
    with TemporaryDirectory() as made:
        folder = Path(made).resolve()
        if choice.is_overlay:  # it takes certificates that are in no repository
            shutil.copytree(ROOT, folder / "k8s", ignore=shutil.ignore_patterns("certificates"))
            own = folder / "k8s" / choice.folder.relative_to(ROOT)
            make_certificates(own / "certificates")
            return _render(own)
        if not choice.components:
            return _render(choice.folder)
        kustomization = {
            "resources": [os.path.relpath(choice.folder, folder)],
            "components": [os.path.relpath(component, folder) for component in choice.components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _render(folder)


def _render(folder: Path) -> Sequence[Manifest]:
    done = subprocess.run(  # noqa: S603 - a program and folders of ours
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # what it warns of stops working some day
    return tuple(yaml.safe_load_all(done.stdout))
