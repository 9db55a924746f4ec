"""Runs one command of the peer benchmark and reports what it took.

    python3 measure.py INPUT COMMAND [ARGUMENT...]

INPUT is a file that the command gets on its standard input through a pipe, or "-" for none. Output
and errors are those of this process. On descriptor 3 it writes one line of JSON:

    code     exit code of the command; 128 + number for a signal
    wall     seconds from the start until the last process that the command started has ended
    cpu      user and system seconds of all of them, as the kernel accounts them
    rss      peak resident memory of the largest of them, in bytes
    feeder   CPU seconds of this process, which fills the pipe: not part of `cpu`

It is not written in JavaScript because Node has no wait4(2). Processes that lose their parent come
to this one on Linux, so that none is missed. The kernel counts the memory of this process at the
fork as memory of the command, so `rss` is never below about 10 MiB.
"""

import json
import os
import resource
import signal
import sys
import threading
import time

REPORT = 3
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(command, source):
    """Forks the command; returns its id."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
        os.dup2(source, 0)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    return pid


def feed(path, sink):
    """Writes a file into the pipe, until its end or until no process reads any more."""
    with open(path, "rb", buffering=0) as file:
        try:
            while piece := file.read(1 << 16):
                left = memoryview(piece)
                while left:
                    left = left[os.write(sink, left):]
        except BrokenPipeError:
            pass
    os.close(sink)


def seconds(usage):
    return usage.ru_utime + usage.ru_stime


def main():
    path, *command = sys.argv[1:]
    os.set_inheritable(REPORT, False)
    adopt_orphans()
    source, sink = os.pipe() if path != "-" else (os.open(os.devnull, os.O_RDONLY), None)
    began = time.monotonic()
    child = start(command, source)
    os.close(source)
    if sink is not None:
        threading.Thread(target=feed, args=(path, sink), daemon=True).start()
    code = None
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    report = {
        "code": code if code >= 0 else 128 - code,
        "wall": wall,
        "cpu": seconds(used),
        "rss": used.ru_maxrss * unit,
        "feeder": seconds(resource.getrusage(resource.RUSAGE_SELF)),
    }
    os.write(REPORT, f"{json.dumps(report)}\n".encode())


main()
