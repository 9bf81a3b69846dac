"""Ctrl-C once: finish the epoch and wind up. Ctrl-C twice: stop at once. SIGTERM counts as the first."""

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
    """While it lasts, signals only ask for an end; gives a function that says whether one was asked for.

    Python runs its own handlers between two steps of the main thread, which may sit in one compiled
    epoch for minutes. So a thread listens to the byte that the interpreter writes for each signal at once.
    """
    asked: list[int] = []
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while (numbers := ours.recv(1)) not in (b"", b"\0"):
            asked.append(numbers[0])
            if len(asked) == 1:
                os.write(2, b"\nstopping after this epoch; Ctrl-C again stops at once\n")
            else:
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # the progress bar has hidden the cursor
                os.write(2, b"mnist-jax: interrupted\n")
                os._exit(130)  # whatever is being written is written under another name, so nothing is lost

    thread = Thread(target=listen, daemon=True)
    thread.start()
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield lambda: bool(asked)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        theirs.send(b"\0")
        thread.join()
        ours.close()
        theirs.close()
