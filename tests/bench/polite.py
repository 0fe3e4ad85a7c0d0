"""What a service keeps of the CPUs, all of which it wants, while a release is deployed beside it; rows of agent.py's table."""

import os
import pathlib
import statistics
import time

import application
import slipway
from common import UNIT, Processes, Row, wait_current, wait_idle

SHARE_MIN = 0.85
ALONE_SEC = 2
BUSY = "busy.service"
# sched(7): as good as CPUWeight=10
AUTOGROUP_NICE = "10"
ARTIFACT = "/srv/store/web/releases/large/artifact.tar.zst"


def prepare(bench, host):
    """All CPUs are busy, and the channel's release is in a directory: a store on this machine would take its part."""
    install, directory = pathlib.Path(os.environ["SLIPWAY_E2E_INSTALL"]), bench.work / "polite"
    store = directory / "store"
    store.mkdir(parents=True)
    publisher = slipway.Publisher(install, directory / "publisher", f"file://{store}")
    tree = application.Releases(pathlib.Path(os.environ["SLIPWAY_E2E_APP_TREE"]), directory).first()
    publisher.release(tree, "large", spec={"activate": {}})
    host.copy_in(store, "/srv/store")
    slipway.configure(host, "file:///srv/store", publisher.root_path.read_bytes(), report=False,
                      poll={"interval": "1h", "jitter": "0%"})
    host.write(f"/etc/systemd/system/{BUSY}",
               "[Service]\nExecStart=sh -c 'for n in $$(seq $$(nproc)); do while :; do :; done & done; wait'\n")
    host.run(["systemctl", "daemon-reload"])
    host.start_unit(BUSY)


def weigh(host):
    """Where no control group has CPUs to share, the weight that the unit asks for is given to its session by hand."""
    shown = host.unit(UNIT, "CPUWeight", "MainPID")
    assert shown["CPUWeight"] == "10", shown
    if "cpu" not in pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split():
        host.run(["sh", "-c", 'echo "$1" >"/proc/$2/autogroup"', "sh", AUTOGROUP_NICE, shown["MainPID"]])


def share(host, work):
    """What the busy service has of all CPUs until work() is done."""
    busy = Processes(host, BUSY)
    began, had_usec = time.monotonic(), busy.cpu_usec()
    work()
    return (busy.cpu_usec() - had_usec) / 1e6 / (time.monotonic() - began) / os.cpu_count()


def deploy(host):
    host.stop_unit(UNIT)
    host.run(["sh", "-c", "rm -rf /srv/web /var/lib/slipway/* /var/cache/slipway/* && sync"])
    host.start_unit(UNIT)
    weigh(host)

    def work():
        host.run(["slipway", "poll", "web"])
        wait_current(host, "large")
    result = share(host, work)
    wait_idle(host, "large")
    return result


def unpack_by_tar(host):
    host.run(["sh", "-c", "rm -rf /srv/plain && mkdir /srv/plain && sync"])
    return share(host, lambda: host.run(["systemd-run", "--quiet", "--wait", "tar", "--zstd", "-xf", ARTIFACT, "-C", "/srv/plain"]))


def rows(bench, n_pairs):
    ours, tars = [], []
    with bench.host(bench.work / "busy") as host:
        prepare(bench, host)
        for n in range(n_pairs + 1):
            alone = share(host, lambda: time.sleep(ALONE_SEC))
            measured = deploy(host) / alone, unpack_by_tar(host) / alone
            if n > 0:  # the first round fills caches
                ours.append(measured[0])
                tars.append(measured[1])
    ratio = round(statistics.median(ours), 2)
    return [
        Row("busy host: what its service keeps, deploying", f"{ratio:.0%}", f"{ratio:.2f} of alone",
            f"{'reached' if ratio >= SHARE_MIN else 'MISSED'}: at least {SHARE_MIN} (median of {n_pairs})"),
        Row("busy host: the same, tar --zstd -x", f"{statistics.median(tars):.0%}", f"{statistics.median(tars):.2f} of alone"),
    ]
