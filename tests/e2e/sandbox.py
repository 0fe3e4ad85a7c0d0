"""Runs a command where the tests can boot hosts and nothing gets out: own mount, network, PID and cgroup namespaces.

    python sandbox.py COMMAND [ARGUMENT...]

The command ends with its whole PID namespace, whichever way it ends, and takes its mounts and network devices along. What
outlives a namespace (the cgroup directory and the work directory) is removed by the process that started it, or, if that one
was killed, by the next run.

Where memory is plenty, a tmpfs covers the work directory inside the namespace: large trees are made and removed in no time.
SLIPWAY_E2E_WORK_ON=disk keeps it on disk.
"""

import concurrent.futures
import contextlib
import ctypes
import fcntl
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BRIDGE = "br0"
SERVER_ADDRESS = "10.99.0.1"
NETMASK_BITS = 24

WORK_PREFIX = "slipway-e2e."
REMOVE_TIMEOUT_SEC = 20
MEMORY_MIN_BYTES = 12 << 30
MEMORY_SHARE = 0.5
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The machine cannot give what the tests need; the text says what."""


def die_with_parent(number=signal.SIGKILL):
    """In a child before exec, or of itself: the kernel sends it this signal when the process that started it is gone."""
    if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def cgroup2_mount():
    """Where the machine has the unified hierarchy: /sys/fs/cgroup, or a directory beside the old controllers."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return pathlib.Path(fields[4])
    raise SandboxError("no cgroup2 hierarchy is mounted on this machine")


def missing():
    """What keeps hosts from booting here, one reason a line; empty if nothing does."""
    reasons = []
    if os.geteuid() != 0:
        reasons.append("booting test hosts needs root")
    for tool in ("systemd-nspawn", "unshare", "nsenter", "ip", "mount", "openssl", "mmdebstrap"):
        if shutil.which(tool) is None:
            reasons.append(f"{tool} is not installed")
    if reasons:
        return reasons
    try:
        cgroup2_mount()
    except SandboxError as e:
        reasons.append(str(e))
    probe = subprocess.run(["unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "true"],
                           capture_output=True, text=True)
    if probe.returncode != 0:
        reasons.append(f"namespaces cannot be made: {probe.stderr.strip()}")
    return reasons


def work_parent():
    return pathlib.Path(os.environ.get("TMPDIR", "/var/tmp"))


def remove_work(directory):
    """Removes a work directory; nothing is mounted below it once its mount namespace is gone."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{directory}/"):
            raise SandboxError(f"cannot remove {directory}: {line.split()[4]} is still mounted")
    # what a host made immutable or unreadable is no obstacle to root; what can't be removed is an error to see
    shutil.rmtree(directory)


def wait_cgroup_empty(cgroup):
    """Waits until no process is left in it: the kernel says so by an event on cgroup.events."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_SEC
    with open(cgroup / "cgroup.events", encoding="ascii") as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI | select.POLLERR)
        while True:
            events.seek(0)
            if "populated 0" in events.read():
                return
            left_msec = int((deadline - time.monotonic()) * 1000)
            if left_msec <= 0:
                raise SandboxError(f"processes are still running in {cgroup} after {REMOVE_TIMEOUT_SEC} s")
            poller.poll(left_msec)


def remove_cgroup(cgroup):
    wait_cgroup_empty(cgroup)
    for directory, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(directory)


def sweep(parent, cgroups):
    """Removes what runs left behind whose supervisor was killed: nobody holds their lock any more. The caller holds the lock
    of the parent, so that no directory is found between its making and its locking."""
    for directory in parent.glob(f"{WORK_PREFIX}*"):
        with open(directory / "lock", "a", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            cgroup = cgroups / directory.name
            if cgroup.exists():
                remove_cgroup(cgroup)
            remove_work(directory)


@contextlib.contextmanager
def locked(directory):
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def make_work(parent, cgroups):
    """A new work directory and its lock, held as long as the file is open."""
    with locked(parent):
        sweep(parent, cgroups)
        work = pathlib.Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=parent))
        lock = open(work / "lock", "a", encoding="ascii")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return work, lock


def end_work(work):
    """Removes the directory of a run that ends. Its lock goes with it, before the rest: a run that begins would take it for
    one that was left behind."""
    with locked(work.parent):
        remove_work(work)


def supervise(command):
    cgroups = cgroup2_mount()
    work, lock = make_work(work_parent(), cgroups)
    with lock:
        cgroup = cgroups / work.name
        cgroup.mkdir()

        def enter():
            die_with_parent()
            (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

        child = None

        def stop(*_):
            raise SandboxError("told to stop")

        signal.signal(signal.SIGTERM, stop)
        die_with_parent(signal.SIGTERM)
        # Ctrl-C reaches the tests from the terminal; they end, and then so do we
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            child = subprocess.Popen(
                ["unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "--kill-child=SIGKILL", "--mount-proc",
                 "--propagation", "private", "--", sys.executable, os.path.abspath(__file__), "--inside", str(work),
                 *command],
                preexec_fn=enter)
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # the kernel ends everything in a PID namespace with its first process, and that one with unshare
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
            remove_cgroup(cgroup)
            end_work(work)


def run(*command):
    subprocess.run(command, check=True)


def run_reading(stdin, *command):
    subprocess.run(command, check=True, stdin=stdin)


def in_network(netns, function):
    """What function() returns when a thread in the network namespace calls it: sockets made there stay there."""
    def enter():
        with open(f"/run/netns/{netns}", "rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), f"setns({netns})")
        return function()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


def mounted_below(path):
    return [f[4] for f in map(str.split, pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
            if f[4] == path or f[4].startswith(f"{path}/")]


def memory_for_work():
    """How large a tmpfs the work directory may be, in bytes; 0 where it had better stay on disk."""
    on = os.environ.get("SLIPWAY_E2E_WORK_ON", "")
    if on not in ("", "disk"):
        raise SandboxError(f"SLIPWAY_E2E_WORK_ON={on} is not known: it may be disk, or empty for what suits the machine")
    fields = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    available_bytes = int(fields["MemAvailable"].split()[0]) << 10
    return int(available_bytes * MEMORY_SHARE) if not on and available_bytes >= MEMORY_MIN_BYTES else 0


def set_up(work):
    """Inside the namespaces: the work directory, one clean cgroup2 hierarchy, loopback, and the bridge that hosts and servers
    share."""
    n_bytes = memory_for_work()
    if n_bytes > 0:
        run("mount", "-t", "tmpfs", "-o", f"size={n_bytes},mode=0700", "tmpfs", work)
    if mounted_below("/sys/fs/cgroup"):
        run("umount", "-Rl", "/sys/fs/cgroup")
    run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    os.makedirs("/run/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{SERVER_ADDRESS}/{NETMASK_BITS}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    os.environ["SLIPWAY_E2E_WORK"] = work
    os.environ["TMPDIR"] = os.path.join(work, "tmp")
    os.mkdir(os.environ["TMPDIR"])


def inside(work, command):
    """PID 1 of the sandbox: reaps what daemons leave to it, ends with the command."""
    set_up(work)
    child = os.spawnvp(os.P_NOWAIT, command[0], command)
    signal.signal(signal.SIGINT, lambda *_: None)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def main(arguments):
    if arguments[:1] == ["--missing"]:
        reasons = missing()
        print("\n".join(reasons), end="\n" if reasons else "")
        return 0
    if arguments[:1] == ["--inside"]:
        code = inside(arguments[1], arguments[2:])
    else:
        code = supervise(arguments)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SandboxError as e:
        sys.exit(f"sandbox: {e}")
