"""`slipway report`: what is in it, and what must not be."""

import json
import re
import time

import pytest

import formats
import slipway
import toy

PARTS = ["host", "clock", "findings", "status", "units", "configuration", "files", "trust root", "disk", "releases", "journal",
         "state", "end"]
CONFIG = "/etc/slipway/agent.json"
HUNG_MAX_SEC = 45  # two calls of 10 seconds, not one for each unit

# what nobody may find in it, each once in a place where people put such things
ACCESS_KEY = "AKIAPLANTEDPLANTED42"
SECRET_KEY = "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"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEPLANTEDx/" * 12 + "=="
DROP_IN_SECRET = "planted-in-the-drop-in"
DROP_IN_FILE_SECRET = "planted-in-a-file-of-agent-d"
TAG_SECRET = "planted-in-a-tag"
STORE_PASSWORD = "planted-in-the-store"
VARIABLE_SECRET = "planted-in-a-variable"
ARGUMENT_SECRET = "planted-in-an-argument"
APP_PASSWORD = "planted by the application"
URL_PASSWORD = "planted-in-a-url"
SIGNATURE = "0123456789abcdefplanted"
REASON_SECRET = "planted-in-a-reason"
BEARER = "planted-bearer"
TREE_SECRET = "planted-in-the-tree"
KEY_BODY = "MC4CAQAwBQYDK2VwBCIEIPLANTEDplanted0123456789PLANTEDplanted"
SECRETS = [ACCESS_KEY, SECRET_KEY, SESSION_TOKEN[:20], DROP_IN_SECRET, DROP_IN_FILE_SECRET, TAG_SECRET, STORE_PASSWORD,
           VARIABLE_SECRET, ARGUMENT_SECRET, APP_PASSWORD, URL_PASSWORD, SIGNATURE, REASON_SECRET, BEARER, TREE_SECRET,
           KEY_BODY[:20]]
PRESIGNED = ("https://bucket.s3.eu-central-1.amazonaws.com/web/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
             f"{ACCESS_KEY}%2F20261122&X-Amz-Signature={SIGNATURE}")
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{KEY_BODY}\n-----END PRIVATE KEY-----\n"

# a release that tells everything, and dies
TALKING = [f"echo 'DB_PASSWORD={APP_PASSWORD}'", f"echo 'going to postgres://web:{URL_PASSWORD}@db/web'",
           f"echo 'from {PRESIGNED}'", f"echo 'Authorization: Bearer {BEARER}'", f"echo 'used {SECRET_KEY} and {ACCESS_KEY}'",
           "printf '%s' '" + PRIVATE_KEY + "'", "exit 7"]


def report(host, *, check=True, user=None, env=None, args=()):
    """Its parts by their titles."""
    result = host.run(["slipway", *args, "report"], check=check, user=user, env=env)
    assert len(result.stdout) < 4 << 20
    assert not [secret for secret in SECRETS if secret in result.stdout + result.stderr], result.stdout
    head, *texts = result.stdout.split("\n== ")
    parts = dict(text.split(" ==\n", 1) for text in texts)
    assert list(parts) == PARTS, list(parts)
    parts["head"] = head
    return parts


