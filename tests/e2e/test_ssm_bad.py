"""Orders that are malformed, old, foreign or too many, and a Systems Manager that misbehaves: each is answered or said in clear
words, nothing that runs is touched, and orders come again when it is over.

Hosts are shared: each case takes one that is free, and what one may not harm is looked at after each case.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import queue
import re
import time
import uuid

import pytest

import sandbox
import ssm_commands
import ssm_faults as faults
import ssm_server
import ssm_websocket as websocket
import toy
from certificates import Authority
from remote import CHANNELS, CONTENT, DOCUMENT, ID, WAIT_SEC, Remote
from ssm_commands import EC2MESSAGES, SSMMESSAGES
from waiting import wait_for

POLL = {"interval": "2s", "jitter": "0%"}  # of the store
N_HOSTS = 6  # of each channel
MIB = 1 << 20
HOUR_SEC, DAY_SEC = 3600, 86400
FLOOD = 200
FLOOD_SEC = 90
FLOOD_MAX_KIB = 600
HEAL_SEC = 30  # of a fault that came once or twice


@dataclasses.dataclass
class Before:
    """What a case may not change."""

    agent: str
    fetch: str
    running: str
    cursor: str


class Victim(Remote):
    """A host that is given bad input."""

    usual = None  # the channel of SSM that it uses but for a case

    def pid_of_agent(self):
        return self.host.unit("slipwayd.service", "MainPID")["MainPID"]

    def pid_of_fetch(self):
        return self.host.run(["pgrep", "-P", self.pid_of_agent(), "-x", "slipway-fetch"]).stdout.strip()

    def rss_kib(self):
        """What slipway-fetch has of its own in memory."""
        text = self.host.read(f"/proc/{self.pid_of_fetch()}/status")
        return int(re.search(r"RssAnon:\s+(\d+)", text)[1])

    def look(self):
        return Before(self.pid_of_agent(), self.pid_of_fetch(), self.host.unit(self.unit, "MainPID")["MainPID"],
                      self.host.journal_cursor())

    @contextlib.contextmanager
    def unharmed(self):
        """What happens inside leaves the agent and the release alone, and orders work after it."""
        before = self.look()
        try:
            yield before
        finally:
            self.heal()
        self.wait_order(HEAL_SEC)
        after = self.look()
        assert dataclasses.replace(after, cursor=before.cursor) == before
        assert self.running() == self.state()["current"]

    def fault(self, pattern, fault, **options):
        return self.ssm.fault(pattern, fault, **options)

    def heal(self):
        self.ssm.heal()

    def wait_order(self, limit_sec):
        done = self.ssm.wait_final(self.send("status"), limit_sec)
        assert done.status == "Success", done

    def put(self, action=None, document=DOCUMENT, parameters=None, content=CONTENT, **options):
        """Sends a command whose parts are as the test says; returns its invocation."""
        parameters = {"action": action} if parameters is None else parameters
        return self.ssm.invocation(self.ssm.send_command(self.id, document, parameters, content=content, **options), self.id)

    def journal_after(self, before):
        self.host.run(["journalctl", "--sync"])
        return self.host.run(["journalctl", "--quiet", "--output=cat", "--all", "--unit=slipwayd.service",
                              f"--after-cursor={before.cursor}"]).stdout

    def says(self, before, *patterns):
        """Waits until the journal says all of them."""
        def missing():
            text = self.journal_after(before)
            return [pattern for pattern in patterns if not re.search(pattern, text)]
        wait_for(lambda: not missing(), WAIT_SEC, f"{self.id}: {missing()} in the journal, which is {self.journal_after(before)}")

    def wait_trouble(self, pattern, limit_sec=WAIT_SEC):
        wait_for(lambda: re.search(pattern, self.listening().get("trouble", "")), limit_sec,
                 f"{self.id}: {pattern} in status, which is {self.listening()}")

    def wait_word(self, before, pattern):
        """What ends at once is in the journal alone."""
        wait_for(lambda: re.search(pattern, self.listening().get("trouble", "") + self.journal_after(before)), WAIT_SEC,
                 f"{self.id}: {pattern} in status, which is {self.listening()}, or the journal")

    def n_requests(self, operation=".*"):
        return len(self.ssm.requests(operation))

    def deploys_by_poll(self):
        """A new release comes by the store's poll alone."""
        name = self.release()
        self.wait_live(name)


