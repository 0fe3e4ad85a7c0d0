"""What the stand-in of SSM's endpoints does wrong on demand: that each fault is what it is said to be."""

import http.client
import json
import socket
import struct
import time
import uuid

import pytest

import certificates
import ssm_faults as faults
import ssm_server
import ssm_websocket as websocket
from ssm_client import Client, reply_text
from waiting import wait_for

INSTANCE, OTHER = "i-0123456789abcdef0", "i-0fedcba9876543210"
LIMIT_SEC = 10
SILENCE_SEC = 0.1  # for what must not come


@pytest.fixture(params=["http", "https"])
def server(request, tmp_path):
    authority = certificates.Authority(tmp_path) if request.param == "https" else None
    with ssm_server.SsmServer("127.0.0.1", tls=authority and authority.context("127.0.0.1"), hold_sec=0) as server:
        server.ca = authority and authority.path
        server.add_instance(INSTANCE, "AKIDEXAMPLE", "secret")
        server.add_instance(OTHER, "AKIDOTHER", "another")
        yield server


@pytest.fixture
def client(server):
    return Client(server, INSTANCE, "AKIDEXAMPLE", "secret", ca=server.ca)


# -- answers


@pytest.mark.parametrize("fault,status,code", [
    (faults.SERVER_ERROR, 500, "InternalServerException"), (faults.UNAVAILABLE, 503, "ServiceUnavailableException"),
    (faults.THROTTLED, 400, "ThrottlingException"), (faults.ACCESS_DENIED, 400, "AccessDeniedException"),
    (faults.EXPIRED_TOKEN, 400, "ExpiredTokenException"),
    (faults.Error(400, "com.amazonaws.ssm#RequestTimeoutException", key="Message"), 400,
     "com.amazonaws.ssm#RequestTimeoutException")], ids=lambda v: getattr(v, "code", ""))
def test_errors(server, client, fault, status, code):
    rule = server.fault("GetMessages|UpdateInstanceInformation", fault, times=2)
    for answer in (client.call("GetMessages", client.poll_content()), client.ping()):
        assert answer == (status, {"__type": code, fault.key: fault.message})
    assert client.poll() == [] and client.ping() == (200, {})
    assert rule.n_hits == 2
    assert [r.status for r in server.requests("GetMessages")] == [status, 200]


@pytest.mark.parametrize("fault", [faults.GATEWAY_THROTTLED, faults.ACCESS_DENIED, faults.SERVER_ERROR], ids=lambda f: f.code)
def test_errors_of_the_gateway(server, client, fault):
    server.fault("CreateControlChannel|OpenControlChannel", fault)
    status, body = client.create_channel()
    assert status == fault.status and f"<{fault.code}><message>{fault.message}" in body
    upgrade, status, *_ = client.upgrade()
    upgrade.close()
    assert status == fault.status
    server.heal()
    client.channel().close()


def test_faults_of_one_instance(server, client):
    server.fault("GetMessages", faults.SERVER_ERROR, instance_id=OTHER)
    assert client.poll() == []
    other = Client(server, OTHER, "AKIDOTHER", "another", ca=server.ca)
    assert other.raw("GetMessages", other.poll_content())[0] == 500


@pytest.mark.parametrize("fault", [faults.EMPTY_OBJECT, faults.EMPTY_BODY, faults.INVALID_JSON, faults.HTML,
                                   faults.Body(b"x" * (5 << 20))], ids=["{}", "empty", "invalid", "html", "large"])
def test_other_bodies(server, client, fault):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    server.fault("GetMessages", fault, times=1)
    assert client.raw("GetMessages", client.poll_content()) == (200, fault.body)
    assert not server.invocation(command_id).deliveries
    assert len(client.poll()) == 1


