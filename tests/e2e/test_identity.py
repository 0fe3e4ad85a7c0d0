"""Who a host is: instance metadata instead of configuration, tags that change, and everything that may be wrong with them."""

import json
import pathlib
import uuid

import pytest

import aws_emulator
import certificates
import fault_proxy as faults
import formats
import imds_server
import sandbox
import slipway
import toy
from waiting import wait_for

WAIT_SEC = 40
UNREACHABLE = 4
ID = "i-0123456789abcdef0"
SLIPWAYD = "/usr/lib/slipway/slipwayd"
ROOT = "/etc/slipway/trust/root.json"
TAGS_POLICY = pathlib.Path(__file__).resolve().parents[2] / "packaging/aws/instance-tags.json"
LOCAL = {"store": "file:///srv/store"}


class Tagged(toy.Toy):
    """One that the agent knows of by the instance's tags: until it has read them, it is not there."""

    def status(self):
        def find():
            return next((app for app in slipway.status(self.host)["apps"] if app["state"]["app"] == self.app), None)
        return wait_for(find, WAIT_SEC, f"the agent to know of {self.app}")


@pytest.fixture
def imds():
    with imds_server.ImdsServer(sandbox.SERVER_ADDRESS) as server:
        yield server


def prepare(toys, imds, settings=None, environment=None):
    """Units, trust root and environment on the host; agent.json only with settings."""
    host = toys[0].host
    for t in toys:
        host.write(f"/etc/systemd/system/{t.unit}", toy.UNIT.format(app=t.app))
    host.run(["systemctl", "daemon-reload"])
    keys = [t.key for t in toys]
    host.write(ROOT, formats.trust_root([key for n, key in enumerate(keys) if key not in keys[:n]]))
    variables = {**imds.environment, **(environment or {})}
    bundle = variables.pop("AWS_CA_BUNDLE", None)
    if bundle is not None:
        with open(bundle, encoding="ascii") as file:
            host.trust_ca(file.read())
    host.write("/etc/slipway/environment", "".join(f"{k}={v}\n" for k, v in variables.items()), mode=0o600)
    host.run(["rm", "-f", "/etc/slipway/agent.json"])
    if settings is not None:
        settings = {"poll": {"interval": "1s", "jitter": "20%"}, "metadata": {"interval": "1s"}, **settings}
        host.write("/etc/slipway/agent.json", json.dumps(settings, indent=2) + "\n")


def start(toys, imds, settings=None, environment=None):
    prepare(toys, imds, settings, environment)
    toys[0].host.start_unit("slipwayd.service")


def wait_trouble(host, text):
    return wait_for(lambda: text in slipway.status(host).get("trouble", ""), WAIT_SEC, f"status to say {text!r}")


def app_tags(**more):
    return {"slipway:app": "web", "slipway:channel": "prod", **more}


def test_nothing_but_tags(s3, bucket, host, imds):
    """An AMI with a trust root, an instance with three tags, and a store on S3."""
    web = Tagged(host, formats.S3Store(s3.client(), bucket))
    imds.tags = {"slipway:store": web.store.url, "slipway:app": "web", "slipway:channel": "prod", "Role": "web", "Name": "höst 1"}
    imds.region, imds.zone = s3.region, f"{s3.region}a"
    web.release(targets={"any": [{"Role": ["web"]}]})
    environment = slipway.store_environment(s3)
    del environment["AWS_REGION"]
    start([web], imds, environment=environment)
    web.assert_whole("r1")
    status = slipway.status(host)
    assert status["instance"] == ID and status["store"] == web.store.url and "trouble" not in status
    assert status["identity"] == {"instance": ID, "instance_from": "metadata", "region": imds.region, "zone": imds.zone,
                                  "account": imds.account, "tags": imds.tags, "tags_from": "metadata"}
    assert web.status()["credentials"] == "environment"
    report = wait_for(lambda: web.store.get(f"web/channels/prod/instances/{ID}.json"), WAIT_SEC, "the status object")
    report = json.loads(report)
    assert report["identity"] == status["identity"] and report["instance"] == ID
    wait_for(lambda: json.loads(web.store.get(f"web/channels/prod/instances/{ID}.json")).get("credentials") == "environment",
             WAIT_SEC, "the credentials' source in the status object")
    assert {r.status for r in imds.requests} == {200}
    check = host.run(["slipway", "check"]).stdout
    assert f"this is {ID} in {s3.region}, with 5 tags from metadata" in check
    assert "agent.json (not there: the instance's tags stand for it): 1 application" in check
    # what needs no network works without, by what was last heard
    host.stop_unit("slipwayd.service")
    imds.close()
    web.release()
    assert "r1" in host.run(["slipway", "verify", "web"]).stdout
    host.run(["slipway", "hold", "web", "--reason", "test"])
    imds.open()


