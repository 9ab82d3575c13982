"""`tally catalog status`."""

import json

from google.protobuf.json_format import MessageToDict

from services.cli.terminal.calling import call
from services.cli.terminal.failure import Failure
from services.cli.terminal.output import make_table, open_console
from tally.catalog.v1 import resource_pb2

_STALE_SECONDS = 60.0


def show(address: str, *, as_json: bool) -> None:
    """Print the status. Raises Failure, also when the process that answers is stale."""
    found = call(address, lambda client: client.catalog.status())
    if as_json:
        fields = MessageToDict(
            found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(fields, indent=2))  # noqa: T201 - the answer of the command
    else:
        _show(found)
    if found.stale_seconds > _STALE_SECONDS:
        raise Failure("this process of the catalog has no news from Postgres; its log says why")


def _show(found: resource_pb2.GetCatalogStatusResponse) -> None:
    console = open_console()
    table = make_table(console, "Processes of the catalog", "id", "#applied change", "asked", "serving")
    for each in found.replicas:
        table.add_row(
            each.replica_id,
            str(each.applied_change),
            each.ask_time.ToJsonString(),
            "yes" if each.serving else "no",
        )
    console.print(table)
    if found.loading_count:
        console.print(f"reading the record: {found.loading_count:,} resources so far")
    console.print(
        f"{found.resource_count:,} resources, as of change {found.applied_change} of {found.last_change}"
    )
    console.print(f"fresh {found.stale_seconds:.2f} s ago")
    for reindexing in found.reindexing:
        console.print(
            f"indexing anew: type {reindexing.suffix}, done up to {reindexing.after or 'nothing'}; incomplete: "
            + ", ".join(reindexing.names)
        )
    if found.misfit_count:
        console.print(
            f"{found.misfit_count:,} resources do not fit their type, and keep the sets that they had:"
        )
        for misfit in found.misfits:
            console.print(f"  {misfit.id}: {misfit.problem}")
    console.print(f"projection in Valkey: {found.projection_state}, change {found.projected_change}")
