"""Ctrl-C between two batches, where the state is whole."""

import signal
import threading


class StopAfterBatch:
    """While inside, the first Ctrl-C asks the loop to stop after a batch; a second is at once.

    Between batches the state is whole: weights, optimizer and schedule have made the same steps.
    Called, it says whether anybody asked: on a GPU the loop does so only when it looks at the loss,
    so that a stop may wait for ten batches.
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
            # None: one that was not set from Python, and cannot be put back from there
            before = signal.SIG_DFL if self.before is None else self.before
            signal.signal(signal.SIGINT, before)

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