def test_tags_change(host, imds):
    """A tag's change is a change of configuration: the host follows without a restart."""
    store = toy.local_store(host)
    web, staging, api = Tagged(host, store), Tagged(host, store, channel="staging"), Tagged(host, store, app="api")
    staging.key = api.key = web.key
    web.release()
    api.release()
    staging.release()
    staging.release(targets={"any": [{"Role": ["db"]}]})
    imds.tags = app_tags()
    start([web, api], imds, {**LOCAL, "report": False})
    web.assert_whole("r1")
    pid = host.unit("slipwayd.service", "MainPID")["MainPID"]

    # another channel, whose newest release is for others, until this is one of them
    imds.tags = app_tags(**{"slipway:channel": "staging"})
    wait_for(lambda: "not for this instance" in web.status()["poll"].get("text", ""), WAIT_SEC, "the other channel")
    assert web.running() == "r1"
    imds.tags = app_tags(**{"slipway:channel": "staging", "Role": "db"})
    web.assert_whole("r2")
    assert slipway.status(host)["identity"]["tags"]["Role"] == "db"

    # what the bus offers is the application that there is now
    assert "deployment 2 (release r2) is live" in host.run(["slipway", "poll", "web"]).stdout
    host.run(["slipway", "rollback", "web"])
    assert web.running() == "r1"
    host.run(["slipway", "resume", "web"])
    web.wait_live("r2")

    # not while a release that was switched is being watched
    web.close_gate()
    staging.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r3")
    imds.tags = app_tags()
    wait_for(lambda: slipway.status(host).get("changes"), WAIT_SEC, "the change to be seen")
    assert "the instance's tags changed" in host.run(["slipway", "status"]).stdout
    assert web.state()["phase"] == "restarting"
    web.open_gate()
    wait_for(lambda: slipway.current(host) == "r1", WAIT_SEC, "the channel prod")
    web.assert_whole("r1")
    assert {c["channel"]: c["serial"] for c in web.state()["channels"]} == {"staging": 3, "prod": 1}

    # another application: what was there before goes on running, and nobody looks after it
    imds.tags = app_tags(**{"slipway:app": "api"})
    api.assert_whole("r1")
    assert [app["state"]["app"] for app in slipway.status(host)["apps"]] == ["api"]
    assert web.running() == "r1" and host.exists("/var/lib/slipway/web.json")
    assert host.run(["slipway", "poll", "web"], check=False).rc != 0
    imds.tags = app_tags()
    web.wait_live("r1")
    assert host.unit("slipwayd.service", "MainPID")["MainPID"] == pid


def test_change_keeps_deployments_back(host, imds):
    """While one application is watched, no other one begins what the tags do not want any more."""
    store = toy.local_store(host)
    web, api = Tagged(host, store), Tagged(host, store, app="api")
    staging = Tagged(host, store, app="api", channel="staging")
    staging.key = api.key
    for t in (web, api, staging):
        t.release()
    staging.release()
    staging.release()
    imds.tags = {"Stage": "prod"}
    apps = [web.config, {**api.config, "channel": "{tag:Stage}"}]
    start([web, api], imds, {**LOCAL, "apps": apps, "report": False})
    web.assert_whole("r1")
    api.assert_whole("r1")
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    imds.tags = {"Stage": "staging"}
    wait_for(lambda: slipway.status(host).get("changes"), WAIT_SEC, "the change to be seen")
    api.release()
    for _ in range(3):
        host.run(["slipway", "poll", "api"], check=False)
    assert api.state()["phase"] == "idle" and api.running() == "r1" and slipway.status(host)["changes"]
    web.open_gate()
    api.assert_whole("r3")
    web.assert_whole("r2")


def test_rollback_with_everything_gone(s3, bucket, host, imds):
    """No slipwayd, no metadata, nothing configured: what was last heard of the instance says where things are."""
    web = Tagged(host, formats.S3Store(s3.client(), bucket))
    imds.tags = app_tags(**{"slipway:store": web.store.url})
    start([web], imds, {}, environment=slipway.store_environment(s3))
    for _ in range(2):
        web.assert_whole(web.release())
    host.run(["rm", "/etc/slipway/agent.json"])
    host.stop_unit("slipwayd.service")
    imds.close()
    assert "r2" in host.run(["slipway", "verify", "web"]).stdout
    host.run(["slipway", "rollback", "web"])
    assert web.running() == "r1" and slipway.current(host) == "r1"
    imds.open()


