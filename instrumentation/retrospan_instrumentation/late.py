"""Attributes that are known when their span is over, and need not be looked at before it is exported.

    class Download(LateAttributes):
        def facts(self):
            return {"bytes": self.bytes}

    span = tracer.start_span("download", attributes=download)
    ...
    if download.was_read:                      # by a provider that looks at attributes at once, as the SDK's does
        span.set_attributes(download.facts())
    span.end()

Nothing but the tracing API is between the two sides: the Mapping given to `start_span` sees by itself whether it is read at
once. A provider that knows `read_late` reads it when the span is exported, off the caller's thread, and its `late_events` then.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence
from typing import ClassVar

from opentelemetry.util.types import AttributeValue

LateEvent = tuple[str, Mapping[str, AttributeValue], int]
"""Name, attributes and time (ns since 1970) of an event."""


class LateAttributes(Mapping[str, AttributeValue]):
    """What `facts()` says when it is read; told apart by identity. It says the same for ever once its span has ended."""

    read_late: ClassVar[bool] = True
    was_read = False
    """Whether it was read before it was complete; `facts()` sets it."""

    @property
    def late_events(self) -> Sequence[LateEvent]:
        """Events of its span, none of them added by `add_event`."""
        return ()

    def facts(self) -> dict[str, AttributeValue]:
        """What is known: until the span ends, that with which it starts."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> AttributeValue:
        return self.facts()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts())

    def __len__(self) -> int:
        return len(self.facts())

    def __bool__(self) -> bool:
        return True  # without looking

    def items(self) -> ItemsView[str, AttributeValue]:
        """As a dict's."""
        return self.facts().items()

    def keys(self) -> KeysView[str]:
        """As a dict's."""
        return self.facts().keys()

    __eq__ = object.__eq__
    __hash__ = object.__hash__
