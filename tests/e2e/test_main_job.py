"""The main job: a real application from the publisher through a store to hosts that run it, and back."""

import json

import pytest

import application
import formats
import slipway
from waiting import wait_for

SPEC = {"activate": {"units": [{"name": "web.service", "action": "restart"}],
                     "health": {"bake": "2s", "deadline": "30s"}}}
LIVE_SEC = 60
INSTANCES = "web/channels/prod/instances"


@pytest.fixture
def s3_store(s3, bucket):
    return formats.S3Store(s3.client(), bucket), slipway.store_environment(s3)


def prepare(host, publisher, environment, **members):
    host.write_unit("web.service", application.UNIT)
    slipway.configure(host, publisher.url, publisher.root_path.read_bytes(), environment=environment, **members)


def wait_version(host, version, timeout_sec=LIVE_SEC):
    wait_for(lambda: application.version(host) == version, timeout_sec, f"version {version} on {host}")


def app_of(host, name="web"):
    return next(app for app in slipway.status(host)["apps"] if app["state"]["app"] == name)


def wait_state(host, condition, what, name="web"):
    return wait_for(lambda: (lambda app: condition(app) and app)(app_of(host, name)), LIVE_SEC, f"{what} on {host}")


def wait_idle(host, release):
    return wait_state(host, lambda app: app["state"]["phase"] == "idle" and app["state"].get("current") == release,
                      f"release {release}, idle")


def assert_nothing_left(host, root="/srv/web"):
    assert [name for name in host.listdir(root) if name not in ("releases", "current")] == []
    assert [name for name in host.listdir(f"{root}/releases") if name.startswith(".")] == []
    assert host.listdir("/var/cache/slipway") == []


def contents(tree):
    return {e.path: (e.type, e.content, e.link, e.file_mode) for e in formats.tree_entries(tree)}


def reports(store, hosts, condition):
    """The status objects of the hosts in the store, when all of them meet the condition."""
    def read():
        found = [json.loads(store.get(f"{INSTANCES}/{host.name}.json")) for host in hosts]
        return all(map(condition, found)) and found
    return wait_for(read, LIVE_SEC, "status objects in the store")


def test_fleet_from_s3(s3_store, make_publisher, hosts, releases):
    store, environment = s3_store
    publisher = make_publisher(store.url, environment)
    for host in hosts:
        prepare(host, publisher, environment)
        host.start_unit("slipwayd.service")

    publisher.release(releases.first(), "r1", spec=SPEC)
    for host in hosts:
        wait_version(host, "1")
        assert application.answer(host)["release"] == "r1"
        assert application.answer(host, "/tree")["typescript"]
        wait_idle(host, "r1")

    publisher.release(releases.second(), "r2", spec=SPEC)
    for host in hosts:
        wait_version(host, "2")
        wait_idle(host, "r2")
        assert_nothing_left(host)
    assert contents(hosts[0].work / "srv/web/releases/r2") == contents(releases.second())

    third = publisher.release(releases.crashing(), "r3", spec=SPEC)
    for host in hosts:
        app = wait_state(host, lambda app: app["state"].get("failed", {}).get("release") == "r3"
                         and app["state"]["phase"] == "idle", "r3 was taken back")
        assert app["state"]["current"] == "r2"
        assert "web.service" in app["state"]["failed"]["reason"]
        assert "exit status 1" in app["state"]["failed"]["reason"]
        wait_version(host, "2")
        plain = host.run(["slipway", "status"]).stdout
        assert "r3" in plain and "web.service" in plain
    for report in reports(store, hosts, lambda found: "failed" in found["state"]):
        assert report["state"]["failed"]["deployment"] == third["deployment"]
        assert "web.service" in report["state"]["failed"]["reason"]

    # It is not tried again, not even when somebody asks for a poll.
    for host in hosts:
        n_begun = host.journal("slipwayd.service").count("begins: release r3")
        assert "not tried again" in host.run(["slipway", "poll", "web"]).stdout
        assert n_begun == host.journal("slipwayd.service").count("begins: release r3") == 1
        assert slipway.current(host) == "r2"

    rolled = hosts[0]
    rolled.run(["slipway", "rollback", "web", "r1"])
    wait_version(rolled, "1")
    assert "by hand" in rolled.run(["slipway", "poll", "web"]).stdout
    assert slipway.current(rolled) == "r1"
    assert "slipway resume web" in rolled.run(["slipway", "status"]).stdout
    assert slipway.current(hosts[1]) == "r2"

    # A new deployment of the channel ends it.
    publisher.release(releases.second(), "r2", spec=SPEC)
    wait_version(rolled, "2")
    for host in hosts:
        wait_idle(host, "r2")
        assert_nothing_left(host)


def test_one_round_from_a_directory(host, make_publisher, releases, tmp_path):
    """The same from a directory and by single rounds, as one would bake an image."""
    directory = tmp_path / "store"
    directory.mkdir()
    publisher = make_publisher(f"file://{directory}")
    prepare(host, publisher, None)
    slipway.configure(host, "file:///srv/store", publisher.root_path.read_bytes(), report=False)

    def one_round():
        host.copy_in(directory, "/srv/store")
        return host.run(["/usr/lib/slipway/slipwayd", "--once"], check=False).rc

    publisher.release(releases.first(), "r1", spec=SPEC)
    assert one_round() == 0
    wait_version(host, "1")
    assert one_round() == 0
    publisher.release(releases.second(), "r2", spec=SPEC)
    assert one_round() == 0
    wait_version(host, "2")
    publisher.release(releases.crashing(), "r3", spec=SPEC)
    assert one_round() == 3
    wait_version(host, "2")
    assert one_round() == 3
    assert slipway.current(host) == "r2"
    # slipwayd is not running: slipway does it by itself.
    host.run(["slipway", "rollback", "web", "r1"])
    wait_version(host, "1")
    assert one_round() == 0
    assert slipway.current(host) == "r1"
    assert_nothing_left(host)
    host.run(["slipway", "resume", "web"])
    publisher.run("rollback", *publisher.channel_args(), "--key", publisher.key_path, "r2")
    assert one_round() == 0
    wait_version(host, "2")
    told = [event["action"] for event in json.loads(host.run(["slipway", "history", "web", "--json"]).stdout)]
    assert told.count("rollback") == 1
