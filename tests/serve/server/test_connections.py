"""Sockets that are silent, slow, many, ambiguous, half closed or deaf; each through a real port."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from engine.serve.settings import ServeSettings
from tests.serve.fakes import FakeEngine, Server, document
from tests.serve.server.test_hard_clients import wait_for

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"prompt":"x"}'
HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
POST = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
Serving = Callable[..., Server]


def connect(server: Server, content: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(content)
    return connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset counts as an end."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    connection.close()
    return b"".join(parts)


def healthy(connection: socket.socket) -> bool:
    """Ask for the health, read the whole answer; False where the connection was closed."""
    head = b""
    with suppress(OSError):
        connection.sendall(GET)
        with connection.makefile("rb") as stream:
            while (line := stream.readline()) not in (b"\r\n", b""):
                head += line
            if head:
                stream.read(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return b"200 OK" in head


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def seconds_of_trickling(connection: socket.socket, content: bytes) -> float:
    """Ten bytes a second until the server closes; all of the content takes longer than any test allows."""
    began = time.monotonic()
    with connection, suppress(OSError):
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    return time.monotonic() - began


def test_the_limits_are_those_of_the_contract() -> None:
    settings = ServeSettings()
    assert (settings.header_timeout_s, settings.max_headerless, settings.max_connections) == (10.0, 256, 2048)


@pytest.mark.parametrize(
    "start", [b"", b"G", GET[:-2], POST + POST[:20]], ids=["silent", "a byte", "half a header", "the second header"]
)
def test_a_header_that_is_not_complete_in_time_costs_the_connection(serving: Serving, start: bytes) -> None:
    server = serving(FakeEngine(), ServeSettings(header_timeout_s=0.6))
    began = time.monotonic()
    connection = connect(server, start)
    everything(connection)
    assert 0.5 < time.monotonic() - began < 3


def test_a_header_that_trickles_does_not_start_its_clock_anew(serving: Serving) -> None:
    server = serving(FakeEngine(), ServeSettings(header_timeout_s=0.8))
    assert seconds_of_trickling(connect(server), b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 100) < 4


def test_a_body_that_trickles_on_behind_its_refusal_is_not_waited_for(serving: Serving) -> None:
    server = serving(FakeEngine(), ServeSettings(header_timeout_s=0.8, max_body_bytes=10))
    assert seconds_of_trickling(connect(server, HEAD + b"Content-Length: 999\r\n\r\n"), b"x" * 100) < 4


def test_of_three_hundred_silent_connections_the_oldest_go_and_others_are_served(server: Server) -> None:
    with ExitStack() as stack:
        assert server.get("/health").status_code == 200  # its connection is kept and rests from here on
        silent = [stack.enter_context(connect(server, GET[: number % 30])) for number in range(300)]
        assert server.get("/health").status_code == 200
        wait_for(lambda: not is_open(silent[43]))
        assert [is_open(one) for one in silent] == [False] * 44 + [True] * 256


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="needs Linux's TCP_DEFER_ACCEPT")
def test_a_client_whose_header_is_late_is_served_among_hundreds_without_one(server: Server) -> None:
    with ExitStack() as stack:
        begun = [stack.enter_context(connect(server, GET[:9])) for _ in range(200)]
        wait_for(lambda: len(server.connections) == 200)
        late = stack.enter_context(connect(server))
        begun += [stack.enter_context(connect(server, GET[:9])) for _ in range(300)]
        wait_for(lambda: not is_open(begun[243]))
        assert healthy(late)


def test_connections_that_rest_or_work_do_not_count_as_silent(serving: Serving) -> None:
    server = serving(FakeEngine(), ServeSettings(max_headerless=2))
    with ExitStack() as stack:
        used = []
        for _ in range(8):
            used.append(stack.enter_context(connect(server)))
            assert healthy(used[-1])
        assert all(healthy(one) for one in used)


def test_over_the_limit_the_oldest_idle_connection_goes_and_without_one_the_newest_gets_503(serving: Serving) -> None:
    server = serving(FakeEngine(delay_s=30), ServeSettings(max_connections=3))
    with ExitStack() as stack:
        resting = stack.enter_context(connect(server))
        assert healthy(resting)
        silent = stack.enter_context(connect(server))
        for number in (1, 2, 3):
            stack.enter_context(connect(server, POST))
            wait_for(lambda number=number: len(server.engine.requests) == number)
            assert (is_open(silent), is_open(resting)) == (number < 2, number < 3)
        answer = everything(connect(server, GET))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "TooManyConnections"


AMBIGUOUS = {
    "both lengths": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other way": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 14\r\n\r\n" + BODY,
    "both lengths, odd case": HEAD + b"content-LENGTH: 5\r\ntransfer-ENCODING: chunked\r\n\r\n0\r\n\r\n",
    "a length twice": HEAD + b"Content-Length: 14\r\nContent-Length: 14\r\n\r\n" + BODY,
    "two lengths": HEAD + b"Content-Length: 14\r\nContent-Length: 3\r\n\r\n" + BODY,
    "a list of lengths": HEAD + b"Content-Length: 14, 14\r\n\r\n" + BODY,
    "a length with a sign": HEAD + b"Content-Length: +14\r\n\r\n" + BODY,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length in hexadecimal": HEAD + b"Content-Length: 0xe\r\n\r\n" + BODY,
    "an empty length": HEAD + b"Content-Length: \r\n\r\n" + BODY,
    "a length of Arabic digits": HEAD + "Content-Length: ١٤\r\n\r\n".encode() + BODY,
    "a coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "a coding behind a tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": HEAD + b"Content-Length:\r\n 14\r\n\r\n" + BODY,
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"Content-Length : 14\r\n\r\n" + BODY,
    "a header without a name": HEAD + b": 14\r\n\r\n" + BODY,
    "a header without a colon": HEAD + b"Content-Length 14\r\n\r\n" + BODY,
    "line feeds alone": POST.replace(b"\r\n", b"\n"),
    "one line feed alone": HEAD + b"X: y\nContent-Length: 14\r\n\r\n" + BODY,
    "a line feed before the body": HEAD + b"Content-Length: 14\n\r\n" + BODY,
    "a carriage return alone": HEAD + b"X: y\rContent-Length: 14\r\n\r\n" + BODY,
    "a NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 14\r\n\r\n" + BODY,
    "an empty line first": b"\r\n" + POST,
    "HTTP/2.0": POST.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "two hosts": HEAD + b"Host: y\r\nContent-Length: 14\r\n\r\n" + BODY,
    "no host": POST.replace(b"Host: x\r\n", b""),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60 + b"\r\n\r\n",
    "a header of 40 kB": HEAD + b"X: " + b"y" * 40_000 + b"\r\nContent-Length: 14\r\n\r\n" + BODY,
    "ten thousand headers": HEAD + b"X: y\r\n" * 10_000 + b"Content-Length: 14\r\n\r\n" + BODY,
    "a chunk size that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n0\r\n\r\n",
    "a chunk size with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "a chunk size of 30 digits": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\nx\r\n0\r\n\r\n",
    "a chunk that is longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "a chunk that ends in a line feed": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
}  # fmt: skip


@pytest.mark.parametrize("content", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_parsers_could_read_in_two_ways_is_400_and_nothing_behind_it_is_answered(
    server: Server, fake: FakeEngine, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = everything(connect(server, content + GET + GET))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "Malformed"
    assert fake.requests == []
    assert "Traceback" not in capfd.readouterr().err


CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = {
    "a chunk of 64 bits": CHUNKS + b"f" * 16 + b"\r\n",
    "a chunk of 80 bits, begun": CHUNKS + b"f" * 20 + b"\r\n" + BODY,
    "a second chunk": CHUNKS + b"e\r\n" + BODY + b"\r\n1000000\r\n",
    "a length of 20 digits": HEAD + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n" + BODY,
    "a length that asks to go on": HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
}


@pytest.mark.parametrize("content", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_body_that_says_it_is_too_large_is_413_before_it_comes(
    serving: Serving, fake: FakeEngine, content: bytes
) -> None:
    server = serving(fake, ServeSettings(header_timeout_s=0.6))
    answer = everything(connect(server, content))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "BodyTooLarge"
    assert fake.requests == []
    wait_for(lambda: len(server.connections) == 0)


UNFINISHED = {
    "no chunk": CHUNKS,
    "half a chunk size": CHUNKS + b"e",
    "half a chunk": CHUNKS + b"e\r\n" + BODY[:5],
    "no last chunk": CHUNKS + b"e\r\n" + BODY + b"\r\n",
    "half a last chunk": CHUNKS + b"e\r\n" + BODY + b"\r\n0\r\n",
    "a length larger than the body": HEAD + b"Content-Length: 99\r\n\r\n" + BODY,
    "asked to go on, and did not": HEAD + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n",
}


@pytest.mark.parametrize("content", UNFINISHED.values(), ids=UNFINISHED)
def test_a_body_that_does_not_end_is_408_in_time_and_the_connection_closed(
    serving: Serving, fake: FakeEngine, content: bytes
) -> None:
    server = serving(fake, ServeSettings(header_timeout_s=0.6, body_timeout_s=0.6))
    began = time.monotonic()
    answer = everything(connect(server, content)).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert time.monotonic() - began < 5
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "SlowBody"
    assert fake.requests == []
    wait_for(lambda: len(server.connections) == 0)


@pytest.mark.parametrize("content", [GET, POST], ids=["GET", "POST"])
def test_http_1_0_is_answered_and_closed(server: Server, content: bytes) -> None:
    answer = everything(connect(server, content.replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


def test_trailers_without_end_are_cut_off(server: Server) -> None:
    connection = connect(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    answer = b""
    with connection:
        try:
            for _ in range(1000):
                connection.sendall(b"X: " + b"y" * 1000 + b"\r\n")
            answer = connection.recv(65_536)
        except OSError:
            pass
    assert b"200" not in answer.split(b"\r\n")[0]
    assert server.get("/health").status_code == 200


def test_requests_that_follow_one_another_are_answered_in_order(server: Server) -> None:
    connection = connect(server, GET + POST + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert everything(connection).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("behind", [b"", GET, GET[:9], b"x" * 100_000], ids=["none", "one", "a part", "a flood"])
@pytest.mark.parametrize("half", [True, False], ids=["half closed", "closed"])
def test_a_client_that_leaves_is_noticed_whatever_it_sent_behind_its_request(
    serving: Serving, half: bool, behind: bytes
) -> None:
    engine = FakeEngine(delay_s=30)
    server = serving(engine)
    with connect(server, POST) as connection:
        wait_for(lambda: engine.requests)
        connection.sendall(behind)
        if half:
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
        wait_for(lambda: engine.cancelled, 3)


def test_a_client_that_reads_none_of_its_long_answer_is_dropped(serving: Serving) -> None:
    engine = FakeEngine(lambda request: document(request, text="long" * 5_000_000))
    server = serving(engine, ServeSettings(send_timeout_s=1.0))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(POST)
        wait_for(lambda: engine.requests)
        wait_for(lambda: len(server.connections) == 0, 8)


def test_a_server_stops_in_time_though_a_client_reads_nothing(serving: Serving) -> None:
    engine = FakeEngine(lambda request: document(request, text="long" * 5_000_000))
    with socket.socket() as connection:
        with Server(engine) as server:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(POST)
            wait_for(lambda: engine.requests)
            time.sleep(0.2)
            began = time.monotonic()
        assert time.monotonic() - began < 8
