"""Tally, with events that its client library is handed one by one, and gathers into requests in the background."""

from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.tally import Tally


class TallyBatched(Tally):
    """`Client.submit` for each event; a request of ours is what one caller waits for."""

    async def send(self, request: Request) -> None:
        video_ids = request.video_ids[request.video].tolist()
        futures = [
            await self.client.submit(video_id, EVENT_TYPES[number])
            for video_id, number in zip(video_ids, request.event_type.tolist(), strict=True)
        ]
        for future in futures:
            await future