@pytest.fixture(scope="module")
def victims(make_module_hosts, tmp_path_factory):
    """Hosts by channel, each with a stand-in of its own; their polls of the store go on beside the orders."""
    authority = Authority(tmp_path_factory.mktemp("ssm"))
    tls = authority.context(sandbox.SERVER_ADDRESS)

    def begin(victim):
        victim.release()
        victim.start_remote(victim.usual, poll=POLL)
        victim.wait_listening()
        victim.wait_live("r1")
        victim.wait_order(WAIT_SEC)

    with contextlib.ExitStack() as stack:
        made = {channel: [] for channel in CHANNELS}
        for number, host in enumerate(make_module_hosts(N_HOSTS * len(CHANNELS)), 1):
            ssm = stack.enter_context(ssm_server.SsmServer(sandbox.SERVER_ADDRESS, tls=tls, hold_sec=1))
            victim = Victim(host, toy.local_store(host), ssm, authority, f"{ID}{number}")
            victim.usual = CHANNELS[number % len(CHANNELS)]
            made[victim.usual].append(victim)
        everyone = [v for some in made.values() for v in some]
        with concurrent.futures.ThreadPoolExecutor(len(everyone)) as pool:
            list(pool.map(begin, everyone))
        yield made


# -- orders that are refused, with the reason for who sent them

LONG = "a" * 1000
NAME = r"is no name \(letters, digits"
META = ["$(touch /tmp/owned)", "`id`", "a;reboot", "a|b", "../../etc/passwd", "/etc/passwd", "%s%n%n", "-rf", "a b", "a\nb",
        "ä", "a\tb", "'", '"', "*", LONG]
UNKNOWN_SCHEMA = {**CONTENT, "schemaVersion": "3.0"}

REFUSALS = {
    "shell document": (dict(document="AWS-RunShellScript", parameters={"commands": ["touch /tmp/owned"]}),
                       r"AWS-RunShellScript is not carried out here.*use the document Slipway-Deploy"),
    "remote script": (dict(document="AWS-RunRemoteScript", parameters={}), r"AWS-RunRemoteScript is not carried out here"),
    "document's name in other case": (dict(action="poll", document="slipway-deploy"), r"is not carried out here"),
    "schema": (dict(action="poll", content=UNKNOWN_SCHEMA), r"schemaVersion: 3\.0 is not known.*slipway-deploy\.json"),
    "action": (dict(action="explode"), r"Parameters\.action: there is no such one; use one of poll, deploy"),
    "action with a newline": (dict(action="poll\n"), r"Parameters\.action: there is no such one"),
    "no action": (dict(parameters={}), r"Parameters\.action: missing"),
    "no parameters": (dict(parameters=None, also={"Parameters": None}), r"Parameters\.action: missing"),
    "parameter": (dict(parameters={"action": "poll", "commands": "id"}), r"Parameters\.commands: there is no such parameter"),
    "a list": (dict(parameters={"action": ["poll"]}), r"Parameters\.action: .*a string"),
    "a map": (dict(parameters={"action": "poll", "app": {"a": "b"}}), r"Parameters\.app: .*a string"),
    "no release": (dict(action="deploy"), r"Parameters\.release: deploy needs one"),
    "1 MB of a name": (dict(parameters={"action": "poll", "app": "a" * 1_000_000}), rf"Parameters\.app: {NAME}"),
    "a reason of two lines": (dict(parameters={"action": "hold", "reason": "a\nb"}), r"Parameters\.reason: holds a line break"),
    "a long reason": (dict(parameters={"action": "hold", "reason": LONG}), r"Parameters\.reason: is longer than"),
    "until": (dict(parameters={"action": "hold", "until": "$(date)"}), r"Parameters\.until: is neither a time"),
    "too old": (dict(action="rollback", CreatedDate=ssm_commands.time_text(time.time() - 49 * HOUR_SEC)),
                r"older than 48 hours"),
    "from the future": (dict(action="rollback", CreatedDate=ssm_commands.time_text(time.time() + DAY_SEC)),
                        r"from the future.*clock"),
    **{f"app {value[:20]!r}": (dict(parameters={"action": "rollback", "app": value}), rf"Parameters\.app: {NAME}")
       for value in META},
    **{f"release {value[:20]!r}": (dict(parameters={"action": "deploy", "app": "web", "release": value}),
                                   rf"Parameters\.release: {NAME}") for value in META},
}


