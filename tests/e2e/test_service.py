"""slipwayd as a service: what ends it, what it may use, and what it starts before and after."""

import pathlib
import signal

import pytest

import application
import fault_proxy as faults
import formats
import slipway
import toy
from conftest import SUMMARY
from waiting import wait_for

MIB = 1 << 20
N_CRASHES = 12
# what a deployment may take of what the unit allows
MEMORY_SHARE, TASKS_SHARE = 0.25, 0.25
LARGE_SEC = 120
# proc_pid_oom_score_adj(5): of slipwayd and of its children
SPARED, FIRST = -500, 500
CAP_SYS_RESOURCE = 24
# proc_pid_stat(5), after the name of the program; sched(7)
NICE, POLICY = 16, 38
SCHED_OTHER, SCHED_BATCH = 0, 3


def service(host, *properties):
    shown = host.unit("slipwayd.service", *properties)
    return shown[properties[0]] if len(properties) == 1 else shown


def drop_in(host, text):
    """Settings of the unit for this test; the next start has them."""
    host.write("/etc/systemd/system/slipwayd.service.d/test.conf", f"[Service]\n{text}")
    host.run(["systemctl", "daemon-reload"])


def processes(host):
    """pid -> program, of slipwayd and its children."""
    pids = host.run(["cat", "/sys/fs/cgroup/system.slice/slipwayd.service/cgroup.procs"], check=False).stdout.split()
    names = ((pid, host.run(["cat", f"/proc/{pid}/comm"], check=False).stdout.strip()) for pid in pids)
    return {pid: name for pid, name in names if name}


def web_pid(web):
    return web.host.unit(web.unit, "MainPID")["MainPID"]


def live(host, **options):
    """An application whose r1 is live."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web], **options)
    web.assert_whole("r1")
    return web


# -- what ends it

def test_watchdog_while_nothing_is_under_way(host):
    """One that hangs is ended with its children, and started again; the applications don't notice."""
    drop_in(host, "WatchdogSec=500ms\nTimeoutAbortSec=1s\nRestartSec=1ms\n")
    web = live(host)
    before, untouched = processes(host), web_pid(web)
    assert "slipway-fetch" in before.values()
    host.run(["kill", f"-{int(signal.SIGSTOP)}", service(host, "MainPID")])
    wait_for(lambda: service(host, "NRestarts") != "0" and service(host, "ActiveState") == "active", toy.WAIT_SEC,
             "systemd to start it again")
    assert "Watchdog timeout" in host.journal("slipwayd.service")
    assert not before.keys() & processes(host).keys()
    assert web_pid(web) == untouched
    web.assert_whole(web.release())


def test_crash_loop(host):
    """However often and fast it crashes, it is started again."""
    drop_in(host, "RestartSec=1ms\n")
    web = live(host)
    untouched = web_pid(web)
    for n in range(1, N_CRASHES + 1):
        host.run(["kill", "-9", service(host, "MainPID")])
        wait_for(lambda: service(host, "NRestarts") == str(n) and service(host, "MainPID") != "0", toy.WAIT_SEC,
                 f"restart {n}")
    wait_for(lambda: service(host, "ActiveState") == "active", toy.WAIT_SEC, "it to be up")
    assert service(host, "StartLimitIntervalUSec", "Restart") == {"StartLimitIntervalUSec": "0", "Restart": "always"}
    assert "start-limit" not in host.journal() and "too quickly" not in host.journal()
    assert web_pid(web) == untouched
    web.assert_whole(web.release())


def test_configuration_that_cannot_be_read(host):
    """It is tried again and again, and the first start after it was mended is a good one."""
    drop_in(host, "RestartSec=1ms\n")
    web = live(host)
    untouched, good = web_pid(web), host.read("/etc/slipway/agent.json")
    host.write("/etc/slipway/agent.json", "{")
    host.run(["kill", "-9", service(host, "MainPID")])
    wait_for(lambda: int(service(host, "NRestarts")) > N_CRASHES, toy.WAIT_SEC, "many starts")
    host.write("/etc/slipway/agent.json", good)
    wait_for(lambda: service(host, "ActiveState") == "active", toy.WAIT_SEC, "it to be up")
    assert web_pid(web) == untouched
    web.assert_whole(web.release())


