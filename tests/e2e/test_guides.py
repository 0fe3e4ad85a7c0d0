"""The guides of packaging/docs, as somebody who follows them: every block that can be run here is, and what they say comes of it
comes. (The quick start of README.md is in test_package.py.)"""

import json
import re

import pytest

import guide
import imds_server
import sandbox
import slipway

GUIDES = "packaging/docs"
FIRST = f"{GUIDES}/first-deployment.md"
KEYS = f"{GUIDES}/keys-and-the-bad-day.md"
BUCKET = "acme-deploy"
DESK = "/root/desk"
ROOT = "/etc/slipway/trust/root.json"


class Pair:
    """A desk and an instance, with a bucket between them: the desk has keys for it, the instance a role."""

    def __init__(self, hosts, s3, bucket, imds):
        self.desk, self.instance = hosts
        self.s3, self.bucket, self.imds = s3, bucket, imds
        sts = s3.sts()
        imds.role, imds.credentials, imds.region = "hello", sts.session(), s3.region
        for host in hosts:
            host.trust_ca(s3.authority.certificate)
        self.desk.copy_in(guide.SOURCE / "packaging", f"{DESK}/slipway/packaging")
        environment = slipway.store_environment(s3)
        del environment["AWS_CA_BUNDLE"]
        self.places = {"desk": (self.desk, DESK, {**environment, "HOME": "/root"}), "instance": (self.instance, "/root", {})}
        text = "".join(f"{k}={v}\n" for k, v in {**imds.environment, "AWS_ENDPOINT_URL_S3": sts.tls_endpoint}.items())
        self.instance.write("/etc/slipway/environment", text, mode=0o600)

    def bring_root(self, name="root.json"):
        """What the guides have done by scp, or in an image."""
        self.instance.write(ROOT, self.desk.read(f"{DESK}/{name}"))

    def steal(self):
        """Before the guide's reader notices: the thief's release is live."""
        host, directory, environment = self.places["desk"]
        host.run(["sh", "-euc", f"cd {directory} && slipway-publish release --store s3://{self.bucket} --app hello --channel prod "
                  "--key next.key --id thief hello"], env=environment)
        self.instance.run(["slipway", "poll", "--wait"])
        assert slipway.current(self.instance, "/srv/hello") == "thief"

    def tag(self, path):
        """The tags that a guide sets by `aws ec2 create-tags`."""
        text = "".join(b.text for b in guide.blocks_of(path) if b.words[:1] == ["aws"])
        tags = dict(re.findall(r"Key=(\S+),Value=(\S+)", text))
        assert {"slipway:store", "slipway:app", "slipway:channel"} <= set(tags)
        self.imds.tags = {key: value.replace(BUCKET, self.bucket) for key, value in tags.items()}

    def follow(self, path, *by_hand):
        guide.Guide(path, self.places, {BUCKET: self.bucket}, by_hand).run()


@pytest.fixture
def imds():
    with imds_server.ImdsServer(sandbox.SERVER_ADDRESS) as server:
        yield server


@pytest.fixture
def pair(make_hosts, s3, bucket, imds):
    return Pair(make_hosts(2), s3, bucket, imds)


def test_first_deployment_and_its_keys(pair):
    """The second guide goes on where the first one ended."""
    pair.tag(FIRST)
    pair.follow(FIRST, pair.bring_root)
    policy = pair.desk.read(f"{DESK}/instance-role.json")
    assert json.loads(policy)["Statement"] and "@" not in policy
    assert slipway.current(pair.instance, "/srv/hello") == "first"
    pair.follow(KEYS, pair.steal, pair.bring_root)
    assert slipway.current(pair.instance, "/srv/hello") == "clean"


def test_from_a_directory(pair):
    path = f"{GUIDES}/from-a-directory.md"
    desk, instance = pair.desk, pair.instance

    def bring_tree():
        # what it says that is not taken along is not: the only other file is the program
        desk.write(f"{DESK}/shop/serve.py", instance.read("/opt/shop/serve.py"))
    pair.follow(path, bring_tree, pair.bring_root)
    assert slipway.current(instance, "/srv/shop") == "two"
    assert instance.read("/srv/shop/shared/data/visits").isdigit() and not instance.exists("/opt/shop")
    assert instance.unit("shop.service", "ActiveState")["ActiveState"] == "active"


@pytest.mark.parametrize("name", ["from-codedeploy", "from-codepipeline-ec2", "comparison"])
def test_what_is_shown(pair, name):
    pair.follow(f"{GUIDES}/{name}.md")


def examples(kind):
    return [(path.name, block) for path in sorted((guide.SOURCE / GUIDES).glob("*.md"))
            for block in guide.blocks_of(path) if block.words == [kind]]


def test_examples_of_slipway_json(pair):
    """slipway-publish takes each of them."""
    host, directory, environment = pair.places["desk"]
    host.run(["slipway-publish", "keygen", "/root/k"])
    host.run(["sh", "-c", "mkdir -p /root/tree/systemd /srv/store; touch /root/tree/systemd/web.service"])
    found = examples("slipway.json")
    assert found
    for n, (name, block) in enumerate(found):
        host.write("/root/spec.json", block.text)
        done = host.run(["slipway-publish", "release", "--store", "file:///srv/store", "--app", "web", "--channel", f"c{n}",
                         "--key", "/root/k.key", "--spec", "/root/spec.json", "--id", "r", "/root/tree"], check=False)
        assert done.rc == 0, f"{name}:{block.line}: {done.stderr}"


def test_examples_of_agent_json(pair):
    """The agent takes each of them: `slipway check` has nothing against it."""
    host = pair.instance
    host.write("/etc/slipway/environment", "", mode=0o600)
    found = examples("agent.json")
    assert found
    for name, block in found:
        host.write("/root/agent.json", block.text)
        said = host.run(["slipway", "--config", "/root/agent.json", "check"], check=False).stdout
        assert re.search(r"^ok +config ", said, re.M), f"{name}:{block.line}: {said}"
