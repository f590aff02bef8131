"""What the tests of the evaluation share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Switch:
    """A mesh that only knows whether it is on."""

    on = True

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self.on = False
        yield
        self.on = True
