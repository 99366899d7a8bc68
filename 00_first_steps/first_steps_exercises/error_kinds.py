"""Exceptions told apart by their message, so that a known mistake is not confused with any other RuntimeError."""

from collections.abc import Iterator
from contextlib import contextmanager

KINDS = {  # part of the message to a word for it
    "leaf Variable": "leaf changed in place",
    "has no attribute 'backward'": "no tensor",
    "has no attribute 'zero_'": "no gradient yet",
    "for *: 'float' and 'NoneType'": "no gradient",
    "does not require grad": "no graph",
    "through the graph a second time": "graph used twice",
    "modified by an inplace operation": "changed before backward",
    "must match the size of tensor": "shapes do not fit",
    "target dtype to be Long": "labels are not int64",
}


@contextmanager
def told_apart() -> Iterator[None]:
    """Raise the exceptions of the block again; those of a known kind by the name of their class and the kind."""
    try:
        yield
    except Exception as error:
        kind = next((kind for text, kind in KINDS.items() if text in str(error)), "")
        if not kind or type(error).__name__.endswith(")"):
            raise
        named = type(f"{type(error).__name__} ({kind})", (type(error),), {})
        raise named(*error.args).with_traceback(error.__traceback__) from None
