"""Every Python that has this folder in PYTHONPATH reaches nothing but its own machine.

Not an OSError: code that goes on without a network would swallow it.
"""

import sys

HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}


def refuse(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):  # else a file's name
        host = arguments[1][0]
    else:
        return

    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        raise RuntimeError(f"asked for the network ({host}): the profile smoke never does")


sys.addaudithook(refuse)
