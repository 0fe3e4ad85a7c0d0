"""Machine images: packaging/ami/provision on a test host, whose disk then is the image; instances boot from copies of it, find
their work by their tags, get credentials by their role, and nobody logs in. The same for user data and a real cloud-init.

What was not tried is in packaging/ami/README.md.
"""

import base64
import contextlib
import hashlib
import json
import pathlib
import re
import subprocess

import boto3
import botocore.stub
import pytest
import yaml

import conftest
import formats
import imds_server
import slipway
import toy
from waiting import wait_for

PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging/ami"
PROVISION_SEC = 120
WAIT_SEC = 60
USER_DATA_MAX_BYTES = 16384
INPUT = "/tmp/input"
BUILDER = "i-0b01d000000000000"
SECRET = "nobody-else-may-have-this"
PLACEHOLDER = re.compile(r"@[A-Z0-9_]+@")

# All that an image has and the root that it was made from has not: packages, whose they are, and what is to run.
KEPT = re.compile(
    r"/usr/.*|/etc/slipway/.*|/etc/systemd/system/(web|api)\.service"
    r"|/etc/systemd/system/multi-user\.target\.wants/(slipwayd|web)\.service|/etc/machine-id"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|/etc/\.pwd\.lock|/etc/ssl/certs/ca-certificates\.crt"
    r"|/var/lib/dpkg/.*|/var/lib/systemd/(deb-systemd-(user-)?helper-enabled|catalog)/.*|/var/lib/apt/extended_states"
    r"|/var/lib/dbus/machine-id|/var/cache/(debconf/.*|ldconfig/aux-cache|apt/archives/lock)|/(etc|var)/\.updated")
# What a machine has that was in use.
TRACES = [
    "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub", "/root/.ssh/authorized_keys", "/root/.ssh/id_ed25519",
    "/root/.bash_history", "/root/.aws/credentials", "/root/.docker/config.json", "/home/admin/.ssh/authorized_keys",
    "/home/admin/.bash_history", "/home/admin/.netrc", "/var/lib/cloud/instances/i-1/user-data.txt",
    "/var/lib/cloud/data/instance-id", "/var/log/cloud-init.log", "/var/log/auth.log", "/var/log/apt/history.log",
    "/var/lib/apt/lists/a_Packages", "/var/cache/apt/archives/a.deb", "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret", "/var/lib/dhcp/dhclient.eth0.leases", "/var/tmp/.hidden/a", "/tmp/notes",
    "/etc/netplan/50-cloud-init.yaml", "/var/lib/slipway-fetch/0.json", "/var/cache/slipway/part", "/var/lib/slipway/instance",
    "/var/lib/amazon/ssm/i-1/registration", "/var/lib/amazon/ssm/Vault/Store/EC2RegistrationKey",
    "/var/lib/amazon/ssm/runtimeconfig/identity_config.json", "/home/admin/.config/git/credentials", "/home/admin/.ssh/deploy.pem"]
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"


class Cloud:
    """A store, the role that instances get, and their metadata."""

    def __init__(self, s3, bucket, stack):
        self.s3, self.bucket, self.store = s3, bucket, formats.S3Store(s3.client(), bucket)
        self.sts, self._stack = s3.sts(), stack
        self._session = self.sts.session()
        self._metadata = {}

    @property
    def environment(self):
        """What makes a host here believe that it is on EC2; nothing of it is an instance's."""
        return f"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{imds_server.ADDRESS}\nAWS_ENDPOINT_URL_S3={self.sts.tls_endpoint}\n"

    def app(self, name, key):
        app = toy.Toy(None, self.store, app=name)
        app.key = key
        return app

    def tags(self, app):
        return {"slipway:store": self.store.url, "slipway:app": app, "slipway:channel": "prod"}

    def describe(self, host, instance_id, tags):
        """Says who a host is that has not booted yet; it can't be asked before open()."""
        imds = self._metadata[host.name] = imds_server.of_host(host)
        imds.instance_id, imds.tags, imds.role, imds.credentials = instance_id, tags, "web", self._session
        imds.region, imds.zone = self.s3.region, f"{self.s3.region}a"
        return imds

    def open(self, host):
        return self._stack.enter_context(self._metadata[host.name])

    def report(self, app, instance_id):
        return json.loads(self.store.get(f"{app}/channels/prod/instances/{instance_id}.json"))


