"""The end of one submitted call."""

from typing import NamedTuple

from ._cairn import TensorHandle
from .errors import CairnError


class Completion(NamedTuple):
    tag: int
    """first_tag of the submit, and the place in its batch."""
    error: CairnError | None
    """None: it succeeded."""
    handle: TensorHandle | None
    """Of a submit_get that succeeded."""
