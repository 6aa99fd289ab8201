"""`maskloop serve`: who may listen where, and a real process that is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from engine.errors import RequestError
from engine.serve.server.run import is_loopback, refuse_open_host
from engine.serve.settings import ServeSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "[::1]"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    refuse_open_host(host, ServeSettings(), insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org"])
def test_other_hosts_need_keys_or_insistence(host):
    with pytest.raises(RequestError, match="--insecure"):
        refuse_open_host(host, ServeSettings(), insecure=False)
    refuse_open_host(host, ServeSettings(), insecure=True)
    refuse_open_host(host, ServeSettings(api_keys=("k",)), insecure=False)


def test_settings_come_from_the_environment():
    env = {"MASKLOOP_API_KEYS": " a, b ,,", "MASKLOOP_MAX_CONCURRENT_PER_KEY": "3"}
    settings = ServeSettings.from_env(env, drain_s=1.0)
    assert (settings.api_keys, settings.max_concurrent_per_key, settings.drain_s) == (("a", "b"), 3, 1.0)
    with pytest.raises(RequestError, match="MASKLOOP_MAX_CONCURRENT_PER_KEY"):
        ServeSettings.from_env({"MASKLOOP_MAX_CONCURRENT_PER_KEY": "many"})


SCRIPT = """
import sys, time
from engine.serve.server import run
from engine.serve.server.run import serve
from engine.serve.settings import ServeSettings
from tests.serve.fakes import FakeEngine
sys.exit(serve(lambda: FakeEngine(delay_s=float(sys.argv[2])), port=int(sys.argv[1]),
               settings=ServeSettings(drain_s=float(sys.argv[3]))))
"""


COMMAND = """
import sys
from engine.cli import main
from engine.cli.commands import serve
from tests.serve.fakes import FakeEngine
serve._load = lambda config: FakeEngine(delay_s=float(sys.argv[2]))
sys.exit(main(["serve", "--port", sys.argv[1]]))
"""


def start(free_port, delay_s, drain_s, script=None):
    process = subprocess.Popen(
        [sys.executable, "-c", script or SCRIPT, str(free_port), str(delay_s), str(drain_s)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONMALLOC": "malloc"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            if httpx.get(f"http://127.0.0.1:{free_port}/ready").status_code == 200:
                return process
        except httpx.TransportError:
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LOADED = """
import psutil
from engine.cli.commands import serve
from engine.config import EngineConfig
from tests.serve.server.test_hard_clients import wait_for
with serve._load(EngineConfig(max_batch=1, max_sequence=64)):
    children = psutil.Process().children
    wait_for(lambda: any("engine.grammar.store.worker" in child.cmdline() for child in children()))
"""


def test_the_process_that_compiles_starts_with_the_server():
    subprocess.run([sys.executable, "-c", LOADED], check=True, timeout=300)


@pytest.mark.parametrize(("delay_s", "drain_s", "code"), [(2.0, 20, 200), (60, 0.5, 503)])
def test_sigterm_under_load_answers_everyone_and_exits_0(free_port, delay_s, drain_s, code):
    process = start(free_port, delay_s, drain_s)
    answers = []

    def ask():
        answers.append(httpx.post(f"http://127.0.0.1:{free_port}/generate", json={"prompt": "x"}, timeout=30))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + 15
    while httpx.get(f"http://127.0.0.1:{free_port}/health").json()["in_flight"] < 5:
        assert time.monotonic() < limit, "the requests did not arrive"
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    _, err = process.communicate(timeout=20)
    assert [answer.status_code for answer in answers] == [code] * 5
    assert process.returncode == 0, err
    events = [json.loads(line)["event"] for line in err.decode().splitlines() if line.startswith("{")]
    assert events.count("request") == 5


def test_who_connects_during_a_drain_is_told_503_and_the_health_says_draining(free_port):
    process = start(free_port, 3.0, 20)
    url, answers = f"http://127.0.0.1:{free_port}", []
    running = threading.Thread(target=lambda: answers.append(httpx.post(url + "/generate", json={"prompt": "x"})))
    running.start()
    limit = time.monotonic() + 15
    while httpx.get(url + "/health").json()["in_flight"] < 1:
        assert time.monotonic() < limit, "the request did not arrive"
    process.send_signal(signal.SIGTERM)
    while httpx.get(url + "/ready").status_code != 503:
        assert time.monotonic() < limit, "the signal was not heard"
    late = httpx.post(url + "/generate", json={"prompt": "x"})
    assert (late.status_code, late.json()["error"]["type"]) == (503, "NotReady")
    assert late.headers["retry-after"]
    assert httpx.get(url + "/health").json()["state"] == "draining"
    running.join()
    process.communicate(timeout=20)
    assert [answer.status_code for answer in answers] == [200]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("sig", "code", "last"), [(signal.SIGINT, 130, ["maskloop: interrupted"]), (signal.SIGTERM, 0, [])]
)
def test_the_command_answers_what_runs_and_its_exit_code_tells_the_signal(free_port, sig, code, last):
    process = start(free_port, 1.0, 20, COMMAND)
    url, answers = f"http://127.0.0.1:{free_port}", []
    running = threading.Thread(target=lambda: answers.append(httpx.post(url + "/generate", json={"prompt": "x"})))
    running.start()
    limit = time.monotonic() + 15
    while httpx.get(url + "/health").json()["in_flight"] < 1:
        assert time.monotonic() < limit, "the request did not arrive"
    process.send_signal(sig)
    running.join()
    _, err = process.communicate(timeout=60)
    assert [answer.status_code for answer in answers] == [200]
    assert process.returncode == code, err
    said, logged = [], []
    for line in err.decode().splitlines():
        if line.startswith("{"):
            logged.append(json.loads(line))
        else:
            said.append(line)
    assert said[2:] == last
    (drain,) = [line for line in logged if line["event"] == "draining"]
    assert (drain["in_flight"], drain["drain_s"]) == (1, 30.0)


HANGS = SCRIPT.replace("sys.exit(", "FakeEngine.close = lambda self: time.sleep(60)\nrun.STOP_S = 2.0\nsys.exit(")


def test_stopping_takes_no_longer_than_promised_though_the_engine_never_closes(free_port, monkeypatch):
    monkeypatch.setitem(globals(), "SCRIPT", HANGS)
    process = start(free_port, 0.0, 0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - began < 0.5 + 2.0 + 1.5
    assert process.returncode == -signal.SIGALRM