@pytest.fixture(scope="module")
def cloud(s3):
    with conftest.fresh_bucket(s3) as bucket, contextlib.ExitStack() as stack:
        yield Cloud(s3, bucket, stack)


@pytest.fixture(scope="module")
def apps(cloud):
    """Two applications of one publisher, each with a release."""
    key = formats.Key.new()
    apps = {name: cloud.app(name, key) for name in ("web", "api")}
    for app in apps.values():
        app.release()
    return apps


class Builder:
    """A machine from whose disk an image is made, with the units of the applications and what Packer's template brings."""

    def __init__(self, host, cloud, apps, debs):
        self.host, self.debs = host, debs
        self.machine_id = host.read("/etc/machine-id").strip()
        for name, data in (("provision", (PACKAGING / "provision").read_bytes()), ("slipway.deb", debs["slipway"].read_bytes()),
                           ("root.json", formats.trust_root([apps["web"].key]))):
            host.write(f"{INPUT}/{name}", data, mode=0o755)
        host.trust_ca(cloud.s3.authority.certificate)
        host.write("/etc/slipway/environment", cloud.environment, mode=0o600)
        for name in apps:
            unit = toy.UNIT.format(app=name)
            host.write(f"/etc/systemd/system/{name}.service", f"[Unit]\nConditionPathExists=/srv/{name}/current\n{unit}"
                       "[Install]\nWantedBy=multi-user.target\n")

    def use(self):
        """What people and programs leave behind."""
        self.host.run(["useradd", "--create-home", "--skel=/nonexistent", "admin"])
        for path in TRACES:
            self.host.write(path, f"{PRIVATE_KEY if path.endswith('.pem') else ''}{SECRET}\n")

    def provision(self, *options, trust="root.json", package="slipway.deb", check=True):
        trust = ["--trust", f"{INPUT}/{trust}"] if trust else []
        packages = [f"{INPUT}/{package}"] if package else []
        return self.host.run([f"{INPUT}/provision", *trust, *options, *packages], check=check, timeout_sec=PROVISION_SEC)

    def refuse(self, *options, **inputs):
        """What provision says that does not go on."""
        result = self.provision(*options, check=False, **inputs)
        assert result.rc != 0
        return result.stderr

    def take_image(self, directory, *, srv=()):
        """Stops the machine and returns its disk, on which nothing may be that is the machine's own. srv: of whom there are
        releases."""
        self.host.run(["rm", "-r", INPUT])
        self.host.shut_down()
        image = self.host.take_image(directory)
        found = {f"/{p.relative_to(image.layer)}": p for p in image.layer.rglob("*") if p.is_file() or p.is_symlink()}
        states = {p for app in srv for p in found if re.fullmatch(rf"/var/lib/slipway/{app}\.(json|index/.*)", p)}
        unknown = sorted(p for p in found if not KEPT.fullmatch(p) and p not in states)
        assert not unknown, "\n".join(unknown)
        assert found["/etc/machine-id"].read_bytes() == b""
        own = [text.encode() for text in (self.machine_id, BUILDER, SECRET)]
        files = [p for p in [*found.values(), *image.srv.rglob("*")] if p.is_file() and not p.is_symlink()]
        assert not [p for p in files if any(text in p.read_bytes() for text in own)]
        assert {p.name for p in image.srv.iterdir()} == set(srv)
        return image


def boot_builder(make, cloud, apps, debs, tags=None):
    host = make(1, root=conftest.directory_from("SLIPWAY_E2E_CLOUD_ROOT"),
                before_boot=lambda h: cloud.describe(h, BUILDER, tags or {}))[0]
    cloud.open(host)
    return Builder(host, cloud, apps, debs)


@pytest.fixture(scope="module")
def builder(make_module_hosts, cloud, apps, debs):
    return boot_builder(make_module_hosts, cloud, apps, debs)


@pytest.fixture(scope="module")
def image(builder, tmp_path_factory):
    """Of a machine that was in use, provisioned twice."""
    builder.use()
    first = builder.provision()
    assert "trust root: ok" in first.stdout and "1 of 1 keys must sign" in first.stdout, first
    builder.provision()
    assert builder.host.unit("slipwayd.service", "UnitFileState", "ActiveState") == {"UnitFileState": "enabled",
                                                                                     "ActiveState": "inactive"}
    return builder.take_image(tmp_path_factory.mktemp("ami") / "image")


