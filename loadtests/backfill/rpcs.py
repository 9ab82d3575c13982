"""The rpcs of one user of the backfill, like those of `loadtests/rpcs.py`. All of them may be sent again."""

from collections.abc import Iterator, Sequence

from loadtests.rpcs import Calls, Report
from tally.backfill.v1 import backfill_pb2 as pb
from tally.backfill.v1.backfill_pb2_grpc import BackfillServiceStub
from tally.common.v1.common_pb2 import CONSISTENCY_STRONG
from tally.query.v1 import query_pb2, query_pb2_grpc

BATCH = 5
_COUNT_SECONDS = 60.0


class BackfillRpcs(Calls):
    """Blocking calls for one greenlet. Each raises grpc.RpcError in the end."""

    def __init__(self, address: str, report: Report) -> None:
        super().__init__(address, report)
        self._backfill = BackfillServiceStub(self.channel)
        self._query = query_pb2_grpc.QueryServiceStub(self.channel)

    def create_job(self, job_id: str, dids: Sequence[str]) -> pb.CreateJobResponse:
        """A job over accounts; it is resumed when it is there."""
        request = pb.CreateJobRequest(job_id=job_id, batch_size=BATCH, dids=dids)

        def send(_: None, timeout: float) -> pb.CreateJobResponse:
            answer: pb.CreateJobResponse = self._backfill.CreateJob(iter([request]), timeout=timeout)
            return answer

        answer: pb.CreateJobResponse = self.call("CreateJob", send, None)
        return answer

    def get_job(self, job_id: str) -> pb.Job:
        """A job and how far it is."""
        job: pb.Job = self.call("GetJob", self._backfill.GetJob, pb.GetJobRequest(job_id=job_id)).job
        return job

    def count_dataset(self) -> Sequence[pb.CountDatasetResponse]:
        """Count what the dataset has and was not counted yet; the buckets."""

        def send(_: None, timeout: float) -> "_Buckets":
            answers: Iterator[pb.CountDatasetResponse] = self._backfill.CountDataset(
                pb.CountDatasetRequest(), timeout=max(timeout, _COUNT_SECONDS)
            )
            return _Buckets(answers)

        buckets: Sequence[pb.CountDatasetResponse] = self.call("CountDataset", send, None).buckets
        return buckets

    def read(self, video_id: str, event_type: str) -> int:
        """The count by a strong read."""
        request = query_pb2.GetCountRequest(
            video_id=video_id, event_type=event_type, consistency=CONSISTENCY_STRONG
        )
        return int(self.call("GetCount", self._query.GetCount, request).count)


class _Buckets:
    """All answers of a stream, with the size that a single answer has."""

    def __init__(self, answers: Iterator[pb.CountDatasetResponse]) -> None:
        self.buckets = list(answers)

    def ByteSize(self) -> int:  # noqa: N802 - as a message has it
        return sum(bucket.ByteSize() for bucket in self.buckets)