def test_crash_with_everything_gone(host, imds):
    """What a crash cut off is taken up before anybody says who this host is."""
    web = Tagged(host, toy.local_store(host))
    imds.tags = app_tags()
    start([web], imds, LOCAL)
    web.assert_whole(web.release())
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    imds.close()
    host.crash()
    host.boot()
    host.start_unit("slipwayd.service")
    wait_trouble(host, "can't ask who this host is")
    web.open_gate()
    state = web.wait(lambda s: s["phase"] == "idle", "to take up what the crash cut off")
    assert slipway.current(host) == state["current"] == web.running()
    stage = host.run(["slipway", "stage", "web"], check=False)
    assert stage.rc != 0 and "is not known yet" in stage.stderr
    assert host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0"
    assert "can't ask who this host is" in slipway.status(host)["trouble"]
    imds.open()
    wait_for(lambda: web.status()["poll"].get("ok"), WAIT_SEC, "a poll")


def test_restart_while_one_is_watched(host, imds):
    """What is watched after a restart keeps nobody from polling, itself included."""
    store = toy.local_store(host)
    web, api = Tagged(host, store), Tagged(host, store, app="api")
    apps = [{**t.config, "channel": "{tag:Stage}"} for t in (web, api)]
    web.release()
    api.release()
    imds.tags = {"Stage": "prod"}
    start([web, api], imds, {**LOCAL, "apps": apps, "report": False})
    web.assert_whole("r1")
    api.assert_whole("r1")
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    host.stop_unit("slipwayd.service")
    imds.tags = {"Stage": "prod", "Role": "db"}
    host.start_unit("slipwayd.service")
    api.release()
    api.assert_whole("r2")
    wait_for(lambda: web.status()["poll"].get("ok"), WAIT_SEC, "a poll of what is under way")
    assert web.state()["phase"] == "restarting" and not slipway.status(host).get("changes")
    assert slipway.status(host)["identity"]["tags"]["Role"] == "db"
    web.open_gate()
    web.assert_whole("r2")


def test_no_bus_at_the_start_and_no_metadata(host, imds):
    """What was cut off is taken up once there is a bus, whoever this host is."""
    web = Tagged(host, toy.local_store(host))
    apps = [{**web.config, "channel": "{tag:Stage}"}]
    imds.tags = {"Stage": "prod"}
    start([web], imds, {**LOCAL, "apps": apps, "report": False})
    web.assert_whole(web.release())
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    host.stop_unit("slipwayd.service")
    host.run(["systemctl", "mask", "--runtime", "--now", "dbus.socket", "dbus.service"])
    imds.close()
    host.start_unit("slipwayd.service")
    host.wait_journal("can't take up what was left: .*no connection to systemd", unit="slipwayd.service")
    host.run(["systemctl", "unmask", "--runtime", "dbus.socket", "dbus.service"])
    host.run(["systemctl", "start", "dbus.socket"])
    web.open_gate()
    web.wait_live("r2")
    assert web.running() == "r2"
    imds.open()


def test_crash_below_a_root_of_its_own(host, imds):
    """Files that say all, with a root for each instance: the instance's id holds over a restart, not the host's name."""
    web = Tagged(host, toy.local_store(host))
    web.root = f"/srv/{ID}/web"
    host.run(["ln", "-s", web.root, "/srv/web"])  # for the unit
    settings = {**LOCAL, "apps": [{**web.config, "root": "/srv/{instance-id}/web"}], "report": False}
    start([web], imds, settings)
    web.assert_whole(web.release())
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    imds.close()
    host.crash()
    host.boot()
    host.start_unit("slipwayd.service")
    web.open_gate()
    web.wait(lambda s: s["phase"] == "idle", "to take up what the crash cut off")
    wait_trouble(host, "can't ask who this host is")
    wait_for(lambda: web.status()["poll"].get("ok"), WAIT_SEC, "a poll")
    assert slipway.status(host)["instance"] == ID
    web.assert_whole(web.release())
    assert not host.exists(f"/srv/{host.run(['uname', '-n']).stdout.strip()}")
    imds.open()


