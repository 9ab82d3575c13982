"""Processes slots: calls the job's handler for each batch, and reports the outcome of every item.

- It uses the scheduler only by rpc. It has no important state: another worker repeats what it has not reported.
- A batch is sent only with a permit that is still valid by the worker's own monotonic clock.
- Each rpc without an answer is repeated with the same numbers, so nothing is paid or recorded twice.
- A handler runs in a thread. After its time limit the thread is abandoned and the slot given back.
"""
