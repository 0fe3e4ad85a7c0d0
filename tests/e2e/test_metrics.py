"""`slipway metrics`: read by another implementation, written by its timer, and what the alerts in packaging/monitoring take."""

import json
import pathlib
import re
import shutil
import subprocess

import prometheus_client.parser
import yaml

import toy
from waiting import wait_for

SOURCE = pathlib.Path(__file__).parents[2]
MONITORING = SOURCE / "packaging/monitoring"
DIRECTORY = "/var/lib/prometheus/node-exporter"
FILE = f"{DIRECTORY}/slipway.prom"


def parse(text):
    """{(name, label values...): value}; each family comes once, with its help and type."""
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), checked
    samples, names = {}, []
    for family in prometheus_client.parser.text_string_to_metric_families(text):
        assert family.type == "gauge" and family.documentation and family.name.startswith("slipway_")
        names.append(family.name)
        for sample in family.samples:
            assert sample.name == family.name
            key = (sample.name, *sample.labels.values())
            assert key not in samples
            samples[key] = sample.value
    assert len(set(names)) == len(names) and text.endswith("\n")
    return samples


def metrics(host, **options):
    return parse(host.run(["slipway", "metrics"], **options).stdout)


def declared():
    """The names that metrics.c has."""
    return set(re.findall(r'"(slipway_[a-z_]+)"', (SOURCE / "agent/metrics.c").read_text()))


