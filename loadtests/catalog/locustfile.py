"""Users of the catalog, for locust: they find, store and hide, and check each page.

    locust -f loadtests/catalog/locustfile.py --host 127.0.0.1:50051

It needs a host that serves the whole catalog, as `make run` does. The resources of a run are of a type of their own
(`z`) and in a set of the run; they stay, as do the rules.
"""

import random
from typing import Any, ClassVar
from uuid import uuid4

import grpc
import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.runners import LocalRunner

from loadtests.catalog.pages import Pages
from loadtests.catalog.rpcs import APPLICATION, PLATFORM, CatalogRpcs
from loadtests.report import print_calls
from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2

# gRPC asks for this before its first object is made; locust patched the standard library when it was imported.
grpc.experimental.gevent.init_gevent()

ITEMS = 200
TASKS_PER_SECOND = 20  # of one user
STOP_SECONDS = 10.0
VIEWER = rights_pb2.Viewer(country="us", application=APPLICATION, platform=PLATFORM)
TYPE = resource_pb2.Type(
    suffix="z", name="load", indexes={"load": "/load", "kind": "/kinds/*"}, sorts=["/rank"]
)


class Finder(User):
    """Mostly finds; now and then something is stored, hidden or shown."""

    wait_time = constant_throughput(TASKS_PER_SECOND)
    pages: ClassVar[Pages]

    def on_start(self) -> None:
        self._rpcs = CatalogRpcs(str(self.host), self.environment.events.request.fire)
        self.find_a_page()

    def on_stop(self) -> None:
        self._rpcs.close()

    @task(12)
    def find_a_page(self) -> None:
        """The newest of a kind, or of everything, with the total and the kinds."""
        kinds = random.choice([[], ["kind:1"], ["kind:2", "kind:3"]])
        request = make_request(self.pages.name, kinds, page_size=20, total=True, facets=["kind"])
        seen = self.pages.note()
        try:
            page = self._rpcs.find(request)
        except grpc.RpcError:
            return
        self.pages.check(seen, page)

    @task(1)
    def walk_to_the_end(self) -> None:
        """Each item once, while ranks move; what is hidden meanwhile is missing."""
        token, walked = "", list[str]()
        seen = self.pages.note()
        while True:
            try:
                page = self._rpcs.find(make_request(self.pages.name, page_size=50, page_token=token))
            except grpc.RpcError:
                return
            walked += [item.id for item in page.items]
            token = page.next_page_token
            if not token:
                break
        self.pages.check_walk(seen, walked)

    @task(3)
    def store(self) -> None:
        resource_id = self.pages.choose()
        if resource_id is None:
            return
        with self.pages.writing(resource_id):
            self._rpcs.put([make_put(self.pages.name, resource_id)])

    @task(2)
    def hide_or_show(self) -> None:
        resource_id = self.pages.choose()
        if resource_id is None:
            return
        is_hidden = random.random() < 0.5
        with self.pages.hiding(resource_id, is_hidden=is_hidden) as done:
            self._rpcs.put_rules(resource_id, deny() if is_hidden else [])
            done()


USERS = [Finder]


def make_request(name: str, kinds: list[str] | None = None, **fields: Any) -> find_pb2.FindRequest:
    filters = [find_pb2.Filter(any=[f"load:{name}"])]
    if kinds:
        filters.append(find_pb2.Filter(any=kinds))
    return find_pb2.FindRequest(viewer=VIEWER, filters=filters, sort="rank", **fields)


def make_put(name: str, resource_id: str) -> resource_pb2.ResourcePut:
    kinds = random.sample(range(1, 5), 2)
    details = f'{{"load":"{name}","rank":{random.randrange(1_000)},"kinds":{kinds}}}'
    return resource_pb2.ResourcePut(resource=resource_pb2.Resource(id=resource_id, details=details.encode()))


def deny() -> list[rights_pb2.Rule]:
    return [rights_pb2.Rule(allow=False, priority=1, countries=["US"])]


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prepare(environment: Any, runner: Any, **_: Any) -> None:
    """Let calls under way end before the users do."""
    if not isinstance(runner, LocalRunner):
        raise SystemExit("tally: what may be shown is kept in one process; run locust without workers")
    environment.stop_timeout = max(environment.stop_timeout, STOP_SECONDS)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def begin(environment: Any, **_: Any) -> None:
    base = random.randrange(1, 10**9) * 1_000
    Finder.pages = Pages(uuid4().hex[:8], [f"{base + number}z" for number in range(ITEMS)])
    rpcs = CatalogRpcs(str(environment.host or Finder.host), lambda **_: None)
    try:
        rpcs.prepare(TYPE)
        change = rpcs.put([make_put(Finder.pages.name, each) for each in Finder.pages.ids])
        rpcs.find(make_request(Finder.pages.name, page_size=1, min_change=change))  # waits for the change
    finally:
        rpcs.close()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prove(environment: Any, **_: Any) -> None:
    """Find everything, and compare. The exit code is 1 unless all of it is right."""
    environment.process_exit_code = 1
    rpcs = CatalogRpcs(str(environment.host or Finder.host), lambda **_: None)
    pages = Finder.pages
    try:
        change = rpcs.put([make_put(pages.name, pages.ids[0])])
        page = rpcs.find(make_request(pages.name, page_size=500, total=True, min_change=change))
    except grpc.RpcError as error:
        print(f"cannot find the resources at the end: {error.code().name}: {error.details()}")
        return
    finally:
        rpcs.close()
    pages.check_end(page)
    print_calls(environment.stats)
    for sentence in pages.wrong[:10]:
        print(f"wrong: {sentence}")
    print(f"pages checked        {pages.checked:>10,}")
    is_right = pages.checked > 0 and not pages.wrong and not environment.runner.exceptions
    print(f"verdict: {'right: nothing hidden was shown, and nothing was missing' if is_right else 'WRONG'}")
    if is_right:
        environment.process_exit_code = 0
