"""packaging/aws/slipway-deploy.json with AWS' own tools: boto3 and its models make the document and send it, moto takes it in.

moto judges by actions alone, so that every resource is "*" here. What reaches an instance is tests/test-ssm-order.c's matter.
"""

import json
import pathlib
import re
import uuid

import botocore.exceptions
import pytest

PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging/aws"
NAME = "Slipway-Deploy"
INSTANCE = "i-0123456789abcdef0"
TAG = "slipway:app"
VALUES = {"PARTITION": "aws", "ACCOUNT": "123456789012", "APP": "web"}
ACTIONS = {"poll": {}, "deploy": {"release": "2026.11.22-1f3a9c2"}, "rollback": {"release": "1"},
           "hold": {"until": "2026-11-22T15:00:00+01:00", "reason": "the fair, until it closes"}, "resume": {}, "confirm": {"app": "web"},
           "status": {}}


def policy(name):
    text = (PACKAGING / f"{name}.json").read_text(encoding="utf-8")
    document = json.loads(re.sub(r"@([A-Z_]+)@", lambda m: VALUES[m[1]], text))
    return {**document, "Statement": [{**statement, "Resource": "*"} for statement in document["Statement"]]}


@pytest.fixture(scope="module")
def content():
    return (PACKAGING / "slipway-deploy.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(aws, content):
    """The document, made as the README has it."""
    ssm = aws.client("ssm")
    ssm.create_document(Name=NAME, DocumentType="Command", DocumentFormat="JSON", Content=content)
    yield json.loads(content)
    ssm.delete_document(Name=NAME)


@pytest.fixture(scope="module")
def people(aws):
    """A client of ssm for each kind of identity."""
    users = {"admin": ["admin-ssm"], "instance": ["instance-ssm"], "nobody": []}
    return {name: aws.client("ssm", aws.make_user(f"{name}-{uuid.uuid4().hex[:8]}", *map(policy, policies))) for name, policies in users.items()}


def is_allowed(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] in ("403", "InvocationDoesNotExist"), error
        return error.response["Error"]["Code"] != "403"
    return True


def send(ssm, action, **parameters):
    return ssm.send_command(DocumentName=NAME, Targets=[{"Key": f"tag:{TAG}", "Values": ["web"]}],
                            Parameters={key: [value] for key, value in {"action": action, **parameters}.items()})["Command"]


def test_it_is_a_document(aws, document, content):
    ssm = aws.client("ssm")
    assert json.loads(ssm.get_document(Name=NAME)["Content"]) == json.loads(content)
    described = ssm.describe_document(Name=NAME)["Document"]
    assert described["SchemaVersion"] == "2.2" and described["DocumentType"] == "Command"
    assert {p["Name"]: p.get("DefaultValue") for p in described["Parameters"]} == {
        "action": None, "app": "", "release": "", "until": "", "reason": ""}


@pytest.mark.parametrize("action", ACTIONS)
def test_sending_it(people, document, action):
    command = send(people["admin"], action, **ACTIONS[action])
    assert command["DocumentName"] == NAME and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", command["CommandId"])
    assert command["Parameters"] == {"action": [action], **{key: [value] for key, value in ACTIONS[action].items()}}


def test_who_may(people, document):
    assert {name for name, ssm in people.items() if is_allowed(send, ssm=ssm, action="poll")} == {"admin"}
    command = send(people["admin"], "poll")["CommandId"]
    for name, ssm in people.items():
        assert is_allowed(ssm.get_command_invocation, CommandId=command, InstanceId=INSTANCE) == (name == "admin")
        assert is_allowed(ssm.list_commands, CommandId=command) == (name == "admin")
        for call in (ssm.list_documents, ssm.describe_instance_information):
            assert not is_allowed(call)
        assert not is_allowed(ssm.delete_document, Name=NAME)


GOOD = {
    "action": list(ACTIONS),
    "app": ["", "web", "a" * 64],
    "release": ["", "2026.11.22-1f3a9c2"],
    "until": ["", "2h", "30min", "2026-11-22T15:00:00Z"],
    "reason": ["", "the fair, ä; %n $(x)", "a" * 256],
}
BAD = {
    "action": ["", "reboot", "poll;reboot"],
    "app": ["-web", "../web", "web\n", "a" * 65, "$(reboot)"],
    "release": ["/etc", "1;reboot"],
    "until": ["tomorrow", "-2h", "2h;reboot", "2h\n"],
    "reason": ["a\nb", "\x1b[2J", "a" * 257],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_its_parameters_take(document, name):
    """As the service judges them before anything is sent. (Slipway judges them again.)"""
    definition = document["parameters"][name]

    def taken(value):
        # \Z: Python's $ also matches before a line break at the end, which that of Java and Go does not
        pattern = definition.get("allowedPattern", ".*").replace("$", r"\Z")
        return value in definition.get("allowedValues", [value]) and re.match(pattern, value) is not None

    assert [taken(value) for value in GOOD[name]] == [True] * len(GOOD[name])
    assert [taken(value) for value in BAD[name]] == [False] * len(BAD[name])
    assert taken(definition.get("default", "poll"))


def test_its_step_holds_no_parameter(document):
    """An agent that puts parameters into a script must find no place for them."""
    steps = document["mainSteps"]
    assert [step["name"] for step in steps] == ["slipway"] and "{{" not in json.dumps(steps)
    assert "precondition" not in steps[0] and steps[0]["inputs"]["runCommand"][-1] == "exit 1"
