"""What the tests ask of rendered objects."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.k8s.render import Manifest

_KIND_OF = {
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that makes pods, each with one container."""

    kind: str
    name: str
    spec: Manifest
    pod: Manifest
    labels: Mapping[str, str]
    container: Manifest

    @property
    def serves(self) -> bool:
        return self.kind != "Job"

    @property
    def is_ours(self) -> bool:
        return bool(self.container["name"] == "tally")

    @property
    def ports(self) -> Mapping[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}

    def __str__(self) -> str:
        return self.name


def list_workloads(objects: Sequence[Manifest]) -> list[Workload]:
    found = []
    for each in objects:
        if "template" in each.get("spec", {}):
            template = each["spec"]["template"]
            (container,) = template["spec"]["containers"]
            found.append(
                Workload(
                    each["kind"],
                    each["metadata"]["name"],
                    each["spec"],
                    template["spec"],
                    template["metadata"]["labels"],
                    container,
                )
            )
    return found


def find(objects: Sequence[Manifest], kind: str) -> Mapping[str, Manifest]:
    """The objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def read_environment(
    workload: Workload, objects: Sequence[Manifest], elsewhere: Mapping[str, str]
) -> dict[str, str]:
    """The variables of the container, as the kubelet would set them.

    `elsewhere`: values of variables that the objects need not have. Raises KeyError for what is missing.
    """
    environment: dict[str, str] = {}
    for source in workload.container.get("envFrom", ()):
        for kind, ref in source.items():
            environment |= _read(objects, _KIND_OF[kind], ref["name"])
    for variable in workload.container.get("env", ()):
        name = variable["name"]
        if not _is_left_out(variable, objects):
            environment[name] = elsewhere.get(name) or _value(variable, objects, workload)
    return environment


def list_references(workload: Workload) -> set[tuple[str, str, str | None]]:
    """Kind, name and key of whatever the container takes variables and files from; a key of None means all of them."""
    references: set[tuple[str, str, str | None]] = {
        ("Secret", volume["secret"]["secretName"], None)
        for volume in workload.pod.get("volumes", ())
        if "secret" in volume
    }
    for source in workload.container.get("envFrom", ()):
        for kind, ref in source.items():
            references.add((_KIND_OF[kind], ref["name"], None))
    for variable in workload.container.get("env", ()):
        for kind, ref in variable.get("valueFrom", {}).items():
            if kind in _KIND_OF and not ref.get("optional"):
                references.add((_KIND_OF[kind], ref["name"], ref["key"]))
    return references


def is_held(objects: Sequence[Manifest], reference: tuple[str, str, str | None]) -> bool:
    """Whether the objects have what the reference means."""
    kind, name, key = reference
    held = find(objects, kind).get(name)
    return held is not None and (key is None or key in held["data"])


def _is_left_out(variable: Manifest, objects: Sequence[Manifest]) -> bool:
    """Whether it comes from something optional that is not there."""
    ref = variable.get("valueFrom", {}).get("secretKeyRef", {})
    return bool(ref.get("optional")) and ref["name"] not in find(objects, "Secret")


def _value(variable: Manifest, objects: Sequence[Manifest], workload: Workload) -> str:
    match variable:
        case {"value": str(value)}:
            return value
        case {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}:
            return f"{workload.name}-0"
        case {"valueFrom": {"secretKeyRef": ref}}:
            return _read(objects, "Secret", ref["name"])[ref["key"]]
        case {"valueFrom": {"configMapKeyRef": ref}}:
            return _read(objects, "ConfigMap", ref["name"])[ref["key"]]
    raise AssertionError(f"not known: {variable}")


def _read(objects: Sequence[Manifest], kind: str, name: str) -> Mapping[str, str]:
    data: dict[str, str] = find(objects, kind)[name]["data"]
    if kind == "ConfigMap":
        return data
    return {key: base64.b64decode(value).decode() for key, value in data.items()}
