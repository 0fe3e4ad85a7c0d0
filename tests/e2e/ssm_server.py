"""A stand-in for the message endpoints of AWS Systems Manager: ec2messages, ssmmessages and what Slipway needs of ssm.

    with ssm_server.SsmServer(sandbox.SERVER_ADDRESS, tls=authority.context(sandbox.SERVER_ADDRESS)) as ssm:
        ssm.add_instance("i-0123456789abcdef0", "AKIDEXAMPLE", "secret")
        command_id = ssm.send_command("i-0123456789abcdef0", "Slipway-Deploy", {"action": ["poll"]}, content=DOCUMENT)
        assert ssm.wait_final(command_id, 20).status == "Success"

It checks what AWS checks: signatures, instance binding, targets, the members of requests, and the form of replies. Each service
has an address of its own (ssm.urls); close() of one lets it refuse connections, and NO_SUCH_HOST is a name that never resolves.
Commands go by the control channel where one is open, else by polls. ssm.fault() makes it misbehave; see ssm_faults. What a client
does wrong where no answer can say so (ssm.complaints) is raised at the end.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import http.server
import json
import re
import select
import ssl
import threading
import time
import urllib.parse
import uuid

import ssm_commands
import ssm_signature
import ssm_websocket as websocket
from fault_proxy import HangUp
from listener import Listener
from ssm_commands import EC2MESSAGES, SSMMESSAGES, check, invalid
from ssm_faults import JSON, XML, Answer, error_answer
from ssm_gateway import Channel
from ssm_signature import Refused
from waiting import wait_for

SSM = "ssm"
TARGETS = {EC2MESSAGES: "EC2WindowsMessageDeliveryService", SSM: "AmazonSSM"}
NO_SUCH_HOST = "slipway.invalid"  # RFC 6761
BODY_MAX_BYTES = 4 << 20
HOLD_SEC = 2
CHANNEL_PATH = re.compile(r"/v1/control-channel/([^/?]+)")
NOT_THE_INSTANCE = "Caller instance identity does not match the given instanceId"
REPLY_STATUS = "Created"


@dataclasses.dataclass
class Request:
    """A request as it came; at is time.monotonic(), status None while there is no answer. operation is the target's last part,
    CreateControlChannel or OpenControlChannel."""

    service: str
    operation: str
    method: str
    path: str
    headers: list
    body: bytes
    at: float
    status: int | None = None
    instance_id: str | None = None

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def content(self):
        return json.loads(self.body)


@dataclasses.dataclass
class Rule:
    """A fault, and the events that it applies to; n_hits are those that it met."""

    pattern: re.Pattern
    fault: object
    times: int | None
    instance_id: str | None
    n_hits: int = 0

    def takes(self, event, instance_id):
        return ((self.times is None or self.n_hits < self.times) and self.instance_id in (None, instance_id)
                and self.pattern.fullmatch(event) is not None)


@dataclasses.dataclass(frozen=True)
class Ping:
    """An UpdateInstanceInformation; members is all that it said."""

    at: float
    members: dict


class Endpoint(Listener):
    """One service, on a port of its own."""

    def __init__(self, owner, service, address, tls):
        super().__init__(address, Handler, tls=tls)
        self.owner, self.service = owner, service


class SsmServer:
    def __init__(self, address, *, region="eu-central-1", tls=None, hold_sec=HOLD_SEC):
        self.region = region
        self.hold_sec = hold_sec  # an empty poll; AWS: 20
        self.visibility_sec = ssm_commands.VISIBILITY_SEC  # on the control channel
        self.skew_sec = 0  # how far its clock is ahead
        self.commands = ssm_commands.Commands(region)
        self.complaints = []
        self._addresses = {service: (address, 0) for service in (EC2MESSAGES, SSMMESSAGES, SSM)}
        self._tls = tls
        self._endpoints = {}
        self._known = {}
        self._requests, self._pings, self._channels, self._rules = [], [], [], []
        self._tokens = {}
        self._n_polling = {}
        self._lock = threading.Lock()

    def __enter__(self):
        for service in self._addresses:
            self.open(service)
        return self

    def __exit__(self, *exception):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda service: self._close(service, *exception), list(self._endpoints)))
        if self.complaints and exception[0] is None:
            raise AssertionError("a client of SSM did what it must not:\n" + "\n".join(self.complaints))

    # -- where it is

    def url(self, service):
        address, port = self._addresses[service]
        return f"{'https' if self._tls else 'http'}://{address}:{port}"

    @property
    def urls(self):
        return {service: self.url(service) for service in self._addresses}

    def open(self, service):
        """Listens again, at the same port."""
        endpoint = Endpoint(self, service, self._addresses[service], self._tls)
        self._addresses[service] = endpoint.server_address
        self._endpoints[service] = endpoint
        endpoint.__enter__()

    def close(self, service):
        """Ends the service's connections, and refuses new ones: a Region without it."""
        self._close(service, None)

    def _close(self, service, *exception):
        endpoint = self._endpoints.pop(service)
        endpoint.closing.set()
        self.commands.wake()
        endpoint.__exit__(*exception)

    # -- what tests order

    def add_instance(self, instance_id, access_key, secret_key, token=None):
        """Credentials of that instance, and of no other; one may have several."""
        with self._lock:
            self._known[access_key] = ssm_signature.Credentials(access_key, secret_key, instance_id, token)

    def send_command(self, instance_id, document, parameters=None, content=None, **overrides):
        """See Commands.send; returns the command's id."""
        return self.commands.send(instance_id, document, parameters, content, self.now(), **overrides)

    def cancel(self, command_id, instance_id=None, **overrides):
        """See Commands.cancel; returns the cancellation's own command id."""
        instance_id = instance_id or self.invocation(command_id).instance_id
        return self.commands.cancel(command_id, instance_id, self.now(), **overrides)

    def deliver_again(self, command_id):
        self.commands.deliver_again(command_id)

    def together(self):
        """What is sent in this context manager's block is delivered at once."""
        return self.commands.lock

    def fault(self, pattern, fault, *, times=None, instance_id=None):
        """Lets the fault happen at the events that match the pattern wholly. Events are the requests' operations and, on a
        control channel, "upgraded", "open" (its first frame came), "opened", "idle" (at once, too), "agent_job",
        "agent_job_ack", "agent_job_reply", "agent_job_reply_ack" and "pong"."""
        rule = Rule(re.compile(pattern), fault, times, instance_id)
        with self._lock:
            self._rules.append(rule)
        self.commands.wake()
        return rule

    def heal(self):
        with self._lock:
            self._rules.clear()

    # -- what tests look at

    def invocation(self, command_id, instance_id=None):
        return self.commands.invocation(command_id, instance_id)

    def wait_final(self, command_id, limit_sec, instance_id=None):
        invocation = self.invocation(command_id, instance_id)
        wait_for(lambda: invocation.is_final, limit_sec, f"the final status of {command_id}, which is {invocation}")
        return invocation

    @property
    def messages_in_flight(self):
        return self.commands.in_flight

    def requests(self, operation=".*", instance_id=None):
        """The requests so far whose operation matches wholly."""
        with self._lock:
            return [r for r in self._requests if re.fullmatch(operation, r.operation) and instance_id in (None, r.instance_id)]

    def pings(self, instance_id):
        with self._lock:
            return [p for p in self._pings if p.members["InstanceId"] == instance_id]

    def channels(self, instance_id):
        """The control channels so far, the last one last; see Channel."""
        with self._lock:
            return [c for c in self._channels if c.instance_id == instance_id]

    def n_polling(self, instance_id):
        """How many polls are waiting now."""
        with self._lock:
            return self._n_polling.get(instance_id, 0)

    # -- for the handlers

    def now(self):
        return time.time() + self.skew_sec

    def note(self, request):
        with self._lock:
            known = self._known.get(ssm_signature.access_key_of(request.headers))
            request.instance_id = known and known.instance_id
            self._requests.append(request)

    def note_ping(self, members):
        with self._lock:
            self._pings.append(Ping(time.monotonic(), members))

    def complain(self, text):
        with self._lock:
            self.complaints.append(text)

    def take_fault(self, event, instance_id):
        with self._lock:
            for rule in self._rules:
                if rule.takes(event, instance_id):
                    rule.n_hits += 1
                    return rule
        return None

    def check_signature(self, request):
        with self._lock:
            known = dict(self._known)
        return ssm_signature.check(request.method, request.path, request.headers, request.body, region=self.region,
                                   service=request.service, known=known, now=self.now())

    def make_token(self, instance_id):
        token = uuid.uuid4().hex
        with self._lock:
            self._tokens[token] = instance_id
        return token

    def take_token(self, token, instance_id):
        """Whether it was given out for this instance, and not used yet."""
        with self._lock:
            return isinstance(token, str) and self._tokens.pop(token, None) == instance_id

    def make_channel(self, connection, instance_id, is_closing):
        channel = Channel(self, connection, instance_id, is_closing)
        with self._lock:
            self._channels.append(channel)
        return channel

    @contextlib.contextmanager
    def polling(self, instance_id):
        def count(n):
            with self._lock:
                self._n_polling[instance_id] = self._n_polling.get(instance_id, 0) + n
        count(1)
        try:
            yield
        finally:
            count(-1)