def test_values(web):
    host = web.host
    now = float(host.run(["date", "+%s"]).stdout)
    found = metrics(host, user="daemon")
    assert found["slipway_up",] == 1 and found["slipway_fetch_up",] == 1 and found["slipway_identity_known",] == 1
    assert ("slipway_release_info", "web", "prod", "r1", "1", "1") in found
    assert found["slipway_phase", "web", "idle"] == 1 and found["slipway_phase", "web", "baking"] == 0
    assert found["slipway_down", "web"] == found["slipway_deployment_failed", "web"] == found["slipway_held", "web"] == 0
    assert found["slipway_poll_ok", "web"] == 1 and abs(found["slipway_poll_timestamp_seconds", "web"] - now) < 60
    assert abs(found["slipway_metrics_timestamp_seconds",] - now) < 60
    assert found["slipway_manifest_expiry_timestamp_seconds", "web"] > now
    assert found["slipway_trust_expiry_timestamp_seconds",] > now
    assert found["slipway_clock_synchronized",] in (0, 1)
    assert found["slipway_last_change_info", "web", "deploy", "done", "r1"] == 1
    took = found["slipway_last_change_duration_seconds", "web"]
    assert 0.1 <= took < 60 and found["slipway_last_change_phase_duration_seconds", "web", "baking"] >= 0.1
    assert found["slipway_releases", "web"] == 1 and found["slipway_releases_bytes", "web"] > 0
    # a deployment that fails, one that is under way, a hold, and the store gone
    web.release(toy.CRASHING)
    web.wait_failed("r2")
    assert metrics(host)["slipway_deployment_failed", "web"] == 1
    web.release([toy.gate(), *toy.GOOD])
    web.close_gate()
    host.run(["slipway", "resume", "web"])
    web.wait_phase("restarting", "r3")
    found = metrics(host)
    assert found["slipway_phase", "web", "restarting"] == 1 and found["slipway_phase", "web", "idle"] == 0
    assert abs(found["slipway_phase_started_timestamp_seconds", "web"] - now) < 120 and found["slipway_deployment_due", "web"] == 1
    web.open_gate()
    web.wait_live("r3")
    host.run(["slipway", "hold", "web", "--until", "1h"])
    host.run(["mv", "/srv/store", "/srv/away"])
    wait_for(lambda: metrics(host)["slipway_poll_ok", "web"] == 0, 30, "a poll that fails")
    found = metrics(host)
    assert found["slipway_held", "web"] == 1 and ("slipway_phase_started_timestamp_seconds", "web") not in found
    assert found["slipway_held_until_timestamp_seconds", "web"] == found["slipway_held_since_timestamp_seconds", "web"] + 3600
    # slipwayd is gone: root still knows what is live
    host.stop_unit("slipwayd.service")
    found = metrics(host)
    assert found["slipway_up",] == 0 and found["slipway_held", "web"] == 1
    assert ("slipway_release_info", "web", "prod", "r3", "3", "3") in found
    assert not [key for key in found if key[0].startswith(("slipway_poll", "slipway_fetch"))]
    found = metrics(host, user="daemon")
    assert found["slipway_up",] == 0 and not [key for key in found if "web" in key]
    host.run(["mv", "/etc/slipway", "/root/"])
    assert metrics(host, env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/nowhere"})["slipway_up",] == 0


def test_file(web):
    host = web.host
    host.run(["mkdir", "-p", DIRECTORY])
    host.write(FILE, "old\n", mode=0o600)
    host.run(["systemctl", "enable", "--now", "--quiet", "slipway-metrics.timer"])
    wait_for(lambda: host.read(FILE) != "old\n", 30, "the timer to write")
    assert parse(host.read(FILE))["slipway_up",] == 1
    assert host.run(["stat", "-c", "%a %U", FILE]).stdout == "644 root\n"
    assert host.listdir(DIRECTORY) == ["slipway.prom"]
    assert ("slipway_clock_synchronized",) in parse(host.read(FILE)), "the unit's filter lets it read the clock"
    # it goes on, and does not fill the journal
    wait_for(lambda: host.unit("slipway-metrics.service", "SubState")["SubState"] == "dead", 30, "the service to end")
    assert host.unit("slipway-metrics.timer", "SubState")["SubState"] == "waiting"
    assert host.unit("slipway-metrics.timer", "NextElapseUSecMonotonic")["NextElapseUSecMonotonic"] not in ("0", "infinity")
    assert not re.search("Start|Finish|Deactivated", host.journal("slipway-metrics.service"))
    # without slipwayd
    host.stop_unit("slipwayd.service")
    host.start_unit("slipway-metrics.service")
    found = parse(host.read(FILE))
    assert found["slipway_up",] == 0 and ("slipway_release_info", "web", "prod", "r1", "1", "1") in found
    # where it can't write, it says so and leaves nothing
    host.run(["mv", DIRECTORY, "/root/"])
    assert host.run(["systemctl", "start", "slipway-metrics.service"], check=False).rc != 0
    host.wait_journal(f"cannot write {FILE}: No such file", unit="slipway-metrics.service")
    result = host.run(["slipway", "metrics", "--output", "/dev/null"], check=False)
    assert result.rc == 1 and "no regular file" in result.stderr
    assert host.run(["stat", "-c", "%F", "/dev/null"]).stdout == "character special file\n"


def test_rules():
    names = declared()
    assert len(names) > 20
    rules = [rule for group in yaml.safe_load((MONITORING / "slipway-rules.yaml").read_text())["groups"] for rule in group["rules"]]
    tested = (MONITORING / "slipway-rules-test.yaml").read_text()
    for rule in rules:
        used = set(re.findall(r"\b[a-z_]+_[a-z_]+\b", rule["expr"]))
        assert used and used <= names, rule
        assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["for"]
        assert rule["annotations"]["summary"] and len(rule["annotations"]["description"]) > 60
        assert f'alertname="{rule["alert"]}"' in tested
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    if shutil.which("promtool"):
        for verb, name in (("check", "slipway-rules.yaml"), ("test", "slipway-rules-test.yaml")):
            subprocess.run(["promtool", verb, "rules", name], cwd=MONITORING, check=True)


def test_cloudwatch():
    names = declared()
    agent = json.loads((MONITORING / "cloudwatch-agent.json").read_text())
    prometheus = agent["logs"]["metrics_collected"]["prometheus"]
    selectors = [s for d in prometheus["emf_processor"]["metric_declaration"] for s in d["metric_selectors"]]
    assert {s.strip("^$") for s in selectors} <= names and len(set(selectors)) == len(selectors)
    assert set(prometheus["emf_processor"]["metric_unit"]) <= {s.strip("^$") for s in selectors}
    job = yaml.safe_load((MONITORING / "cloudwatch-prometheus.yaml").read_text())["scrape_configs"][0]["job_name"]
    assert all(re.fullmatch(d["label_matcher"], job) for d in prometheus["emf_processor"]["metric_declaration"])
