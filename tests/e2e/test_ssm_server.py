"""The stand-in of SSM's endpoints itself: that it takes what the real agent sends, and refuses what AWS refuses. (What it does
wrong on demand: test_ssm_faults.py.)"""

import calendar
import hashlib
import http.client
import json
import threading
import time
import uuid

import pytest

import certificates
import ssm_server
import ssm_websocket as websocket
from conftest import RECORDED
from ssm_client import Client, reply_text, step
from waiting import wait_for

N_RECORDED = 13
INSTANCE, OTHER = "i-0123456789abcdef0", "i-0fedcba9876543210"
DOCUMENT = {"schemaVersion": "2.2", "mainSteps": [{"action": "aws:runShellScript", "name": "deploy", "inputs": {}}]}
HOLD_SEC = 0.3
SILENCE_SEC = 0.1  # for what must not come
LIMIT_SEC = 10


def start(tls=None, **options):
    server = ssm_server.SsmServer("127.0.0.1", tls=tls, **{"hold_sec": HOLD_SEC, **options})
    server.add_instance(INSTANCE, "AKIDEXAMPLE", "secret", "session")
    server.add_instance(OTHER, "AKIDOTHER", "another")
    return server


@pytest.fixture(params=["http", "https"])
def server(request, tmp_path):
    authority = certificates.Authority(tmp_path) if request.param == "https" else None
    with start(authority and authority.context("127.0.0.1")) as server:
        server.ca = authority and authority.path
        yield server


@pytest.fixture
def client(server):
    return Client(server, INSTANCE, "AKIDEXAMPLE", "secret", "session", ca=server.ca)


@pytest.fixture
def other(server):
    return Client(server, OTHER, "AKIDOTHER", "another", ca=server.ca)


def code_of(answer):
    status, content = answer
    assert status == 400, answer
    return content["__type"]


# -- the requests that the real agent sent


@pytest.fixture
def recorded_requests():
    return json.loads(RECORDED.read_text(encoding="utf-8"))["requests"]


def time_of(request):
    text = next(h.partition(": ")[2] for h in request["headers"] if h.startswith("X-Amz-Date"))
    return calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))


def send_recorded(server, request, *, body=None, signature=None, path=None, target=None):
    """Sends it byte by byte as it was, but for what is given, at the time when it was sent. Returns the answer's status and
    body."""
    server.skew_sec = time_of(request) - time.time()
    date = time.strftime("%Y%m%d", time.gmtime(time_of(request)))
    credential = f"{request['access_key']}/{date}/{request['region']}/{request['service']}/aws4_request"
    address = server.url(request["service"]).rpartition("/")[2]
    connection = http.client.HTTPConnection(address, timeout=LIMIT_SEC)
    connection.putrequest(request["method"], path or request["path"], skip_host=True, skip_accept_encoding=True)
    for header in request["headers"]:
        name, _, value = header.partition(": ")
        connection.putheader(name, target if target and name == "X-Amz-Target" else value)
    connection.putheader("Authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders="
                                          f"{request['signed_headers']}, Signature={signature or request['signature']}")
    connection.endheaders((request["body"] if body is None else body).encode() or None)
    response = connection.getresponse()
    # the socket of an upgrade stays open until the server ends
    said = response.status, b"" if response.status == 101 else response.read()
    connection.close()
    return said


@pytest.fixture
def recorded_server(recorded_requests):
    """A server that knows the keys of the recorded requests, and the messages that they are about."""
    with start(region=recorded_requests[0]["region"], hold_sec=0) as server:
        for request in recorded_requests:
            token = next((h.partition(": ")[2] for h in request["headers"] if h.startswith("X-Amz-Security-Token")), None)
            server.add_instance(INSTANCE, request["access_key"], request["secret_key"], token)
        for message_id in {json.loads(r["body"]).get("MessageId") for r in recorded_requests if r["body"]} - {None}:
            server.send_command(INSTANCE, "AWS-RunShellScript", MessageId=message_id)
        server.commands.take(INSTANCE, 0)
        yield server


