"""Types: protobuf ↔ domain."""

from services.catalog.list_kind import ListKind
from services.catalog.resource_type import ResourceType
from tally.catalog.v1 import resource_pb2 as pb


def type_of_message(message: pb.Type) -> ResourceType:
    """The type of a message, unchecked."""
    return ResourceType(
        suffix=message.suffix,
        name=message.name,
        required=tuple(message.required),
        parent=message.parent,
        children=message.children,
        inherits_holdbacks=message.inherits_holdbacks if message.HasField("inherits_holdbacks") else True,
        indexes=dict(message.indexes),
        sorts=tuple(message.sorts),
        lists=tuple(
            ListKind(each.name, each.add_again == pb.ADD_AGAIN_MOVE, each.limit, each.drop_oldest)
            for each in message.lists
        ),
    )


def message_of_type(of: ResourceType) -> pb.Type:
    """The message of a type."""
    return pb.Type(
        suffix=of.suffix,
        name=of.name,
        required=of.required,
        parent=of.parent,
        children=of.children,
        inherits_holdbacks=of.inherits_holdbacks,
        indexes=dict(of.indexes),
        sorts=of.sorts,
        lists=[
            pb.ListKind(
                name=each.name,
                add_again=pb.ADD_AGAIN_MOVE if each.moves else pb.ADD_AGAIN_KEEP,
                limit=each.limit,
                drop_oldest=each.drops_oldest,
            )
            for each in of.lists
        ],
    )
