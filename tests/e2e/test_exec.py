"""`slipway exec`: a unit's process keeps to its own release."""

import toy

# says what it was started with, then goes on with its own files, whatever is live
SERVER = """\
#!/bin/sh
printf '%s\\n' "$0" "$(pwd)" "$SLIPWAY_RELEASE" "$SLIPWAY_RELEASE_DIR" "$@" >/var/tmp/started
systemd-notify --ready
while read -r file; do cat "$SLIPWAY_RELEASE_DIR/$file" "$file" >/var/tmp/said; done <>/var/tmp/ask
"""

UNIT = """\
[Service]
Type=notify
NotifyAccess=all
User=nobody
ExecStart=/usr/bin/slipway exec /srv/web run --port 80 "" %%h
"""


def ask(host, file):
    host.run(["sh", "-c", f"rm -f /var/tmp/said; echo {file} >/var/tmp/ask; until [ -s /var/tmp/said ]; do sleep 0.02; done"])
    return host.read("/var/tmp/said").split()


def test_own_release(host):
    """Through a switch that does not restart the unit, the process sees its own release's files; after a restart the new one's."""
    web = toy.Toy(host, toy.local_store(host))
    host.run(["sh", "-c", "mkfifo -m 666 /var/tmp/ask && chmod 1777 /var/tmp"])
    web.release(SERVER.splitlines()[1:])
    toy.configure([web])
    host.write_unit("web.service", UNIT)
    host.start_unit("slipwayd.service")
    web.wait_live("r1")
    directory = "/srv/web/releases/r1"
    assert host.read("/var/tmp/started").splitlines() == [f"{directory}/run", directory, "r1", directory, "--port", "80", "", "%h"]
    assert web.running() == "r1" and ask(host, "name") == ["r1", "r1"]
    web.release(SERVER.splitlines()[1:], units=())
    web.wait_live("r2")
    assert ask(host, "name") == ["r1", "r1"]
    host.run(["systemctl", "restart", "web.service"])
    assert web.running() == "r2" and ask(host, "name") == ["r2", "r2"]


def test_what_can_not_be_run(host):
    """Says which link, directory or program is missing."""
    def failed(*args, rc=1):
        result = host.run(["slipway", "exec", *args], check=False)
        assert result.rc == rc and not result.stdout
        return result.stderr

    assert "See: slipway --help" in failed(rc=2) and "See: slipway --help" in failed("srv/web", "run", rc=2)
    assert "/srv/web/current" in failed("/srv/web", "run")
    host.run(["mkdir", "-p", "/srv/web/releases/r1"])
    host.run(["ln", "-s", "/etc", "/srv/web/current"])
    assert "leads to /etc, which is no release" in failed("/srv/web", "run")
    host.run(["ln", "-sfn", "releases/r1", "/srv/web/current"])
    assert "can't run /srv/web/releases/r1/run: No such file" in failed("/srv/web", "run")
    assert host.run(["slipway", "exec", "/srv/web", "/bin/pwd", "--help"]).stdout
