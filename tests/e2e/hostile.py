"""Answers of a server that means harm, as faults of fault_proxy, and servers that come to no answer at all."""

import dataclasses
import gzip
import itertools
import json
import socketserver
import threading

import fault_proxy as faults
import formats
import listener

PIECE = bytes(64 << 10)
ENVELOPE_MAX_BYTES = 256 << 10
PAYLOAD_BYTES = 150 << 10  # with the signatures not far below what an envelope may have
N_SIGNATURES_MAX = 16
BOMB_BYTES = 64 << 20


class Raw(faults.Fault):
    """Sends these bytes as they are, and ends the connection; pieces() may go on for ever. `n_sent` counts those of all answers."""

    def __init__(self, pieces, pause_sec=0):
        self._pieces, self._pause_sec = pieces, pause_sec
        self.n_sent = 0

    def before(self, handler):
        for piece in self._pieces():
            handler.wfile.write(piece)
            self.n_sent += len(piece)
            if self._pause_sec:
                handler.hold(threading.Event(), self._pause_sec)
            if handler.server.closing.is_set():
                break
        raise faults.HangUp


def head(*headers, status="200 OK"):
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")).encode()


def then_for_ever(beginning, piece):
    return lambda: itertools.chain([beginning], itertools.repeat(piece))


def in_chunks(piece):
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def endless_body(status="200 OK"):
    return Raw(then_for_ever(head("Transfer-Encoding: chunked", status=status), in_chunks(PIECE)))


def endless_headers():
    return Raw(then_for_ever(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000))


def endless_header():
    return Raw(then_for_ever(b"HTTP/1.1 200 OK\r\nX-More: ", b"x" * len(PIECE)))


def endless_interim_answers():
    """As many of them as fit, before the answer that never comes."""
    return Raw(then_for_ever(b"", head("Link: </x>; rel=preload", status="103 Early Hints") * 500))


def endless_chunk_head():
    return Raw(then_for_ever(head("Transfer-Encoding: chunked") + b"1;", b"x" * len(PIECE)))


def huge_promise():
    return Raw(then_for_ever(head(f"Content-Length: {1 << 62}"), PIECE))


def many_headers():
    """1 MB of them, before a body that is well."""
    return Raw(lambda: [head(*(f"X-{n}: {'x' * 1000}" for n in range(1000)), "Content-Length: 2"), b"{}"])


def drip():
    """A byte a second."""
    return Raw(then_for_ever(head(f"Content-Length: {ENVELOPE_MAX_BYTES}"), b"x"), pause_sec=1)


def gzip_bomb():
    body = gzip.compress(bytes(BOMB_BYTES))
    return Raw(lambda: [head("Content-Encoding: gzip", f"Content-Length: {len(body)}"), body])


def garbage_in_chunks():
    return Raw(lambda: [head("Transfer-Encoding: chunked"), b"zz\r\n\xff\xff\r\n-1\r\n" * 100])


def no_http():
    return Raw(lambda: [b"\x00\xff220 ready\r\n" * 100])


def hang_up():
    return Raw(lambda: [])


class RedirectInACircle(faults.Fault):
    """To where the request came from, also by another region's name."""

    def __init__(self):
        self._n = itertools.count()

    def before(self, handler):
        region = f"eu-west-{next(self._n) % 3 + 1}"
        fault = faults.Answer(307, "TemporaryRedirect", {"Location": handler.server.url + handler.path,
                                                         "x-amz-bucket-region": region})
        return fault.before(handler)


class AlwaysNew(faults.Fault):
    """At each request another object, with another ETag: make(n) gives it."""

    def __init__(self, make):
        self._n = itertools.count()
        self._make = make

    def before(self, handler):
        n = next(self._n)
        return faults.Answer(200, headers={"ETag": f'"{n:032x}"', "Content-Type": "application/json"},
                             body=self._make(n)).before(handler)


def new_manifests(payload, key):
    """Envelopes that are nearly as large as they may be, with as many signatures as they may have: all claim to be by our key,
    and are by others."""
    others = [formats.Key.new() for _ in range(N_SIGNATURES_MAX)]
    padding = " " * (PAYLOAD_BYTES - len(json.dumps(payload)))

    def make(n):
        text = json.dumps({**payload, "serial": 1000 + n}) + padding
        outer = json.loads(formats.envelope(formats.MANIFEST_TYPE, text.encode(), others))
        for signature in outer["signatures"]:
            signature["keyid"] = key.id
        body = json.dumps(outer).encode()
        assert len(body) <= ENVELOPE_MAX_BYTES
        return body
    return AlwaysNew(make)


def new_garbage():
    """What a parser has most to do with."""
    return AlwaysNew(lambda n: b'{"payloadType": [' + b"%d," % n + b"[1,{}]," * ((ENVELOPE_MAX_BYTES - 40) // 7))


def flapping_brake():
    """Halted, then not to be known, by always another and for another reason."""
    return AlwaysNew(lambda n: json.dumps({"halted": True, "by": f"nobody {n}", "reason": f"number {n}"}).encode()
                     if n % 2 == 0 else b'{"halted": ' + b"%d" % n)


# -- servers that come to no answer

@dataclasses.dataclass
class Behaviour:
    """What a Mute does with each connection."""

    pieces: object  # function of no argument, or None to send nothing
    keeps: bool  # the connection, until the client goes


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        behaviour = self.server.behaviour
        with self.server.lock:
            self.server.n_connections += 1
        try:
            for piece in behaviour.pieces() if behaviour.pieces else ():
                self.request.sendall(piece)
            while behaviour.keeps and not self.server.closing.is_set() and self.request.recv(4096):
                pass
        except OSError:
            # the client has had enough
            return


class Mute(listener.Listener):
    """Takes connections and speaks no TLS."""

    def __init__(self, address, behaviour):
        super().__init__((address, 0), Handler)
        self.behaviour = behaviour
        self.n_connections = 0
        self.lock = threading.Lock()

    @property
    def endpoint(self):
        return self.url.replace("http:", "https:")


# the beginning of a handshake: a TLS record of the largest size, whose rest never comes
HALF_A_RECORD = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(100)

MUTE = {
    "closes at once": Behaviour(None, False),
    "no TLS": Behaviour(lambda: [b"220 mail.example.com ESMTP\r\n" * 100], False),
    "TLS handshake that stalls": Behaviour(None, True),
    "TLS handshake that stops in a record": Behaviour(lambda: [HALF_A_RECORD], True),
    "alerts without end": Behaviour(then_for_ever(b"", b"\x15\x03\x03\x00\x02\x01\x5a" * 1000), True),
}
