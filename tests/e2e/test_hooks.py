"""Hooks: commands of a release that run as units of systemd before the switch, once the release is well, and when it was taken
back; and everything that such a command can do wrong."""

import datetime
import json
import re
import subprocess
import time

import pytest

import formats
import slipway
import toy
from waiting import wait_for

WAIT_SEC = 30
PUT_OFF = 6
MIB = 1024 * 1024
LOG = "/var/tmp/hooks.log"

# Writes down how it was called, one line a call.
NOTE = """\
#!/bin/sh
{
        printf '%s' "$(id -un) $(pwd) live=$(basename "$(readlink /srv/web/current)")"
        for argument; do printf ' <%s>' "$argument"; done
        echo
} >>""" + LOG + "\n"


def program(name, text):
    return formats.Entry(name, content=text.encode(), mode=0o755)


def sh(text, **members):
    """A hook that runs a line of shell; the shell's variables are its own."""
    return {"command": ["/bin/sh", "-c", text], **members}


def started(host):
    """Release r1 is live; hooks run as nobody, or as root."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["nobody", "root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    host.run(["sh", "-c", f"touch {LOG}; chmod 666 {LOG}"])
    return web


@pytest.fixture
def web(host):
    return started(host)


@pytest.fixture(scope="module")
def shared_web(make_module_hosts):
    """For hooks that fail: r1 stays live throughout."""
    return started(make_module_hosts(1)[0])


def release(web, hooks, script=toy.GOOD, *, variables=None, more=()):
    """Publishes a release with these hooks and returns its id."""
    return web.release(script, more=more, also={"hooks": hooks, "variables": variables or {}})


def hook_units(host):
    """The units of hooks that are there, whatever their state."""
    lines = host.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "slipway-*"]).stdout.splitlines()
    return [line.split()[0] for line in lines]


def wait_no_hook_unit(host):
    """systemd forgets a unit some time after slipwayd gave it up."""
    wait_for(lambda: not hook_units(host), WAIT_SEC, "the units of hooks to be gone")


def wait_hook_unit(host, kind):
    return wait_for(lambda: next((u for u in hook_units(host) if u.startswith(f"slipway-web-{kind}-")), None), WAIT_SEC,
                    f"the unit of a {kind} hook")


def processes(host, pattern):
    return host.run(["pgrep", "-f", "-x", pattern], check=False).stdout.split()


# -- what they get

def test_systemd_reloads_meanwhile(web):
    """It reads the units that run from their files then: the hook's has to be one that it knows."""
    host = web.host
    web.close_gate()
    name = release(web, {"pre": [sh(toy.gate()), sh(f"echo '$PATH' >{LOG}")]})
    unit = wait_hook_unit(host, "pre")
    host.run(["systemctl", "daemon-reload"])
    assert host.unit(unit, "LoadState")["LoadState"] == "loaded"
    web.open_gate()
    web.assert_whole(name)
    assert host.read(LOG) == "$PATH\n"


def test_order_arguments_and_environment(web):
    """Each runs as it is asked for, and nothing in its arguments stands for anything."""
    odd = ["--home=$HOME", "${SLIPWAY_APP}", "%n %%", "a b", "", "'\"\\", "é"]
    note = {"command": ["note", *odd], "directory": "etc"}
    environment = sh("env | grep -E '^(SLIPWAY_|COLOUR|HOME)' | sort >/var/tmp/hooks.env", user="root")
    release(web, {"pre": [note, environment], "post": [{"command": ["note", "post"], "user": "root"}],
                       "revert": [{"command": ["note", "revert"]}]},
            variables={"COLOUR": "$HOME %n \"blue\""}, more=[formats.Entry("etc", "d"), program("note", NOTE)])
    state = web.wait_live("r2")
    directory = "/srv/web/releases/r2"
    assert web.host.read(LOG).splitlines() == [
        f"nobody {directory}/etc live=r1 " + " ".join(f"<{a}>" for a in odd),
        f"root {directory} live=r2 <post>",
    ]
    assert web.host.read("/var/tmp/hooks.env").splitlines() == [
        'COLOUR=$HOME %n "blue"', "HOME=/root", "SLIPWAY_APP=web", "SLIPWAY_CHANNEL=prod",
        f"SLIPWAY_INSTANCE_ID={web.host.name}", "SLIPWAY_PREVIOUS=r1", "SLIPWAY_RELEASE=r2",
        f"SLIPWAY_RELEASE_DIR={directory}", "SLIPWAY_SERIAL=2",
    ]
    assert {kind: (entry["release"], entry["ok"]) for kind, entry in state["hooks"].items()} == {
        "pre": ("r2", True), "post": ("r2", True)}
    wait_no_hook_unit(web.host)


