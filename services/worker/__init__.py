"""Processes slots: calls the job's handler for each batch, and reports the outcome of every item.

- It knows the scheduler by its rpcs alone. It holds no state that matters: what it has not reported, another worker
  does again.
- A batch is sent only with a permit that is still good by the worker's own monotonic clock.
- Each rpc that got no answer is repeated with the same numbers, so nothing is paid or recorded twice.
- A handler runs in a thread. After its time limit the thread is abandoned and the slot given back.
"""
