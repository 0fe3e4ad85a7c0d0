"""A control channel from the side of SSM's message gateway: what comes after the upgrade to a websocket."""

import contextlib
import json
import select
import time

import ssm_websocket as websocket
from fault_proxy import HangUp
from ssm_commands import SSMMESSAGES, Event, time_msec, time_text
from ssm_signature import Refused
from ssm_websocket import AgentMessage, ProtocolError

OPEN_TIMEOUT_SEC = 10
SEND_TIMEOUT_SEC = 30
IDLE_LOOK_SEC = 60
RECEIVE_BYTES = 64 << 10
CLOSE_WAIT_SEC = 2
CONTENT_MAX_BYTES = 120_000
OPEN_MEMBERS = {"Cookie", "MessageSchemaVersion", "RequestId", "TokenValue", "AgentVersion", "PlatformType"}
ACK_MEMBERS = {"jobId", "acknowledgedMessageId", "createdDate", "statusCode", "errorMessage"}
REPLY_MEMBERS = {"schemaVersion", "jobId", "content", "topic"}
REPLY_TOPICS = {"aws.ssm.sendCommand", "aws.ssm.cancelCommand"}
ACK_CODES = {"200", "51401", "51402", "51403", "51404", "51405", "51406", "51407", "51408", "51499"}
BUFFER_FULL = "51402"


def parse(payload, members):
    """The object in a payload, which must have exactly these members."""
    try:
        content = json.loads(payload)
    except ValueError as e:
        raise ProtocolError(f"no JSON: {e}: {payload[:200]!r}") from None
    if not isinstance(content, dict) or set(content) != members:
        raise ProtocolError(f"not an object of {sorted(members)}: {payload[:200]!r}")
    return content


