"""Resources: protobuf ↔ domain."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.catalog.deletion import Children
from services.catalog.resource_record import Put
from tally.catalog.v1 import resource_pb2 as pb
from tally.contract.errors import InvalidRequest, Violation

MAX_IDS = 1_000
_CHILDREN: Mapping[int, Children] = {
    pb.CHILDREN_POLICY_UNSPECIFIED: Children.REFUSE,
    pb.CHILDREN_POLICY_DETACH: Children.DETACH,
    pb.CHILDREN_POLICY_DELETE: Children.DELETE,
}


def read_put(message: pb.ResourcePut) -> Put:
    """The put of a message, unchecked."""
    resource = message.resource
    expected = message.expected_version if message.HasField("expected_version") else None
    return Put(resource.id, resource.details, resource.external_id, expected)


def read_children(policy: int) -> Children:
    """The effect of a delete on children. Raises InvalidRequest."""
    if policy not in _CHILDREN:
        raise InvalidRequest([Violation("children", f"is {policy}, which is no policy of this api")])
    return _CHILDREN[policy]


def of_single(error: InvalidRequest) -> InvalidRequest:
    """A refusal of a batch of one, with paths for a request that has one `put`."""
    return InvalidRequest(
        [
            Violation(each.field.replace("puts[0].", "put.", 1).replace("puts.", "put.", 1), each.description)
            for each in error.violations
        ],
        error.total,
    )


def write_problems(violations: Sequence[Violation]) -> list[pb.PutProblem]:
    """The violations of a batch, by resource."""
    problems = []
    for each in violations:
        index, field = -1, each.field
        if field.startswith("puts["):
            number, _, field = field.removeprefix("puts[").partition("].")
            index = int(number)
        problems.append(pb.PutProblem(index=index, field=field, description=each.description))
    return problems


def message_of_row(row: Any) -> pb.Resource:
    """The resource of a row."""
    return pb.Resource(
        id=row["id"],
        details=row["details"],
        external_id=row["external_id"] or "",
        version=row["version"],
    )


def read_external_id(name: str) -> tuple[str, str]:
    """Suffix and external id of `v/MBdVXkSdhwU`. Raises InvalidRequest."""
    suffix, separator, external_id = name.partition("/")
    if not (separator and external_id and len(suffix) == 1):
        raise InvalidRequest(
            [Violation("external_id", "must be the suffix of a type, a slash and the name: v/MBdVXkSdhwU")]
        )
    return suffix, external_id
