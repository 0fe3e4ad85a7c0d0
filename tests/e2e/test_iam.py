"""The policies of packaging/aws: the real flows run under them, and what a role must not do is denied.

radosgw judges S3's calls by action, resource and the condition on s3:prefix; moto judges KMS and EC2 by the action alone (so the
key's ARN is "*" there). Neither knows conditions on If-Match and If-None-Match, so here roles replace what on AWS they could not.
What was not tried is in packaging/aws/README.md.
"""

import json
import os
import pathlib
import re
import uuid

import botocore.exceptions
import pytest

import formats
import s3_server
import slipway
import toy
from waiting import wait_for

FAILED = 1
POLICIES = pathlib.Path(__file__).resolve().parents[2] / "packaging/aws"
PLACEHOLDER = re.compile(r"@[A-Z_]+@")
PREFIX = "deploy"
KEY = "kms:alias/iam"
WAIT_SEC = 40
PART_BYTES = 20 << 20


def policy(name, bucket, channel):
    values = {"PARTITION": "aws", "BUCKET": bucket, "PREFIX": f"{PREFIX}/", "APP": "web", "CHANNEL": channel, "KEY_ARN": "*"}
    text = (POLICIES / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(PLACEHOLDER.sub(lambda m: values[m[0].strip("@")], text))


def s3_part(document):
    """The statements about S3: radosgw takes no other ones."""
    return {**document, "Statement": [s for s in document["Statement"] if "s3:" in str(s["Action"])]}


class Roles:
    """A bucket in an account of its own, and a user for each role, the same in radosgw and in moto. CI publishes in staging;
    the instances follow prod."""

    def __init__(self, s3, aws):
        self.s3, self.aws = s3, aws
        tag = uuid.uuid4().hex[:8]
        self.bucket = f"acme-{tag}"
        self.account = s3.make_account(f"acme-{tag}")
        self.owner = s3.client(self.account.root)
        self.owner.create_bucket(Bucket=self.bucket)
        self.url = f"s3://{self.bucket}/{PREFIX}"
        self._users = {name: self._make_user(f"{name}-{tag}", [policy(p, self.bucket, channel) for p in policies])
                       for name, policies, channel in (("instance", ["instance-role", "instance-tags"], "prod"),
                                                       ("ci", ["ci-role"], "staging"), ("admin", ["admin-role"], "none"),
                                                       ("audit", ["audit-role"], "none"))}

    def _make_user(self, name, policies):
        user = self.aws.make_user(name, *policies)
        return self.account.make_user(name, *[s3_part(p) for p in policies if s3_part(p)["Statement"]], keys=(user.access_key, user.secret_key))

    def environment(self, name):
        """Of one role, for Slipway's programs."""
        user = self._users[name]
        return {**slipway.store_environment(self.s3, user), "AWS_ENDPOINT_URL_KMS": self.aws.endpoint}

    def client(self, name, service="s3"):
        """boto3 as one role."""
        user = self._users[name]
        return self.s3.client(user) if service == "s3" else self.aws.client(service, user)

    def key(self, path):
        return f"{PREFIX}/{path}"

    def names(self, path):
        """What lies below a path."""
        listed = self.owner.list_objects_v2(Bucket=self.bucket, Prefix=self.key(path)).get("Contents", [])
        return [entry["Key"].removeprefix(self.key(path)) for entry in listed]


@pytest.fixture(scope="module")
def roles(s3, aws):
    roles = Roles(s3, aws)
    kms = aws.client("kms")
    arn = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/iam", TargetKeyId=arn)
    yield roles
    s3_server.empty_bucket(roles.owner, roles.bucket)
    roles.owner.delete_bucket(Bucket=roles.bucket)


@pytest.fixture
def objects(roles):
    """One object of every kind, and some of others."""
    paths = ["web/releases/r/index", "web/releases/r/provenance.json",
             "web/channels/prod/manifest.json", "web/channels/prod/halt.json",
             "web/channels/prod/history/1.json", "web/channels/prod/instances/i.json", "web/channels/staging/manifest.json",
             "web/channels/staging/halt.json", "web/channels/staging/history/1.json", "web/channels/staging/instances/i.json",
             "trust/1.json", "other/releases/r/index", "other/channels/prod/manifest.json"]
    for path in paths:
        roles.owner.put_object(Bucket=roles.bucket, Key=roles.key(path), Body=b"{}")
    roles.owner.put_object(Bucket=roles.bucket, Key="elsewhere", Body=b"{}")
    yield paths
    s3_server.empty_bucket(roles.owner, roles.bucket)


def is_allowed(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "403", "UnauthorizedOperation"), error
        return False
    return True


def readable(roles, role, paths):
    client = roles.client(role)
    return {p for p in paths if is_allowed(client.get_object, Bucket=roles.bucket, Key=roles.key(p))}


def writable(roles, role, paths):
    client = roles.client(role)
    return {p for p in paths if is_allowed(client.put_object, Bucket=roles.bucket, Key=roles.key(p), Body=b"{}")}


def below(paths, *patterns):
    return {p for p in paths if any(re.fullmatch(pattern, p) for pattern in patterns)}


MAY = {
    # role: (reads, writes)
    "instance": ((r"web/releases/.*", r"web/channels/prod/(manifest|halt)\.json", r"trust/.*"), (r"web/channels/prod/instances/.*",)),
    "ci": ((r"web/releases/.*", r"web/channels/staging/(manifest|halt)\.json", r"web/channels/staging/history/.*", r"trust/.*"),
           (r"web/releases/.*", r"web/channels/staging/(manifest|halt)\.json", r"web/channels/staging/history/.*")),
    "admin": ((r"web/.*", r"trust/.*"), (r"web/channels/\w+/(manifest|halt)\.json", r"web/channels/\w+/history/.*", r"trust/.*")),
    "audit": ((r".*",), ()),
}


@pytest.mark.parametrize("role", MAY)
def test_no_more_than_it_needs(roles, objects, role):
    reads, writes = MAY[role]
    assert readable(roles, role, objects) == below(objects, *reads)
    assert writable(roles, role, objects) == below(objects, *writes)
    client = roles.client(role)
    assert not is_allowed(client.get_object, Bucket=roles.bucket, Key="elsewhere")
    assert not is_allowed(client.put_object, Bucket=roles.bucket, Key="elsewhere", Body=b"")
    assert not [p for p in objects if is_allowed(client.delete_object, Bucket=roles.bucket, Key=roles.key(p))]
    listable = {prefix for prefix in ("", PREFIX, f"{PREFIX}/", f"{PREFIX}/web/", f"{PREFIX}/web/channels/prod/history/",
                                      f"{PREFIX}/trust/", f"{PREFIX}/other/")
                if is_allowed(client.list_objects_v2, Bucket=roles.bucket, Prefix=prefix)}
    others = {f"{PREFIX}/", f"{PREFIX}/other/"} if role == "audit" else set()
    assert listable == {f"{PREFIX}/web/", f"{PREFIX}/web/channels/prod/history/", f"{PREFIX}/trust/"} | others
    for call in (client.get_bucket_policy, client.delete_bucket, client.get_bucket_acl):
        assert not is_allowed(call, Bucket=roles.bucket)


def test_who_may_sign(roles):
    for role in MAY:
        kms = roles.client(role, "kms")
        allowed = [is_allowed(kms.sign, KeyId="alias/iam", Message=b"x", SigningAlgorithm="ECDSA_SHA_256"),
                   is_allowed(kms.get_public_key, KeyId="alias/iam")]
        assert allowed == [role in ("ci", "admin")] * 2
        for call in (kms.create_key, kms.list_keys):
            assert not is_allowed(call)
        assert not is_allowed(kms.schedule_key_deletion, KeyId="alias/iam")


def test_who_may_read_tags(roles):
    for role in MAY:
        ec2 = roles.client(role, "ec2")
        assert is_allowed(ec2.describe_tags) == (role == "instance")
        assert not is_allowed(ec2.describe_instances)


def tree(directory, name, *, large=False):
    directory.mkdir(exist_ok=True)
    for entry in toy.entries(name, toy.GOOD):
        (directory / entry.path).write_bytes(entry.content)
        (directory / entry.path).chmod(entry.file_mode)
    if large:
        (directory / "large").write_bytes(os.urandom(PART_BYTES))
    return directory


SPEC = {"activate": {"units": [{"name": "web.service", "action": "restart"}], "health": {"bake": "100ms"}}}


class Person:
    """slipway-publish with the rights of one role."""

    def __init__(self, publisher, roles, role):
        self._publisher, self._roles, self._environment = publisher, roles, roles.environment(role)

    def run(self, verb, *options, channel=None, check=True):
        place = ["--store", self._roles.url]
        if verb != "trust":
            place += ["--app", "web"]
        place += ["--channel", channel] if channel else []
        return self._publisher.run(*([verb, "init"] if verb == "trust" else [verb]), *place, *options, check=check,
                                   environment=self._environment)

    def run_bare(self, *args, check=True):
        """With these arguments alone."""
        return self._publisher.run(*args, check=check, environment=self._environment)

    def release(self, name, directory, *, channel="staging", check=True):
        spec = self._publisher.directory / "spec.json"
        spec.write_text(json.dumps(SPEC), encoding="utf-8")
        return self.run("release", "--key", KEY, "--id", name, "--spec", spec, directory, channel=channel, check=check)

    def promote(self, root, check=True):
        return self.run("promote", "--from", "staging", "--to", "prod", "--key", KEY, "--trust", root, check=check)


def test_the_flows(roles, host, make_publisher, tmp_path):
    """Trust root, releases in one piece and in parts, promotions, a deployment, its report, a halt, a rollback: each by the role
    whose it is."""
    publisher = make_publisher(roles.url)
    admin, ci = Person(publisher, roles, "admin"), Person(publisher, roles, "ci")
    root = tmp_path / "root.json"
    admin.run("trust", "--key", KEY, "-o", root)
    ci.release("r1", tree(tmp_path / "tree", "r1"))
    admin.promote(root)

    web = toy.Toy(host, formats.S3Store(roles.owner, roles.bucket, PREFIX))
    toy.configure([web], url=roles.url, environment={k: v for k, v in roles.environment("instance").items() if "KMS" not in k})
    host.write("/etc/slipway/trust/root.json", root.read_bytes())
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")
    wait_for(lambda: roles.names("web/channels/prod/instances/"), WAIT_SEC, "the instance to report")

    ci.release("r2", tree(tmp_path / "tree", "r2", large=True))
    admin.run("halt", "the fair", channel="prod")
    admin.promote(root)
    wait_for(lambda: web.status()["poll"]["verdict"] == "halted", WAIT_SEC, "the agent to see the halt")
    admin.run("unhalt", channel="prod")
    web.assert_whole("r2")
    admin.run("rollback", "--key", KEY, "--trust", root, channel="prod")
    web.assert_whole("r1")
    assert len(json.loads(admin.run("log", "--json", channel="prod").stdout)["manifests"]) == 3
    assert json.loads(admin.run("verify", "--trust", root, "--json", channel="prod").stdout)["verified"]

    # A job of each day, and one that looks at everything.
    found = ci.run("refresh", "--key", KEY, "--trust", root, "--within", "90d", "--json", channel="staging")
    assert json.loads(found.stdout)["deployment"] == 2 and json.loads(found.stdout)["serial"] == 3
    audit = Person(publisher, roles, "audit")
    whole = ("verify", "--all", "--store", roles.url, "--trust", root, "--json")
    found = json.loads(audit.run_bare(*whole).stdout)
    assert found["verified"] and (found["channels"], found["manifests"], found["releases"]) == (2, 6, 2)
    result = admin.run_bare(*whole, check=False)
    assert result.rc == FAILED and "s3:ListBucket" in result.stderr

    # What is somebody else's is refused, with the permission that it takes.
    before = roles.names("web/channels/prod/history/")
    writing = "this takes the permission s3:PutObject"
    for result, text in ((ci.promote(root, check=False), "grant s3:GetObject and s3:ListBucket"),
                         (ci.run("halt", channel="prod", check=False), writing),
                         (ci.run("trust", "--key", KEY, "-o", tmp_path / "ci.json", check=False), writing),
                         (admin.release("r3", tree(tmp_path / "tree", "r3"), channel="prod", check=False), writing)):
        assert result.rc == FAILED and text in result.stderr, result.stderr
    assert roles.names("web/channels/prod/history/") == before


def test_placeholders_are_explained():
    readme = (POLICIES / "README.md").read_text(encoding="utf-8")
    files = sorted(POLICIES.glob("*.json"))
    used = {name for path in files for name in PLACEHOLDER.findall(path.read_text(encoding="utf-8"))}
    assert used == set(re.findall(r"^\| `(@[A-Z_]+@)`", readme, re.MULTILINE))
    assert {f"`{path.name}`" for path in files} == set(re.findall(r"^\| (`[a-z-]+\.json`)", readme, re.MULTILINE))