def test_tags_not_exposed(host, imds):
    web = Tagged(host, toy.local_store(host))
    web.release()
    imds.tags = None
    start([web], imds, LOCAL)
    wait_trouble(host, f"--instance-id {ID} --instance-metadata-tags enabled")
    status = host.run(["slipway", "status"]).stdout
    assert "what to deploy is not known yet" in status and "tag the EC2 instance slipway:app" in status
    check = host.run(["slipway", "check"], check=False)
    assert check.rc == 1 and "the instance's tags are not exposed in its metadata" in check.stdout
    for args in ([], ["web"]):
        poll = host.run(["slipway", "poll", *args], check=False)
        assert poll.rc != 0 and "the instance's tags are not exposed in its metadata" in poll.stderr
    once = host.run([SLIPWAYD, "--once"], env=imds.environment, check=False)
    assert once.rc == 1 and "the instance's tags are not exposed in its metadata" in once.stderr
    # what must not be a path, a pattern or a place
    imds.tags = app_tags(**{"slipway:channel": "../../x"})
    wait_trouble(host, "tag slipway:channel is")
    imds.tags = app_tags()
    web.assert_whole("r1")
    assert "trouble" not in slipway.status(host)
    # what is in force stays so when tags go
    imds.tags = None
    wait_trouble(host, "the instance's tags are not exposed in its metadata")
    web.assert_whole(web.release())
    # nor are they forgotten, also over a restart, while nothing but credentials is missing to ask the API
    assert slipway.status(host)["identity"]["tags"] == app_tags()
    host.run(["systemctl", "restart", "slipwayd.service"])
    wait_trouble(host, "the instance's tags are not exposed in its metadata")
    web.assert_whole(web.release())


def run_instance(ec2, tags):
    """Returns the id of an instance that has these tags."""
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[
        {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}])
    return made["Instances"][0]["InstanceId"]


def test_tags_by_the_api(aws, host, imds, tmp_path):
    """Tags that boto3 gave an instance and that its metadata does not expose: EC2 is asked, with the least permission."""
    ec2 = aws.client("ec2")
    tags = app_tags(Role="web", Name="höst <1> & \"co\"", Empty="")
    run_instance(ec2, app_tags(**{"slipway:app": "other", "Other": "x"}))
    imds.instance_id, imds.tags = run_instance(ec2, tags), None
    web = Tagged(host, toy.local_store(host))
    web.release(targets={"any": [{"Role": ["web"]}]})
    authority = certificates.Authority(tmp_path)
    with faults.FaultProxy(sandbox.SERVER_ADDRESS, aws_emulator.ADDRESS, tls=authority.context(sandbox.SERVER_ADDRESS)) as proxy:
        def environment(*policies):
            user = aws.make_user(f"instance-{uuid.uuid4().hex[:8]}", *policies)
            return {**aws.environment(user), "AWS_ENDPOINT_URL_EC2": proxy.endpoint, "AWS_CA_BUNDLE": str(authority.path)}

        start([web], imds, LOCAL, environment())
        wait_trouble(host, "this takes the permission ec2:DescribeTags")
        assert "identity" not in slipway.status(host) or "tags_from" not in slipway.status(host)["identity"]
        host.stop_unit("slipwayd.service")

        start([web], imds, LOCAL, environment(json.loads(TAGS_POLICY.read_text(encoding="utf-8"))))
        web.assert_whole("r1")
        identity = slipway.status(host)["identity"]
        assert (identity["tags"], identity["tags_from"]) == (tags, "ec2:DescribeTags")
        assert "trouble" not in slipway.status(host)
        assert [r.status for r in proxy.requests] == [403, 200], "an answer serves for ten minutes"

        ec2.create_tags(Resources=[imds.instance_id], Tags=[{"Key": "Role", "Value": "db"}])
        ec2.delete_tags(Resources=[imds.instance_id], Tags=[{"Key": "Empty"}])
        host.run(["systemctl", "restart", "slipwayd.service"])
        wait_for(lambda: slipway.status(host)["identity"]["tags"].get("Role") == "db", WAIT_SEC, "the tags that changed")
        assert "Empty" not in slipway.status(host)["identity"]["tags"]
        host.stop_unit("slipwayd.service")


FAULTS = {
    "no such service": ("PUT /latest/api/token", 404, "status 404"),
    "token refused": ("PUT /latest/api/token", 403, "refuses /latest/api/token (status 403)"),
    "token slow": ("PUT /latest/api/token", imds_server.STALL, "hop limit must be 2"),
    "token malformed": ("PUT /latest/api/token", b"to\r\nken", "gave a malformed token"),
    "token endless": ("PUT /latest/api/token", imds_server.ENDLESS, "more than the limit"),
    "401": ("GET", 401, "(status 401)"),
    "404": ("GET .*document", 404, "has no identity document"),
    "500": ("GET", 500, "status 500, 3 times"),
    "slow": ("GET .*tags", imds_server.STALL, "does not answer in time"),
    "endless": ("GET .*document", imds_server.ENDLESS, "more than the limit"),
    "endless tag": ("GET .*/Role", imds_server.ENDLESS, "tag Role"),
    "reset": ("GET", imds_server.RESET, "no answer from"),
    "not JSON": ("GET .*document", b"<html>", "identity document"),
    "not a name": ("GET .*document", b'{"instanceId": "../../etc"}', "is not a name"),
    "a NUL": ("GET .*tags/instance/", b"a\0b", "malformed value"),
    "a page of tags": ("GET .*tags/instance$", b"<html>\n<p>", "is not a path of instance metadata"),
}


