# Made by `make docs` from the asynchronous client; a test fails when it is old.

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc

from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2
from tally.client._buffering.ends import Progress
from tally.client._calls.tracing import Tracer
from tally.client._delivery.transport import TransportName
from tally.client._scheduler.dead_letters import DeadLetter
from tally.client._scheduler.forced import ForcedSync
from tally.client._scheduler.jobs import BinNumbers, Job, JobStatus, Period
from tally.client._scheduler.members import Channel, Put, Video
from tally.client._scheduler.quotas import Quota, QuotaStatus
from tally.client._scheduler.runs import Run, RunState, Worker
from tally.client.answers import Audit, Cluster, Count, Grains, Log, PartitionMap, Receipt, Refusal, Stats
from tally.client.backfill import BackfillJob, CountedBucket, CreatedJob, FailedRepo
from tally.client.batching import Batching
from tally.client.columns import Batch, Columns
from tally.client.counting import DeadLetterContent, DeadLetterPage, DeadLetterState, Decision
from tally.client.events import Event, Function
from tally.client.replication import (
    Explanation,
    Indexed,
    Location,
    LocationVerdict,
    Region,
    Strategy,
    Transfer,
)
from tally.client.request_id import RequestIds
from tally.client.scheduler import Page
from tally.client.tls import Tls

class _Backfill:
    def count_dataset(self, *, timeout: float | None = None) -> Generator[CountedBucket]: ...
    def create_job(
        self, job_id: str, dids: Iterable[str], *, batch_size: int = 0, timeout: float | None = None
    ) -> CreatedJob: ...
    def get_job(self, job_id: str = "", *, timeout: float | None = None) -> BackfillJob: ...
    def list_failures(self, job_id: str = "", *, timeout: float | None = None) -> Generator[FailedRepo]: ...
    def list_jobs(self, *, timeout: float | None = None) -> Generator[BackfillJob]: ...