@pytest.fixture
def web(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(more=[formats.Entry("settings", content=f"password={TREE_SECRET}\n".encode())],
                also={"variables": {"DATABASE": VARIABLE_SECRET},
                      "hooks": {"pre": [{"command": ["/bin/true", ARGUMENT_SECRET], "user": "daemon"}]}})
    web.config["hook_users"] = ["daemon"]
    toy.start([web])
    web.wait_live("r1")
    return web


def plant(web):
    """Secrets wherever people put them."""
    host = web.host
    host.write("/etc/slipway/environment", f"AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={SECRET_KEY}\n"
               f"AWS_SESSION_TOKEN={SESSION_TOKEN}\n", mode=0o600)
    host.write("/etc/slipway/deploy.key", PRIVATE_KEY, mode=0o600)
    host.write("/etc/slipway/root.json.key", PRIVATE_KEY)
    host.write("/etc/systemd/system/slipwayd.service.d/secret.conf",
               f'[Service]\nEnvironment="AWS_SECRET={DROP_IN_SECRET}" SLIPWAY_LOG_LEVEL=debug\n')
    host.write("/etc/systemd/system/web.service.d/secret.conf", f"[Service]\nEnvironment=PASSWORD={DROP_IN_SECRET}\n")
    host.run(["systemctl", "daemon-reload"])
    config = json.loads(host.read(CONFIG))
    config["tags"] = {"Stage": "prod", "DbPassword": TAG_SECRET, "Seen": PRESIGNED, "Pem": PRIVATE_KEY.replace("\n", " ")}
    host.write(CONFIG, json.dumps(config))
    host.run(["systemctl", "restart", "slipwayd.service"])
    web.release(TALKING)
    web.wait_failed("r2")
    host.run(["slipway", "hold", "web", "--reason", f"waits for token={REASON_SECRET}"])


def test_no_secret(web):
    host = web.host
    plant(web)
    # they are there to be found
    raw = host.run(["slipway", "--json", "status"]).stdout + host.journal("slipwayd.service")
    for secret in (APP_PASSWORD, URL_PASSWORD, VARIABLE_SECRET, ARGUMENT_SECRET, REASON_SECRET, TAG_SECRET, BEARER, SIGNATURE):
        assert secret in raw, secret
    parts = report(host)
    assert "not to be had" not in "".join(parts.values())
    assert parts["head"].startswith("Slipway's report on this host, made at ") and "not by root" not in parts["head"]
    version = slipway.status(host)["version"]
    assert f"slipwayd: {version}\n" in parts["host"] and "system: Debian" in parts["host"]
    assert "kept right: " in parts["clock"]
    assert "slipwayd.service runs" in parts["findings"] and "ok    keys" in parts["findings"]
    assert "deployment 2 (release r2) failed" in parts["status"] and "history of web:" in parts["status"]
    assert "ActiveState: active" in parts["units"] and "web.service\n" in parts["units"]
    assert "/etc/systemd/system/slipwayd.service.d/secret.conf" in parts["units"]
    assert re.search(r"Environment:.* AWS_SECRET\b.* SLIPWAY_LOG_LEVEL\b", parts["units"]), parts["units"]
    assert '"Stage":' in parts["configuration"] and '"DbPassword": ***' in parts["configuration"]
    assert "/etc/slipway/environment" in parts["files"] and "file 0600" in parts["files"] and "deploy.key" in parts["files"]
    assert "ed25519" in parts["trust root"] or "ecdsa" in parts["trust root"]
    assert web.key.id in parts["trust root"]
    assert "/var/lib/slipway " in parts["disk"] and "/srv/web " in parts["disk"]
    assert "/srv/web/current: releases/r1" in parts["releases"] and "r2" in parts["releases"]
    assert "release r2 is taken back" in parts["journal"] and "Started " in parts["journal"]
    assert "| going to postgres://***@db/web | from https://bucket.s3.eu-central-1.amazonaws.com/web/x?*** |" in parts["journal"]
    assert '"phase":' in parts["state"] and '"DATABASE":' in parts["state"]

    # nobody else speaks for systemd
    host.run(["logger", "--journald"], input="MESSAGE=spoofed\nUNIT=slipwayd.service\n", user="daemon")
    host.run(["journalctl", "--sync"])
    assert "spoofed" not in report(host)["journal"]

    # to a file that is root's alone
    assert host.run(["slipway", "report", "--output", "/root/report.txt"]).stdout == ""
    assert "== end ==" in host.read("/root/report.txt")
    assert host.run(["stat", "-c", "%a", "/root/report.txt"]).stdout.strip() == "600"

    # without slipwayd; and by somebody else
    host.stop_unit("slipwayd.service")
    parts = report(host)
    assert "from the state files: slipwayd " in parts["status"] and "(release r2) failed" in parts["status"]
    assert "/srv/web/current: releases/r1" in parts["releases"]
    parts = report(host, user="daemon")
    assert "not by root" in parts["head"] and "is for root alone" in parts["status"]
    assert "ActiveState: inactive" in parts["units"]


def test_broken(web):
    host = web.host
    plant(web)
    # a store with a password, and members that nobody knows
    config = json.loads(host.read(CONFIG))
    config["store"] = f"https://web:{STORE_PASSWORD}@cdn.example.com/x?X-Amz-Signature={SIGNATURE}"
    config["aws"] = {"id": SECRET_KEY[:30]}
    host.write(CONFIG, json.dumps(config))
    host.write("/etc/slipway/agent.d/10-more.json", json.dumps({"secret_key": DROP_IN_FILE_SECRET, "report": False}))
    parts = report(host)
    assert SECRET_KEY[:30] not in parts["configuration"]
    assert '"report": false' in parts["configuration"] and "cdn.example.com" in parts["configuration"]
    assert "fail  config" in parts["findings"]
    assert "the configuration must say" in parts["trust root"]
    # what is no JSON, and a state that is none
    host.write(CONFIG, f'{{ "store": "x", "password": "{STORE_PASSWORD}"\n')
    host.stop_unit("slipwayd.service")
    host.write("/var/lib/slipway/web.json", f"password={STORE_PASSWORD}")
    parts = report(host)
    assert "(not shown: line 2" in parts["configuration"]
    assert "(not to be had: slipwayd " in parts["state"] and "web.json" in parts["state"]
    assert "release r2 is taken back" in parts["journal"]
    # no bus, and no directory of the configuration
    host.run(["mv", "/etc/slipway", "/root/"])
    parts = report(host, env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/nowhere"})
    assert "there is no bus" in parts["units"] and "No such file" in parts["configuration"]
    assert "release r2 is taken back" in parts["journal"]
    assert host.run(["slipway", "report", "extra"], check=False).rc == 2
    assert host.run(["slipway", "--json", "report"], check=False).rc == 2


def test_systemd_hangs(web):
    begun = time.monotonic()
    with web.host.systemd_hung():
        parts = report(web.host)
    assert time.monotonic() - begun < HUNG_MAX_SEC
    assert "not to be had: the rest: systemd does not answer" in parts["units"]
    assert "systemd does not answer" in parts["findings"] and "live" in parts["state"]
