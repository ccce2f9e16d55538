"""Ctrl-C between two batches, where the state is whole."""

import signal
import threading


class StopAfterBatch:
    """While inside, the first Ctrl-C asks the loop to stop after its batch; a second is at once.

    Between batches the state is whole: weights, optimizer and schedule have made the same steps.
    Called, it says whether anybody asked.
    """

    def __init__(self, enabled: bool) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.enabled = enabled and in_main_thread  # others may not set a signal
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> "StopAfterBatch":
        if self.enabled:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception) -> None:
        if self.enabled:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
