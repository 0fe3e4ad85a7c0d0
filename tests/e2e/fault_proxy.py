"""An HTTP proxy in front of an S3 server that does, on demand, what no local server shows.

It forwards requests as they come, Host and path untouched, so that signatures stay valid. A test adds rules:

    proxy.fault(r"/artifact", faults.Answer(503, "SlowDown"), times=2)
    rule = proxy.fault(r"manifest\\.json", faults.Gate(), method="PUT")

The first rule that matches a request and is not used up decides what happens to it; without one it passes. Every request is
noted in proxy.requests. What goes wrong inside the proxy itself is raised by close(), so that no test passes by its failure.
"""

import ctypes
import dataclasses
import http.client
import http.server
import re
import select
import socket
import ssl
import struct
import threading
import time

import listener

CHUNK_BYTES = 64 << 10
UPSTREAM_TIMEOUT_SEC = 60
HOLD_LIMIT_SEC = 120
libc = ctypes.CDLL(None, use_errno=True)
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "expect"}


@dataclasses.dataclass
class Request:
    """What passed, or was stopped: status is None while there is no answer, and stays so where none was sent; at is
    time.monotonic() when its head had come."""

    method: str
    path: str
    headers: dict
    status: int | None = None
    n_body_bytes: int = 0
    fault: object = None
    at: float = dataclasses.field(default_factory=time.monotonic)


@dataclasses.dataclass
class Rule:
    """A fault and what it applies to. `hits` are the requests that it met."""

    pattern: re.Pattern
    fault: object
    method: str | None
    times: int | None
    hits: list = dataclasses.field(default_factory=list)

    def takes(self, request):
        return ((self.times is None or len(self.hits) < self.times)
                and (self.method is None or self.method == request.method)
                and self.pattern.search(request.path) is not None)


class Upstream:
    """An answer on its way through: the status line, the headers, and the body as pieces."""

    def __init__(self, status, headers, pieces, length):
        self.status = status
        self.headers = headers
        self.pieces = pieces
        self.length = length

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Fault:
    """A fault may answer by itself (before) or alter the answer of the server (after)."""

    def before(self, handler):
        """Returns an Upstream to send instead of asking the server, or None to ask it."""

    def after(self, handler, answer):
        """Returns what to send in place of the server's answer."""
        return answer


class HangUp(Exception):
    """Ends the connection without another byte."""


def error_body(code, message="made by the fault proxy"):
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            "<RequestId>fault</RequestId></Error>").encode()


@dataclasses.dataclass
class Answer(Fault):
    """Answers by itself: an S3 error with this status and code, or any other body. A status of 200 with a code is what S3
    does when it fails after it began to answer, on CompleteMultipartUpload."""

    status: int
    code: str = "InternalError"
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes | None = None

    def before(self, handler):
        body = error_body(self.code) if self.body is None else self.body
        headers = {"Content-Type": "application/xml", **self.headers, "Content-Length": str(len(body))}
        return Upstream(self.status, list(headers.items()), [body], len(body))


def redirect(status, location, code="PermanentRedirect"):
    """301 or 307 to another place, as S3 answers for a bucket of another region."""
    return Answer(status, code, {"Location": location})


@dataclasses.dataclass
class IgnoreRange(Fault):
    """Answers a range request with 200 and the whole object, as a server may that knows no ranges. `fetch` gets the path of
    the request and returns the object: the request itself is passed on unaltered, as Range may be signed."""

    fetch: object

    def after(self, handler, answer):
        if answer.status != 206:
            return answer
        body = self.fetch(handler.path)
        for _ in answer.pieces:
            pass
        headers = [(k, v) for k, v in answer.headers if k.lower() not in ("content-range", "content-length")]
        return Upstream(200, [*headers, ("Content-Length", str(len(body)))], [body], len(body))


def first_bytes(pieces, n_bytes):
    for piece in pieces:
        if n_bytes <= 0:
            return
        yield piece[:n_bytes]
        n_bytes -= len(piece)


@dataclasses.dataclass
class CloseAfter(Fault):
    """Closes the connection after that many bytes of the body; None closes it before the answer begins, though the server has
    carried out the request."""

    n_bytes: int | None

    def after(self, handler, answer):
        if self.n_bytes is None:
            raise HangUp

        def pieces():
            yield from first_bytes(answer.pieces, self.n_bytes)
            raise HangUp
        return Upstream(answer.status, answer.headers, pieces(), answer.length)


@dataclasses.dataclass
class ResetAfter(Fault):
    """Resets the connection after that many bytes of the body: no orderly end, neither of TLS nor of TCP."""

    n_bytes: int

    def after(self, handler, answer):
        def pieces():
            yield from first_bytes(answer.pieces, self.n_bytes)
            reset(handler.connection)
            raise HangUp
        return Upstream(answer.status, answer.headers, pieces(), answer.length)


def reset(connection):
    """Dissolves a TCP connection, by connect() to no address (connect(2)): the other end gets a RST."""
    nowhere = struct.pack("H14x", socket.AF_UNSPEC)
    if libc.connect(connection.fileno(), nowhere, len(nowhere)) < 0:
        raise OSError(ctypes.get_errno(), "connect to AF_UNSPEC")


@dataclasses.dataclass
class Late(Fault):
    """Lets the client wait for so many seconds before it passes the request on."""

    delay_sec: float

    def before(self, handler):
        handler.hold(threading.Event(), self.delay_sec)


@dataclasses.dataclass
class AlterHeader(Fault):
    """Passes an answer with another value of one header: function gets the server's. With Content-Length, the body is not what
    it promises: the connection stays open, as if the rest were to come."""

    name: str
    function: object

    def after(self, handler, answer):
        headers = [(k, str(self.function(v)) if k.lower() == self.name.lower() else v) for k, v in answer.headers]
        return Upstream(answer.status, headers, answer.pieces, answer.length)


