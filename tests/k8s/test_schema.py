"""Each object is one that Kubernetes knows, with no field that it does not."""

from collections.abc import Sequence

import kubernetes_validate

from tests.k8s.render import Manifest

# The oldest version that we promise to run on; what it accepts, later ones do.
KUBERNETES = "1.34"


def test_every_object_is_valid(objects: Sequence[Manifest]) -> None:
    assert objects
    for each in objects:
        assert kubernetes_validate.validate(each, KUBERNETES, strict=True) == KUBERNETES


def test_every_object_comes_once(objects: Sequence[Manifest]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


def test_every_object_says_what_it_is_part_of(objects: Sequence[Manifest]) -> None:
    for each in objects:
        if each["kind"] not in ("Namespace", "Secret"):
            assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tally", each["metadata"][
                "name"
            ]