def refused(victim):
    with victim.unharmed():
        with victim.ssm.together():
            sent = {name: victim.put(**options) for name, (options, _) in REFUSALS.items()}
        for invocation in sent.values():
            victim.ssm.wait_final(invocation.command_id, WAIT_SEC)
        wrong = [f"{name}: {i}" for name, i in sent.items()
                 if i.status != "Failed" or not re.search(REFUSALS[name][1], i.trace, re.S)]
        assert not wrong, "\n".join(wrong)
        assert not victim.host.exists("/tmp/owned")


def app_and_release_that_are_not_there(victim):
    with victim.unharmed():
        assert victim.order("rollback", app="other").status == "Failed"
        assert victim.order("deploy", app="web", release="r99").status == "Failed"


# -- messages that nobody can read: refused with a receipt, or where they have no name not even that

def payload(command_id, **members):
    return {"CommandId": command_id, "DocumentName": DOCUMENT, "Parameters": {"action": "rollback"}, "DocumentContent": CONTENT,
            **members}


def raw(make):
    """A command whose payload is make(its id)."""
    def send(victim):
        command_id = str(uuid.uuid4())
        return victim.put("rollback", command_id=command_id, Payload=make(command_id))
    return send


def message(**overrides):
    return lambda victim: victim.put("rollback", **overrides)


def foreign_id(victim):
    command_id = str(uuid.uuid4())
    return victim.put("rollback", command_id=command_id, MessageId=f"aws.ssm.{uuid.uuid4()}.{victim.id}")


def twice(command_id):
    text = json.dumps(payload(command_id))
    return text[:-1] + ', "DocumentName": "AWS-RunShellScript"}'


UNREAD = {
    "no JSON": (raw(lambda c: "hello"), r"is refused"),
    "half of it": (raw(lambda c: json.dumps(payload(c))[:200]), r"is refused"),
    "a list": (raw(lambda c: "[]"), r"an object"),
    "empty object": (raw(lambda c: "{}"), r"missing"),
    "document comes twice": (raw(twice), r"DocumentName"),
    "another command": (raw(lambda c: json.dumps(payload(str(uuid.uuid4())))), r"CommandId: is another one"),
    "a command that is no UUID": (raw(lambda c: json.dumps(payload("../../x"))), r"CommandId"),
    "a foreign id": (foreign_id, r"CommandId: is another one"),
    "no document": (raw(lambda c: json.dumps(payload(c, DocumentContent=None))), r"DocumentContent"),
    "deep": (raw(lambda c: json.dumps(payload(c))[:-1] + ', "X": ' + "[" * 10000 + "]" * 10000 + "}"), r"is refused.*deep"),
    "NUL": (raw(lambda c: json.dumps(payload(c, Parameters={"action": "rollback", "app": "web\0"}))), r"is refused"),
    "invalid UTF-8": (raw(lambda c: json.dumps(payload(c, Parameters={"action": "poll", "app": "\ud800"}))), r"is refused"),
    "a document's name with a newline": (raw(lambda c: json.dumps(payload(c, DocumentName="a\nb"))), r"DocumentName"),
    "1 MB of a document's name": (raw(lambda c: json.dumps(payload(c, DocumentName="a" * 1_000_000))), r"DocumentName"),
    "another topic": (message(Topic="aws.ssm.refreshAssociation.eu.central.1"), r"another topic"),
    "a topic that only begins like it": (message(Topic="aws.ssm.sendCommandment"), r"another topic"),
    "another instance": (message(Destination="i-0fedcba9876543210"), r"for another instance"),
    "more than 1 MiB": (raw(lambda c: json.dumps(payload(c, More="a" * (MIB + 100)))[:MIB + 1000]),
                        r"more than|larger than|longer"),
}
UNREAD_BY_POLL = {
    "another digest": (message(PayloadDigest="0" * 64), r"another digest"),
    "a digest of another form": (message(PayloadDigest="x"), r"another digest"),
    "no time": (message(CreatedDate="yesterday"), r"at no time"),
    "no topic": (message(Topic=None), r"Topic: missing"),
    "no destination": (message(Destination=None), r"Destination: missing"),
    "no payload": (message(Payload=None), r"Payload: missing"),
    "payload is an object": (message(Payload={"a": "b"}), r"Payload.*a string"),
}
UNREAD_BY_GATEWAY = {
    "no topic": (message(Topic=None), r"topic: missing"),
    "no content": (message(Payload=None), r"content: missing"),
    "content is an object": (message(Payload={"a": "b"}), r"content.*a string"),
}
MALFORMED = {"51403", "51408"}