@pytest.fixture
def boot_image(make_hosts, cloud, image):
    """boot_image({id: tags, …}) boots an instance of the image for each; late: whose metadata can't be had yet."""
    def boot(instances, late=()):
        left = iter(instances.items())

        def describe(host):
            instance_id, tags = next(left)
            cloud.describe(host, instance_id, tags)
            if instance_id not in late:
                cloud.open(host)
        return make_hosts(len(instances), image=image, before_boot=describe)
    return boot


def wait_deployed(app, host, release):
    app.host = host
    wait_for(lambda: slipway.current(host, app.root) == release, WAIT_SEC, f"{release} on {host}")
    app.assert_whole(release)


def wait_trouble(host, words):
    wait_for(lambda: words in slipway.status(host).get("trouble", ""), WAIT_SEC, f"status to say {words!r}")


def test_what_is_missing_is_said(builder, cloud):
    """Before anything is changed, as far as that can be known then."""
    host = builder.host
    host.write(f"{INPUT}/empty", "")
    for words, inputs in (("no trust root", {"trust": None}), (f"{INPUT}/absent.json is missing", {"trust": "absent.json"}),
                          ("empty", {"trust": "empty"}), ("no package", {"package": None}),
                          (f"{INPUT}/absent.deb is missing", {"package": "absent.deb"})):
        assert words in builder.refuse(**inputs)
    host.write("/etc/slipway/environment", f"{cloud.environment}AWS_SECRET_ACCESS_KEY=x\n")
    assert "credentials, and an image is for many" in builder.refuse()
    host.write("/etc/slipway/environment", f"{cloud.environment}AWS_SHARED_CREDENTIALS_FILE=/etc/slipway/keys/credentials\n")
    assert "credentials, and an image is for many" in builder.refuse()
    assert not host.exists("/usr/bin/slipway")

    host.write("/etc/slipway/environment", cloud.environment, mode=0o600)
    for name, root in (("key.pem", b"-----BEGIN PRIVATE KEY-----\n"), ("none.json", formats.trust_root([]))):
        host.write(f"{INPUT}/{name}", root)
        assert "is no trust root that counts: fail" in builder.refuse(trust=name)
        assert host.listdir("/etc/slipway/trust") == []
    host.write(f"{INPUT}/agent.json", '{ "stoer": "s3://a" }\n')
    assert "stoer" in builder.refuse("--agent", f"{INPUT}/agent.json")
    host.write(f"{INPUT}/agent.json", f'{{ "instance": "{BUILDER}" }}\n')
    assert "says which instance this is" in builder.refuse("--agent", f"{INPUT}/agent.json")
    assert host.unit("slipwayd.service", "UnitFileState")["UnitFileState"] == "disabled"
    host.run(["rm", "/etc/slipway/agent.json"])


def test_instances(cloud, apps, builder, boot_image):
    """Two of them, of two applications; the metadata of one comes late."""
    ids = {"web": "i-0aaaaaaaaaaaaaaa1", "api": "i-0bbbbbbbbbbbbbbb2"}
    booted = boot_image({i: cloud.tags(name) for name, i in ids.items()}, late=[ids["api"]])
    hosts = dict(zip(ids, booted))
    wait_deployed(apps["web"], hosts["web"], "r1")
    wait_trouble(hosts["api"], "can't ask who this host is")
    cloud.open(hosts["api"])
    wait_deployed(apps["api"], hosts["api"], "r1")
    for name, host in hosts.items():
        wait_for(lambda: cloud.report(name, ids[name]).get("credentials") == "instance role", WAIT_SEC, "a report")
        identity = cloud.report(name, ids[name])["identity"]
        assert (identity["instance"], identity["tags"]) == (ids[name], cloud.tags(name))
        assert host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0"
    machine_ids = {host.read("/etc/machine-id") for host in booted} | {f"{builder.machine_id}\n"}
    assert len(machine_ids) == 3 and all(re.fullmatch(r"[0-9a-f]{32}\n", i) for i in machine_ids)