def test_output_is_kept(shared_web):
    """In the journal under the release's name, its end in the status."""
    web = shared_web
    name = release(web, {"pre": [sh("for i in $(seq 30); do echo line $i; done; printf 'odd \\033[1m\\n'; exit 3")]})
    state = web.wait_failed(name)
    assert "exit status 3" in state["failed"]["reason"] and "odd" in state["failed"]["reason"]
    entry = state["hooks"]["pre"]
    assert (entry["command"], entry["ok"]) == ("/bin/sh", False)
    lines = entry["output"]
    assert 10 <= len(lines) <= 20 and lines[-2] == "line 30" and lines[-1].startswith("odd ") and "\033" not in lines[-1]
    assert "| line 30\n" in web.host.run(["slipway", "status"]).stdout
    journal = web.host.run(["journalctl", "-o", "cat", "-t", f"slipway-web-{name}"]).stdout
    assert "line 1\n" in journal and "line 30\n" in journal


def test_output_that_comes_late(web):
    """A journald that was busy while the hook ran still says what it wrote, though the process is gone."""
    web.close_gate()
    release(web, {"pre": [sh(f"{toy.gate()}; echo last words; exit 3")]})
    unit = wait_hook_unit(web.host, "pre")
    journald = web.host.unit("systemd-journald.service", "MainPID")["MainPID"]
    web.host.run(["kill", "-STOP", journald])
    try:
        web.open_gate()
        wait_for(lambda: web.host.unit(unit, "ActiveState")["ActiveState"] in ("failed", "inactive"), WAIT_SEC, "the hook to end")
    finally:
        web.host.run(["kill", "-CONT", journald])
    state = web.wait_failed("r2")
    assert "exit status 3: last words" in state["failed"]["reason"]
    assert state["hooks"]["pre"]["output"] == ["last words"]
    assert web.host.run(["journalctl", "-o", "cat", "-t", "slipway-web-r2"]).stdout == "last words\n"


