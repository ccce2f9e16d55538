"""Ratios against the peers, in one process, on the CPU: a GPU in the machine changes nothing."""
