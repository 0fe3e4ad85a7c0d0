"""A small client of SSM's endpoints, for the tests of the stand-in: botocore signs, the rest is plain."""

import base64
import http.client
import io
import json
import os
import ssl
import urllib.parse
import uuid

import botocore.auth
import botocore.awsrequest
import botocore.credentials

import ssm_websocket as websocket
from ssm_commands import time_text
from ssm_websocket import AgentMessage

TARGETS = {"ec2messages": "EC2WindowsMessageDeliveryService", "ssm": "AmazonSSM"}
TIMEOUT_SEC = 10


def step(status="Success", code=0, output="done\n", **members):
    """A step's result, as in a reply's runtimeStatus."""
    at = "2026-11-22T14:05:49.607Z"
    return {"status": status, "code": code, "name": "aws:runShellScript", "output": output, "startDateTime": at,
            "endDateTime": at, "outputS3BucketName": "", "outputS3KeyPrefix": "", "stepName": "", "standardOutput": output,
            "standardError": "", **members}


def reply_text(status, steps=None, trace=""):
    """A reply's payload."""
    agent = {"lang": "en-US", "name": "slipway", "os": "linux", "osver": "1", "ver": "0.1.0"}
    counts = None if steps is None else {s["status"]: 1 for s in steps.values()}
    return json.dumps({"additionalInfo": {"agent": agent, "dateTime": "2026-11-22T14:05:49.633Z", "runId": "",
                                          "runtimeStatusCounts": counts},
                       "documentStatus": status, "documentTraceOutput": trace, "runtimeStatus": steps})