def test_output_is_reported(host, s3, bucket):
    """What the fleet's view shows is in the store, the end of the output too."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.config["hook_users"] = ["root"]
    release(web, {"pre": [sh("echo one; echo two; exit 3")]})
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3))
    web.wait_failed("r1")

    def reported():
        try:
            return json.loads(web.store.get(f"web/channels/prod/instances/{host.name}.json"))["state"]
        except s3.client().exceptions.NoSuchKey:
            return {}
    state = wait_for(lambda: (lambda s: s.get("phase") == "idle" and "failed" in s and s)(reported()), WAIT_SEC,
                     "the report to say that it failed")
    assert "exit status 3" in state["failed"]["reason"]
    pre = state["hooks"]["pre"]
    assert (pre["release"], pre["command"], pre["ok"], pre["output"]) == ("r1", "/bin/sh", False, ["one", "two"])


# -- what goes wrong before the switch

BAD = {
    "fails": ([sh("exit 3")], "exit status 3"),
    "hangs": ([sh("sleep infinity; exit 0", timeout="1s")], "longer than 1 s"),
    "ignores_the_end": ([sh("trap '' TERM; while :; do sleep 1; done", timeout="1s")], "longer than 1 s"),
    "is_killed": ([sh("kill -9 $$")], "SIGKILL"),
    "ends_itself_by_sigterm": ([sh("kill -15 $$")], "SIGTERM"),
    "is_not_there": ([{"command": ["bin/none"]}], "can't be executed"),
    "is_not_executable": ([{"command": ["app"]}], "can't be executed"),
    "has_no_directory": ([sh("exit 0", directory="none")], "directory can't be entered"),
    "second_fails": ([sh("exit 0"), sh("exit 4"), sh("exit 5")], "exit status 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pre_hook(shared_web, case):
    """Nothing is switched, nothing is left, and the deployment is not tried again."""
    web, (hooks, reason) = shared_web, BAD[case]
    before = web.host.unit(web.unit, "MainPID")
    name = release(web, {"pre": hooks, "revert": [sh(f"echo reverted >>{LOG}")]})
    state = web.wait_failed(name)
    assert reason in state["failed"]["reason"] and "pre hook" in state["failed"]["reason"]
    assert state["current"] == "r1" and not state["down"]
    assert slipway.current(web.host) == "r1" and web.host.unit(web.unit, "MainPID") == before
    wait_no_hook_unit(web.host)
    assert "reverted" not in web.host.read(LOG)
    assert state["history"][-1]["result"] == "failed" and "switching" not in state["history"][-1]["phases_ms"]
    assert "is not tried again" in web.status()["poll"]["text"]


def test_what_stays_in_the_background(web):
    """Neither in the way, nor left."""
    hooks = [sh("sleep 4321 & sleep 4322 >/dev/null 2>&1 & exit 0"), sh("setsid -f sh -c 'trap \"\" TERM HUP; exec sleep 4323'")]
    release(web, {"pre": hooks, "post": [sh("setsid -f sleep 4324")]})
    web.wait_live("r2")
    assert not processes(web.host, "sleep 432.")
    wait_no_hook_unit(web.host)


def test_prints_without_end(web):
    """100 MB: slipwayd does not grow, the status stays small."""
    def memory():
        pid = web.host.unit("slipwayd.service", "MainPID")["MainPID"]
        return int(next(line for line in web.host.read(f"/proc/{pid}/status").splitlines()
                        if line.startswith("VmRSS")).split()[1]) * 1024
    before = memory()
    release(web, {"pre": [sh("yes 'much to say' | head -c 2M; head -c 98M /dev/zero | tr '\\0' x")]})
    state = web.wait_live("r2")
    assert memory() < before + 4 * MIB
    assert len("\n".join(state["hooks"]["pre"].get("output", []))) <= 2048


def test_limits_and_place(web):
    """What systemd is told about a hook: memory can't be used up where its controller is not to be had, so the unit is asked."""
    web.close_gate()
    release(web, {"pre": [sh(toy.gate(), memory="64M", timeout="77s")]})
    unit = wait_hook_unit(web.host, "pre")
    got = web.host.unit(unit, "MemoryMax", "TimeoutStartUSec", "KillMode", "OOMPolicy", "User", "Type", "CollectMode")
    assert got == {"MemoryMax": str(64 * MIB), "TimeoutStartUSec": "1min 17s", "KillMode": "control-group", "OOMPolicy": "kill",
                   "User": "nobody", "Type": "oneshot", "CollectMode": "inactive-or-failed"}
    assert web.state()["phase"] == "preparing" and slipway.current(web.host) == "r1"
    # systemd reads all units again while it runs
    web.host.run(["systemctl", "daemon-reload"])
    web.host.run(["systemctl", "daemon-reexec"])
    web.open_gate()
    web.wait_live("r2")


def test_fills_the_disk(host):
    """Of the application and of the state: the release that runs is not touched, and what comes later is deployed."""
    host.run(["sh", "-ec", "mkdir -p /srv/web /var/lib/slipway /mnt && mount -t tmpfs -o size=8M tmpfs /mnt && mkdir /mnt/web /mnt/state"
              " && mount --bind /mnt/web /srv/web && mount --bind /mnt/state /var/lib/slipway"])
    web = started(host)
    before = host.unit(web.unit, "MainPID")
    release(web, {"pre": [sh("cat /dev/zero >/srv/web/fill", user="root")]})
    web.wait_failed("r2")
    assert slipway.current(host) == "r1" and host.unit(web.unit, "MainPID") == before
    host.run(["rm", "/srv/web/fill"])
    release(web, {"pre": [sh("exit 0")]})
    web.wait_live("r3")
    assert web.running() == "r3"


SLOW = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{toy.gate()}; exit 1'\n"
MOUNT = "[Unit]\nRequires=slow.service\nAfter=slow.service\n[Mount]\nWhat=/nowhere\nWhere=/srv/web\n"