# -- what it may use

def may_spare():
    """Whether scores below 0 can be given here; systemd starts the service without them where they can't."""
    caps = next(line for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
                if line.startswith("CapEff:"))
    return bool(int(caps.split()[1], 16) & 1 << CAP_SYS_RESOURCE)


def oom(host, pid, name):
    return int(host.read(f"/proc/{pid}/{name}"))


def test_memory_runs_out(host, s3, bucket, s3_proxy):
    """The kernel ends the process with the highest score: a child, before slipwayd and the applications. What it was at fails,
    says why, and is tried again."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.assert_whole("r1")
    agent, untouched = service(host, "MainPID"), web_pid(web)
    stall = faults.StallAfter(20)
    s3_proxy.fault(r"/r2/artifact", stall, times=1)
    cursor = host.journal_cursor()
    web.release()

    def unpacker():
        return next((pid for pid, name in processes(host).items() if name == "slipway-unpack"), None)
    pid = wait_for(unpacker, toy.WAIT_SEC, "slipway-unpack to wait for the artifact")
    scores = {p: oom(host, p, "oom_score") for p in [*processes(host), untouched]}
    assert service(host, "OOMPolicy", "OOMScoreAdjust") == {"OOMPolicy": "continue", "OOMScoreAdjust": str(SPARED)}
    if may_spare():
        assert oom(host, agent, "oom_score_adj") == SPARED and scores[agent] == min(scores.values())
    assert [oom(host, p, "oom_score_adj") for p, name in processes(host).items() if name != "slipwayd"] == [FIRST, FIRST]
    assert max(scores[agent], scores[untouched]) < min(scores[p] for p in processes(host) if p != agent)
    host.run(["kill", "-9", pid])
    host.wait_journal("slipway-unpack ended \\(signal 9: .*memory", unit="slipwayd.service", after=cursor)
    stall.release()
    web.assert_whole("r2")
    assert service(host, "MainPID") == agent


def priority(host, pid):
    """(nice, scheduling policy, class and priority of I/O) of a process and of its threads, which have the same."""
    found = set()
    for task in host.run(["ls", f"/proc/{pid}/task"]).stdout.split():
        fields = host.read(f"/proc/{pid}/task/{task}/stat").rpartition(")")[2].split()
        found.add((int(fields[NICE]), int(fields[POLICY]), host.run(["ionice", "-p", task]).stdout.strip()))
    [shown] = found
    return shown


def test_priority(host, s3, bucket, s3_proxy):
    """A deployment stands back for what the host is for; polls and the way back less so."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.assert_whole("r1")
    stall = faults.StallAfter(20)
    s3_proxy.fault(r"/r2/artifact", stall, times=1)
    web.release()
    wait_for(lambda: "slipway-unpack" in processes(host).values(), toy.WAIT_SEC, "slipway-unpack to wait for the artifact")
    pids = {name: pid for pid, name in processes(host).items()}
    wait_for(lambda: priority(host, pids["slipway-unpack"]) == (10, SCHED_BATCH, "best-effort: prio 7"), toy.WAIT_SEC,
             "slipway-unpack to stand back")
    assert priority(host, pids["slipway-fetch"]) == (5, SCHED_OTHER, "best-effort: prio 7")
    assert priority(host, pids["slipwayd"])[:2] == (0, SCHED_OTHER)
    assert service(host, "CPUWeight", "IOWeight") == {"CPUWeight": "10", "IOWeight": "10"}
    stall.release()
    web.assert_whole("r2")


def memory_bytes(host, pid):
    """What a process has for itself alone, 0 once it is gone."""
    text = host.run(["cat", f"/proc/{pid}/status"], check=False).stdout
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def n_tasks(host, pid):
    return len(host.run(["ls", f"/proc/{pid}/task"], check=False).stdout.split())