def has_receipt(invocation):
    return invocation.fails or any(ack.what in MALFORMED for ack in invocation.acks)


def unread(victim):
    cases = {**UNREAD, **(UNREAD_BY_POLL if victim.usual == EC2MESSAGES else UNREAD_BY_GATEWAY)}
    with victim.unharmed() as before:
        with victim.ssm.together():
            sent = {name: send(victim) for name, (send, _) in cases.items()}
        for name, invocation in sent.items():
            wait_for(lambda i=invocation: has_receipt(i), WAIT_SEC, f"{name}: a receipt that it is not taken: {invocation}")
            assert not invocation.replies, f"{name}: {invocation}"
        victim.says(before, *[rf"message of Systems Manager.*({pattern})" for _, pattern in cases.values()])


def cancellations(victim):
    """Of what is not under way, and ones that make no sense."""
    with victim.unharmed() as before:
        done = victim.order("status")
        cancel = victim.ssm.invocation(victim.ssm.cancel(done.command_id, victim.id), victim.id)
        wait_for(lambda: cancel.replies and cancel.acks, WAIT_SEC, "the cancellation's receipt")
        victim.says(before, r"is to be cancelled, but is not under way")
        bad = victim.ssm.invocation(victim.ssm.cancel("x", victim.id), victim.id)
        wait_for(lambda: has_receipt(bad), WAIT_SEC, "a receipt that it is not taken")
        assert done.status == "Success"


# -- what came before

def failing_order(victim):
    """An order that is begun, and can only fail."""
    done = victim.order("deploy", app="web", release="r99")
    assert done.status == "Failed" and "neither the channel's nor on this host" in str(done.steps), done
    return done


def replayed(victim):
    with victim.unharmed():
        first = failing_order(victim)
        replies = len(first.replies)
        victim.ssm.deliver_again(first.command_id)
        wait_for(lambda: len(first.acks) >= 2 and first.n_repeated, WAIT_SEC, "the stored answer")
        assert first.status == first.replies[-1].status and len(first.replies) == replies
        final = first.replies[-1]

        # as a new message: days later, and with another content
        for options in (dict(CreatedDate=ssm_commands.time_text(time.time() - 3 * DAY_SEC)), dict(action="hold")):
            action = options.pop("action", "rollback")
            repeated = first.n_repeated
            victim.put(action, command_id=first.command_id, **options)
            wait_for(lambda n=repeated: first.n_repeated > n, WAIT_SEC, "the stored answer")
            assert first.replies[-1] == final
        assert victim.state().get("hold") is None


def shell_commands(victim, n):
    """So many commands that are refused, at once."""
    with victim.ssm.together():
        sent = [victim.put(document="AWS-RunShellScript", parameters={"commands": "id"}) for _ in range(n)]
    for invocation in sent:
        victim.ssm.wait_final(invocation.command_id, FLOOD_SEC)
    return sent


def flood(victim):
    """200 at once that are refused: memory stays, and each gets its answer."""
    with victim.unharmed():
        shell_commands(victim, 20)
        before = victim.rss_kib()
        assert {i.status for i in shell_commands(victim, FLOOD)} == {"Failed"}
        after = victim.rss_kib()
        assert after - before <= FLOOD_MAX_KIB, f"{before} KiB, then {after}"



# -- Systems Manager misbehaves: what comes once heals by itself