def test_machine_that_was_an_instance(cloud, apps, debs, boot_image, make_hosts, tmp_path):
    """What slipwayd learned of the machine goes from an image of it; where it deployed, nothing is guessed. An image of that
    without provisioning is another instance all the same."""
    unused, used = boot_image({BUILDER: {"Name": "build"}, "i-0ddddddddddddddd4": cloud.tags("web")})
    wait_trouble(unused, "store: missing")
    again = Builder(unused, cloud, apps, debs)
    again.provision()
    assert unused.unit("slipwayd.service", "ActiveState")["ActiveState"] == "inactive"
    again.take_image(tmp_path / "again")

    wait_deployed(apps["web"], used, "r1")
    running = used.unit("slipwayd.service", "MainPID", "ActiveState")
    assert "slipwayd has deployed on this machine (/var/lib/slipway/web.json)" in Builder(used, cloud, apps, debs).refuse()
    assert used.unit("slipwayd.service", "MainPID", "ActiveState") == running and running["ActiveState"] == "active"
    assert apps["web"].running() == "r1"
    used.shut_down()
    image, other = used.take_image(tmp_path / "copy"), "i-0eeeeeeeeeeeeeee5"
    copy = make_hosts(1, image=image, before_boot=lambda h: cloud.describe(h, other, cloud.tags("api")))[0]
    wait_trouble(copy, "can't ask who this host is")
    cloud.open(copy)
    wait_deployed(apps["api"], copy, "r1")
    assert cloud.report("api", other)["identity"]["instance"] == slipway.status(copy)["instance"] == other


def test_baked(cloud, apps, debs, make_hosts, tmp_path):
    """A release that is in the image runs before there is a network; the channel's next one follows."""
    web = cloud.app("web", formats.Key.new())
    web.store = formats.S3Store(cloud.s3.client(), cloud.bucket, "baked")
    web.release()
    tags = {**cloud.tags("web"), "slipway:store": web.store.url}
    builder = boot_builder(make_hosts, cloud, apps, debs, tags)
    builder.host.write(f"{INPUT}/baked.json", formats.trust_root([web.key]))
    builder.host.run(["systemctl", "enable", "--quiet", "web.service"])
    builder.provision("--bake", trust="baked.json")
    builder.provision("--bake", trust="baked.json")
    image = builder.take_image(tmp_path / "image", srv=["web"])

    def describe(host):
        cloud.describe(host, "i-0ccccccccccccccc3", tags)
        host.net_down()
    host = make_hosts(1, image=image, before_boot=describe)[0]
    web.host = host
    wait_for(lambda: web.running() == "r1", WAIT_SEC, "the release that is in the image")
    web.release()
    cloud.open(host)
    host.net_up()
    wait_for(lambda: host.run(["slipway", "poll", "web"], check=False).rc == 0, WAIT_SEC, "a poll")
    wait_deployed(web, host, "r2")


# -- user data

@pytest.fixture
def user_data(cloud, debs):
    def fill(**values):
        url = f"{cloud.sts.tls_endpoint}/{cloud.bucket}/packages/slipway.deb"
        package = debs["slipway"].read_bytes()
        cloud.s3.client().put_object(Bucket=cloud.bucket, Key="packages/slipway.deb", Body=package)
        values = {"PACKAGE_URL": url, "PACKAGE_SHA256": hashlib.sha256(package).hexdigest(), "REGION": cloud.s3.region, **values}
        text = (PACKAGING / "cloud-init.yaml").read_text(encoding="utf-8")
        return PLACEHOLDER.sub(lambda m: values[m[0].strip("@")], text)
    return fill


def boot_with(make_hosts, cloud, app, texts):
    """Hosts of a distribution's own image, as far as this can be had here: all that is added is their user data, and what
    makes them believe that they are on EC2."""
    texts = iter(texts)

    def before_boot(host):
        seed = host.disk / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        (seed / "user-data").write_text(next(texts), encoding="utf-8")
        (seed / "meta-data").write_text(f"instance-id: {host.name}\n", encoding="utf-8")
        (host.disk / "etc/cloud/cloud.cfg.d/99-test.cfg").write_text("network: { config: disabled }\nlocale: false\n",
                                                                      encoding="utf-8")
        with open(host.disk / "etc/ssl/certs/ca-certificates.crt", "a", encoding="ascii") as bundle:
            bundle.write(cloud.s3.authority.certificate)
        (host.disk / "etc/slipway").mkdir()
        (host.disk / "etc/slipway/environment").write_text(cloud.environment, encoding="ascii")
        (host.disk / f"etc/systemd/system/{app.unit}").write_text(toy.UNIT.format(app=app.app), encoding="ascii")
        cloud.describe(host, f"i-{host.number:017x}", cloud.tags(app.app))
        cloud.open(host)
    return make_hosts(2, root=conftest.directory_from("SLIPWAY_E2E_CLOUD_ROOT"), before_boot=before_boot)