def test_metadata_is_broken(host, imds):
    """Whatever comes: a message, within a time, and the right answer when it comes."""
    web = Tagged(host, toy.local_store(host))
    web.release()
    imds.tags = app_tags(Role="web")
    prepare([web], imds, LOCAL)

    def once(**environment):
        return host.run([SLIPWAYD, "--once"], env={**imds.environment, **environment}, check=False)

    for name, (pattern, fault, words) in FAULTS.items():
        imds.fault(pattern, fault)
        result = once()
        imds.heal()
        assert result.rc == UNREACHABLE and words in result.stderr, (name, result)
    imds.close()
    result = once()
    assert result.rc == UNREACHABLE and "no answer from 10.99.0.1" in result.stderr
    check = host.run(["slipway", "check"], check=False)
    assert check.rc == 1 and "who this host is can't be asked" in check.stdout
    imds.open()
    result = once(AWS_EC2_METADATA_SERVICE_ENDPOINT="http://192.0.2.1")
    assert result.rc == UNREACHABLE and "link-local or private address" in result.stderr
    result = once(AWS_EC2_METADATA_DISABLED="true")
    assert result.rc == 1 and "apps: missing" in result.stderr
    assert not host.exists("/srv/web/current")
    imds.fault("PUT", 503, times=2)
    imds.fault("GET .*tags", 429, times=2)
    assert once().rc == 0
    assert slipway.current(host) == "r1"
    # a token that ended meanwhile is renewed, without a word
    host.start_unit("slipwayd.service")
    web.wait_live("r1")
    imds.forget_tokens()
    imds.tags = app_tags(Role="db")
    wait_for(lambda: slipway.status(host)["identity"]["tags"]["Role"] == "db", WAIT_SEC, "the tag's change")
    assert "trouble" not in slipway.status(host)


def test_network_comes_late(host, imds):
    web = Tagged(host, toy.local_store(host))
    web.release()
    imds.tags = app_tags()
    host.net_down()
    start([web], imds, LOCAL)
    text = wait_trouble(host, "can't ask who this host is")
    assert text and "can't ask who this host is" in host.run(["systemctl", "status", "slipwayd.service"]).stdout
    slipway.assert_waits(host)
    assert host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0"
    assert host.journal("slipwayd.service").count("can't ask who this host is") == 1
    host.net_up()
    web.assert_whole("r1")

    # What does not need metadata, on a host that never heard it, does not wait for it for longer than it takes to ask.
    host.stop_unit("slipwayd.service")
    host.run(["rm", "/var/lib/slipway/instance"])
    host.net_down()
    prepare([web], imds, {**LOCAL, "apps": [web.config], "report": False})
    host.start_unit("slipwayd.service")
    web.wait_live("r1")
    web.assert_whole(web.release())
    status = slipway.status(host)
    assert status["identity"]["instance_from"] == "host name" and "can't ask who this host is" in status["trouble"]
    host.net_up()
    wait_for(lambda: slipway.status(host).get("instance") == ID, WAIT_SEC, "the instance's id")
    web.assert_whole("r2")


def test_poll_right_after_the_start(host, imds):
    """`slipway poll` waits until slipwayd has heard who this host is, and says why when it can't hear it."""
    web = Tagged(host, toy.local_store(host))
    web.release()
    imds.fault("PUT /latest/api/token", 500, times=1)
    prepare([web], imds, {**LOCAL, "apps": [{"app": "web", "channel": "prod"}]})
    host.run(["sh", "-c", "systemctl start slipwayd.service && slipway poll --wait web"])
    assert slipway.current(host) == "r1"
    # an app whose channel only a tag tells of
    host.stop_unit("slipwayd.service")
    host.run(["rm", "-f", "/var/lib/slipway/instance"])
    imds.fault("PUT /latest/api/token", 500)
    prepare([web], imds, {**LOCAL, "apps": [{"app": "web", "channel": "{tag:Stage}"}]})
    failed = host.run(["sh", "-c", "systemctl start slipwayd.service && slipway poll --wait"], check=False)
    assert failed.rc == 1 and "there is nothing to poll yet: can't ask who this host is" in failed.stderr