def test_limits_are_far(request, host, s3, bucket, releases, make_publisher):
    """The real application is deployed with a fraction of what the unit allows."""
    environment = slipway.store_environment(s3)
    publisher = make_publisher(f"s3://{bucket}", environment)
    publisher.release(releases.first(), "r1")
    host.write_unit("web.service", application.UNIT)
    slipway.configure(host, f"s3://{bucket}", publisher.root_path.read_bytes(), environment=environment)
    host.start_unit("slipwayd.service")
    limits = service(host, "MemoryHigh", "MemoryMax", "TasksMax")
    peak_bytes = peak_tasks = 0

    def deployed():
        nonlocal peak_bytes, peak_tasks
        pids = list(processes(host))
        peak_bytes = max(peak_bytes, sum(memory_bytes(host, pid) for pid in pids))
        peak_tasks = max(peak_tasks, sum(n_tasks(host, pid) for pid in pids))
        return slipway.current(host) == "r1"
    wait_for(deployed, LARGE_SEC, "the application to be live")
    request.config.stash[SUMMARY].append(f"a deployment took {peak_bytes / MIB:.1f} MiB and {peak_tasks} tasks, of {limits}")
    assert 0 < peak_bytes < int(limits["MemoryHigh"]) * MEMORY_SHARE < int(limits["MemoryMax"]) * MEMORY_SHARE
    assert 2 < peak_tasks < int(limits["TasksMax"]) * TASKS_SHARE


def test_no_more_tasks(host):
    """Where no process can be made, slipwayd lives, says so, and tries again; what is live stays."""
    web = live(host)
    untouched = web_pid(web)
    drop_in(host, "SystemCallFilter=~clone:EAGAIN clone3:EAGAIN fork:EAGAIN vfork:EAGAIN\n")
    web.release()
    host.run(["systemctl", "restart", "slipwayd.service"])
    host.wait_journal("can't fork for slipway-fetch: Resource temporarily unavailable", unit="slipwayd.service")
    wait_for(lambda: "slipway-fetch is not running" in web.status()["poll"].get("text", ""), toy.WAIT_SEC,
             "the trouble to be told")
    agent = service(host, "MainPID")
    assert slipway.current(host) == "r1" and web_pid(web) == untouched
    assert service(host, "ActiveState", "NRestarts", "MainPID") == {"ActiveState": "active", "NRestarts": "0",
                                                                    "MainPID": agent}
    drop_in(host, "")
    host.run(["systemctl", "restart", "slipwayd.service"])
    web.assert_whole("r2")


# -- what it starts before and after

def started(host, unit):
    return int(host.unit(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])


@pytest.mark.parametrize("first", ["slipwayd.service", "web.service"])
def test_order_at_boot(host, first):
    """It starts before or after an application, as a drop-in says, and deploys a release of that application either way."""
    second = {"slipwayd.service": "web.service", "web.service": "slipwayd.service"}[first]
    web = live(host)
    host.run(["systemctl", "disable", "--now", "slipwayd.service"])
    host.write(f"/etc/systemd/system/{second}.d/order.conf", f"[Unit]\nAfter={first}\n")
    host.write("/etc/systemd/system/web.service.d/install.conf", "[Install]\nWantedBy=multi-user.target\n")
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "enable", "slipwayd.service", "web.service"])
    web.release()
    host.shut_down()
    host.boot()
    assert 0 < started(host, first) <= started(host, second)
    web.assert_whole("r2")


def test_network_comes_late(host, s3, bucket):
    """It does not wait for the network at boot, and finds the store when there is one."""
    environment = slipway.store_environment(s3)
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=environment)
    web.assert_whole("r1")
    host.run(["systemctl", "enable", "slipwayd.service"])
    host.shut_down()
    host.net_down()
    web.release()
    host.boot()
    assert service(host, "ActiveState") == "active"
    wait_for(lambda: "can't" in web.status()["poll"].get("text", ""), toy.WAIT_SEC, "the store to be missed")
    assert slipway.current(host) == "r1"
    host.net_up()
    web.assert_whole("r2")
    assert service(host, "NRestarts") == "0"