class Channel:
    """One websocket of one instance. opened is the frame that opened it, pings and pongs are the Events of what the client
    sent, close_code what it closed with; is_up ends with the connection."""

    def __init__(self, owner, connection, instance_id, is_closing):
        self.owner, self.connection, self.instance_id = owner, connection, instance_id
        self.opened = None
        self.opened_at = None
        self.pings, self.pongs = [], []
        self.close_code = None
        self.is_up = True
        self._is_closing = is_closing
        self._parser = websocket.Parser(masked=True)

    # -- for the faults

    def write(self, data):
        self.connection.sendall(data)

    def close(self, code, reason=""):
        """Says so and waits a moment for the client to say it, too, and go."""
        self.write(websocket.encode(websocket.CLOSE, websocket.close_payload(code, reason)))
        deadline = time.monotonic() + CLOSE_WAIT_SEC
        while not self._is_closing() and (left_sec := deadline - time.monotonic()) > 0:
            if self._waker.wait(self.connection, select.POLLIN, left_sec) and not self._drain():
                return

    def _drain(self):
        """Takes what comes after the close; False when the close is answered, or the connection is at its end."""
        data = self.connection.recv(RECEIVE_BYTES)
        self._parser.feed(data)
        with contextlib.suppress(ProtocolError):  # said already
            for opcode, payload in self._parser.messages():
                if opcode == websocket.CLOSE:
                    self.close_code = websocket.close_code(payload)
                    return False
        return bool(data)

    def hold(self, limit_sec):
        """Does nothing until the client goes."""
        deadline = time.monotonic() + limit_sec
        while not self._is_closing() and (left_sec := deadline - time.monotonic()) > 0:
            if self._waker.wait(self.connection, select.POLLRDHUP, left_sec):
                return

    # -- what happens

    def run(self):
        self.connection.settimeout(SEND_TIMEOUT_SEC)
        with self.owner.commands.waker() as self._waker:
            try:
                self._act("upgraded")
                self._serve()
            except ProtocolError as e:
                self.owner.complain(f"{self.instance_id}, control channel: {e}")
                self.close(websocket.PROTOCOL_ERROR, str(e)[:100])
            finally:
                self.is_up = False
                self.owner.commands.close_gateway(self.instance_id, self)

    def _serve(self):
        until = time.monotonic() + OPEN_TIMEOUT_SEC
        while not self._is_closing():
            for opcode, payload in self._parser.messages():
                self._take(opcode, payload)
            if self.opened is not None:
                self._act("idle")
                self._deliver()
                until = self.owner.commands.next_visible(self.instance_id) or time.monotonic() + IDLE_LOOK_SEC
            elif time.monotonic() >= until:
                raise ProtocolError("no frame opened the channel")
            if self._waker.wait(self.connection, select.POLLIN, until - time.monotonic()):
                self._receive()

    def _receive(self):
        data = self.connection.recv(RECEIVE_BYTES)
        if not data:
            raise HangUp
        self._parser.feed(data)
        pending = getattr(self.connection, "pending", lambda: 0)
        while (n_bytes := pending()) > 0:
            self._parser.feed(self.connection.recv(n_bytes))

    def _act(self, event):
        """What a test ordered for this event; true if nothing more shall come of it."""
        rule = self.owner.take_fault(event, self.instance_id)
        return rule is not None and rule.fault.act(self)

    def _send(self, event, opcode, payload):
        rule = self.owner.take_fault(event, self.instance_id)
        if rule is not None:
            rule.fault.send(self, opcode, payload)
        else:
            self.write(websocket.encode(opcode, payload))

    def _take(self, opcode, payload):
        if opcode == websocket.PING:
            self.pings.append(Event(time.monotonic(), SSMMESSAGES, payload.decode()))
            self._send("pong", websocket.PONG, payload)
        elif opcode == websocket.PONG:
            self.pongs.append(Event(time.monotonic(), SSMMESSAGES, payload.decode()))
        elif opcode == websocket.CLOSE:
            self.close_code = websocket.close_code(payload)
            self.write(websocket.encode(websocket.CLOSE, payload))
            raise HangUp
        elif self.opened is None:
            self._open(opcode, payload)
        elif opcode == websocket.BINARY:
            self._take_message(websocket.unpack(payload))
        else:
            raise ProtocolError(f"a text frame after the first: {payload[:200]!r}")

    def _open(self, opcode, payload):
        if opcode != websocket.TEXT:
            raise ProtocolError("the first frame is not text")
        if self._act("open"):
            return
        said = parse(payload, OPEN_MEMBERS)
        wrong = [name for name, right in (("Cookie", said["Cookie"] is None), ("PlatformType", said["PlatformType"] == "linux"),
                                          ("MessageSchemaVersion", said["MessageSchemaVersion"] == "1.0")) if not right]
        if wrong:
            raise ProtocolError(f"the first frame has a wrong {', '.join(wrong)}: {payload[:200]!r}")
        if not self.owner.take_token(said["TokenValue"], self.instance_id):
            self.close(websocket.POLICY_VIOLATION, "the token is not valid")
            raise HangUp
        self.opened, self.opened_at = said, time.monotonic()
        self.owner.commands.open_gateway(self.instance_id, self)
        self._act("opened")

    def _deliver(self):
        for message in self.owner.commands.take(self.instance_id, self.owner.visibility_sec, self):
            said = message.members
            content = {"schemaVersion": 1, "jobId": said.get("MessageId"), "topic": said.get("Topic"),
                       "content": said.get("Payload")}
            created_msec = time_msec(said.get("CreatedDate"), self.owner.now())
            digest = message.digest and bytes.fromhex(message.digest)
            job = AgentMessage("agent_job", json.dumps({k: v for k, v in content.items() if v is not None}).encode(),
                               created_msec=created_msec, digest=digest)
            message.jobs[str(job.id)] = created_msec
            message.invocation.deliveries.append(Event(time.monotonic(), SSMMESSAGES, str(job.id)))
            self._send("agent_job", websocket.BINARY, job.pack())

    def _take_message(self, said):
        if said.type == "agent_job_ack":
            self._take_ack(parse(said.payload, ACK_MEMBERS))
        elif said.type == "agent_job_reply":
            self._take_reply(said)
        else:
            raise ProtocolError(f"an agent message of type {said.type!r}")

    def _find(self, job_id):
        try:
            return self.owner.commands.find(job_id)
        except Refused as e:
            raise ProtocolError(str(e)) from None

    def _take_ack(self, ack):
        if self._act("agent_job_ack"):
            return
        message = self._find(ack["jobId"])
        created_msec = message.jobs.get(ack["acknowledgedMessageId"])
        if created_msec is None or ack["createdDate"] != time_text(created_msec / 1000) or ack["statusCode"] not in ACK_CODES:
            raise ProtocolError(f"an acknowledgement of nothing that was sent: {ack}")
        self.owner.commands.acknowledge(message, SSMMESSAGES, ack["statusCode"], is_done=ack["statusCode"] != BUFFER_FULL)

    def _take_reply(self, said):
        reply = parse(said.payload, REPLY_MEMBERS)
        message = self._find(reply["jobId"])
        kind = ".".join(message.members.get("Topic", "").split(".")[:3])
        right_topics = {kind} & REPLY_TOPICS or REPLY_TOPICS
        if reply["schemaVersion"] != 1 or reply["topic"] not in right_topics or not isinstance(reply["content"], str):
            raise ProtocolError(f"a reply of another form: {said.payload[:200]!r}")
        if len(reply["content"].encode()) > CONTENT_MAX_BYTES:
            raise ProtocolError(f"a reply's content has more than {CONTENT_MAX_BYTES} bytes")
        if self._act("agent_job_reply"):
            return
        try:
            self.owner.commands.reply(message, SSMMESSAGES, str(said.id), reply["content"])
        except Refused as e:
            raise ProtocolError(str(e)) from None
        content = json.dumps({"jobId": reply["jobId"], "acknowledgedMessageId": str(said.id)})
        self._send("agent_job_reply_ack", websocket.BINARY, AgentMessage("agent_job_reply_ack", content.encode()).pack())
