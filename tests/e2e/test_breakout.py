"""The children from inside, on a real host: the real programs, started by the real slipwayd under the real unit, try to get out
once they have confined themselves (tests/breakout/breakout.h), and then do their work. What must come of each attempt stands
here."""

import ctypes
import errno
import platform
import stat

import pytest

import breakout
import formats
import slipway
import toy
from waiting import wait_for

ORDERS = "/run/breakout"
SERVER = "require('http').createServer((q, r) => r.end()).listen(8080, '127.0.0.1')"
URL = "http://127.0.0.1:8080/"
FETCH, PROBE = "slipway-fetch --store", "slipway-fetch --probe"
SYS_LANDLOCK_CREATE_RULESET = 444
NO_LANDLOCK = "[Service]\nSystemCallFilter=~landlock_create_ruleset\n"
SCOPED = 6  # the version of Landlock that knows of signals

# slipway-fetch, the one that probes, slipway-unpack from its beginning, and slipway-unpack from the artifact on
PHASES = ["fetch", "probe", "begin", "tight"]

# What comes of an attempt in each phase. W: it works, because the work needs it or it does no harm (agent/THREATS.md). D: denied
# by users, the unit or seccomp. L: denied by Landlock, and works where the kernel has none: users let everybody, or the owner,
# do it. S: the same, by a later version. O: the owner's affair, which some file systems can't do. -: not tried.
EXPECTED = {
    # files
    "read passwd": "WWWL",
    "read shadow": "DDDD",
    "read environment": "DDDD",
    "read state": "DDDD",
    "list state": "DDDD",
    "list spool": "WLDD",
    "list orders": "WLDD",
    "list runtime": "DDDD",
    "read release": "LLWL",
    "read memory of slipwayd": "DDDD",
    "read environment of slipwayd": "DDDD",
    "list descriptors of slipwayd": "DDDD",
    "read memory of sibling": "DDDD",
    "read environment of sibling": "DDDD",
    "read environment of 1": "DDDD",
    "open ptmx": "LLWD",
    "open mem": "DDDD",
    "create in release": "DDWL",
    "create in releases": "DDWL",
    "create beside current": "DDDD",
    "create in spool": "WLDD",
    "create in orders": "WLDD",
    "create in state": "DDDD",
    "create in tmp": "LLWL",
    "create in var-tmp": "LLWL",
    "create in shm": "LLWL",
    "create in run": "DDDD",
    "create in etc": "DDDD",
    "create beside programs": "DDDD",
    "mkdir in releases": "DDWL",
    "mkdir in spool": "LLDD",
    "symlink in releases": "DDWL",
    "symlink in spool": "LLDD",
    "mkfifo in spool": "DDDD",
    "mknod in release": "DDDD",
    "write release": "DDWD",
    "chmod in release": "DDWD",
    "fchmod in release": "DDWL",
    "setuid bit in release": "DDDD",
    "chown in release": "DDDD",
    "utimes in release": "DDWW",
    "truncate in release": "DDWD",
    "setxattr in release": "DDOD",
    "chmod of spool": "DDDD",
    "chmod of current": "DDDD",
    "rename in release": "DDWD",
    "link in release": "DDWD",
    "unlink in release": "DDWL",
    "unlink current": "DDDD",
    "rename current": "DDDD",
    "rename release": "DDDD",
    "create in staging": "---W",
    "write in staging": "---W",
    "write what is in staging": "---D",
    "chmod in staging": "---W",
    "unlink in staging": "---W",
    "symlink in staging": "---W",
    "read in staging": "---L",
    "setuid bit in staging": "---D",
    "chown in staging": "---D",
    "link in staging": "---D",
    "rename in staging": "---D",
    "mkfifo in staging": "---D",
    # network
    "connect by TCP": "WWDD",
    "connect by UDP": "WWDD",
    "connect to bus": "WWDD",
    "connect to systemd": "DDDD",
    "connect to journal": "WWDD",
    "notify systemd": "WWDD",
    "netlink socket": "DDDD",
    "packet socket": "DDDD",
    "vsock socket": "DDDD",
    "alg socket": "DDDD",
    "raw socket": "DDDD",
    "listen": "DDDD",
    "accept": "DDDD",
    "bind in spool": "LLDD",
    # programs and memory
    "memfd": "WWWD",
    "write to memfd": "WWW-",
    "run shell": "DDDD",
    "run itself": "DDDD",
    "run memfd": "DDDD",
    "fork": "DDDD",
    "clone3": "DDDD",
    "thread": "WWWW",
    "writable code": "DDDD",
    "memory becomes code": "DDDD",
    # other processes
    **{f"{verb} {whose}": "DDDD" for whose in ("slipwayd", "sibling", "1")
       for verb in ("signal", "tgkill", "pidfd of", "trace", "read memory by call of", "limit", "schedule", "place",
                    "reprioritize")},
    "tgkill sibling": "SSDD",
    # identity, name spaces, the kernel
    **{what: "DDDD" for what in (
        "setuid", "setresuid", "setgid", "setgroups", "capset", "unshare users", "unshare mounts", "unshare network",
        "clone users", "setns", "chroot", "more descriptors", "realtime", "new privileges", "type into terminal", "io_uring",
        "bpf", "perf", "keyctl", "add_key", "userfaultfd", "memfd_secret", "name_to_handle_at", "open_by_handle_at",
        "personality", "mount", "remount", "umount", "open_tree", "fsopen", "swapon", "fanotify", "syslog", "init_module",
        "kexec", "reboot", "set clock")},
    "dumpable": "WWWD",
}

DENIALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS, errno.EAFNOSUPPORT}
# what is not there to be reached, and what the kernel knows no such thing of
OTHER_DENIALS = {
    **{f"read {what}": errno.ENOENT for what in ("memory of slipwayd", "environment of slipwayd", "memory of sibling",
                                                 "environment of sibling", "environment of 1")},
    "list descriptors of slipwayd": errno.ENOENT, "open mem": errno.ENOENT, "new privileges": errno.EINVAL,
    "type into terminal": errno.ENOTTY,
}

ENVIRONMENT = {
    "fetch": {"JOURNAL_STREAM", "SLIPWAY_BOOT_ID", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
              "AWS_ENDPOINT_URL_S3"},
    "probe": {"JOURNAL_STREAM"}, "begin": {"JOURNAL_STREAM"}, "tight": {"JOURNAL_STREAM"},
}
# stdio, /dev/null and the journal, and the socket
INHERITED = {0: stat.S_IFCHR, 1: stat.S_IFSOCK, 2: stat.S_IFSOCK, 3: stat.S_IFSOCK}


def landlock_version():
    """Of this kernel, 0 where it has none."""
    return max(0, ctypes.CDLL(None).syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1))


def order(host, sibling, architecture="-"):
    host.write(ORDERS, f"{sibling} {architecture}\n")


def said(host):
    """phase -> its lines."""
    lines = {}
    for phase, line in breakout.said(host, "breakout"):
        lines.setdefault(phase, []).append(line)
    return lines


def attempts(lines):
    """what -> error, of the phase's first process."""
    found = {}
    for what, error in (line.split(" = ") for line in lines[:lines.index("is done")] if " = " in line):
        assert found.setdefault(what, int(error)) == int(error), what
    return found


def judge(what, code, error, version):
    """What is wrong with it, or None."""
    denied = error in DENIALS or (error is not None and error == OTHER_DENIALS.get(what))
    if code == "-":
        return None if error is None else "was not to be tried"
    if code == "O":
        return None if error in (0, errno.EOPNOTSUPP) else f"{error} for its owner"
    if code == "D" or (code == "L" and version > 0) or (code == "S" and version >= SCOPED):
        return None if denied else f"{error} instead of a denial"
    return None if error == 0 else f"{error} instead of success"