def test_a_rejected_reply(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll()
    server.fault("SendReply", faults.REPLY_REJECTED, times=1)
    assert client.reply(message["MessageId"], reply_text("Success"))[1]["__type"] == "UnsupportedMessageOperationException"
    assert not server.invocation(command_id).replies
    assert client.reply(message["MessageId"], reply_text("Success"))[0] == 200


def test_clock_skew(server, client):
    server.skew_sec = 3600
    connection = client.ask_json("GetMessages", client.poll_content())
    response = connection.getresponse()
    assert b"Signature expired" in response.read() and response.status == 400
    connection.close()
    # the answer says what time the server thinks it is
    there = time.mktime(time.strptime(response.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert 3500 < there - time.time() < 3700


def test_reset_in_the_poll(server, client):
    server.hold_sec = LIMIT_SEC
    server.fault("GetMessages", faults.Reset(after_sec=0.3), times=1)
    before = time.monotonic()
    connection = client.ask_json("GetMessages", client.poll_content())
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    assert time.monotonic() - before >= 0.3
    connection.close()


def test_a_lost_answer(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    server.fault("GetMessages", faults.LoseAnswer(), times=1)
    request_id = str(uuid.uuid4())
    connection = client.ask_json("GetMessages", client.poll_content(request_id))
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    connection.close()
    assert len(server.invocation(command_id).deliveries) == 1 and client.poll() == []
    (message,) = client.poll(request_id)
    server.fault("SendReply", faults.LoseAnswer(), times=1)
    reply_id = str(uuid.uuid4())
    with pytest.raises(ConnectionResetError):
        client.reply(message["MessageId"], reply_text("Success"), reply_id)
    assert client.reply(message["MessageId"], reply_text("Success"), reply_id)[0] == 200
    invocation = server.invocation(command_id)
    assert len(invocation.replies) == 1 and invocation.n_repeated == 1


def test_a_slow_body(server, client):
    server.fault("GetMessages", faults.Trickle(0.003), times=1)
    before = time.monotonic()
    status, body = client.raw("GetMessages", client.poll_content())
    assert status == 200 and json.loads(body)["Messages"] == []
    assert time.monotonic() - before >= 0.003 * len(body)


def test_a_body_that_stalls(server, client):
    server.fault("GetMessages", faults.Stall(), times=1)
    connection = client.ask_json("GetMessages", client.poll_content())
    connection.sock.settimeout(0.5)
    response = connection.getresponse()
    start = response.read1()
    assert start.startswith(b'{"Destination"') and int(response.headers["Content-Length"]) > len(start)
    with pytest.raises(TimeoutError):
        response.read()
    response.close()
    connection.close()


def test_duplicate_delivery(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll()
    client.acknowledge(message["MessageId"])
    client.reply(message["MessageId"], reply_text("Success"))
    server.deliver_again(command_id)
    assert client.poll() == [message]
    with client.channel() as channel:
        server.deliver_again(command_id)
        assert channel.receive_message("agent_job")[1]["jobId"] == message["MessageId"]
    assert len(server.invocation(command_id).deliveries) == 3 and server.invocation(command_id).status == "Success"


def test_a_region_without_ec2messages(server, client):
    server.close("ec2messages")
    with pytest.raises(ConnectionRefusedError):
        client.poll()
    assert client.ping() == (200, {})
    client.channel().close()
    server.open("ec2messages")
    assert client.poll() == []
    with pytest.raises(socket.gaierror):
        http.client.HTTPConnection(f"ec2messages.{ssm_server.NO_SUCH_HOST}", timeout=LIMIT_SEC).connect()


# -- the control channel


def open_channel(server, client):
    """A channel, when the server knows it is open."""
    n_before = len(server.channels(INSTANCE))
    channel = client.channel()
    wait_for(lambda: server.channels(INSTANCE)[n_before:] and server.channels(INSTANCE)[-1].opened, LIMIT_SEC, "the channel")
    return channel


def drive(server, client, event):
    """A channel that came to the event, with a fault there: (channel, command id or None)."""
    if event == "upgraded":
        return client.websocket(), None
    channel = client.channel()
    if not event.startswith("agent_job"):
        return channel, None
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    if event != "agent_job":
        job, said = channel.receive_message("agent_job")
        if event == "agent_job_ack":
            channel.acknowledge(job)
        else:
            channel.reply(said["jobId"], reply_text("Success"))
    return channel, command_id


EVENTS = ["upgraded", "open", "opened", "idle", "agent_job", "agent_job_ack", "agent_job_reply", "agent_job_reply_ack"]


@pytest.mark.parametrize("event", EVENTS)
def test_close_in_each_state(server, client, event):
    server.fault(event, faults.Close(1001), times=1)
    channel, command_id = drive(server, client, event)
    with channel:
        opcode, payload = channel.receive()
        assert (opcode, websocket.close_code(payload)) == (websocket.CLOSE, 1001)
        channel.send(websocket.CLOSE, payload)
        assert channel.receive() is None
    assert [c.close_code for c in server.channels(INSTANCE)] == [1001]
    if command_id is not None:
        assert bool(server.invocation(command_id).replies) == (event == "agent_job_reply_ack")
    with open_channel(server, client) as channel:
        channel.ping()
        # what was not acknowledged comes first
        assert channel.receive()[0] == (websocket.PONG if command_id is None else websocket.BINARY)


@pytest.mark.parametrize("event", EVENTS)
def test_reset_in_each_state(server, client, event):
    server.fault(event, faults.Reset(), times=1)
    channel, _ = drive(server, client, event)
    with channel:
        if server.ca is None:
            with pytest.raises(ConnectionResetError):
                channel.receive()
        else:  # Python's TLS tells no reset from an end
            assert channel.receive() is None
    assert server.channels(INSTANCE)[0].close_code is None


@pytest.mark.parametrize("event", EVENTS)
def test_half_open_in_each_state(server, client, event):
    rule = server.fault(event, faults.HalfOpen(), times=1)
    channel, _ = drive(server, client, event)
    with channel:
        wait_for(lambda: rule.n_hits, LIMIT_SEC, event)
        channel.ping()
        with pytest.raises(TimeoutError):
            channel.receive(SILENCE_SEC)
        assert server.channels(INSTANCE)[0].is_up
    with open_channel(server, client) as channel:
        server.send_command(INSTANCE, "Slipway-Deploy")
        channel.receive_message("agent_job")


def test_idle_channels_can_be_closed_at_once(server, client):
    with open_channel(server, client) as channel:
        server.fault("idle", faults.Close(1012))
        assert websocket.close_code(channel.receive()[1]) == 1012


def test_a_wrong_accept_key(server, client):
    server.fault("OpenControlChannel", faults.WrongAcceptKey(), times=1)
    upgrade, status, headers, key = client.upgrade()
    upgrade.close()
    assert status == 101 and headers["Upgrade"] == "websocket"
    assert headers["Sec-WebSocket-Accept"] not in (None, websocket.accept_key(key))


def test_no_upgrade(server, client):
    server.fault("OpenControlChannel", faults.HTML)
    upgrade, status, headers, _ = client.upgrade()
    upgrade.close()
    assert status == 200 and headers["Content-Type"] == "text/html"


def test_a_refused_token(server, client):
    server.fault("open", faults.REFUSED_TOKEN, times=1)
    with client.channel() as channel:
        assert websocket.close_code(channel.receive()[1]) == websocket.POLICY_VIOLATION
    with client.channel() as channel:
        channel.ping()
        assert channel.receive()[0] == websocket.PONG


def test_a_withheld_reply_ack(server, client):
    server.fault("agent_job_reply_ack", faults.Withhold(), times=1)
    channel, command_id = drive(server, client, "agent_job_reply")
    with channel:
        with pytest.raises(TimeoutError):
            channel.receive(SILENCE_SEC)
        assert server.invocation(command_id).status == "Success"
        reply = channel.reply(f"aws.ssm.{command_id}.{INSTANCE}", reply_text("Success"))
        assert channel.receive_message("agent_job_reply_ack")[1]["acknowledgedMessageId"] == str(reply.id)


def test_a_lost_reply(server, client):
    server.fault("agent_job_reply", faults.Withhold(), times=1)
    channel, command_id = drive(server, client, "agent_job_reply")
    with channel:
        with pytest.raises(TimeoutError):
            channel.receive(SILENCE_SEC)
    assert not server.invocation(command_id).replies


def test_a_lost_job_ack(server, client):
    server.visibility_sec = 0.3
    server.fault("agent_job_ack", faults.Withhold(), times=1)
    channel, command_id = drive(server, client, "agent_job_ack")
    with channel:
        channel.receive_message("agent_job")
    assert not server.invocation(command_id).acks


def test_withheld_pongs(server, client):
    server.fault("pong", faults.Withhold(), times=1)
    with client.channel() as channel:
        channel.ping()
        with pytest.raises(TimeoutError):
            channel.receive(SILENCE_SEC)
        channel.ping(b"again")
        assert channel.receive() == (websocket.PONG, b"again")


def test_masked_frames(server, client):
    server.fault("agent_job", faults.Masked(), times=1)
    channel, _ = drive(server, client, "agent_job")
    with channel, pytest.raises(websocket.ProtocolError, match="masked"):
        channel.receive()


@pytest.mark.parametrize("n_bytes", [7, 300])
def test_fragmented_frames(server, client, n_bytes):
    server.fault("agent_job", faults.Fragmented(n_bytes), times=1)
    channel, command_id = drive(server, client, "agent_job")
    with channel:
        assert channel.receive() == (websocket.PING, b"between")
        channel.send(websocket.PONG, b"between")
        job, said = channel.receive_message("agent_job")
        assert command_id in said["jobId"]
        channel.acknowledge(job)
        wait_for(lambda: server.invocation(command_id).acks, LIMIT_SEC, "the acknowledgement")
    assert [p.what for p in server.channels(INSTANCE)[0].pongs] == ["between"]


@pytest.mark.parametrize("n_bytes", [5 << 20, 1 << 40])
def test_oversized_frames(server, client, n_bytes):
    server.fault("agent_job", faults.Oversized(n_bytes), times=1)
    channel, _ = drive(server, client, "agent_job")
    with channel, pytest.raises(websocket.ProtocolError, match=str(n_bytes)):
        channel.receive()


def test_any_bytes(server, client):
    with open_channel(server, client) as channel:
        server.fault("idle", faults.Send(websocket.encode(websocket.TEXT, b"unasked")), times=1)
        assert channel.receive() == (websocket.TEXT, b"unasked")
        server.fault("pong", faults.Send(struct.pack(">BB", 0xf0, 0)), times=1)
        channel.ping()
        with pytest.raises(websocket.ProtocolError, match="reserved"):
            channel.receive()
