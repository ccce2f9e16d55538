"""Ctrl-C between two batches, where the state is whole."""

import signal
import threading


class StopAfterBatch:
    """While inside, the first Ctrl-C only asks the loop to stop at the next batch; a second one is at once.

    Between batches the state is whole: weights, optimizer and schedule have all made the same steps.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and threading.current_thread() is threading.main_thread()
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self):
        if self.enabled:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception) -> None:
        if self.enabled:
            signal.signal(signal.SIGINT, self.before)