def assert_expected(lines, version):
    found = {phase: attempts(lines[phase]) for phase in PHASES}
    assert {what for attempts_ in found.values() for what in attempts_} == EXPECTED.keys()
    wrong = {f"{phase}: {what}": text for what, codes in EXPECTED.items() for phase, code in zip(PHASES, codes, strict=True)
             for text in [judge(what, code, found[phase].get(what), version)] if text is not None}
    assert not wrong


def assert_described(host, lines, version):
    """What they are and were given, from inside. The calls that would tell are gone from the artifact on."""
    users = {phase: host.run(["id", "-u", user]).stdout.strip() for phase, user in
             [("fetch", "slipway"), ("probe", "slipway"), ("begin", "slipway-unpack")]}
    for phase, uid in users.items():
        assert {f"uid {uid}", "groups 0", "no_new_privs 1", "dumpable 0", "seccomp 2",
                "capabilities 0 0 0 0 0 0 0"} <= set(lines[phase])
        assert f"landlock {version or -1}" in lines[phase]
    for phase, names in ENVIRONMENT.items():
        assert {line.split()[1] for line in lines[phase] if line.startswith("environment ")} == names
    for program in ("slipway-fetch", "slipway-unpack"):
        inherited = {tuple(line.split()[1:]) for line in lines[program]}
        assert inherited == {(str(fd), f"{kind:o}") for fd, kind in INHERITED.items()}


def assert_other_calls_end_it(host, architecture):
    """System calls by another architecture are refused, or the end of the process; slipwayd goes on."""
    order(host, 0, architecture)
    cursor = host.journal_cursor()
    breakout.kill(host, FETCH)
    host.wait_journal(f"breakout fetch begins with {architecture}", after=cursor)
    host.wait_journal(rf"slipway-fetch ended \(signal (31|11)\)|breakout fetch ends with {architecture}: -", after=cursor)


@pytest.mark.parametrize("landlock", [True, False], ids=["landlock", "no landlock"])
def test_children_stay_inside(host, s3, bucket, install, landlock):
    """What must be denied is, what their work needs goes well, and nothing of slipwayd or the application changes. Without
    Landlock (an older kernel, or a container) users, the unit and seccomp hold what they hold."""
    version = landlock_version() if landlock else 0
    if not landlock:
        host.write("/etc/systemd/system/slipwayd.service.d/test.conf", NO_LANDLOCK)
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    victim = [formats.Entry("victim", content=b"x\n")]
    web.release(more=victim)
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3), report=False)
    web.assert_whole("r1")
    agent = host.unit("slipwayd.service", "MainPID", "StatusText", "NRestarts")

    for name in ("slipway-fetch", "slipway-unpack"):
        breakout.put(host, breakout.test_programs(), name)
    order(host, breakout.pid_of(host, FETCH))
    web.release(more=victim, health={"http": [{"url": URL, "interval": "100ms"}]})
    host.wait_journal("breakout probe is done", unit="slipwayd.service")
    order(host, breakout.pid_of(host, PROBE))
    breakout.kill(host, FETCH)
    host.wait_journal("breakout fetch is done", unit="slipwayd.service")
    with host.popen(["node", "-e", SERVER]):
        web.assert_whole("r2")
    assert host.read("/srv/web/releases/r1/name") == "r1\n"

    lines = said(host)
    assert_expected(lines, version)
    assert_described(host, lines, version)
    if landlock and platform.machine() == "x86_64":
        for architecture in ("x32", "i386"):
            assert_other_calls_end_it(host, architecture)

    host.run(["rm", ORDERS])
    breakout.put_back(host, install)
    breakout.kill(host, FETCH)
    web.release(more=victim)
    wait_for(lambda: host.run(["slipway", "poll"], check=False).rc == 0, toy.WAIT_SEC, "the store to be asked")
    web.assert_whole("r3")
    assert host.unit("slipwayd.service", "MainPID", "StatusText", "NRestarts") == agent