INVALID_SIGNATURE = faults.Error(403, "InvalidSignatureException", "The request signature we calculated does not match")
UNRECOGNIZED = faults.Error(400, "UnrecognizedClientException", "The security token included in the request is invalid.")
UNAUTHORIZED = faults.Error(401, "UnauthorizedException", "Unauthorized")
BAD_REQUEST = faults.Error(400, "ValidationException", "made by the stand-in")
HTML_502 = faults.Body(b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html", 502)
TOO_LARGE = faults.Body(b" " * (5 * MIB))
NO_TEXT = faults.Body(b'{"Messages":[{"MessageId":"\xff\xfe"}]}')
NUL = faults.Body(b'{"Messages":[{"MessageId":"aws.ssm.\\u0000"}]}')

# of a request that asks for messages, or for a control channel: the fault and what is said of it
ANSWERS = {
    "400": (BAD_REQUEST, r"ValidationException: made by the stand-in \(status 400"),
    "401": (UNAUTHORIZED, r"UnauthorizedException.*\(status 401"),
    "500": (faults.SERVER_ERROR, r"InternalServerException.*\(status 500"),
    "503": (faults.UNAVAILABLE, r"ServiceUnavailableException.*\(status 503"),
    "502 of something on the way": (HTML_502, r"status 502"),
    "denied": (faults.ACCESS_DENIED, r"AccessDeniedException.*(ec2messages permissions|permissions ssmmessages)"),
    "expired": (faults.EXPIRED_TOKEN, r"ExpiredTokenException.*credentials in use are not taken"),
    "not recognized": (UNRECOGNIZED, r"UnrecognizedClientException.*credentials in use are not taken"),
    "signature": (INVALID_SIGNATURE, r"InvalidSignatureException.*credentials in use are not taken"),
    "empty object": (faults.EMPTY_OBJECT, r"(makes no sense: Messages: missing|status 200, not with 201|without a token)"),
    "empty body": (faults.EMPTY_BODY, r"(makes no sense|status 200, not with 201|without a token)"),
    "half of JSON": (faults.INVALID_JSON, r"(makes no sense|status 200)"),
    "HTML": (faults.HTML, r"(makes no sense|status 200)"),
    "no UTF-8": (NO_TEXT, r"(makes no sense.*UTF-8|status 200)"),
    "NUL": (NUL, r"(makes no sense.*u0000|status 200)"),
    "5 MiB": (TOO_LARGE, r"(more than|larger|too large|limit)"),
    "reset": (faults.Reset(), r"no answer from .*reset", None),
    "reset in the poll": (faults.Reset(after_sec=0.5), r"no answer from .*reset", None),
}
THROTTLED = {EC2MESSAGES: faults.THROTTLED, SSMMESSAGES: faults.GATEWAY_THROTTLED}
ASKING = {EC2MESSAGES: "GetMessages", SSMMESSAGES: "CreateControlChannel"}
BREAK = faults.Reset()


def ask_anew(victim):
    """Ends a control channel that worked, so that the agent asks for another one, and its next failure is the first one; a poll
    ends by itself."""
    if victim.usual == SSMMESSAGES:
        rule = victim.fault("idle", BREAK, times=1)
        wait_for(lambda: rule.n_hits, WAIT_SEC, "the control channel to end")


def answered(fault, pattern, times=1):
    """times None: libcurl tries again by itself on connections that were in use before, so it goes on until it is said."""
    def case(victim):
        with victim.unharmed():
            here = THROTTLED[victim.usual] if fault is THROTTLED else fault
            rule = victim.fault(ASKING[victim.usual], here, times=times)
            ask_anew(victim)
            wait_for(lambda: rule.n_hits, WAIT_SEC, "the fault to happen")
            victim.wait_trouble(pattern)
            victim.heal()
            wait_for(lambda: victim.listening()["listening"], HEAL_SEC, "orders to come again")
    return case



# -- on the control channel

def bad_frame(fault, pattern, event="agent_job"):
    """Instead of what is right at that event, or where nothing is under way."""
    def case(victim):
        with victim.unharmed() as before:
            ask_anew(victim)
            victim.fault(event, fault, times=1)
            sent = victim.send("status")
            victim.wait_word(before, pattern)
            assert victim.ssm.wait_final(sent, HEAL_SEC).status == "Success"
    return case


def frame(opcode, payload=b"", **options):
    return websocket.encode(opcode, payload, **options)


WEIRD = "sent what is no websocket's.*"
FRAMES = {
    "masked": (faults.Masked(), WEIRD + "masked frame"),
    "of 2 GiB": (faults.Oversized(2 << 30), WEIRD + "limit of"),
    "reserved bits": (faults.Send(frame(websocket.BINARY, b"x", reserved=4)), WEIRD + "reserved bits"),
    "unknown opcode": (faults.Send(frame(3, b"x")), WEIRD + "unknown opcode 3"),
    "continues nothing": (faults.Send(frame(websocket.CONTINUATION, b"x")), WEIRD + "fragment of no message"),
    "long ping": (faults.Send(frame(websocket.PING, b"x" * 126)), WEIRD + "control frame that is too long"),
    "text that is no UTF-8": (faults.Send(frame(websocket.TEXT, b"\xff")), WEIRD + "not UTF-8"),
    "no websocket": (faults.Send(b"HTTP/1.1 200 OK\r\n\r\n"), WEIRD),
}
# which the agent passes over: the order goes on
HARMLESS = {
    "fragments": faults.Fragmented(100),
    "one byte each": faults.Fragmented(1),
    "a ping before": faults.Send(frame(websocket.PING, b"are you there")),
    "a text before": faults.Send(frame(websocket.TEXT, b"hello")),
    "no agent message before": faults.Send(frame(websocket.BINARY, b"\0" * 30)),
    "header of another length": faults.Send(frame(websocket.BINARY, b"\xff" * 200)),
    "another type before": faults.Send(frame(websocket.BINARY, websocket.AgentMessage("interactive_shell", b"{}").pack())),
    "job that is no JSON": faults.Send(frame(websocket.BINARY, websocket.AgentMessage("agent_job", b"\xff{").pack())),
    "ack of nothing": faults.Send(frame(websocket.BINARY, websocket.AgentMessage("agent_job_reply_ack", b"[1]").pack())),
    "another digest": faults.Send(frame(websocket.BINARY,
                                        websocket.AgentMessage("agent_job", b"{}", digest=b"\0" * 32).pack())),
}


def harmless(fault):
    def case(victim):
        with victim.unharmed():
            n_channels = len(victim.ssm.channels(victim.id))
            victim.fault("agent_job", fault, times=1)
            assert victim.order("status").status == "Success"
            assert len(victim.ssm.channels(victim.id)) == n_channels
    return case


def opening(event, fault, pattern):
    """The channel is ended, and what opens the next one goes wrong."""
    def case(victim):
        with victim.unharmed():
            rule = victim.fault(event, fault, times=1)
            ask_anew(victim)
            wait_for(lambda: rule.n_hits, WAIT_SEC, "the fault to happen")
            victim.wait_trouble(pattern)
    return case


OPENING = {
    "wrong accept key": ("OpenControlChannel", faults.WrongAcceptKey(), WEIRD + "(accept|key)"),
    "refused upgrade": ("OpenControlChannel", faults.ACCESS_DENIED, r"AccessDeniedException.*ssmmessages:OpenControlChannel"),
    "upgrade answered by HTML": ("OpenControlChannel", faults.HTML, r"status 200"),
    "upgrade broken": ("OpenControlChannel", faults.Reset(), r"reset"),
    "token refused": ("open", faults.REFUSED_TOKEN, r"the control channel ended.*status 1008"),
    "closed at once": ("upgraded", faults.Close(), r"status 1001"),
    "closed when open": ("opened", faults.Close(1011), r"status 1011"),
    "reset when open": ("opened", faults.Reset(), r"the control channel ended.*reset"),
}


def lost(event, fault):
    """Answers and receipts that are lost: they come again, and count once."""
    def case(victim):
        with victim.unharmed():
            victim.fault(event, fault, times=1)
            done = failing_order(victim)
            assert sum(r.status == "Failed" for r in done.replies) == 1
    return case


LOST = {
    "closed with a job": ("agent_job", faults.Close()),
    "reset with a job": ("agent_job", faults.Reset()),
    "receipt lost": ("agent_job_ack", faults.Withhold()),
    "closed at the receipt": ("agent_job_ack", faults.Close()),
    "reset at a reply": ("agent_job_reply", faults.Reset()),
    "closed at an answer's receipt": ("agent_job_reply_ack", faults.Close()),
    "answer's receipt withheld": ("agent_job_reply_ack", faults.Withhold()),
}



# -- what lasts

LOOK_SEC = 12
STALL_MAX_SEC = 60
N_PINGS_MAX = 2  # one, and one with the channel
REQUESTS_MAX = 8  # in that time; of a poll or a token, pings and replies included


def lasting(fault, pattern):
    """It goes on: that is said, asked for with growing pauses, and the store is polled all the while."""
    def case(victim):
        with victim.unharmed() as before:
            victim.fault(ASKING[victim.usual], fault)
            ask_anew(victim)
            victim.wait_trouble(pattern)
            victim.says(before, "No orders can come.*" + pattern)
            began, n = time.monotonic(), victim.n_requests()
            victim.deploys_by_poll()
            wait_for(lambda: time.monotonic() - began >= LOOK_SEC, 2 * LOOK_SEC, "the time to look at")
            assert victim.n_requests() - n <= REQUESTS_MAX
            before.running = victim.host.unit(victim.unit, "MainPID")["MainPID"]
            victim.heal()
            wait_for(lambda: victim.listening()["listening"], 2 * LOOK_SEC + HEAL_SEC, "orders to come again")
    return case


LASTING = {
    "denied for long": (faults.ACCESS_DENIED, r"AccessDeniedException"),
    "500 for long": (faults.SERVER_ERROR, r"InternalServerException"),
}


def trickle(victim):
    """An answer that comes byte by byte is an answer."""
    with victim.unharmed():
        victim.fault(ASKING[victim.usual], faults.Trickle(0.005), times=1)
        ask_anew(victim)
        assert victim.order("status").status == "Success"


def stalled(victim):
    """Half an answer, and then nothing: the agent waits until its limit and asks again; the store is polled meanwhile."""
    with victim.unharmed() as before:
        rule = victim.fault(ASKING[victim.usual], faults.Stall(), times=1)
        ask_anew(victim)
        wait_for(lambda: rule.n_hits, WAIT_SEC, "the fault to happen")
        victim.deploys_by_poll()
        before.running = victim.host.unit(victim.unit, "MainPID")["MainPID"]
        done = victim.ssm.wait_final(victim.send("status"), STALL_MAX_SEC)
        assert done.status == "Success"


def half_open(victim):
    """The gateway answers and reads no more for a while. The minute until that is noticed is tests/test-ssm-mgs.c's."""
    with victim.unharmed() as before:
        victim.fault("agent_job_reply", HalfOpenFor(5), times=1)
        sent = victim.send("status")
        victim.deploys_by_poll()
        before.running = victim.host.unit(victim.unit, "MainPID")["MainPID"]
        assert victim.ssm.wait_final(sent, 2 * HEAL_SEC).status == "Success"


@dataclasses.dataclass(frozen=True)
class HalfOpenFor:
    seconds: float

    def act(self, channel):
        channel.hold(self.seconds)
        BREAK.act(channel)


def reply_rejected(victim):
    """The service does not take the answer: said, and not sent for ever."""
    with victim.unharmed() as before:
        rule = victim.fault("SendReply", faults.REPLY_REJECTED)
        victim.send("status")
        victim.says(before, "Systems Manager does not take the answer.*UnsupportedMessageOperationException")
        n = rule.n_hits
        victim.heal()
        victim.wait_order(HEAL_SEC)
        assert rule.n_hits == n


def reply_lost(victim):
    """The service has the answer, but its word is lost: it is sent again, and counts once."""
    with victim.unharmed():
        victim.fault("SendReply", faults.LoseAnswer(), times=3)
        assert victim.order("status").status == "Success"


def receipt_lost(victim):
    """The message comes again, and is not carried out again."""
    with victim.unharmed() as before:
        victim.fault("AcknowledgeMessage", faults.SERVER_ERROR, times=2)
        done = failing_order(victim)
        wait_for(lambda: done.acks, WAIT_SEC, "the receipt at last")
        assert len(re.findall(rf"Order {done.command_id} .* came", victim.journal_after(before))) == 1


def no_ping(victim):
    """The service does not hear that the instance is there, and so sends nothing: said, though the channel stands."""
    rule = victim.fault("UpdateInstanceInformation", faults.ACCESS_DENIED)
    victim.host.run(["systemctl", "restart", "slipwayd.service"])
    victim.wait_trouble("can't tell Systems Manager that this instance is there.*AccessDeniedException")
    with victim.unharmed():  # which ends the fault; the next ping is a minute away
        victim.wait_order(HEAL_SEC)
        assert rule.n_hits <= N_PINGS_MAX
    begin_again(victim, victim.usual)


def wrong_clock(victim):
    """The service's clock is days ahead, or behind: signatures are corrected, and an order's age goes by its clock."""
    for days in (3, -3, 0):
        victim.ssm.skew_sec = days * DAY_SEC
        n_pings = len(victim.ssm.pings(victim.id))
        victim.host.run(["systemctl", "restart", "slipwayd.service"])
        wait_for(lambda n=n_pings: len(victim.ssm.pings(victim.id)) > n, WAIT_SEC, "a ping")
        victim.wait_listening()
        with victim.unharmed():
            assert victim.order("status").status == "Success"
            # to the service it is right and old, whatever the host thinks
            old = victim.put("status", CreatedDate=ssm_commands.time_text(victim.ssm.now() - 49 * HOUR_SEC))
            victim.ssm.wait_final(old.command_id, WAIT_SEC)
            assert old.status == "Failed" and "older than 48 hours" in old.trace


def missing_service(victim):
    """A Region without the service, or a network without a way to it."""
    with victim.unharmed() as before:
        victim.ssm.close(victim.usual)
        victim.wait_trouble(r"can't|no answer|refused|connect")
        victim.deploys_by_poll()
        before.running = victim.host.unit(victim.unit, "MainPID")["MainPID"]
        victim.ssm.open(victim.usual)
        wait_for(lambda: victim.listening()["listening"], 2 * HEAL_SEC, "orders to come again")


def begin_again(victim, channel):
    """slipwayd anew, by this channel."""
    victim.start_remote(channel, poll=POLL)
    victim.host.run(["systemctl", "restart", "slipwayd.service"])
    victim.wait_listening()
    victim.wait_order(WAIT_SEC)


def no_such_host(victim):
    """The name of the endpoint, as in Regions since 2024, leads nowhere."""
    victim.start_remote(victim.usual, poll=POLL, urls={victim.usual: f"https://{ssm_server.NO_SUCH_HOST}"})
    victim.host.run(["systemctl", "restart", "slipwayd.service"])
    try:
        victim.wait_trouble("eu-central-1 has no endpoint of ec2messages|resolve")
        victim.deploys_by_poll()
    finally:
        begin_again(victim, victim.usual)
    with victim.unharmed():
        pass


def chosen_by_itself(victim):
    """A Region without ec2messages, and then a role that may not open a control channel: orders come the other way."""
    begin_again(victim, "auto")
    wait_for(lambda: victim.listening()["channel"] == SSMMESSAGES, WAIT_SEC, "the control channel")
    with victim.unharmed():
        victim.ssm.close(EC2MESSAGES)
        victim.wait_order(HEAL_SEC)
        assert victim.listening()["channel"] == SSMMESSAGES
        victim.ssm.open(EC2MESSAGES)
        victim.fault("CreateControlChannel", faults.ACCESS_DENIED)
        ask_anew(victim)
        wait_for(lambda: victim.listening()["channel"] == EC2MESSAGES, WAIT_SEC, "polls in its place")
        victim.wait_order(HEAL_SEC)
    begin_again(victim, victim.usual)


# -- all of them, the longest first: by channel, and by name

def named(*cases):
    return {case.__name__: case for case in cases}


EITHER = {
    **named(flood, stalled, wrong_clock, missing_service, no_such_host),
    **{name: lasting(*case) for name, case in LASTING.items()},
    **named(refused, unread, replayed, cancellations, app_and_release_that_are_not_there, no_ping, trickle),
    **{name: answered(*case) for name, case in {**ANSWERS, "throttled": (THROTTLED, r"Rate exceeded")}.items()},
}
CASES = {
    EC2MESSAGES: {**EITHER, **named(reply_rejected, reply_lost, receipt_lost)},
    SSMMESSAGES: {**EITHER, **named(half_open, chosen_by_itself),
                  **{name: bad_frame(*case) for name, case in FRAMES.items()},
                  **{name: opening(*case) for name, case in OPENING.items()},
                  **{name: harmless(fault) for name, fault in HARMLESS.items()},
                  **{name: lost(*case) for name, case in LOST.items()}},
}


@pytest.fixture(scope="module")
def outcomes(victims, request):
    """What came of the cases that are to be tested, by channel and name: they run side by side, each on a host that is free."""
    chosen = {(p["channel"], p["name"]) for item in request.session.items
              if (p := getattr(getattr(item, "callspec", None), "params", {})).get("name") and item.path == request.path}
    free = {channel: queue.SimpleQueue() for channel in victims}

    def run(channel, case):
        victim = free[channel].get()
        try:
            case(victim)
        finally:
            free[channel].put(victim)

    with contextlib.ExitStack() as stack:
        running = {}
        for channel, some in victims.items():
            for victim in some:
                free[channel].put(victim)
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(some)))
            running |= {(channel, name): pool.submit(run, channel, case) for name, case in CASES[channel].items()
                        if (channel, name) in chosen}
    return {key: future.exception() for key, future in running.items()}


@pytest.mark.parametrize("channel, name", [(channel, name) for channel in CHANNELS for name in CASES[channel]])
def test_case(outcomes, channel, name):
    if outcomes[channel, name] is not None:
        raise outcomes[channel, name]
