"""The rpcs of one user of entries, like those of `rpcs.py`."""

from collections.abc import Iterator, Sequence

import grpc

from loadtests.rpcs import Calls, Report
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1 import entries_pb2_grpc

PAGE_ROWS = 1_000


class EntryRpcs(Calls):
    """Blocking calls for one greenlet, which may all be sent again. Each raises grpc.RpcError in the end."""

    def __init__(self, address: str, report: Report) -> None:
        super().__init__(address, report)
        self._entries = entries_pb2_grpc.EntryServiceStub(self.channel)

    def put_location(self, location: str, origin: str) -> None:
        request = pb.PutLocationRequest(location_id=location, kind="load", origin=origin)
        self.call("PutLocation", self._entries.PutLocation, request)

    def put_entries(self, location: str, entries: Sequence[pb.Entry]) -> None:
        request = pb.PutEntriesRequest(location_id=location, entries=entries)
        self.call("PutEntries", self._entries.PutEntries, request)

    def delete_entries(self, location: str, ids: Sequence[str]) -> None:
        request = pb.DeleteEntriesRequest(location_id=location, entry_ids=ids)
        self.call("DeleteEntries", self._entries.DeleteEntries, request)

    def commit_whole(self, location: str, entries: Sequence[pb.Entry]) -> None:
        """A bulk commit of all that the location has."""

        def send(_: None, timeout: float) -> pb.CommitBulkEntriesResponse:
            answer: pb.CommitBulkEntriesResponse = self._entries.CommitBulkEntries(
                iter(_parts(location, entries)), timeout=timeout
            )
            return answer

        self.call("CommitBulkEntries", send, None)

    def list_all(self, location: str) -> Iterator[pb.Entry]:
        """Every entry of a location, page by page; none while it is not known there."""
        token = ""
        while True:
            request = pb.ListEntriesRequest(location_id=location, page_size=PAGE_ROWS, page_token=token)
            try:
                answer = self.call("ListEntries", self._entries.ListEntries, request)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return
                raise
            yield from answer.entries
            if not (token := answer.next_page_token):
                return


def _parts(location: str, entries: Sequence[pb.Entry]) -> list[pb.CommitBulkEntriesRequest]:
    commit = pb.BulkCommit(location_id=location, complete=True)
    return [
        pb.CommitBulkEntriesRequest(commit=commit),
        *(
            pb.CommitBulkEntriesRequest(entries=entries[start : start + PAGE_ROWS])
            for start in range(0, len(entries), PAGE_ROWS)
        ),
    ]
