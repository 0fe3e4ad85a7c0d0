"""`slipway check`: what it says about a good host, and about each thing that may be wrong with one."""

import json

import formats
import slipway
import toy
import waiting

ROOT = "/etc/slipway/trust/root.json"
CONFIG = "/etc/slipway/agent.json"


def check(host):
    """Exit status and findings as (level, area, text and mend)."""
    result = host.run(["slipway", "--json", "check"], check=False)
    assert result.stdout, result
    answer = json.loads(result.stdout)
    return result.rc, [(f["level"], f["area"], f["text"] + " | " + f.get("mend", "")) for f in answer["findings"]]


def assert_says(host, level, area, text):
    rc, findings = check(host)
    assert [f for f in findings if f[:2] == (level, area) and text in f[2]], findings
    assert rc == (1 if any(f[0] == "fail" for f in findings) else 0)
    assert level != "fail" or rc == 1


def test_good_host(web):
    host = web.host
    for running in (True, False):
        rc, findings = check(host)
        assert rc == 0 and {f[1] for f in findings} == {"config", "keys", "clock", "users", "disk", "bus", "units", "store"}
        wrong = [f for f in findings if f[0] not in ("ok", "note") and f[1] not in ("clock", "disk")]
        assert len(wrong) <= 2 and all("slipwayd" in f[2] for f in wrong), wrong
        assert_says(host, "ok", "store", "app web: channel prod has release r1 (deployment 1, serial 1), signed")
        lines = host.run(["slipway", "check"]).stdout.splitlines()
        assert len(lines) == len(findings) and all(line.split()[0] in ("ok", "note", "warn") for line in lines)
        if running:
            host.stop_unit("slipwayd.service")
    assert_says(host, "warn", "bus", "slipwayd.service is inactive: nothing is deployed")
    assert web.running() == "r1" and slipway.current(host) == "r1"
    user = host.run(["slipway", "check"], user="daemon", check=False)
    assert user.rc == 1 and "root" in user.stderr