def text_of(content, name, n_min=1):
    """A member that must be there, and be that long."""
    value = content.get(name)
    check(isinstance(value, str) and len(value) >= n_min, f"{name} is {str(value)[:200]!r}, not a text of {n_min} characters")
    return value


def check_destination(credentials, instance_id):
    if instance_id != credentials.instance_id:
        raise Refused("AccessDeniedException", NOT_THE_INSTANCE)


class Operations:
    """What the services do: one method each, of the caller's credentials and the request's members; returns the answer's."""

    def __init__(self, owner, handler):
        self._owner, self._handler = owner, handler

    # -- ec2messages

    def GetMessages(self, credentials, content):
        destination = text_of(content, "Destination", 10)
        request_id = text_of(content, "MessagesRequestId", 16)
        visibility_sec = content.get("VisibilityTimeoutInSeconds", ssm_commands.VISIBILITY_SEC)
        check(type(visibility_sec) is int and visibility_sec >= 0, f"VisibilityTimeoutInSeconds is {visibility_sec!r}")
        check_destination(credentials, destination)
        with self._owner.polling(destination):
            messages = self._poll(destination, request_id, visibility_sec)
        return {"Destination": destination, "MessagesRequestId": request_id, "Messages": [m.members for m in messages]}

    def _poll(self, destination, request_id, visibility_sec):
        commands = self._owner.commands
        deadline = time.monotonic() + self._owner.hold_sec
        poll, serial = commands.begin_poll(request_id)
        with commands.waker() as waker:
            while True:
                messages = commands.take_for_poll(poll, serial, destination, visibility_sec)
                now = time.monotonic()
                if messages or messages is None or now >= deadline:
                    return messages or []
                until = min(deadline, commands.next_visible(destination) or deadline)
                if (self._handler.server.closing.is_set()
                        or waker.wait(self._handler.connection, select.POLLRDHUP, until - now)):
                    raise HangUp

    def _message(self, credentials, content):
        message = self._owner.commands.find(text_of(content, "MessageId", 16))
        check_destination(credentials, message.invocation.instance_id)
        return message

    def AcknowledgeMessage(self, credentials, content):
        self._owner.commands.acknowledge(self._message(credentials, content), EC2MESSAGES)
        return {}

    def DeleteMessage(self, credentials, content):
        self._owner.commands.done(self._message(credentials, content))
        return {}

    def FailMessage(self, credentials, content):
        self._owner.commands.fail(self._message(credentials, content), text_of(content, "FailureType"))
        return {}

    def SendReply(self, credentials, content):
        message = self._message(credentials, content)
        reply_id = text_of(content, "ReplyId", 16)
        self._owner.commands.reply(message, EC2MESSAGES, reply_id, text_of(content, "Payload"))
        return {"MessageId": message.id, "ReplyId": reply_id, "ReplyStatus": REPLY_STATUS, "Description": ""}

    def GetEndpoint(self, credentials, content):
        check_destination(credentials, text_of(content, "Destination", 10))
        return {"Endpoint": self._owner.url(EC2MESSAGES)}

    # -- ssm

    def UpdateInstanceInformation(self, credentials, content):
        check_destination(credentials, text_of(content, "InstanceId", 10))
        for name, n_min in (("AgentName", 1), ("AgentVersion", 5), ("AgentStatus", 1), ("ComputerName", 1), ("IPAddress", 1),
                            ("PlatformName", 0), ("PlatformVersion", 0), ("AvailabilityZone", 0), ("AvailabilityZoneId", 0),
                            ("SSMConnectionChannel", 0)):
            if name in content:
                text_of(content, name, n_min)
        if content.get("PlatformType", "Linux") not in ("Windows", "Linux", "MacOS"):
            raise Refused("InvalidInstanceInformationValue", f"PlatformType is {content['PlatformType']!r}")
        self._owner.note_ping(content)
        return {}

    def ListInstanceAssociations(self, credentials, content):
        check_destination(credentials, text_of(content, "InstanceId", 10))
        return {"Associations": []}

    def RegisterManagedInstance(self, credentials, content):
        check_destination(credentials, text_of(content, "Fingerprint", 10))
        text_of(content, "PublicKey"), text_of(content, "PublicKeyType")
        return {"InstanceId": content["Fingerprint"]}