def test_user_data(cloud, apps, make_hosts, user_data):
    """From an image without Slipway to a release, by cloud-init; a package that is another one is not installed."""
    app = apps["api"]
    root = base64.b64encode(formats.trust_root([app.key])).decode()
    texts = [user_data(TRUST_ROOT=root), user_data(TRUST_ROOT=root, PACKAGE_SHA256="0" * 64)]
    assert max(map(len, texts)) <= USER_DATA_MAX_BYTES
    good, bad = boot_with(make_hosts, cloud, app, texts)
    wait_deployed(app, good, "r1")
    assert "done" in good.run(["cloud-init", "status", "--wait"]).stdout
    good.write("/root/user-data", texts[0])
    assert good.run(["cloud-init", "schema", "--config-file", "/root/user-data"]).stdout.startswith("Valid")
    assert "error" in bad.run(["cloud-init", "status", "--wait"], check=False).stdout
    assert "slipway.deb: FAILED" in bad.read("/var/log/cloud-init-output.log")
    assert not bad.exists("/usr/bin/slipway")


# -- what only AWS and Packer can try

def test_shell():
    """The script, and what cloud-init gives to the distribution's sh."""
    commands = yaml.safe_load((PACKAGING / "cloud-init.yaml").read_text(encoding="utf-8"))["runcmd"]
    for shell, text in (("bash", (PACKAGING / "provision").read_text(encoding="utf-8")), *(("dash", c) for c in commands)):
        done = subprocess.run(["shellcheck", f"--shell={shell}", "-"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_packer_template():
    """Every variable and local is declared, and used; the files of this folder that it names are there."""
    import hcl2  # takes long
    text = (PACKAGING / "slipway.pkr.hcl").read_text(encoding="utf-8")
    template = hcl2.loads(text)
    variables = {name.strip('"') for block in template["variable"] for name in block}
    names = {name for block in template["locals"] for name in block if not name.startswith("__")}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables
    assert set(re.findall(r"\blocal\.(\w+)", text)) == names
    assert all((PACKAGING / name).is_file() for name in re.findall(r"\$\{path\.root\}/([\w.-]+)", text))
    builder = template["source"][0]['"amazon-ebs"']['"slipway"']
    options = {k: v.strip('"') for k, v in builder["metadata_options"][0].items() if isinstance(v, str)}
    assert options == {"http_endpoint": "enabled", "http_tokens": "required", "instance_metadata_tags": "enabled"}


def test_launch_template():
    """By the model of the API in AWS' own library: every member is known, and what the agent needs is said."""
    data = json.loads((PACKAGING / "launch-template.json").read_text(encoding="utf-8"))
    ec2 = boto3.client("ec2", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
    with botocore.stub.Stubber(ec2) as stub:
        stub.add_response("create_launch_template", {})
        ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
    assert (data["MetadataOptions"]["HttpTokens"], data["MetadataOptions"]["InstanceMetadataTags"]) == ("required", "enabled")
    assert {t["Key"] for t in data["TagSpecifications"][0]["Tags"]} == {"slipway:store", "slipway:app", "slipway:channel"}


def test_placeholders_are_explained():
    readme = (PACKAGING / "README.md").read_text(encoding="utf-8")
    used = {name for path in PACKAGING.iterdir() if path.name != "README.md"
            for name in PLACEHOLDER.findall(path.read_text(encoding="utf-8"))}
    assert used == set(re.findall(r"^\| `(@[A-Z0-9_]+@)`", readme, re.MULTILINE))
    assert {p.name for p in PACKAGING.iterdir()} == {"README.md", *re.findall(r"^\| `([a-z.-]+)`", readme, re.MULTILINE)}