class Client:
    """One instance's agent. `ca` is a file of certificates, for TLS."""

    def __init__(self, server, instance_id, access_key, secret_key, token=None, *, ca=None, region=None):
        self.server, self.instance_id = server, instance_id
        self.region = region or server.region
        self.credentials = botocore.credentials.Credentials(access_key, secret_key, token)
        self._ca = ca

    def signed(self, method, url, headers, body, service):
        """The headers with those of SigV4."""
        request = botocore.awsrequest.AWSRequest(method, url, {**headers, "Host": urllib.parse.urlsplit(url).netloc}, body)
        botocore.auth.SigV4Auth(self.credentials, service, self.region).add_auth(request)
        return dict(request.headers.items())

    def connect(self, service, timeout_sec=TIMEOUT_SEC):
        url = urllib.parse.urlsplit(self.server.url(service))
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=timeout_sec)
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout_sec,
                                           context=ssl.create_default_context(cafile=self._ca))

    def ask(self, service, method, target, headers, body=b"", *, sign_for=None):
        """Sends a request, and returns the connection that its answer comes on."""
        connection = self.connect(service)
        headers = self.signed(method, self.server.url(service) + target, headers, body, sign_for or service)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        return connection

    def ask_json(self, operation, content, *, service="ec2messages", target=None, sign_for=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target or f"{TARGETS[service]}.{operation}"}
        return self.ask(service, "POST", "/", headers, body, sign_for=sign_for)

    def raw(self, operation, content, **options):
        """(status, body) of an operation."""
        connection = self.ask_json(operation, content, **options)
        try:
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, operation, content, **options):
        """(status, content) of an operation."""
        status, body = self.raw(operation, content, **options)
        return status, json.loads(body)

    # -- ec2messages

    def poll_content(self, request_id=None, visibility_sec=10):
        return {"Destination": self.instance_id, "MessagesRequestId": request_id or str(uuid.uuid4()),
                "VisibilityTimeoutInSeconds": visibility_sec}

    def poll(self, request_id=None, visibility_sec=10):
        """The messages that a poll brings."""
        status, content = self.call("GetMessages", self.poll_content(request_id, visibility_sec))
        assert status == 200, content
        return content["Messages"]

    def acknowledge(self, message_id):
        return self.call("AcknowledgeMessage", {"MessageId": message_id})

    def reply(self, message_id, text, reply_id=None):
        return self.call("SendReply", {"MessageId": message_id, "ReplyId": reply_id or str(uuid.uuid4()), "Payload": text})

    def ping(self, **members):
        return self.call("UpdateInstanceInformation", {
            "InstanceId": self.instance_id, "AgentName": "slipway", "AgentVersion": "0.1.0", "AgentStatus": "Active",
            "PlatformType": "Linux", **members}, service="ssm")

    # -- ssmmessages

    @property
    def channel_path(self):
        return f"/v1/control-channel/{self.instance_id}"

    def create_channel(self):
        """(status, body) of CreateControlChannel."""
        body = json.dumps({"MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4())}).encode()
        connection = self.ask("ssmmessages", "POST", self.channel_path, {"Content-Type": "application/json"}, body)
        try:
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def token(self):
        status, body = self.create_channel()
        assert status == 201, body
        return body.partition("<TokenValue>")[2].partition("</TokenValue>")[0]

    def upgrade(self, *, query="?role=subscribe&stream=input", without=None, **headers):
        """(socket, status, headers of the answer, Sec-WebSocket-Key) of the request for a websocket."""
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key,
                   **headers}
        headers.pop(without, None)
        socket = self.ask("ssmmessages", "GET", self.channel_path + query, headers).sock
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # not a byte more: frames may follow
            head += socket.recv(1) or b"\r\n\r\n"
        line, _, rest = head.partition(b"\r\n")
        return socket, int(line.split()[1]), http.client.parse_headers(io.BytesIO(rest)), key

    def channel(self, *, token=None):
        """An open control channel."""
        channel = self.websocket()
        channel.open(token or self.token())
        return channel

    def websocket(self):
        """A control channel before its first frame."""
        socket, status, headers, key = self.upgrade()
        assert status == 101, status
        assert headers["Sec-WebSocket-Accept"] == websocket.accept_key(key)
        return ClientChannel(socket)


class ClientChannel:
    """The client's end of a websocket. Leave it with close(), or by `with`."""

    def __init__(self, socket):
        self._socket = socket
        self._parser = websocket.Parser(masked=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send_raw(self, data):
        self._socket.sendall(data)

    def send(self, opcode, payload):
        self.send_raw(websocket.encode(opcode, payload, masked=True))

    def open(self, token, **members):
        self.send(websocket.TEXT, json.dumps({"Cookie": None, "MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4()),
                                              "TokenValue": token, "AgentVersion": "0.1.0", "PlatformType": "linux",
                                              **members}).encode())

    def receive(self, timeout_sec=TIMEOUT_SEC):
        """The next (opcode, payload); None at the connection's end. TimeoutError when nothing comes."""
        self._socket.settimeout(timeout_sec)
        while True:
            for message in self._parser.messages():
                return message
            data = self._socket.recv(64 << 10)
            if not data:
                return None
            self._parser.feed(data)

    def receive_message(self, kind):
        """The next agent message, of this type: (AgentMessage, its content)."""
        opcode, payload = self.receive()
        assert opcode == websocket.BINARY, (opcode, payload)
        message = websocket.unpack(payload)
        assert message.type == kind, message
        return message, json.loads(message.payload)

    def send_message(self, kind, content, **fields):
        message = AgentMessage(kind, json.dumps(content).encode(), **fields)
        self.send(websocket.BINARY, message.pack())
        return message

    def acknowledge(self, job, code="200"):
        return self.send_message("agent_job_ack", {
            "jobId": json.loads(job.payload)["jobId"], "acknowledgedMessageId": str(job.id),
            "createdDate": time_text(job.created_msec / 1000), "statusCode": code, "errorMessage": "Successful"})

    def reply(self, job_id, text, topic="aws.ssm.sendCommand", **fields):
        return self.send_message("agent_job_reply", {"schemaVersion": 1, "jobId": job_id, "content": text, "topic": topic},
                                 **fields)

    def ping(self, data=b"keepalive"):
        self.send(websocket.PING, data)