OPERATIONS = {EC2MESSAGES: {"GetMessages", "AcknowledgeMessage", "SendReply", "FailMessage", "DeleteMessage", "GetEndpoint"},
              SSM: {"UpdateInstanceInformation", "ListInstanceAssociations", "RegisterManagedInstance"}}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client; for the faults, an exchange."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    @property
    def service(self):
        return self.server.service

    @property
    def owner(self):
        return self.server.owner

    def date_time_string(self, timestamp=None):
        return super().date_time_string(self.owner.now() if timestamp is None else timestamp)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):  # while nothing is being answered: the client's affair
            self.close_connection = True

    # -- for the faults, too

    def send_head(self, answer):
        self._request.status = answer.status
        self.send_response(answer.status)
        if answer.status != 101:
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()

    def send(self, answer, interval_sec=None):
        self.send_head(answer)
        if interval_sec is None:
            self.wfile.write(answer.body)
        else:
            for n in range(len(answer.body)):
                self.wfile.write(answer.body[n:n + 1])
                self.hold(interval_sec)
        if answer.then is not None:
            self.close_connection = True
            answer.then()

    def hold(self, seconds):
        """Waits so long; HangUp when the client or the server goes before."""
        deadline = time.monotonic() + seconds
        with self.owner.commands.waker() as waker:
            while (left_sec := deadline - time.monotonic()) > 0:
                if self.server.closing.is_set() or waker.wait(self.connection, select.POLLRDHUP, left_sec):
                    raise HangUp

    # -- the way of a request

    def _operation(self):
        if self.service != SSMMESSAGES:
            return self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        return "OpenControlChannel" if self.command == "GET" else "CreateControlChannel"

    def _handle(self):
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > BODY_MAX_BYTES or "Transfer-Encoding" in self.headers:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        path = self.requestline.split(" ")[1]
        self._request = Request(self.service, self._operation(), self.command, path, self.headers.items(), body,
                                time.monotonic())
        self.owner.note(self._request)
        rule = self.owner.take_fault(self._request.operation, self._request.instance_id)
        answer = functools.partial(self._answer, self._request)
        try:
            if rule is not None:
                rule.fault.serve(self, answer)
            else:
                self.send(answer())
        except (HangUp, ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = _handle

    def _answer(self, request):
        try:
            credentials = self.owner.check_signature(request)
            if request.service == SSMMESSAGES:
                return self._answer_gateway(request, credentials)
            return self._answer_json(request, credentials)
        except Refused as e:
            return error_answer(request.service, e.status, e.code, e.message)

    def _answer_json(self, request, credentials):
        prefix, _, operation = (request.header("X-Amz-Target") or "").rpartition(".")
        if prefix != TARGETS[request.service] or operation not in OPERATIONS[request.service] or request.method != "POST":
            raise Refused("UnknownOperationException", f"{request.header('X-Amz-Target')} is not known")
        if request.header("Content-Type") != JSON or request.path != "/":
            raise Refused("UnknownOperationException", f"{request.path}, as {request.header('Content-Type')}")
        try:
            content = json.loads(request.body)
        except ValueError as e:
            raise Refused("SerializationException", str(e)) from None
        check(isinstance(content, dict), "the request is no object")
        said = getattr(Operations(self.owner, self), operation)(credentials, content)
        return Answer(200, json.dumps(said).encode())

    def _answer_gateway(self, request, credentials):
        path, _, query = request.path.partition("?")
        found = CHANNEL_PATH.fullmatch(path)
        if found is None:
            raise Refused("UnknownOperationException", f"{path} is not known", 404)
        check_destination(credentials, found[1])
        return (self._open_channel if request.method == "GET" else self._create_channel)(request, query, found[1])

    def _create_channel(self, request, query, instance_id):
        try:
            content = json.loads(request.body)
        except ValueError as e:
            raise Refused("SerializationException", str(e)) from None
        check(not query and request.header("Content-Type") == "application/json", "CreateControlChannel takes JSON, no query")
        check(isinstance(content, dict) and content.get("MessageSchemaVersion") == "1.0", "MessageSchemaVersion is not 1.0")
        text_of(content, "RequestId", 16)
        token = self.owner.make_token(instance_id)
        return Answer(201, ("<CreateControlChannelResponse><MessageSchemaVersion>1.0</MessageSchemaVersion>"
                            f"<TokenValue>{token}</TokenValue></CreateControlChannelResponse>").encode(), XML)

    def _open_channel(self, request, query, instance_id):
        check(urllib.parse.parse_qsl(query) == [("role", "subscribe"), ("stream", "input")], f"the query is {query!r}")
        key = request.header("Sec-WebSocket-Key") or ""
        upgrade, connection = (request.header(name) or "" for name in ("Upgrade", "Connection"))
        if (upgrade.lower() != "websocket" or "upgrade" not in re.split(r"\s*,\s*", connection.lower())
                or request.header("Sec-WebSocket-Version") != "13" or not websocket.is_key(key)):
            raise invalid("not an upgrade to a websocket")
        if request.header("Sec-WebSocket-Protocol") is not None:
            raise invalid("the control channel has no subprotocol")
        channel = self.owner.make_channel(self.connection, instance_id, self.server.closing.is_set)
        headers = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", websocket.accept_key(key)))
        return Answer(101, headers=headers, then=channel.run)
