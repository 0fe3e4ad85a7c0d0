"""Releases that are judged by what they answer: HTTP probes, asked by a process of their own, and commands."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import formats
import toy
from waiting import wait_for

URL = "http://127.0.0.1:8080/healthz"
TLS_URL = "https://localhost:8443/healthz"
WAIT_SEC = 30

# Answers with the status that stands in the release, or in a file that the test writes.
SERVER = """\
const fs = require("fs");
const read = (path, otherwise) => { try { return fs.readFileSync(path, "ascii"); } catch { return otherwise; } };
const status = fs.readFileSync("status", "ascii");
const answer = (q, r) => {
        r.statusCode = parseInt(read("/run/web.status", status));
        fs.writeFileSync("/run/web.answered", `${read("name").trim()} ${r.statusCode}`);
        fs.appendFileSync("/run/web.count", ".");
        r.end(q.url);
};
require("http").createServer(answer).listen(8080, "127.0.0.1");
require("https").createServer({ key: read("key.pem"), cert: read("cert.pem") }, answer).listen(8443, "127.0.0.1");
"""

# A command probe: writes down how it was called; bad as often as the test says, hangs when it is told.
CHECK = """\
#!/bin/sh
echo "$(id -un) $SLIPWAY_RELEASE $SLIPWAY_PREVIOUS $*" >>/var/tmp/check/asked
[ ! -e /var/tmp/check/hang ] || exec sleep 1000
[ ! -e /var/tmp/check/bad ] || { rm -f /var/tmp/check/bad; echo not yet; exit 3; }
"""


def self_signed():
    """A key and a certificate that nobody knows and that expired long ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web.test")])
    day = datetime.datetime(2001, 1, 1)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(day).not_valid_after(day + datetime.timedelta(days=1))
                   .sign(key, hashes.SHA256()))
    return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            certificate.public_bytes(serialization.Encoding.PEM))


KEY, CERTIFICATE = self_signed()


def release(web, status, *, http=({"url": URL, "interval": "100ms"},), **options):
    """A release that answers with this status."""
    more = [formats.Entry("server.js", content=SERVER.encode()), formats.Entry("status", content=str(status).encode()),
            formats.Entry("key.pem", content=KEY), formats.Entry("cert.pem", content=CERTIFICATE)]
    return web.release([toy.READY, "exec node server.js"], more=more, health={"http": list(http)}, **options)


@pytest.fixture
def web(host):
    """Release r1 is live, and answers well."""
    web = toy.Toy(host, toy.local_store(host))
    release(web, 200, http=[{"url": URL, "interval": "100ms"}, {"url": TLS_URL, "interval": "100ms"}])
    toy.start([web])
    web.assert_whole("r1")
    return web


def prober(host):
    found = host.run(["pgrep", "-f", "slipway-fetch --probe"], check=False).stdout.split()
    return int(found[0]) if found else None


def test_what_does_not_answer_well_is_taken_back(web):
    release(web, 503, deadline="2s")
    state = web.wait_failed("r2")
    assert f"{URL} answered 503, wanted 200" in state["failed"]["reason"]
    web.assert_whole("r1")
    # What is wanted is what the manifest says.
    release(web, 503, http=[{"url": URL, "status": 503}])
    web.assert_whole("r3")
    assert not prober(web.host)


def test_what_stops_answering_well_is_taken_back(web):
    release(web, 200, bake="5min")
    web.wait_phase("baking", "r2")
    wait_for(lambda: web.host.read("/run/web.answered") == "r2 200", WAIT_SEC, "r2 to answer well")
    web.host.write("/run/web.status", "500")
    state = web.wait_failed("r2")
    assert f"{URL} answered 500, wanted 200" in state["failed"]["reason"]
    # The old one is not well now either; that is said, and changes nothing.
    web.host.wait_journal("the units of release r1 are up, but .* answered 500, wanted 200", unit="slipwayd.service")
    web.assert_whole("r1")


def test_dies_while_its_probes_are_waited_for(web):
    """After the bake, long before the deadline: seen at once."""
    web.host.run(["rm", "-f", "/run/web.count"])
    release(web, 503, bake="100ms", deadline="10min")
    web.wait_phase("baking", "r2")
    # a tenth of a second apart, from the beginning of the bake on
    wait_for(lambda: web.host.exists("/run/web.count") and len(web.host.read("/run/web.count")) >= 10, WAIT_SEC, "r2 to be asked again and again")
    web.host.run(["systemctl", "kill", "--signal=KILL", web.unit])
    state = web.wait_failed("r2")
    assert "web.service: it did not stay up" in state["failed"]["reason"]
    web.assert_whole("r1")