class StallAfter(Fault):
    """Sends that many bytes of the body, then nothing more until release(), or until the client has gone away."""

    def __init__(self, n_bytes):
        self.n_bytes = n_bytes
        self._released = threading.Event()

    def release(self):
        self._released.set()

    def after(self, handler, answer):
        def pieces():
            left = self.n_bytes
            for piece in answer.pieces:
                if left < len(piece):
                    yield piece[:left]
                    handler.hold(self._released)
                    yield piece[left:]
                    left = float("inf")
                else:
                    yield piece
                    left -= len(piece)
        return Upstream(answer.status, answer.headers, pieces(), answer.length)


@dataclasses.dataclass
class FlipBit(Fault):
    """Inverts one bit of the object at this offset, in every answer that carries it, whole or a range."""

    offset: int

    def after(self, handler, answer):
        found = re.match(r"bytes (\d+)-", answer.header("Content-Range") or "")
        at = int(found.group(1)) if found else 0

        def pieces():
            position = at
            for piece in answer.pieces:
                place = self.offset - position
                if 0 <= place < len(piece):
                    piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1:]
                position += len(piece)
                yield piece
        return Upstream(answer.status, answer.headers, pieces(), answer.length)


@dataclasses.dataclass
class Truncate(Fault):
    """Sends only that many bytes of the body, and a Content-Length that says so: the answer looks whole."""

    n_bytes: int

    def after(self, handler, answer):
        kept = b"".join(answer.pieces)[:self.n_bytes]
        headers = [(k, v) for k, v in answer.headers if k.lower() != "content-length"]
        return Upstream(answer.status, [*headers, ("Content-Length", str(len(kept)))], [kept], len(kept))


class Gate(Fault):
    """Holds the request before the server sees it until open(); wait_held() waits until one is held. For races."""

    def __init__(self):
        self._held = threading.Event()
        self._opened = threading.Event()

    def wait_held(self, timeout_sec):
        if not self._held.wait(timeout_sec):
            raise AssertionError(f"no request came to the gate within {timeout_sec} s")

    def open(self):
        self._opened.set()

    def before(self, handler):
        self._held.set()
        handler.hold(self._opened)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def handle_one_request(self):
        try:
            more = self.rfile.peek(1)
        except ConnectionError:
            more = b""
        if not more:
            # it ended between two requests: the client's affair, also if a reset follows, which another look would meet
            self.close_connection = True
            return
        super().handle_one_request()

    def hold(self, event, limit_sec=None):
        """Waits for the event; ends the connection when the client goes, the proxy closes or, without a limit of the caller's,
        at the proxy's own."""
        for _ in range(int((limit_sec or HOLD_LIMIT_SEC) * 10)):
            if event.wait(0.1):
                return
            if self.server.closing.is_set() or self._client_gone():
                raise HangUp
        if limit_sec is None:
            raise HangUp

    def _client_gone(self):
        # not by peeking, which TLS sockets can't
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    @property
    def _chunked(self):
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _request_body(self):
        if not self._chunked:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            # trailers of HTTP's own: S3's are inside the body
            pass
        return b"".join(chunks)

    def _forward(self, body):
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=UPSTREAM_TIMEOUT_SEC)
        self._upstream = upstream
        # the path as it came: BaseHTTPRequestHandler rewrites one that begins with two slashes
        path = self.requestline.split(" ")[1]
        upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        if self._chunked:
            upstream.putheader("Transfer-Encoding", "chunked")
            upstream.endheaders([body], encode_chunked=True)
        else:
            upstream.endheaders(body or None)
        response = upstream.getresponse()
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in HOP_BY_HOP]
        return Upstream(response.status, headers, iter(lambda: response.read(CHUNK_BYTES), b""), response.length)

    def _send(self, request, answer):
        has_body = request.method != "HEAD" and answer.status not in (204, 304)
        chunked = has_body and answer.header("Content-Length") is None
        request.status = answer.status
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if not has_body:
            return
        for piece in answer.pieces:
            if not piece:
                continue
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            request.n_body_bytes += len(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _handle(self):
        request = Request(self.command, self.requestline.split(" ")[1], dict(self.headers.items()))
        self._upstream = None
        rule = self.server.note(request)
        body = self._request_body()
        try:
            answer = rule.fault.before(self) if rule else None
            if answer is None:
                answer = self._forward(body)
                answer = rule.fault.after(self, answer) if rule else answer
            self._send(request, answer)
        except (HangUp, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.close_connection = True
        finally:
            if self._upstream is not None:
                self._upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle


class FaultProxy(listener.Listener):
    """The proxy: start it with `with`. `endpoint` is its URL; tls is an ssl.SSLContext for HTTPS towards the client."""

    def __init__(self, address, upstream, *, tls=None):
        super().__init__((address, 0), Handler, tls=tls)
        self.upstream = upstream
        self.requests = []
        self._rules = []
        self._lock = threading.Lock()

    @property
    def endpoint(self):
        return self.url

    def fault(self, pattern, fault, *, method=None, times=None):
        """Adds a rule: requests whose path and query match the pattern (re.search), at most `times` of them."""
        rule = Rule(re.compile(pattern), fault, method, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self):
        """Forgets the rules and the requests; what is held already stays held."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def note(self, request):
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule.takes(request):
                    rule.hits.append(request)
                    request.fault = rule.fault
                    return rule
        return None

    def seen(self, pattern, method=None):
        """The requests so far whose path and query match."""
        with self._lock:
            return [r for r in self.requests if re.search(pattern, r.path) and method in (None, r.method)]