def test_recorded_requests_are_accepted(recorded_server, recorded_requests):
    said = [send_recorded(recorded_server, request)[0] for request in recorded_requests]
    created = {("ssmmessages", "POST"): 201, ("ssmmessages", "GET"): 101}
    assert said == [created.get((r["service"], r["method"]), 200) for r in recorded_requests]
    assert len(said) >= N_RECORDED
    assert {r.operation for r in recorded_server.requests()} == {
        "UpdateInstanceInformation", "GetMessages", "SendReply", "AcknowledgeMessage", "ListInstanceAssociations", "FailMessage",
        "RegisterManagedInstance", "CreateControlChannel", "OpenControlChannel"}


def flipped(text, at):
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1:]


def flipped_digit(text, at):
    return text[:at] + f"{int(text[at], 16) ^ 1:x}" + text[at + 1:]


def test_recorded_requests_with_a_flipped_byte_are_refused(recorded_server, recorded_requests):
    for request in recorded_requests:
        target = next((h.partition(": ")[2] for h in request["headers"] if h.startswith("X-Amz-Target")), None)
        changes = [{"signature": flipped_digit(request["signature"], n)} for n in (0, 31, 63)]
        changes += [{"body": flipped(request["body"], n)} for n in (2, len(request["body"]) // 2) if request["body"]]
        changes += [{"target": flipped(target, n)} for n in (0, len(target) - 1)] if target else []
        changes += [{"path": flipped(request["path"], len(request["path"]) - 1)}] if len(request["path"]) > 1 else []
        for change in changes:
            status, body = send_recorded(recorded_server, request, **change)
            assert status == 400 and b"InvalidSignatureException" in body, (request["path"], change, status, body)


# -- signatures, by botocore


def test_signatures_of_every_service_are_held_apart(server, client):
    assert client.ping() == (200, {})
    assert code_of(client.call("GetMessages", client.poll_content(), sign_for="ssm")) == "InvalidSignatureException"
    assert code_of(client.call("UpdateInstanceInformation", {"InstanceId": INSTANCE}, service="ssm",
                               sign_for="ec2messages")) == "InvalidSignatureException"


@pytest.mark.parametrize("change,code", [
    ({"access_key": "AKIDNOBODY"}, "UnrecognizedClientException"), ({"token": None}, "UnrecognizedClientException"),
    ({"token": "another"}, "UnrecognizedClientException"), ({"secret_key": "wrong"}, "InvalidSignatureException"),
    ({"region": "us-east-1"}, "InvalidSignatureException")], ids=["key", "no token", "token", "secret", "region"])
def test_wrong_credentials(server, change, code):
    right = {"access_key": "AKIDEXAMPLE", "secret_key": "secret", "token": "session", "ca": server.ca}
    client = Client(server, INSTANCE, **{**right, **change})
    assert code_of(client.ping()) == code
    assert code_of(client.call("GetMessages", client.poll_content())) == code
    status, body = client.create_channel()
    assert status == 400 and f"<{code}>" in body
    assert client.upgrade()[1] == 400


@pytest.mark.parametrize("skew_sec,is_right", [(-310, False), (-290, True), (290, True), (310, False)])
def test_clocks_may_differ_by_five_minutes(server, client, skew_sec, is_right):
    server.skew_sec = skew_sec
    if is_right:
        assert client.ping() == (200, {})
    else:
        assert code_of(client.ping()) == "InvalidSignatureException"


def test_requests_without_a_signature(server):
    connection = Client(server, INSTANCE, "AKIDEXAMPLE", "secret", ca=server.ca).connect("ec2messages")
    connection.request("POST", "/", b"{}", {"X-Amz-Target": "EC2WindowsMessageDeliveryService.GetMessages"})
    response = connection.getresponse()
    assert code_of((response.status, json.loads(response.read()))) == "MissingAuthenticationTokenException"
    connection.close()


@pytest.mark.parametrize("target", ["AmazonSSMMessageDeliveryService.GetMessages", "AmazonSSM.UpdateInstanceInformation",
                                    "EC2WindowsMessageDeliveryService.Nothing", "GetMessages"])
def test_wrong_targets(client, target):
    assert code_of(client.call("GetMessages", client.poll_content(), target=target)) == "UnknownOperationException"


# -- instances


def test_keys_are_bound_to_their_instance(server, client, other):
    denied = {"__type": "AccessDeniedException", "message": "Caller instance identity does not match the given instanceId"}
    command_id = server.send_command(INSTANCE, "Slipway-Deploy", content=DOCUMENT)
    message_id = client.poll()[0]["MessageId"]
    other.instance_id = INSTANCE
    assert other.ping() == (400, denied)
    assert other.call("GetMessages", other.poll_content()) == (400, denied)
    assert other.acknowledge(message_id) == (400, denied)
    assert other.reply(message_id, reply_text("Success")) == (400, denied)
    assert "<AccessDeniedException>" in other.create_channel()[1]
    assert other.upgrade()[1] == 400
    assert server.invocation(command_id).status == "Pending" and server.messages_in_flight == [message_id]


def test_several_instances_at_once(server, client, other):
    ids = {i: server.send_command(i, "Slipway-Deploy", content=DOCUMENT, command_id="4711" * 8) for i in (INSTANCE, OTHER)}
    assert len(set(ids.values())) == 1
    for who in (client, other):
        messages = who.poll()
        assert [m["Destination"] for m in messages] == [who.instance_id]
        who.reply(messages[0]["MessageId"], reply_text("Success" if who is client else "Failed"))
    assert server.invocation(ids[OTHER], OTHER).status == "Failed"
    assert server.invocation(ids[INSTANCE], INSTANCE).status == "Success"
    with pytest.raises(KeyError):
        server.invocation(ids[INSTANCE])


def test_pings(server, client):
    assert client.ping(SSMConnectionChannel="ec2messages", PlatformName="Debian GNU/Linux") == (200, {})
    (ping,) = server.pings(INSTANCE)
    assert ping.members["SSMConnectionChannel"] == "ec2messages" and not server.pings(OTHER)
    assert code_of(client.ping(PlatformType="linux")) == "InvalidInstanceInformationValue"
    assert code_of(client.ping(AgentVersion="1.0")) == "ValidationException"
    assert code_of(client.ping(InstanceId="i-1")) == "ValidationException"


def test_requests_are_noted(server, client, other):
    before = time.monotonic()
    client.ping(AgentStatus="Active")
    other.call("AcknowledgeMessage", {"MessageId": "of a length that does"})
    assert [(r.service, r.operation, r.status) for r in server.requests()] == [
        ("ssm", "UpdateInstanceInformation", 200), ("ec2messages", "AcknowledgeMessage", 400)]
    (request,) = server.requests("Update.*", INSTANCE)
    assert request.content["AgentStatus"] == "Active" and before <= request.at <= time.monotonic()
    assert request.header("x-amz-target") == "AmazonSSM.UpdateInstanceInformation" and not server.requests("Update.*", OTHER)


# -- ec2messages


def test_a_command_by_polling(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy", {"action": ["poll"]}, DOCUMENT, also={"Version": "1"})
    (message,) = client.poll()
    message_id = f"aws.ssm.{command_id}.{INSTANCE}"
    assert message["MessageId"] == message_id and message["Destination"] == INSTANCE
    assert message["Topic"] == "aws.ssm.sendCommand.eu.central.1.1"
    assert message["PayloadDigest"] == hashlib.sha256(message["Payload"].encode()).hexdigest()
    assert json.loads(message["Payload"]) == {
        "CommandId": command_id, "DocumentName": "Slipway-Deploy", "Parameters": {"action": ["poll"]}, "DocumentContent": DOCUMENT,
        "OutputS3BucketName": "", "OutputS3KeyPrefix": "", "CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": "false",
        "Version": "1"}
    assert client.reply(message_id, reply_text("InProgress"))[1]["ReplyStatus"] == "Created"
    assert client.acknowledge(message_id) == (200, {})
    client.reply(message_id, reply_text("InProgress", {"deploy": step()}))
    client.reply(message_id, reply_text("Success", {"deploy": step()}, "all well"))
    invocation = server.wait_final(command_id, LIMIT_SEC)
    assert (invocation.status, invocation.trace, invocation.outputs) == ("Success", "all well", {"deploy": "done\n"})
    assert [r.status for r in invocation.replies] == ["InProgress", "InProgress", "Success"]
    assert [a.what for a in invocation.acks] == ["200"] and not server.messages_in_flight
    times = [invocation.deliveries[0].at, invocation.replies[0].at, invocation.acks[0].at, *[r.at for r in invocation.replies[1:]]]
    assert times == sorted(times)


def test_empty_polls_are_held(server, client):
    server.hold_sec = 0.5
    before = time.monotonic()
    request_id = str(uuid.uuid4())
    assert client.call("GetMessages", client.poll_content(request_id)) == (200, {
        "Destination": INSTANCE, "MessagesRequestId": request_id, "Messages": []})
    assert time.monotonic() - before >= 0.5


def poll_in_background(client, **options):
    found = []
    thread = threading.Thread(target=lambda: found.append(client.poll(**options)))
    thread.start()
    return thread, found


def test_a_waiting_poll_is_rung(server, client):
    server.hold_sec = LIMIT_SEC
    thread, found = poll_in_background(client)
    wait_for(lambda: server.n_polling(INSTANCE), LIMIT_SEC, "the poll")
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    thread.join()
    assert found[0][0]["MessageId"].split(".")[2] == command_id
    assert not server.n_polling(INSTANCE)


def test_messages_come_again_until_they_are_acknowledged(server, client):
    server.hold_sec = LIMIT_SEC
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll(visibility_sec=1)
    assert client.poll(visibility_sec=0) == [message]
    first, second = server.invocation(command_id).deliveries
    assert 1 <= second.at - first.at < 3
    server.hold_sec = 0
    client.acknowledge(message["MessageId"])
    assert client.poll() == []
    client.acknowledge(message["MessageId"])
    server.deliver_again(command_id)
    assert client.poll() == [message]


@pytest.mark.parametrize("end", ["FailMessage", "DeleteMessage"])
def test_what_failed_or_is_deleted_comes_no_more(server, client, end):
    server.hold_sec = 0
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll(visibility_sec=0)
    content = {"MessageId": message["MessageId"], "FailureType": "InternalHandlerException"}
    assert client.call(end, content) == (200, {})
    assert client.poll() == []
    assert [f.what for f in server.invocation(command_id).fails] == (["InternalHandlerException"] if end == "FailMessage" else [])
    assert code_of(client.call("FailMessage", {**content, "FailureType": "Whatever"})) == "ValidationException"


def test_a_repeated_poll_gets_the_same(server, client):
    server.hold_sec = 0
    server.send_command(INSTANCE, "Slipway-Deploy")
    request_id = str(uuid.uuid4())
    messages = client.poll(request_id)
    assert len(messages) == 1 and client.poll(request_id) == messages
    assert client.poll() == []
    client.acknowledge(messages[0]["MessageId"])
    assert client.poll(request_id) == []


def test_a_repeated_poll_takes_the_place_of_the_first(server, client):
    server.hold_sec = LIMIT_SEC
    request_id = str(uuid.uuid4())
    first, nothing = poll_in_background(client, request_id=request_id)
    wait_for(lambda: server.n_polling(INSTANCE), LIMIT_SEC, "the poll")
    second, found = poll_in_background(client, request_id=request_id)
    first.join()
    server.send_command(INSTANCE, "Slipway-Deploy")
    second.join()
    assert nothing == [[]] and len(found[0]) == 1


def test_a_poll_that_is_left_takes_nothing(server, client):
    server.hold_sec = LIMIT_SEC
    connection = client.ask_json("GetMessages", client.poll_content())
    wait_for(lambda: server.n_polling(INSTANCE), LIMIT_SEC, "the poll")
    connection.close()
    wait_for(lambda: not server.n_polling(INSTANCE), LIMIT_SEC, "the poll's end")
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    assert len(client.poll()) == 1 and len(server.invocation(command_id).deliveries) == 1


def test_unknown_messages(server, client):
    server.send_command(INSTANCE, "Slipway-Deploy", command_id="not-delivered-yet")
    for message_id in (f"aws.ssm.{uuid.uuid4()}.{INSTANCE}", f"aws.ssm.not-delivered-yet.{INSTANCE}"):
        assert code_of(client.acknowledge(message_id)) == "InvalidMessageIdException"
        assert code_of(client.reply(message_id, reply_text("Success"))) == "InvalidMessageIdException"


def test_a_repeated_reply_counts_once(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll()
    reply_id = str(uuid.uuid4())
    said = [client.reply(message["MessageId"], reply_text("InProgress"), reply_id) for _ in range(3)]
    assert said[0][0] == 200 and said[1:] == said[:1] * 2
    invocation = server.invocation(command_id)
    assert len(invocation.replies) == 1 and invocation.n_repeated == 2


def test_a_final_status_stays(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll()
    client.reply(message["MessageId"], reply_text("Failed", {}, "a reason"))
    client.reply(message["MessageId"], reply_text("InProgress", {"late": step()}))
    client.reply(message["MessageId"], reply_text("Success"))
    invocation = server.invocation(command_id)
    assert (invocation.status, invocation.trace, list(invocation.steps)) == ("Failed", "a reason", ["late"])
    assert len(invocation.replies) == 3


def changed(**change):
    return reply_text("Success", {"deploy": {**step(), **change}})


BAD_REPLIES = {
    "empty": "", "list": "[]", "no JSON": "{", "status": reply_text("Done"), "trace": reply_text("Success", trace=7),
    "agent": reply_text("Success").replace('"agent"', '"other"'), "time": reply_text("Success").replace("633Z", "633"),
    "time without decimals": reply_text("Success").replace("5:49.633Z", "5:49Z"), "code is text": changed(code="0"),
    "code is true": changed(code=True), "step's status": changed(status="Done"), "failed by 0": changed(status="Failed"),
    "no output": changed(standardOutput=None), "step's time": changed(endDateTime="2026-11-22 14:05:49.607Z"),
    "output": changed(output="é" * 1251), "stdout": changed(standardOutput="x" * 24001),
    "stderr": changed(standardError="x" * 24001)}


@pytest.mark.parametrize("text", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_replies_of_another_form(server, client, text):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    (message,) = client.poll()
    assert code_of(client.reply(message["MessageId"], text)) == "ValidationException"
    assert not server.invocation(command_id).replies


def test_requests_of_another_form(client):
    for change in ({"Destination": None}, {"Destination": "i-1"}, {"MessagesRequestId": "short"},
                   {"VisibilityTimeoutInSeconds": "10"}, {"VisibilityTimeoutInSeconds": -1}):
        assert code_of(client.call("GetMessages", {**client.poll_content(), **change})) == "ValidationException"
    assert code_of(client.call("GetMessages", b'{"Destination":')) == "SerializationException"
    assert code_of(client.call("GetMessages", b"[]")) == "ValidationException"


def test_a_cancellation(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    client.poll()
    cancel_id = server.cancel(command_id)
    (message,) = client.poll()
    assert message["MessageId"] == f"aws.ssm.{cancel_id}.{INSTANCE}" and cancel_id != command_id
    assert message["Topic"] == "aws.ssm.cancelCommand.eu.central.1.1"
    assert json.loads(message["Payload"]) == {"CancelMessageId": f"aws.ssm.{command_id}.{INSTANCE}"}
    client.reply(message["MessageId"], reply_text("InProgress"))
    assert server.invocation(cancel_id).status == "InProgress" and server.invocation(command_id).status == "Pending"


def test_two_messages_at_once(server, client):
    server.hold_sec = LIMIT_SEC
    thread, found = poll_in_background(client)
    wait_for(lambda: server.n_polling(INSTANCE), LIMIT_SEC, "the poll")
    with server.together():
        ids = [server.send_command(INSTANCE, "Slipway-Deploy") for _ in range(2)]
    thread.join()
    assert [m["MessageId"].split(".")[2] for m in found[0]] == ids


def test_messages_that_are_wrong(server, client):
    wrong = {"Destination": OTHER, "PayloadDigest": "0" * 64, "CreatedDate": "2020-01-01T00:00:00.000Z", "Topic": "aws.ssm.other",
             "Payload": "{"}
    server.send_command(INSTANCE, "Slipway-Deploy", **wrong)
    server.send_command(INSTANCE, "Slipway-Deploy", Topic=None, MessageId="another-id-altogether")
    first, second = client.poll()
    assert {key: first[key] for key in wrong} == wrong
    assert "Topic" not in second and second["MessageId"] == "another-id-altogether"
    assert client.acknowledge("another-id-altogether") == (200, {})


# -- ssmmessages


def receive_job(server, channel, **options):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy", {"action": ["poll"]}, DOCUMENT, **options)
    return command_id, *channel.receive_message("agent_job")


def test_a_command_by_the_control_channel(server, client):
    with client.channel() as channel:
        command_id, job, said = receive_job(server, channel)
        assert set(said) == {"schemaVersion", "jobId", "topic", "content"} and said["schemaVersion"] == 1
        assert said["jobId"] == f"aws.ssm.{command_id}.{INSTANCE}" and said["topic"] == "aws.ssm.sendCommand.eu.central.1.1"
        assert json.loads(said["content"])["Parameters"] == {"action": ["poll"]}
        channel.acknowledge(job)
        reply = channel.reply(said["jobId"], reply_text("Success", {"deploy": step()}))
        _, ack = channel.receive_message("agent_job_reply_ack")
        assert ack == {"jobId": said["jobId"], "acknowledgedMessageId": str(reply.id)}
    invocation = server.wait_final(command_id, LIMIT_SEC)
    assert invocation.outputs == {"deploy": "done\n"} and [a.what for a in invocation.acks] == ["200"]
    assert [d.channel for d in invocation.deliveries] == ["ssmmessages"] and not server.messages_in_flight
    (there,) = server.channels(INSTANCE)
    assert there.opened["AgentVersion"] == "0.1.0" and there.opened_at <= invocation.deliveries[0].at


def test_what_waited_is_delivered_when_the_channel_opens(server, client):
    command_id = server.send_command(INSTANCE, "Slipway-Deploy")
    with client.websocket() as channel:
        with pytest.raises(TimeoutError):
            channel.receive(SILENCE_SEC)
        channel.open(client.token())
        assert channel.receive_message("agent_job")[1]["jobId"] == f"aws.ssm.{command_id}.{INSTANCE}"


def test_polls_get_nothing_while_a_channel_is_open(server, client):
    server.hold_sec = 0.2
    with client.channel() as channel:
        wait_for(lambda: server.channels(INSTANCE)[0].opened, LIMIT_SEC, "the channel")
        command_id = server.send_command(INSTANCE, "Slipway-Deploy")
        assert client.poll() == [] and channel.receive_message("agent_job")
    # undone, it is there again when the channel is not
    wait_for(lambda: not server.channels(INSTANCE)[0].is_up, LIMIT_SEC, "the channel's end")
    assert client.poll()[0]["MessageId"].split(".")[2] == command_id
    server.commands.prefer_gateway = False
    with client.channel() as channel:
        wait_for(lambda: server.channels(INSTANCE)[1].opened, LIMIT_SEC, "the channel")
        server.send_command(INSTANCE, "Slipway-Deploy")
        assert len(client.poll()) == 1


def test_jobs_come_again_until_they_are_acknowledged(server, client):
    server.visibility_sec = 0.3
    with client.channel() as channel:
        command_id, job, said = receive_job(server, channel)
        channel.acknowledge(job, "51402")
        again, content = channel.receive_message("agent_job")
        assert content == said and again.id != job.id
        channel.acknowledge(again, "51405")
        with pytest.raises(TimeoutError):
            channel.receive(0.6)
        server.deliver_again(command_id)
        assert channel.receive_message("agent_job")[1] == said
    assert [a.what for a in server.invocation(command_id).acks] == ["51402", "51405"]


def test_a_reply_that_comes_twice(server, client):
    with client.channel() as channel:
        command_id, job, said = receive_job(server, channel)
        channel.acknowledge(job)
        for _ in range(2):
            channel.reply(said["jobId"], reply_text("Success"), id=job.id)
            assert channel.receive_message("agent_job_reply_ack")[1]["acknowledgedMessageId"] == str(job.id)
    invocation = server.invocation(command_id)
    assert len(invocation.replies) == 1 and invocation.n_repeated == 1


def test_cancellation_by_the_control_channel(server, client):
    with client.channel() as channel:
        command_id, *_ = receive_job(server, channel)
        cancel_id = server.cancel(command_id)
        job, said = channel.receive_message("agent_job")
        assert said["topic"].startswith("aws.ssm.cancelCommand") and cancel_id in said["jobId"]
        channel.acknowledge(job)
        channel.reply(said["jobId"], reply_text("InProgress"), "aws.ssm.cancelCommand")
        channel.receive_message("agent_job_reply_ack")
    assert server.invocation(cancel_id).status == "InProgress"


def test_jobs_that_are_wrong(server, client):
    with client.channel() as channel:
        server.send_command(INSTANCE, "Slipway-Deploy", CreatedDate="2020-01-01T00:00:00.000Z", Destination=OTHER)
        job, said = channel.receive_message("agent_job")
        assert job.created_msec == calendar.timegm((2020, 1, 1, 0, 0, 0)) * 1000 and said["jobId"].endswith(OTHER)
        channel.acknowledge(job)
        server.send_command(INSTANCE, "Slipway-Deploy", PayloadDigest="0" * 64)
        with pytest.raises(websocket.ProtocolError, match="digest"):
            channel.receive_message("agent_job")


def test_two_jobs_at_once(server, client):
    with client.channel() as channel:
        with server.together():
            ids = [server.send_command(INSTANCE, "Slipway-Deploy") for _ in range(2)]
        assert [channel.receive_message("agent_job")[1]["jobId"].split(".")[2] for _ in ids] == ids


def test_pings_of_the_websocket(server, client):
    with client.channel() as channel:
        channel.ping()
        assert channel.receive() == (websocket.PONG, b"keepalive")
        channel.send(websocket.CLOSE, websocket.close_payload(1000))
        assert channel.receive() == (websocket.CLOSE, websocket.close_payload(1000))
        assert channel.receive() is None
    (there,) = server.channels(INSTANCE)
    assert [p.what for p in there.pings] == ["keepalive"] and there.close_code == 1000


def test_the_last_channel_gets_the_commands(server, client):
    with client.channel() as first, client.channel() as second:
        wait_for(lambda: all(c.opened for c in server.channels(INSTANCE)), LIMIT_SEC, "both channels")
        receive_job(server, second)
        with pytest.raises(TimeoutError):
            first.receive(SILENCE_SEC)


def test_tokens_are_for_one_channel(server, client, other):
    token = client.token()
    with client.channel(token=token) as channel:
        channel.ping()
        assert channel.receive()[0] == websocket.PONG
    foreign = other.token()
    for wrong in (token, foreign, "made up"):
        with client.channel(token=wrong) as channel:
            opcode, payload = channel.receive()
            assert (opcode, websocket.close_code(payload)) == (websocket.CLOSE, websocket.POLICY_VIOLATION)


@pytest.mark.parametrize("change", [
    {"without": "Upgrade"}, {"without": "Connection"}, {"Sec-WebSocket-Version": "12"}, {"Sec-WebSocket-Key": "c2hvcnQ="},
    {"Sec-WebSocket-Key": "no Base64"}, {"Sec-WebSocket-Protocol": "ssm"}, {"query": ""}, {"query": "?stream=input"}], ids=str)
def test_requests_for_a_websocket_of_another_form(client, change):
    socket, status, *_ = client.upgrade(**change)
    socket.close()
    assert status == 400


def expect_complaint(server, channel, text):
    opcode, payload = channel.receive()
    assert (opcode, websocket.close_code(payload)) == (websocket.CLOSE, websocket.PROTOCOL_ERROR), payload
    (complaint,) = server.complaints
    assert text in complaint
    server.complaints.clear()


@pytest.mark.parametrize("data,text", [
    (websocket.encode(websocket.TEXT, b"{}"), "not masked"), (websocket.encode(websocket.TEXT, b"{", masked=True), "no JSON"),
    (websocket.encode(websocket.TEXT, b"{}", masked=True), "not an object of"),
    (websocket.encode(websocket.BINARY, b"{}", masked=True), "not text")], ids=["unmasked", "no JSON", "members", "binary"])
def test_first_frames_of_another_form(server, client, data, text):
    with client.websocket() as channel:
        channel.send_raw(data)
        expect_complaint(server, channel, text)


def test_first_frame_of_another_platform(server, client):
    with client.websocket() as channel:
        channel.open(client.token(), PlatformType="Linux")
        expect_complaint(server, channel, "PlatformType")


@pytest.mark.parametrize("case", ["kind", "digest", "text", "job", "ack", "code", "date", "topic", "reply", "content"])
def test_messages_of_another_form(server, client, case):
    with client.channel() as channel:
        _, job, said = receive_job(server, channel)
        ack = {"jobId": said["jobId"], "acknowledgedMessageId": str(job.id), "createdDate": "2020-01-01T00:00:00.000Z",
               "statusCode": "200", "errorMessage": "Successful"}
        send, text = {
            "kind": (lambda: channel.send_message("agent_other", {}), "agent_other"),
            "digest": (lambda: channel.send_message("agent_job_ack", ack, digest=bytes(32)), "digest"),
            "text": (lambda: channel.send(websocket.TEXT, b"{}"), "text frame"),
            "job": (lambda: channel.reply("unknown", reply_text("Success")), "not known"),
            "ack": (lambda: channel.send_message("agent_job_ack", {**ack, "acknowledgedMessageId": "x"}), "nothing that was sent"),
            "code": (lambda: channel.acknowledge(job, "7"), "nothing that was sent"),
            "date": (lambda: channel.send_message("agent_job_ack", ack), "nothing that was sent"),
            "topic": (lambda: channel.reply(said["jobId"], reply_text("Success"), "aws.ssm.cancelCommand"), "another form"),
            "reply": (lambda: channel.reply(said["jobId"], reply_text("Done")), "documentStatus"),
            "content": (lambda: channel.reply(said["jobId"], reply_text("Success", trace="x" * 120_000)), "120000 bytes")}[case]
        send()
        expect_complaint(server, channel, text)


# -- the server as such


def test_hosts_reach_it(ssm, ssm_authority, host):
    ssm.add_instance(INSTANCE, "AKIDEXAMPLE", "secret")
    untrusted = 60
    assert host.run(["curl", "-s", ssm.url("ssm")], check=False).rc == untrusted
    host.trust_ca(ssm_authority.certificate)
    client = Client(ssm, INSTANCE, "AKIDEXAMPLE", "secret")
    body = json.dumps({"InstanceId": INSTANCE})
    said = {}
    for service, url in ssm.urls.items():
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.UpdateInstanceInformation"}
        headers = client.signed("POST", f"{url}/", headers, body.encode(), service)
        arguments = [a for name, value in headers.items() for a in ("-H", f"{name}: {value}")]
        said[service] = host.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", body, *arguments, url]).stdout
    assert said == {"ssm": "200", "ec2messages": "400", "ssmmessages": "404"}
    assert len(ssm.pings(INSTANCE)) == 1


def test_complaints_are_raised_at_the_end(tmp_path):
    with pytest.raises(AssertionError, match="not masked"):
        with start() as server:
            with Client(server, INSTANCE, "AKIDEXAMPLE", "secret", "session").websocket() as channel:
                channel.send_raw(websocket.encode(websocket.TEXT, b"{}"))
                channel.receive()


def test_everything_ends_with_it():
    threads = set(threading.enumerate())
    with start(hold_sec=60) as server:
        client = Client(server, INSTANCE, "AKIDEXAMPLE", "secret", "session")
        poll = client.ask_json("GetMessages", client.poll_content())
        channels = [client.channel(), client.websocket()]
        wait_for(lambda: server.n_polling(INSTANCE) and server.channels(INSTANCE)[0].opened, LIMIT_SEC, "poll and channel")
    assert set(threading.enumerate()) == threads
    assert [c.receive() for c in channels] == [None, None]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        poll.getresponse()
    poll.close()
    for channel in channels:
        channel.close()
    for service in server.urls:
        with pytest.raises(ConnectionRefusedError):
            client.connect(service).connect()