class _Catalog:
    def add_to_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.AddToListResponse: ...
    def delete(
        self,
        resource_id: str,
        *,
        expected_version: int | None = None,
        everywhere: bool = False,
        children: str = "refuse",
        timeout: float = ...,
    ) -> int: ...
    def explain(
        self, request: rights_pb2.ExplainRequest, *, timeout: float | None = None
    ) -> rights_pb2.ExplainResponse: ...
    def find(
        self, request: find_pb2.FindRequest, *, timeout: float | None = None
    ) -> find_pb2.FindResponse: ...
    def get(
        self,
        resource_id: str = "",
        *,
        external_id: str = "",
        viewer: rights_pb2.Viewer | None = None,
        timeout: float | None = None,
    ) -> resource_pb2.GetResourceResponse: ...
    def get_many(
        self, ids: Iterable[str], *, viewer: rights_pb2.Viewer | None = None, timeout: float | None = None
    ) -> list[resource_pb2.Resource]: ...
    def keys(
        self, resource_id: str, *, timeout: float | None = None
    ) -> resource_pb2.ListProjectedKeysResponse: ...
    def list_dimensions(self, *, timeout: float | None = None) -> list[rights_pb2.Dimension]: ...
    def list_rules(
        self, subject: str = "", *, after: str = "", timeout: float | None = None
    ) -> rights_pb2.ListRulesResponse: ...
    def list_types(self, *, timeout: float | None = None) -> list[resource_pb2.Type]: ...
    def memberships(
        self, resource_id: str, *, after: str = "", timeout: float | None = None
    ) -> resource_pb2.ListMembershipsResponse: ...
    def put(
        self,
        resource_id: str,
        details: bytes,
        *,
        external_id: str = "",
        expected_version: int | None = None,
        timeout: float = ...,
    ) -> resource_pb2.PutResourceResponse: ...
    def put_batches(
        self, batches: Iterable[Sequence[resource_pb2.ResourcePut]], *, timeout: float | None = None
    ) -> Generator[resource_pb2.PutResourcesResponse]: ...
    def put_dimension(self, kind: str, codes: Iterable[str], *, timeout: float = ...) -> int: ...
    def put_rules(
        self, subject: str, rules: Iterable[rights_pb2.Rule], *, timeout: float = ...
    ) -> rights_pb2.PutRulesResponse: ...
    def put_type(self, new: resource_pb2.Type, *, timeout: float | None = None) -> int: ...
    def rebuild_projection(self, *, timeout: float | None = None) -> int: ...
    def remove_from_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.RemoveFromListResponse: ...
    def replace_list(
        self, key: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> resource_pb2.ReplaceListResponse: ...
    def status(self, *, timeout: float | None = None) -> resource_pb2.GetCatalogStatusResponse: ...
    def try_rules(
        self, subjects: Iterable[rights_pb2.SubjectRules], *, timeout: float = ...
    ) -> rights_pb2.TryRulesResponse: ...
    def verify_projection(
        self, cursor: str = "", *, timeout: float = ...
    ) -> resource_pb2.VerifyProjectionResponse: ...
    def watch(
        self, after: int = 0, *, timeout: float | None = None
    ) -> Generator[resource_pb2.WatchChangesResponse]: ...

class _Counting:
    def drop_dead_letter(self, letter_id: str, *, timeout: float = ...) -> Decision: ...
    def get_cluster(self, *, timeout: float | None = None) -> Cluster: ...
    def get_dead_letter(
        self, letter_id: str, *, max_events: int = 0, timeout: float | None = None
    ) -> DeadLetterContent: ...
    def list_dead_letters(
        self,
        *,
        state: DeadLetterState | str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> DeadLetterPage: ...
    def replay_dead_letter(self, letter_id: str, *, timeout: float = ...) -> Decision: ...

class _Query:
    def audit(self, *, timeout: float = ...) -> Audit: ...
    def get_count(
        self,
        video_id: str,
        event_type: str = ...,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count: ...
    def get_stats(
        self,
        video_id: str,
        event_type: str,
        function: Function | str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        quantile: float | None = None,
        timeout: float | None = None,
    ) -> Stats: ...
    def get_views_count(
        self,
        video_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count: ...
    def list_grains(self, *, timeout: float = ...) -> Grains: ...
    def list_logs(self, *, timeout: float | None = None) -> tuple[Log, ...]: ...

class _Replication:
    def add_region(self, address: str, *, is_lazy: bool = False, timeout: float | None = None) -> Region: ...
    def delete_location(self, location_id: str, *, timeout: float = ...) -> int: ...
    def explain(
        self, peer_device_id: str = "", *, timeout: float | None = None
    ) -> tuple[Explanation, ...]: ...
    def index_location(
        self, folder: str, *, strategy: Strategy | str | None = None, timeout: float = ...
    ) -> Indexed: ...
    def list_locations(
        self, device_id: str = "", *, timeout: float | None = None
    ) -> tuple[Location, ...]: ...
    def list_regions(self, *, timeout: float | None = None) -> tuple[Region, ...]: ...
    def list_transfers(self, limit: int = 50, *, timeout: float | None = None) -> tuple[Transfer, ...]: ...
    def load_location(self, location_id: str, *, timeout: float | None = None) -> Location: ...
    def remove_region(self, device_id: str, *, timeout: float | None = None) -> None: ...
    def verify(
        self, device_id: str, location_id: str = "", *, timeout: float = ...
    ) -> tuple[LocationVerdict, ...]: ...

class _Scheduler:
    def cancel_run(self, run_id: int, reason: str, *, timeout: float | None = None) -> Run: ...
    def drop_dead_letters(
        self, job: str, item_ids: Sequence[str], *, timeout: float | None = None
    ) -> int: ...
    def force_sync(
        self,
        job: str,
        item_id: str,
        *,
        wait_seconds: float = ...,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ForcedSync: ...
    def get_bin_distribution(
        self, population: str, bin_max: int, *, timeout: float | None = None
    ) -> tuple[int, ...]: ...
    def get_current_bin_numbers(
        self,
        cadence: str | Period,
        *,
        phase: int = 0,
        at_time: datetime | None = None,
        timeout: float | None = None,
    ) -> BinNumbers: ...
    def get_job(self, name: str, *, timeout: float | None = None) -> JobStatus: ...
    def list_dead_letters(
        self, job: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[DeadLetter]: ...
    def list_jobs(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[JobStatus]: ...
    def list_quotas(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[QuotaStatus]: ...
    def list_runs(
        self,
        job: str = "",
        *,
        state: RunState | str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Page[Run]: ...
    def list_workers(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Page[Worker]: ...
    def pause_job(self, name: str, reason: str, *, timeout: float | None = None) -> JobStatus: ...
    def put_channels(self, channels: Iterable[Channel], *, timeout: float = ...) -> Put: ...
    def put_job(self, job: Job, *, timeout: float | None = None) -> JobStatus: ...
    def put_quota(self, quota: Quota, *, timeout: float | None = None) -> QuotaStatus: ...
    def put_videos(self, videos: Iterable[Video], *, timeout: float = ...) -> Put: ...
    def resume_job(self, name: str, *, timeout: float | None = None) -> JobStatus: ...
    def retry_dead_letters(
        self,
        job: str,
        item_ids: Sequence[str],
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Run: ...
    def run_job(
        self, name: str, *, within_seconds: int = 0, request_id: str | None = None, timeout: float = ...
    ) -> Run: ...

class Client:
    def __init__(
        self,
        address: str,
        *,
        timeout: float = ...,
        batching: Batching | None = None,
        transport: TransportName = "unary",
        credentials: grpc.ChannelCredentials | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        request_ids: RequestIds | None = None,
        tracer: Tracer | None = None,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def address(self) -> str: ...
    def audit(self, *, timeout: float = ...) -> Audit: ...
    @property
    def backfill(self) -> _Backfill: ...
    def batch(self, events: Iterable[Event] | Columns, *, request_id: str | None = None) -> Batch: ...
    @property
    def catalog(self) -> _Catalog: ...
    def close(self, *, timeout: float | None = None) -> None: ...
    def count(
        self,
        video_id: str,
        event_type: str = ...,
        *,
        event_time: datetime | None = None,
        actor_id: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt: ...
    @property
    def counting(self) -> _Counting: ...
    def drop_dead_letter(self, letter_id: str, *, timeout: float = ...) -> Decision: ...
    def flush(self) -> None: ...
    def get_cluster(self, *, timeout: float | None = None) -> Cluster: ...
    def get_count(
        self,
        video_id: str,
        event_type: str = ...,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count: ...
    def get_dead_letter(
        self, letter_id: str, *, max_events: int = 0, timeout: float | None = None
    ) -> DeadLetterContent: ...
    def get_stats(
        self,
        video_id: str,
        event_type: str,
        function: Function | str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        quantile: float | None = None,
        timeout: float | None = None,
    ) -> Stats: ...
    def get_views_count(
        self,
        video_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        strong: bool = False,
        timeout: float | None = None,
    ) -> Count: ...
    def health(self, service: str = "", *, timeout: float | None = None) -> str: ...
    def list_dead_letters(
        self,
        *,
        state: DeadLetterState | str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> DeadLetterPage: ...
    def list_grains(self, *, timeout: float = ...) -> Grains: ...
    def list_logs(self, *, timeout: float | None = None) -> tuple[Log, ...]: ...
    def make_request_id(self) -> str: ...
    def partition_map(self, *, timeout: float | None = None) -> PartitionMap: ...
    def process(
        self, event: Event, *, request_id: str | None = None, timeout: float | None = None
    ) -> Receipt: ...
    def process_many(
        self,
        events: Iterable[Event] | Columns,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def query(self) -> _Query: ...
    def replay_dead_letter(self, letter_id: str, *, timeout: float = ...) -> Decision: ...
    @property
    def replication(self) -> _Replication: ...
    @property
    def scheduler(self) -> _Scheduler: ...
    def stream(
        self, batches: Iterable[Batch], *, timeout: float | None = None
    ) -> Generator[Receipt | Refusal]: ...
    def submit(
        self,
        video_id: str,
        event_type: str = ...,
        *,
        event_time: datetime | None = None,
        value: float | None = None,
        actor_id: str = "",
    ) -> Future[Receipt]: ...
    def submit_event(self, event: Event) -> Future[Receipt]: ...
