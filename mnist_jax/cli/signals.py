"""Graceful stops: the first Ctrl-C or SIGTERM ends training after the epoch, the second one at once."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful() -> Iterator[Callable[[], bool]]:
    """Defers signals within its context; yields a function that returns whether one has arrived.

    Python runs signal handlers in the main thread, which one compiled epoch may block for minutes. So a
    thread reads the byte that the interpreter immediately writes to a wakeup socket for each signal.
    """
    received: list[int] = []
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while (numbers := ours.recv(1)) not in (b"", b"\0"):
            received.append(numbers[0])
            if len(received) == 1:
                os.write(2, b"\nstopping after this epoch; press Ctrl-C again to stop now\n")
            else:
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # shows the cursor, which the progress bar hides
                os.write(2, b"mnist-jax: interrupted\n")
                os._exit(130)  # safe, since all files are written atomically

    thread = Thread(target=listen, daemon=True)
    thread.start()
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield lambda: bool(received)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        theirs.send(b"\0")
        thread.join()
        ours.close()
        theirs.close()
