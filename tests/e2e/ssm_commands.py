"""What Run Command knows: the messages that wait for an instance, and what became of each command there.

Both channels take from here: polls of ec2messages, and the control channel of ssmmessages. A message is delivered again until it
is acknowledged, failed or deleted; a final status stays; a reply that comes twice counts once.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import select
import socket
import threading
import time
import uuid

from ssm_signature import Refused

EC2MESSAGES, SSMMESSAGES = "ec2messages", "ssmmessages"
FINAL = {"Success", "Failed", "TimedOut", "Cancelled"}
STATUSES = FINAL | {"NotStarted", "InProgress", "SuccessAndReboot", "PassedAndReboot", "Skipped"}
FAILURES = {"NoHandlerExists", "InternalHandlerException"}
PENDING = "Pending"  # the service's own word, before any reply
STEP_TEXTS = ("status", "name", "output", "startDateTime", "endDateTime", "outputS3BucketName", "outputS3KeyPrefix", "stepName",
              "standardOutput", "standardError")
TEXT_MAX_BYTES = {"standardOutput": 24000, "standardError": 24000, "output": 2500}
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%f"
VISIBILITY_SEC = 10
AT_ONCE_MAX = 10


def time_text(seconds):
    """Seconds since 1970 the way SSM writes them: UTC, three decimals."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return at.strftime(TIME_FORMAT)[:-3] + "Z"


def time_msec(text, otherwise):
    """Milliseconds since 1970 of such a text; those of `otherwise`, which is in seconds, where there is none."""
    try:
        at = datetime.datetime.strptime(text, TIME_FORMAT + "Z").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return round(otherwise * 1000)
    return (at - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)


def is_time(text):
    return isinstance(text, str) and time_text(time_msec(text, 0) / 1000) == text


def invalid(message):
    return Refused("ValidationException", message)


def check(right, message):
    if not right:
        raise invalid(message)


def check_step(name, step):
    """One entry of a reply's runtimeStatus."""
    check(isinstance(step, dict), f"step {name} is {step!r}")
    missing = [key for key in STEP_TEXTS if not isinstance(step.get(key), str)]
    check(not missing, f"step {name} lacks the texts {missing}")
    check(step["status"] in STATUSES, f"step {name} has the status {step['status']!r}")
    check(type(step.get("code")) is int, f"step {name} has the code {step.get('code')!r}")
    check(step["status"] != "Failed" or step["code"] != 0, f"step {name} is Failed with code 0")
    for key in ("startDateTime", "endDateTime"):
        check(is_time(step[key]), f"step {name} has {step[key]!r} for {key}")
    for key, limit in TEXT_MAX_BYTES.items():
        n_bytes = len(step[key].encode())
        check(n_bytes <= limit, f"step {name} has {n_bytes} bytes of {key}, more than {limit}")


def check_info(info):
    """A reply's additionalInfo."""
    check(isinstance(info, dict) and isinstance(info.get("agent"), dict), f"additionalInfo is {info!r}")
    missing = [key for key in ("lang", "name", "os", "osver", "ver") if not isinstance(info["agent"].get(key), str)]
    check(not missing, f"additionalInfo.agent lacks {missing}")
    check(is_time(info.get("dateTime")), f"dateTime is {info.get('dateTime')!r}")
    check(isinstance(info.get("runId"), str), f"runId is {info.get('runId')!r}")
    counts = info.get("runtimeStatusCounts", "nothing")
    check(counts is None or isinstance(counts, dict) and set(counts) <= STATUSES and all(
        type(n) is int for n in counts.values()), f"runtimeStatusCounts is {counts!r}")
    check(isinstance(info.get("ableToOpenMGSConnection", False), bool), "ableToOpenMGSConnection is no Boolean")