def test_systemd_does_not_run_it(web):
    """Its directory's mount does not come up: that is no success, neither while systemd waits for it nor after that, and is
    tried again later."""
    host = web.host
    host.write_unit("slow.service", SLOW)
    host.write_unit("srv-web.mount", MOUNT)
    web.close_gate()
    # slipwayd looks at the unit by itself, some seconds later
    with host.popen(["timeout", WAIT_SEC, "busctl", "monitor", "--json=short", "--match",
                     "type='method_call',member='GetAll',destination='org.freedesktop.systemd1'"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) as monitor:
        assert "Monitoring" in monitor.stderr.readline()
        release(web, {"pre": [sh(f"echo ran >>{LOG}")]})
        unit = wait_hook_unit(host, "pre")
        asked = next((line for line in monitor.stdout if "slipway_2dweb_2dpre" in json.loads(line)["path"]), None)
        assert asked, "nobody has looked at the unit"
    assert hook_units(host) == [unit] and web.state()["phase"] == "preparing" and host.read(LOG) == ""
    web.open_gate()
    wait_for(lambda: "/bin/sh was not run by systemd: its job failed: a unit that it needs did not come up"
             in web.status()["poll"].get("text", ""), WAIT_SEC, "the hook not to be run")
    assert "failed" not in web.state() and web.running() == "r1" and host.read(LOG) == ""
    host.run(["rm", "/etc/systemd/system/srv-web.mount"])
    host.run(["systemctl", "daemon-reload"])
    host.run(["slipway", "resume", "web"])
    web.assert_whole("r2")
    assert host.read(LOG) == "ran\n"


def test_systemd_does_not_come_to_run_it(web):
    """What its directory's mount takes is not the hook's time."""
    host = web.host
    host.write_unit("slow.service", SLOW)
    host.write_unit("srv-web.mount", MOUNT)
    web.close_gate()
    release(web, {"pre": [sh(f"echo ran >>{LOG}", timeout="1s")]})
    host.wait_journal("/bin/sh: systemd does not run it: its job waits for another unit; it is run again",
                      unit="slipwayd.service", timeout_sec=toy.WAIT_SEC)
    assert web.state()["phase"] == "preparing" and "failed" not in web.state() and host.read(LOG) == ""
    host.run(["rm", "/etc/systemd/system/srv-web.mount"])
    host.run(["systemctl", "daemon-reload"])
    web.open_gate()
    web.wait_live("r2")
    assert host.read(LOG) == "ran\n"


# -- not now

def test_not_now(web):
    """Exit status 75: tried again later, with what is on disk."""
    release(web, {"pre": [sh("[ -e /var/tmp/now ] || { echo busy; exit 75; }")]})
    web.wait(lambda s: s["history"][-1]["result"] == "deferred", "r2 to be put off")
    status = web.status()
    assert "is put off" in status["poll"]["text"] and "busy" in status["poll"]["text"] and status["poll"]["ok"]
    assert "failed" not in status["state"] and status["state"]["current"] == "r1"
    assert "busy" in web.host.run(["slipway", "status"]).stdout
    assert web.host.exists("/srv/web/releases/r2/name")
    web.host.stop_unit("slipwayd.service")
    assert web.host.run(["/usr/lib/slipway/slipwayd", "--once"], check=False).rc == PUT_OFF
    web.host.start_unit("slipwayd.service")
    # Nothing is fetched again.
    web.host.run(["mv", "/srv/store/web/releases", "/srv/away"])
    web.host.run(["touch", "/var/tmp/now"])
    web.wait_live("r2")
    assert web.running() == "r2"


def test_not_now_again_and_again(web):
    """Each time it is left alone for twice as long, and no poll hastens it; resume does."""
    release(web, {"pre": [sh(f"cut -d ' ' -f 1 /proc/uptime >>{LOG}; exit 75")]})

    def tries(n):
        return wait_for(lambda: (lambda t: len(t) == n and t)([float(t) for t in web.host.read(LOG).split()]), WAIT_SEC,
                        f"try {n} of the hook")

    def left_sec():
        found = wait_for(lambda: re.search(r"is put off.* after (\S+Z)", web.status()["poll"]["text"]), WAIT_SEC, "it to be put off")
        return datetime.datetime.fromisoformat(found[1].replace("Z", "+00:00")).timestamp() - time.time()
    tries(1)
    assert 0 < left_sec() <= 5
    first, second = tries(2)
    assert 5 <= second - first
    wait_for(lambda: 5 < left_sec() <= 10, WAIT_SEC, "it to be put off for longer")
    web.host.run(["slipway", "poll", "web"])
    assert len(tries(2)) == 2 and web.running() == "r1"
    web.host.run(["slipway", "resume", "web"])
    tries(3)


# -- after the switch

def test_post_hook_fails(web):
    """The release is taken back; when the old one runs again, all revert hooks run, in the bad release's directory."""
    note = {"command": ["note", "revert"]}
    release(web, {"post": [sh("echo no good; exit 9")], "revert": [note, sh("exit 1"), note]},
                more=[program("note", NOTE)])
    state = web.wait_failed("r2")
    assert "post hook" in state["failed"]["reason"] and "exit status 9: no good" in state["failed"]["reason"]
    assert web.host.read(LOG).splitlines() == ["nobody /srv/web/releases/r2 live=r1 <revert>"] * 2
    assert state["history"][-1]["result"] == "reverted"
    assert (state["hooks"]["post"]["output"], state["hooks"]["revert"]["ok"]) == (["no good"], True)
    web.assert_whole("r1")


def test_unit_fails_first(web):
    """A release whose unit does not come up has no post hooks run, but its revert hooks. A rollback runs none."""
    hooks = {"pre": [sh(f"echo pre >>{LOG}")], "post": [sh(f"echo post >>{LOG}")], "revert": [sh(f"echo revert >>{LOG}")]}
    release(web, hooks, toy.CRASHING)
    web.wait_failed("r2")
    assert web.host.read(LOG).split() == ["pre", "revert"]
    release(web, hooks)
    web.wait_live("r3")
    assert web.host.read(LOG).split() == ["pre", "revert", "pre", "post"]
    web.host.run(["slipway", "rollback", "web"])
    web.wait_live("r1")
    assert web.host.read(LOG).split() == ["pre", "revert", "pre", "post"]


# -- slipwayd dies

@pytest.mark.parametrize("kind, phase", [("pre", "preparing"), ("post", "finishing")])
def test_killed_while_a_hook_runs(web, kind, phase):
    """What the hook had running is ended first, then it runs again."""
    web.close_gate()
    release(web, {kind: [sh(f"echo begun >>{LOG}; {toy.gate()}; echo done >>{LOG}")]})
    web.wait_phase(phase, "r2")
    first = wait_hook_unit(web.host, kind)
    wait_for(lambda: web.host.read(LOG).split() == ["begun"], WAIT_SEC, "the hook to begin")
    web.host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    web.host.run(["systemctl", "start", "slipwayd.service"])
    wait_for(lambda: web.host.read(LOG).split() == ["begun", "begun"], WAIT_SEC, "the hook to begin again")
    assert first not in hook_units(web.host)
    web.open_gate()
    web.assert_whole("r2")
    assert web.host.read(LOG).split() == ["begun", "begun", "done"]


def test_what_is_left_is_said_once(web):
    """Also where it takes its time to end."""
    web.close_gate()
    release(web, {"pre": [sh(f"trap '' TERM; echo begun >>{LOG}; {toy.gate()}")]})
    unit = wait_hook_unit(web.host, "pre")
    wait_for(lambda: web.host.read(LOG).split() == ["begun"], WAIT_SEC, "the hook to begin")
    web.host.run(["systemctl", "restart", "dbus.service"])
    wait_for(lambda: web.host.read(LOG).split() == ["begun", "begun"], WAIT_SEC, "the hook to begin again")
    assert web.host.journal("slipwayd.service").count(f"{unit} is left from before") == 1
    web.open_gate()
    web.wait_live("r2")


@pytest.mark.parametrize("how", [["systemctl", "restart", "dbus.service"], ["systemctl", "stop"]])
def test_cut_off(web, how):
    """By a lost connection, or by somebody who stops its unit, which says nothing of the release: it runs again."""
    web.close_gate()
    release(web, {"pre": [sh(f"echo begun >>{LOG}; {toy.gate()}; echo done >>{LOG}")]})
    unit = wait_hook_unit(web.host, "pre")
    wait_for(lambda: web.host.read(LOG).split() == ["begun"], WAIT_SEC, "the hook to begin")
    web.host.run(how if len(how) > 2 else [*how, unit])
    wait_for(lambda: web.host.read(LOG).split() == ["begun", "begun"], WAIT_SEC, "the hook to begin again")
    web.open_gate()
    web.wait_live("r2")
    assert web.host.read(LOG).split() == ["begun", "begun", "done"]


def test_rolled_back_while_a_hook_runs(web):
    """The hook is ended, and so it is when slipwayd is stopped."""
    web.release()
    web.wait_live("r2")
    web.close_gate()
    release(web, {"pre": [sh(toy.gate())]})
    unit = wait_hook_unit(web.host, "pre")
    web.host.run(["systemctl", "restart", "slipwayd.service"])
    wait_for(lambda: unit not in hook_units(web.host), WAIT_SEC, "the hook to be ended")
    unit = wait_hook_unit(web.host, "pre")
    web.host.run(["slipway", "rollback", "web"])
    wait_for(lambda: unit not in hook_units(web.host), WAIT_SEC, "the hook to be ended")
    assert slipway.current(web.host) == "r1" and web.running() == "r1"


def test_user_that_is_not_there(host):
    """Said before anything changes; once the user is there, the deployment goes on."""
    web = toy.Toy(host, toy.local_store(host))
    release(web, {"post": [sh(f"id -un >{LOG}")]})
    toy.start([web])
    status = wait_for(lambda: (lambda s: "no user web" in s["poll"]["text"] and s)(web.status()), WAIT_SEC, "the user to be missed")
    assert "hook_users" in status["poll"]["text"] and not host.exists("/srv/web/current")
    host.run(["useradd", "--system", "web"])
    host.run(["sh", "-c", f"touch {LOG}; chmod 666 {LOG}"])
    web.wait_live("r1")
    assert host.read(LOG) == "web\n"


# -- without root

USER_BUS = {
    "dbus.socket": "[Socket]\nListenStream=%t/bus\n[Install]\nWantedBy=sockets.target\n",
    "dbus.service": "[Unit]\nRequires=dbus.socket\n[Service]\nExecStart=dbus-daemon --session --address=systemd: --nofork "
                    "--nopidfile --systemd-activation\n",
    "slipwayd.service": "[Service]\nType=notify\nExecStart=/usr/lib/slipway/slipwayd --user\n",
}


def test_for_a_user(host):
    """slipwayd --user has the user's systemd run them, as the same user, whatever hook_users says."""
    web = toy.Toy(host, toy.local_store(host))
    host.run(["useradd", "--create-home", "--uid", "1500", "joe"])
    for name, text in USER_BUS.items():
        host.write(f"/etc/systemd/user/{name}", text)
    host.run(["systemctl", "--global", "--quiet", "enable", "dbus.socket"])
    config = {"store": "file:///srv/store", "poll": {"interval": "1s"}, "report": False,
              "trust": "/home/joe/root.json", "apps": [{"app": "web", "channel": "prod", "root": "/home/joe/web"}]}
    host.write("/home/joe/.config/slipway/agent.json", json.dumps(config))
    host.write("/home/joe/root.json", formats.trust_root([web.key]))
    host.run(["chown", "-R", "joe:", "/home/joe"])
    host.run(["systemctl", "start", "user@1500.service"])

    def as_joe(*args):
        return host.run(["setpriv", "--reuid=joe", "--regid=joe", "--init-groups", "env", "HOME=/home/joe",
                         "XDG_RUNTIME_DIR=/run/user/1500", *args])
    as_joe("systemctl", "--user", "start", "slipwayd.service")
    hooks = {"pre": [sh("id -un; pwd; sleep 4321 &")], "post": [sh("exit 5", memory="64M")]}
    web.release(units=(), also={"hooks": hooks})

    def state():
        return json.loads(as_joe("slipway", "--user", "status", "--json").stdout)["apps"][0]["state"]
    found = wait_for(lambda: (lambda s: "failed" in s and s)(state()), WAIT_SEC, "r1 to be taken back")
    assert "exit status 5" in found["failed"]["reason"]
    assert found["hooks"]["pre"]["ok"] and not processes(host, "sleep 4321")
    assert not host.exists("/home/joe/web/current")
