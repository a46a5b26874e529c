"""One process, or several with a GPU each under `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


class Alone:
    """The only process: it gets all the work."""

    main = True
    count = 1
    device = "auto"

    def share(self, items: Sequence[Any]) -> list[Any]:
        """This process's part of the items: a run of them, so that the parts of all processes in order are all."""
        return list(items)

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes in order, in every process."""
        return items

    def same(self, value: Any) -> Any:
        """The main process's value, in every process."""
        return value


class Together(Alone):
    """One of several processes that `accelerate launch` started; each works on its own device."""

    def __init__(self) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes"))
        self.main, self.count = self._state.is_main_process, self._state.num_processes
        self.device = str(self._state.device)

    def share(self, items: Sequence[Any]) -> list[Any]:
        with self._state.split_between_processes(list(items)) as part:
            return list(part)

    def gather(self, items: list[Any]) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object(items)

    def same(self, value: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


def processes() -> Alone:
    """`Together` where `accelerate launch` started more than one process, else `Alone`."""
    return Together() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