def parse_reply(text):
    """A reply's payload, refused unless it has the form of the real agent's."""
    try:
        reply = json.loads(text)
    except ValueError as e:
        raise invalid(f"the reply is not JSON: {e}") from None
    check(isinstance(reply, dict), "the reply is no object")
    check(reply.get("documentStatus") in STATUSES, f"documentStatus is {reply.get('documentStatus')!r}")
    check(isinstance(reply.get("documentTraceOutput"), str), "documentTraceOutput is no text")
    check_info(reply.get("additionalInfo"))
    steps = reply.get("runtimeStatus", "nothing")
    check(steps is None or isinstance(steps, dict), f"runtimeStatus is {steps!r}")
    for name, step in (steps or {}).items():
        check_step(name, step)
    return reply


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened to a command: at is time.monotonic(). `what` says more: an acknowledgement's code, a failure's
    type, a delivery's id on the control channel."""

    at: float
    channel: str
    what: str = ""


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply as it came: text is the payload, raw, and content what it says."""

    at: float
    channel: str
    id: str
    text: str
    content: dict

    @property
    def status(self):
        return self.content["documentStatus"]


@dataclasses.dataclass
class Invocation:
    """A command on one instance. steps are the results by name, each as it came last."""

    command_id: str
    instance_id: str
    document: str | None
    status: str = PENDING
    trace: str = ""
    steps: dict = dataclasses.field(default_factory=dict)
    replies: list = dataclasses.field(default_factory=list)
    deliveries: list = dataclasses.field(default_factory=list)
    acks: list = dataclasses.field(default_factory=list)
    fails: list = dataclasses.field(default_factory=list)
    n_repeated: int = 0  # replies that came once more

    @property
    def is_final(self):
        return self.status in FINAL

    @property
    def outputs(self):
        return {name: step["output"] for name, step in self.steps.items()}

    def add(self, reply):
        """Takes a reply; what is final stays so, whatever comes late."""
        if any(r.id == reply.id for r in self.replies):
            self.n_repeated += 1
            return
        self.replies.append(reply)
        self.steps.update(reply.content["runtimeStatus"] or {})
        if not self.is_final:
            self.status, self.trace = reply.status, reply.content["documentTraceOutput"]


@dataclasses.dataclass
class Message:
    """A message in an instance's queue; members are what GetMessages says of it."""

    invocation: Invocation
    members: dict
    digest: str | None = None  # what a test put in place of the right one, for the control channel
    visible_at: float = 0
    is_done: bool = False
    jobs: dict = dataclasses.field(default_factory=dict)  # on the control channel: creation in milliseconds, by id

    @property
    def id(self):
        return self.members.get("MessageId")


@dataclasses.dataclass
class Poll:
    """A GetMessages call and its repeats."""

    serial: int = 0
    messages: list = dataclasses.field(default_factory=list)


class Waker:
    """Lets one thread wait for its connection and for news from the others at once."""

    def __init__(self):
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def close(self):
        self._read.close()
        self._write.close()

    def wake(self):
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            self._write.send(b"!")

    def wait(self, connection, events, timeout_sec):
        """True if one of the poll(2) events is there for the connection; False on news, or when the time is over."""
        poll = select.poll()
        poll.register(connection, events)
        poll.register(self._read, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(timeout_sec, 0) * 1000)]
        with contextlib.suppress(BlockingIOError):
            self._read.recv(4096)
        return connection.fileno() in ready


