"""What the store raises: one class for each code of include/cairn/store.h, with the same texts."""


class CairnError(Exception):
    """Whatever a store raises; itself for a code without a class of its own."""

    # Those that are also a KeyError would show their text as its repr.
    def __str__(self):
        return Exception.__str__(self)


class NotFoundError(CairnError, KeyError):
    """No such key, or it was evicted, or its time was up: recompute."""


class DataLossError(CairnError):
    """The bytes on L3 are damaged or unreadable, until the key is put again: recompute."""


class ResourceExhaustedError(CairnError):
    """No room, or a queue is full: retry later or do without."""


class DeadlineExceededError(CairnError, TimeoutError):
    """Not in time; the work goes on."""


class UnavailableError(CairnError):
    """The disk or the GPU refused: see the text and stats()["degraded"]."""


class InvalidArgumentError(CairnError, ValueError):
    """The caller's mistake; nothing was changed."""


class FailedPreconditionError(CairnError):
    """The store is closed or in use, or of another format version, fingerprint or drive."""


class ForkedError(FailedPreconditionError):
    """The store was opened by the process that this one was forked from."""


class UnimplementedError(CairnError, NotImplementedError):
    """Promised by the interface and not built yet."""


class BatchError(CairnError):
    """Some tensors of a batch failed: errors[i] is None, or what tensor i raises alone."""

    def __init__(self, errors):
        self.errors = list(errors)
        failed = [(i, error) for i, error in enumerate(self.errors) if error is not None]
        first, error = failed[0]
        super().__init__(
            f"{len(failed)} of {len(self.errors)} tensors failed; "
            f"the first, number {first}: {error}"
        )
