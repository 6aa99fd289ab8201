"""The compile worker: `python -m engine.grammar.worker`. Compiles each job in a child of its own that can be killed.

The worker imports everything once and has one thread, so forking it is safe and costs milliseconds; a child that runs
out of time or memory, or crashes, takes nothing with it. Speaks `frames` on stdin and stdout: first the settings, then
a constraint per job; answers with `O` and an encoded grammar or `E` and an error. What the worker itself has compiled
(`Compiler.warm`) every child knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

from engine.config import Limits
from engine.errors import EngineError
from engine.grammar.frames import PipeTimeout, receive, send
from engine.request import Constraint

OK, FAILED = b"O", b"E"


def main() -> None:
    """Serve jobs until stdin closes."""
    jobs, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # whatever libraries print must not reach the protocol, nor anybody's terminal
        os.dup2(null, descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = receive(jobs)
    if settings is None:
        return
    head, _, vocabulary = settings.partition(b"\n")
    wanted = json.loads(head)
    limits = Limits(**wanted["limits"])
    compiler = _compiler(vocabulary.decode("utf-8"), limits)
    if wanted["warm"]:
        compiler.warm()
    send(answers, OK)
    while (job := receive(jobs)) is not None:
        send(answers, _run(compiler, Constraint(**json.loads(job)), limits))


def _compiler(vocabulary: str, limits: Limits) -> Any:
    import xgrammar as xgr

    from engine.grammar.compiler import Compiler

    return Compiler(xgr.TokenizerInfo.deserialize_json(vocabulary), limits)


def _run(compiler: Any, constraint: Constraint, limits: Limits) -> bytes:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(compiler, constraint, limits, write)
    os.close(write)
    try:
        answer = receive(read, time.monotonic() + limits.compile_s)
        return answer or _death(_kill(child))
    except PipeTimeout:
        return _failure("time", "")
    finally:
        os.close(read)
        _kill(child)


def _child(compiler: Any, constraint: Constraint, limits: Limits, write: int) -> None:
    from engine.grammar.entry import encode

    try:
        _limit_memory(limits.compile_memory_bytes)
        start = time.perf_counter()
        compiled = compiler.compile(constraint)
        answer = OK + encode(compiled, constraint.kind, time.perf_counter() - start)
    except EngineError as error:
        answer = FAILED + json.dumps(error.to_dict()).encode()
    except MemoryError:
        answer = _failure("memory", "")
    except RecursionError:
        answer = _failure("depth", "")
    except BaseException as error:  # noqa: BLE001 - the child's last word; it must reach the parent, whatever it is
        answer = _failure("memory" if "bad_alloc" in str(error) else "crashed", f"{type(error).__name__}: {error}")
    with contextlib.suppress(OSError):
        send(write, answer)
    os._exit(0)


def _limit_memory(allowed: int) -> None:
    """Private memory may grow by `allowed`: what the worker holds already is not the schema's fault."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - /proc is not a path of ours
        held = next((int(line.split()[1]) << 10 for line in status if line.startswith("VmData:")), 0)
    resource.setrlimit(resource.RLIMIT_DATA, (held + allowed, held + allowed))


def _failure(kind: str, message: str) -> bytes:
    return FAILED + json.dumps({"type": kind, "message": message}).encode()


def _death(signal_number: int) -> bytes:
    """C++ aborts where an allocation fails deep inside; other signals are crashes."""
    if signal_number == signal.SIGABRT:
        return _failure("memory", "")
    return _failure("crashed", f"the compiler died of signal {signal_number}")


def _kill(child: int) -> int:
    """End and reap the child; the signal it died of, 0 when it was gone or ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(child, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return 0


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main()
