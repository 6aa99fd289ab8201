"""The process whose children do the work: `python -m engine.sandbox.fork_server MODULE DESCRIPTOR`.

It imports MODULE once and has one thread, so that forking it is safe and takes milliseconds; what it has prepared every
child knows. A child serves jobs over a socket of its own until it is killed or nobody is left to ask. MODULE offers
`prepare(name, content)`, done here, and `open_session(name, setup) -> Callable[[bytes], Iterable[bytes]]`, done in the
child with the first job; an answer is bytes, or several parts of which the caller waits for the first alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
from importlib import import_module
from typing import Any

from engine.errors import EngineError
from engine.sandbox.frames import receive, send, send_all
from engine.sandbox.light_import import light_import

PREPARE, FORK = b"P", b"F"
OK, FAILED, DONE = b"O", b"E", b"D"
"""First byte of a part of an answer, of an error, and of the end of an answer."""
_IN_FULL = "in-full"
_NICE = 5
_MOST_GROWTH = 512 << 20
"""A child that holds so much more than at its birth makes room for a fresh one."""
_SPARE_CPU_S = 2
"""A child's own limit lies this far behind the one that the pool watches."""


def main() -> None:
    """Serve until the other side closes; then take all children along."""
    server = socket.socket(fileno=int(sys.argv[2]))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # what libraries print on stdout must not reach the caller's
        os.dup2(null, descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setrecursionlimit(10_000)
    module = _imported(sys.argv[1])
    os.nice(_NICE)
    wake, waker = os.pipe()
    ends: list[socket.socket | int] = [server, wake]
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select(ends, [], [])
            if wake in ready:
                os.read(wake, 4096)
                _report_deaths(server)
            if server in ready and not _serve(server, module):
                break
    os.killpg(0, signal.SIGKILL)


def _imported(name: str) -> Any:
    """MODULE, without torch where that will do; else from the beginning, with it."""
    if _IN_FULL in sys.argv:
        return import_module(name)
    try:
        return light_import(name)
    except Exception:  # noqa: BLE001 - whatever a library may raise when a name means nothing
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], _IN_FULL])


def _serve(server: socket.socket, module: Any) -> bool:
    """One command; False at the end."""
    command, descriptors, _, _ = socket.recv_fds(server, 1, 1)
    if command == PREPARE:
        name, _, content = (receive(server.fileno()) or b"").partition(b"\n")
        module.prepare(name.decode(), content)
        send(server.fileno(), PREPARE + name)
    elif command == FORK:
        if os.fork() == 0:
            server.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with contextlib.suppress(OSError):
                _work(descriptors[0], module)
            os._exit(0)
        os.close(descriptors[0])
    return bool(command)


def _report_deaths(server: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            send(server.fileno(), DONE + json.dumps([pid, number]).encode())


def _work(channel: int, module: Any) -> None:
    """Jobs of one session, one after the other."""
    send(channel, str(os.getpid()).encode())
    first = receive(channel)
    if first is None:
        return
    name, _, setup = first.partition(b"\n")
    session, born = None, _held_bytes()
    while (job := receive(channel)) is not None:
        head, _, payload = job.partition(b"\n")
        try:
            _limit(**json.loads(head))
            if session is None:
                session = module.open_session(name.decode(), setup)
            answer = session(payload)
            if isinstance(answer, bytes):
                send_all(channel, OK + answer, DONE)  # whoever reads the answer knows at once that it is all
            else:
                for part in answer:
                    send(channel, OK + part)
                send(channel, DONE)
        except BaseException as error:  # the caller must hear of it, whatever it is
            if isinstance(error, OSError) and error.errno != errno.ENOMEM:
                raise
            _lift_memory_limit()
            send_all(channel, FAILED + json.dumps(_told(error)).encode(), DONE)
        if _held_bytes() > born + _MOST_GROWTH:
            return


def _held_bytes() -> int:
    """Private memory, used or only asked for; 0 where nobody can say."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - /proc is not a path of ours
        return next((int(line.split()[1]) << 10 for line in status if line.startswith("VmData:")), 0)
    return 0


def _told(error: BaseException) -> dict[str, Any]:
    """A typed error as it is, or why the job stopped."""
    match error:
        case EngineError():
            return error.to_dict()
        case RecursionError():
            return {"stopped": "depth", "detail": ""}
        case MemoryError() | SystemError() | OSError():  # some C code fails to say what it lacked
            return {"stopped": "memory", "detail": ""}
    reason = "memory" if "bad_alloc" in str(error) else "crashed"
    return {"stopped": reason, "detail": f"{type(error).__name__}: {error}"[:2_000]}


def _limit(cpu_s: float, memory_bytes: int) -> None:
    """The job's limits from here on: private memory may grow by `memory_bytes`; what is held already does not count."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + cpu_s) + _SPARE_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    if held := _held_bytes():
        most = held + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _lift_memory_limit() -> None:
    """So that there is memory to say that there was none."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