def test_what_is_wrong(web):
    host = web.host
    # permissions
    host.run(["chmod", "0666", CONFIG])
    assert_says(host, "fail", "config", f"chmod go-w {CONFIG}")
    host.run(["chmod", "0644", CONFIG])
    host.write("/etc/slipway/environment", "AWS_REGION=x\n")
    assert_says(host, "warn", "config", "chmod 0600 /etc/slipway/environment")
    host.run(["rm", "/etc/slipway/environment"])
    host.run(["chown", "-R", "daemon", "/srv/web/releases"])
    assert_says(host, "warn", "users", "/srv/web/releases belongs to user 1, not to slipway-unpack")
    config = json.loads(host.read(CONFIG))
    config["apps"][0]["hook_users"] = ["nobody", "deployer"]
    host.write(CONFIG, json.dumps(config))
    assert_says(host, "warn", "users", "there is no user deployer")
    # the store
    host.run(["mv", "/srv/store/web/channels", "/srv/store/web/away"])
    assert_says(host, "fail", "store", "the store has no web/channels/prod/manifest.json")
    host.run(["mv", "/srv/store/web/away", "/srv/store/web/channels"])
    manifest = host.read("/srv/store/web/channels/prod/manifest.json")
    release = formats.make_release(toy.entries("r2", toy.GOOD), "r2", serial=2, deployment=2)
    formats.publish(web.store, release, [formats.Key.new()])
    assert_says(host, "fail", "store", "not in the trust root")
    web.store.put("web/channels/prod/manifest.json", manifest.encode())
    # units
    host.write("/etc/systemd/system/codedeploy-agent.service", "[Service]\nExecStart=sleep infinity\n")
    host.run(["systemctl", "daemon-reload"])
    host.start_unit("codedeploy-agent.service")
    assert_says(host, "note", "units", "codedeploy-agent.service runs here too")
    host.write("/etc/systemd/system/amazon-ssm-agent.service",
               "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    host.run(["systemctl", "daemon-reload"])
    host.start_unit("amazon-ssm-agent.service")
    assert_says(host, "note", "units", "amazon-ssm-agent.service runs here too, and may deploy")
    config["ssm"] = {"enabled": True}
    host.write(CONFIG, json.dumps(config))
    assert_says(host, "warn", "units", "amazon-ssm-agent.service runs here too: orders from AWS Systems Manager may go to it")
    host.run(["systemctl", "restart", "slipwayd.service"])
    waiting.wait_for(lambda: slipway.status(host).get("ssm", {}).get("other_agent") == "amazon-ssm-agent.service", 30,
                     "slipwayd to see the other agent")
    assert "amazon-ssm-agent.service runs here too" in host.run(["slipway", "status"]).stdout
    host.stop_unit("amazon-ssm-agent.service")
    assert not [f for f in check(host)[1] if "amazon-ssm-agent" in f[2]]
    host.run(["systemctl", "enable", "amazon-ssm-agent.service"])
    assert_says(host, "warn", "units", "amazon-ssm-agent.service is enabled: after a reboot")
    host.run(["systemctl", "disable", "amazon-ssm-agent.service"])
    host.run(["mv", "/etc/systemd/system/web.service", "/root/"])
    host.run(["systemctl", "stop", "web.service"])
    host.run(["systemctl", "daemon-reload"])
    assert_says(host, "fail", "units", "web.service, which its live release restarts, is not-found")
    assert_says(host, "warn", "units", "there is no unit that its manifests may name")
    # disk
    host.mount_small("/var/cache/slipway", 1 << 20)
    assert_says(host, "fail", "disk", "/var/cache/slipway: 1 MiB")
    host.run(["mount", "-o", "remount,ro", "/var/cache/slipway"])
    assert_says(host, "fail", "disk", "read-only")
    host.run(["umount", "/var/cache/slipway"])


def test_wrong_configuration(web):
    host = web.host
    config = json.loads(host.read(CONFIG))
    config["ready"] = "deployed"
    host.write(CONFIG, json.dumps(config))
    host.write("/etc/systemd/system/web.service.d/order.conf", "[Unit]\nAfter=slipway-ready.target\n")
    host.run(["systemctl", "daemon-reload"])
    assert_says(host, "warn", "units", "web.service waits for slipway-ready.target")
    config["apps"][0]["root"] = "/opt/web"
    host.write(CONFIG, json.dumps(config))
    assert_says(host, "fail", "disk", "ReadWritePaths=/opt/web")
    host.write("/etc/systemd/system/slipwayd.service.d/paths.conf", "[Service]\nReadWritePaths=/opt/web\n")
    host.run(["mkdir", "-p", "/opt/web"])
    host.run(["systemctl", "daemon-reload"])
    assert not [f for f in check(host)[1] if "ReadWritePaths" in f[2]]
    # an S3 store without credentials, and one that can't be reached
    config["store"] = "s3://bucket"
    host.write(CONFIG, json.dumps(config))
    assert_says(host, "fail", "store", "/etc/slipway/environment")
    host.write("/etc/slipway/environment", "AWS_REGION=x\nAWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"
               "AWS_ENDPOINT_URL_S3=https://127.0.0.1:1\n", mode=0o600)
    assert_says(host, "fail", "store", "can be reached from here")
    # the trust root
    root = host.read_bytes(ROOT)
    host.write(ROOT, root[:-9])
    assert_says(host, "fail", "keys", "root.json")
    host.run(["rm", ROOT])
    assert_says(host, "fail", "keys", ROOT)
    host.write(ROOT, root)
    # the configuration
    host.write(CONFIG, '{\n "store": "file:///srv/store",\n "pol": 1 }\n')
    assert_says(host, "fail", "config", f"{CONFIG}:3: pol")
    host.run(["rm", CONFIG])
    assert_says(host, "fail", "config", CONFIG)
    assert web.running() == "r1"


def test_s3(s3, bucket, host):
    """Credentials come from the service's file, whether or not slipwayd runs."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.configure([web], url=web.store.url, environment=slipway.store_environment(s3))
    assert_says(host, "ok", "store", "has release r1")
    environment = host.read("/etc/slipway/environment")
    host.write("/etc/slipway/environment", environment.replace(s3.users[0].secret_key, "wrong"), mode=0o600)
    assert_says(host, "fail", "store", "app web")
