"""A stand-in for EC2's instance metadata service, version 2, with faults on demand.

It knows what Slipway asks for: tokens, which are enforced and end, the identity document, tags, placement and the role's
credentials. Hosts reach it by AWS_EC2_METADATA_SERVICE_ENDPOINT; one server is one instance:

    with imds_server.ImdsServer(sandbox.SERVER_ADDRESS) as imds:
        imds.tags = {"Stage": "prod"}           # None: not exposed
        imds.fault(r"tags/", 500, times=3)

With netns it listens in that network namespace; so each host has its own at the address that it has on EC2 (see of_host()).

A fault is a status, a body (bytes), STALL, ENDLESS or RESET. What is absent is 404. close() refuses connections until open().
"""

import dataclasses
import http.server
import json
import re
import socket
import socketserver
import struct
import threading
import uuid

import sandbox

ADDRESS = "169.254.169.254"
PORT = 80
STALL, ENDLESS, RESET = "stall", "endless", "reset"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TTL_MAX_SEC = 21600
STALL_LIMIT_SEC = 120


@dataclasses.dataclass
class Request:
    method: str
    path: str
    status: int | None = None


@dataclasses.dataclass
class Rule:
    pattern: re.Pattern
    fault: object
    times: int | None
    n_hits: int = 0


class ImdsServer:
    def __init__(self, address, port=0, netns=None):
        self.address, self.port, self.netns = address, port, netns
        self.instance_id = "i-0123456789abcdef0"
        self.region, self.zone, self.account = "eu-central-1", "eu-central-1a", "111122223333"
        self.tags = {}
        self.role, self.credentials = None, {}  # a name, and what its document says
        self.ttl_max_sec = TTL_MAX_SEC
        self.tokens = set()
        self.requests = []
        self._rules = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = None

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def endpoint(self):
        return f"http://[{self.address}]:{self.port}" if ":" in self.address else f"http://{self.address}:{self.port}"

    @property
    def environment(self):
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint}

    def open(self):
        self._closing.clear()
        self._server = self._listen() if self.netns is None else sandbox.in_network(self.netns, self._listen)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _listen(self):
        return Listener((self.address, self.port), handler_of(self))

    def close(self):
        """Ends all connections, and listens no more."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()

    def fault(self, pattern, fault, *, times=None):
        """What matches the pattern ("PUT /latest/api/token", "GET /latest/…") gets the fault, so many times."""
        rule = Rule(re.compile(pattern), fault, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self):
        with self._lock:
            self._rules.clear()

    def asked(self, pattern):
        """The requests so far whose method and path match."""
        with self._lock:
            return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def forget_tokens(self):
        """As when an instance was stopped and started: every token is refused."""
        with self._lock:
            self.tokens.clear()

    # -- for the handlers

    def note(self, request):
        with self._lock:
            self.requests.append(request)

    def take_fault(self, request):
        with self._lock:
            for rule in self._rules:
                if rule.pattern.search(f"{request.method} {request.path}") and (rule.times is None or rule.n_hits < rule.times):
                    rule.n_hits += 1
                    return rule.fault
        return None

    def stall(self):
        self._closing.wait(STALL_LIMIT_SEC)

    @property
    def is_open(self):
        return not self._closing.is_set()

    def new_token(self, ttl_sec):
        token = uuid.uuid4().hex + "=="
        with self._lock:
            self.tokens.add(token)
        timer = threading.Timer(min(ttl_sec, self.ttl_max_sec), self._end_token, [token])
        timer.daemon = True
        timer.start()
        return token

    def _end_token(self, token):
        with self._lock:
            self.tokens.discard(token)

    def item(self, path):
        """The text of an item below /latest/, or None."""
        simple = {"meta-data/instance-id": self.instance_id, "meta-data/placement/region": self.region,
                  "meta-data/placement/availability-zone": self.zone, "meta-data/services/partition": "aws",
                  "dynamic/instance-identity/document": self.document()}
        if path in simple:
            return simple[path]
        if self.tags is not None and path.startswith("meta-data/tags/instance"):
            key = path.removeprefix("meta-data/tags/instance").strip("/")
            return self.tags.get(key) if key else "\n".join(self.tags)
        if self.role is not None and path.startswith("meta-data/iam/security-credentials"):
            role = path.removeprefix("meta-data/iam/security-credentials").strip("/")
            return self.role if not role else json.dumps(self.credentials) if role == self.role else None
        return None

    def document(self):
        return json.dumps({"accountId": self.account, "architecture": "x86_64", "availabilityZone": self.zone,
                           "billingProducts": None, "instanceId": self.instance_id, "instanceType": "t3.micro",
                           "region": self.region, "version": "2017-09-30"}, indent=2)


def of_host(host):
    """The one of this host alone, where EC2 has it; not opened yet. To be called before the host boots."""
    sandbox.run("ip", "-n", host.name, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
    return ImdsServer(ADDRESS, PORT, host.name)


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args):
        self._connections = set()
        self.address_family = socket.AF_INET6 if ":" in args[0][0] else socket.AF_INET
        super().__init__(*args)

    def process_request(self, request, client_address):
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self):
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has gone by itself


def handler_of(imds):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", headers=()):
            self.request_.status = status
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def misbehave(self, fault):
            if isinstance(fault, int):
                self.answer(fault, b"<html>a page for people</html>")
                return
            if isinstance(fault, bytes):
                self.answer(200, fault)
                return
            self.close_connection = True
            if fault == STALL:
                imds.stall()
            elif fault == RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.send_response(200)
                self.end_headers()
                while imds.is_open:
                    self.wfile.write(b"endless " * 512)

        def handle_any(self, serve):
            self.request_ = Request(self.command, self.path)
            imds.note(self.request_)
            fault = imds.take_fault(self.request_)
            try:
                if fault is not None:
                    self.misbehave(fault)
                else:
                    serve()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def do_PUT(self):
            self.handle_any(self.serve_token)

        def do_GET(self):
            self.handle_any(self.serve_item)

        def serve_token(self):
            ttl = self.headers.get(TTL_HEADER, "")
            if "X-Forwarded-For" in self.headers or self.path != "/latest/api/token":
                self.answer(403)
            elif not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX_SEC:
                self.answer(400)
            else:
                self.answer(200, imds.new_token(int(ttl)).encode(), [(TTL_HEADER, ttl)])

        def serve_item(self):
            if self.headers.get(TOKEN_HEADER) not in imds.tokens:
                self.answer(401)
                return
            text = imds.item(self.path.removeprefix("/latest/")) if self.path.startswith("/latest/") else None
            if text is None:
                self.answer(404)
            else:
                self.answer(200, text.encode(), [("Content-Type", "text/plain")])

    return Handler