class Commands:
    """All of it, for any number of instances and threads. `lock` held, nobody sees what is in the making."""

    def __init__(self, region):
        self.region = region
        self.lock = threading.RLock()
        self.prefer_gateway = True  # as AWS does: no poll gets anything while a control channel is open
        self._messages = []
        self._invocations = {}
        self._polls = {}
        self._gateways = {}  # the last opened of each instance
        self._wakers = set()

    # -- who waits

    @contextlib.contextmanager
    def waker(self):
        waker = Waker()
        with self.lock:
            self._wakers.add(waker)
        try:
            yield waker
        finally:
            with self.lock:
                self._wakers.discard(waker)
            waker.close()

    def wake(self):
        with self.lock:
            for waker in self._wakers:
                waker.wake()

    # -- what the tests order

    def _topic(self, kind):
        return f"aws.ssm.{kind}.{self.region.replace('-', '.')}.1"

    def _add(self, invocation, topic, payload, now, overrides):
        destination = overrides.get("Destination", invocation.instance_id)
        members = {"MessageId": f"aws.ssm.{invocation.command_id}.{destination}", "Topic": self._topic(topic),
                   "Destination": destination, "CreatedDate": time_text(now), "Payload": json.dumps(payload), **overrides}
        if isinstance(members["Payload"], str):
            members.setdefault("PayloadDigest", hashlib.sha256(members["Payload"].encode()).hexdigest())
        with self.lock:
            invocation = self._invocations.setdefault((invocation.command_id, invocation.instance_id), invocation)
            self._messages.append(Message(invocation, {k: v for k, v in members.items() if v is not None},
                                          overrides.get("PayloadDigest")))
            self.wake()
        return invocation.command_id

    def send(self, instance_id, document, parameters, content, now, *, command_id=None, also=None, **overrides):
        """Queues a command, with a payload of the protocol's section 4.1; `also` are more members of the payload. overrides take
        the place of the message's members; None leaves one out."""
        command_id = command_id or str(uuid.uuid4())
        payload = {"CommandId": command_id, "DocumentName": document, "Parameters": parameters or {}, "DocumentContent": content,
                   "OutputS3BucketName": "", "OutputS3KeyPrefix": "", "CloudWatchLogGroupName": "",
                   "CloudWatchOutputEnabled": "false", **(also or {})}
        return self._add(Invocation(command_id, instance_id, document), "sendCommand", payload, now, overrides)

    def cancel(self, command_id, instance_id, now, **overrides):
        """Queues the cancellation of a command; the id that it returns is the cancellation's own."""
        payload = {"CancelMessageId": f"aws.ssm.{command_id}.{instance_id}"}
        return self._add(Invocation(str(uuid.uuid4()), instance_id, None), "cancelCommand", payload, now, overrides)

    def deliver_again(self, command_id):
        """Lets what was delivered already, acknowledged or not, be delivered once more."""
        with self.lock:
            for message in self._messages:
                if message.invocation.command_id == command_id:
                    message.is_done, message.visible_at = False, 0
            self.wake()

    def invocation(self, command_id, instance_id=None):
        with self.lock:
            found = [i for i in self._invocations.values()
                     if i.command_id == command_id and instance_id in (None, i.instance_id)]
        if len(found) != 1:
            raise KeyError(f"{len(found)} invocations of {command_id}")
        return found[0]

    @property
    def in_flight(self):
        """The ids of messages that were delivered and are not done yet."""
        with self.lock:
            return [m.id for m in self._messages if m.invocation.deliveries and not m.is_done]

    # -- what the channels take

    def open_gateway(self, instance_id, gateway):
        with self.lock:
            self._gateways[instance_id] = gateway

    def close_gateway(self, instance_id, gateway):
        """What the control channel left undone is there for the next one at once."""
        with self.lock:
            if self._gateways.get(instance_id) is gateway:
                del self._gateways[instance_id]
                for message in self._messages:
                    if message.invocation.instance_id == instance_id and message.jobs and not message.is_done:
                        message.visible_at = 0
                self.wake()

    def _may_take(self, instance_id, gateway):
        return gateway is (self._gateways.get(instance_id) if self.prefer_gateway else None)

    def take(self, instance_id, visibility_sec, gateway=None):
        """The messages to deliver now, by a poll or by this gateway, which are hidden for so long."""
        now = time.monotonic()
        with self.lock:
            if not self._may_take(instance_id, gateway):
                return []
            ready = [m for m in self._messages if m.invocation.instance_id == instance_id and not m.is_done
                     and m.visible_at <= now][:AT_ONCE_MAX]
            for message in ready:
                message.visible_at = now + visibility_sec
                if gateway is None:
                    message.invocation.deliveries.append(Event(now, EC2MESSAGES))
            return ready

    def next_visible(self, instance_id):
        """When the next message appears, by time.monotonic(); None if none is hidden."""
        with self.lock:
            return min((m.visible_at for m in self._messages if m.invocation.instance_id == instance_id and not m.is_done
                        and m.visible_at > time.monotonic()), default=None)

    def begin_poll(self, request_id):
        """A GetMessages call: the Poll, with its serial, which an earlier call of this id has no longer."""
        with self.lock:
            poll = self._polls.setdefault(request_id, Poll())
            poll.serial += 1
            self.wake()
            return poll, poll.serial

    def take_for_poll(self, poll, serial, instance_id, visibility_sec):
        """What the poll gets: once more what it got already; None if a repeat has taken its place."""
        with self.lock:
            if poll.serial != serial:
                return None
            again = [m for m in poll.messages if not m.is_done]
            now = time.monotonic()
            for message in again:
                message.visible_at = now + visibility_sec
                message.invocation.deliveries.append(Event(now, EC2MESSAGES, "repeated"))
            poll.messages = again or self.take(instance_id, visibility_sec)
            return poll.messages

    # -- what the channels bring

    def find(self, message_id):
        """The message of this id: that which is not done, or else the last one."""
        with self.lock:
            found = [m for m in self._messages if m.id == message_id and m.invocation.deliveries]
        if not found:
            raise Refused("InvalidMessageIdException", f"The message id {message_id} is not known")
        return next((m for m in found if not m.is_done), found[-1])

    def done(self, message):
        with self.lock:
            message.is_done = True

    def acknowledge(self, message, channel, code="200", *, is_done=True):
        with self.lock:
            message.invocation.acks.append(Event(time.monotonic(), channel, code))
            message.is_done = message.is_done or is_done

    def fail(self, message, failure):
        check(failure in FAILURES, f"FailureType is {failure!r}")
        with self.lock:
            message.invocation.fails.append(Event(time.monotonic(), EC2MESSAGES, failure))
            message.is_done = True

    def reply(self, message, channel, reply_id, text):
        content = parse_reply(text)
        with self.lock:
            message.invocation.add(Reply(time.monotonic(), channel, reply_id, text, content))
