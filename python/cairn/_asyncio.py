"""Awaiting a store: one completion queue for each event loop, read when its eventfd says so."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from typing import Any, Callable

from ._cairn import CompletionQueue
from .completion import Completion
from .errors import BatchError

_QUEUE_CAPACITY = 65536


class _Batch:
    """The completions of one submit, and the future that gets them when all have come."""

    def __init__(self, future: asyncio.Future[list[Completion]], count: int) -> None:
        self.future = future
        self.completions: list[Completion | None] = [None] * count
        self.missing = count

    def end(self, index: int, completion: Completion) -> None:
        self.completions[index] = completion
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result(self.completions)


class _LoopQueue:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = CompletionQueue(_QUEUE_CAPACITY)
        self.tags = itertools.count()
        self.batches: dict[int, tuple[_Batch, int]] = {}
        self.fd = self.queue.fileno()
        loop.add_reader(self.fd, self.drain)

    def drain(self) -> None:
        for completion in self.queue.drain():
            batch, index = self.batches.pop(completion.tag)
            batch.end(index, completion)


class Waiters:
    """Whoever awaits one store."""

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopQueue] = (
            weakref.WeakKeyDictionary()
        )

    async def submit(
        self, submit: Callable[..., None], arguments: list[Any], count: int, options: dict[str, Any]
    ) -> list[Completion]:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _LoopQueue(loop)
        ends = self._loops[loop]
        batch = _Batch(loop.create_future(), count)
        # One after the other: a submit names its calls by consecutive tags.
        tags = list(itertools.islice(ends.tags, count))
        for index, tag in enumerate(tags):
            ends.batches[tag] = (batch, index)
        try:
            submit(ends.queue, *arguments, first_tag=tags[0], **options)
        except BaseException:
            for tag in tags:
                del ends.batches[tag]
            raise
        return await batch.future

    async def batch(
        self, submit: Callable[..., None], keys: Any, tensors: Any, options: dict[str, Any]
    ) -> None:
        single = isinstance(keys, (str, bytes))
        if single:
            keys, tensors = [keys], [tensors]
        keys = list(keys)
        if not keys:
            return
        done = await self.submit(submit, [keys, tensors], len(keys), options)
        errors = [completion.error for completion in done]
        if any(error is not None for error in errors):
            raise errors[0] if single else BatchError(errors)

    def end(self) -> None:
        """The store is closed: whatever had been submitted has ended."""
        for loop, ends in list(self._loops.items()):
            if loop.is_closed():
                continue
            loop.call_soon_threadsafe(_leave, loop, ends)
        self._loops.clear()


def _leave(loop: asyncio.AbstractEventLoop, ends: _LoopQueue) -> None:
    while ends.queue.outstanding:
        ends.drain()
    loop.remove_reader(ends.fd)