def test_the_prober_is_killed(web):
    """It comes again, and the release is not blamed."""
    release(web, 200, bake="1500ms")
    web.wait_phase("baking", "r2")
    first = wait_for(lambda: prober(web.host), WAIT_SEC, "slipway-fetch to probe")
    status = web.host.read(f"/proc/{first}/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status and "CapEff:\t0000000000000000" in status
    assert web.host.run(["stat", "-c", "%U", f"/proc/{first}"]).stdout == "slipway\n"
    web.host.run(["kill", "-9", first])
    wait_for(lambda: prober(web.host) not in (first, None), WAIT_SEC, "slipway-fetch to probe again")
    web.assert_whole("r2")
    assert web.running() == "r2"
    assert [e["result"] for e in web.state()["history"]] == ["done", "done"]


WORKER = """\
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c '{gate}; systemd-notify --ready; exec sleep infinity'
TimeoutStartSec=10min
"""


def test_restarts_before_the_release_do_not_count(host):
    """But the first one of the release does, also while another unit of it still starts."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["units"] = ["web.service", "worker.service"]
    units = {"units": [{"name": name, "action": "restart"} for name in ("web.service", "worker.service")]}
    host.write_unit("worker.service", WORKER.format(gate=toy.gate()))
    host.write_unit("web.service.d/again.conf", "[Service]\nRestart=always\nRestartSec=1ms\n")
    web.release(also=units, units=False)
    toy.start([web])
    web.assert_whole("r1")

    def n_restarts():
        return host.unit(web.unit, "NRestarts")["NRestarts"]

    host.run(["systemctl", "kill", "--signal=KILL", web.unit])
    wait_for(lambda: n_restarts() == "1" and web.running() == "r1", WAIT_SEC, "r1 to be restarted")
    web.close_gate()
    once = "[ -e /run/died ] || { touch /run/died; exit 7; }"
    web.release([toy.READY, once, toy.RUN], also=units, units=False)
    wait_for(lambda: host.exists("/run/died") and n_restarts() == "1" and web.running() == "r2", WAIT_SEC, "r2 to be restarted")
    web.open_gate()
    state = web.wait_failed("r2")
    assert "web.service: it died and was restarted by systemd" in state["failed"]["reason"]
    assert n_restarts() == "0"
    web.assert_whole("r1")


def test_last_words_that_come_late(host):
    """A journald that was busy when the unit died does not know any more which run of it wrote them."""
    web = toy.Toy(host, toy.local_store(host))
    web.release(["echo first words", *toy.GOOD])
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release([toy.gate(), "echo last words", "exit 7"])
    web.wait_phase("restarting", "r2")
    journald = host.unit("systemd-journald.service", "MainPID")["MainPID"]
    host.run(["kill", "-STOP", journald])
    try:
        web.open_gate()
        wait_for(lambda: host.unit(web.unit, "ActiveState")["ActiveState"] == "failed", WAIT_SEC, "r2 to die")
    finally:
        host.run(["kill", "-CONT", journald])
    state = web.wait_failed("r2")
    assert state["failed"]["reason"].endswith("its last lines: last words")
    web.assert_whole("r1")


# -- commands

def checked(web, **command):
    """A release that is checked by a command in it, which ends as a file of the test says."""
    more = [formats.Entry("check", content=CHECK.encode(), mode=0o755)]
    return web.release(more=more, health={"commands": [{"command": ["check", "now"], **command}]}, bake="1s")


@pytest.fixture
def toy_web(host):
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["nobody"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    host.run(["install", "-d", "-m", "0777", "/var/tmp/check"])
    return web


def test_commands_are_asked_again_and_again(toy_web):
    web = toy_web
    checked(web)
    web.assert_whole("r2")
    asked = web.host.read("/var/tmp/check/asked").splitlines()
    assert set(asked) == {"nobody r2 r1 now"}
    # one that is bad once is asked again
    web.host.write("/var/tmp/check/bad", "1")
    checked(web)
    web.assert_whole("r3")
    assert not web.host.exists("/var/tmp/check/bad")


def test_a_command_that_does_not_end_well(toy_web):
    web = toy_web
    web.host.write("/var/tmp/check/hang", "")
    web.release(more=[formats.Entry("check", content=CHECK.encode(), mode=0o755)], bake="100ms", deadline="2s",
                health={"commands": [{"command": ["check"]}]})
    state = web.wait_failed("r2")
    assert "not healthy within the deadline of 2 s: check" in state["failed"]["reason"]
    web.assert_whole("r1")
    units = web.host.run(["systemctl", "list-units", "--plain", "--no-legend", "slipway-web-probe-*"]).stdout
    wait_for(lambda: not web.host.run(["pgrep", "-f", "releases/r2/check"], check=False).stdout, WAIT_SEC, f"{units} to end")
