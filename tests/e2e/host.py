"""Test hosts: containers on the sandbox's bridge with systemd as PID 1, each on its own overlay of one root file system."""

import contextlib
import dataclasses
import os
import pathlib
import re
import select
import shlex
import signal
import socket
import subprocess
import time

import covered
import sandbox

BOOT_TIMEOUT_SEC = 60
STOP_TIMEOUT_SEC = 30
RUN_TIMEOUT_SEC = 60
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
FIRST_ADDRESS = 11
N_HOSTS_MAX = 200
SIGRTMIN_POWEROFF = signal.SIGRTMIN + 4


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command on a host came to."""

    args: list
    rc: int
    stdout: str
    stderr: str


class CommandFailed(AssertionError):
    """A command that was to succeed did not."""

    def __init__(self, host, result):
        super().__init__(f"{host}: {shlex.join(result.args)} ended with {result.rc}\n"
                         f"--- stdout\n{result.stdout}--- stderr\n{result.stderr}")
        self.result = result


def mount_overlay(target, lower, upper):
    """Mounts an overlay whose changes go to upper; lower is a list, the first one wins."""
    work = upper.with_name(f"{upper.name}.work")
    for directory in (target, upper, work):
        directory.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
    sandbox.run("mount", "-t", "overlay", "overlay", "-o", options, str(target))


def make_layer(work, root, install):
    """The layer with Slipway as `meson install` left it below `install`, and the system users it declares; returns the
    directories that hosts use as their lower ones."""
    layer, merged = work / "slipway-layer", work / "slipway-layer.merged"
    mount_overlay(merged, [root], layer)
    try:
        # /lib and /bin are links in the root, directories in what was installed: tar goes through the links
        pack = subprocess.Popen(["tar", "-C", str(install), "--owner=0", "--group=0", "-c", "."], stdout=subprocess.PIPE)
        sandbox.run_reading(pack.stdout, "tar", "-C", str(merged), "-x", "--keep-directory-symlink",
                            "--no-overwrite-dir")
        pack.stdout.close()
        if pack.wait() != 0:
            raise RuntimeError(f"cannot pack {install}: tar ended with {pack.returncode}")
        sandbox.run("systemd-sysusers", f"--root={merged}")
        covered.prepare_root(merged)
    finally:
        sandbox.run("umount", str(merged))
    return [layer, root]


@dataclasses.dataclass(frozen=True)
class Image:
    """The disk of a host that was shut down: overlay layers, the first one wins, and what is below /srv."""

    lower: list
    srv: pathlib.Path

    @property
    def layer(self):
        """What the host had changed against the root that it was made from."""
        return self.lower[0]


class Host:
    """One host. Made by Fleet; its files stay over crash() and boot(), and are removed with the fleet."""

    def __init__(self, number, work, lower, image=None):
        self.number = number
        self.name = f"h{number}"
        self.address = f"10.99.0.{FIRST_ADDRESS - 1 + number}"
        self.work = work
        self._root = work / "root"
        self._srv = work / "srv"
        self._lower = lower if image is None else image.lower
        self._image = image
        self.cgroup = pathlib.Path("/sys/fs/cgroup") / self.name
        self._nspawn = None
        self._leader = None

    def __str__(self):
        return self.name

    @property
    def disk(self):
        """Its root, as it is reached from outside, also before it boots."""
        return self._root

    @property
    def link(self):
        """The bridge's end of its network."""
        return f"v-{self.name}"

    @property
    def running(self):
        return self._leader is not None

    # -- life

    def prepare(self):
        """Files and network; once, before the first boot."""
        mount_overlay(self._root, self._lower, self.work / "upper")
        if self._image is not None:
            sandbox.run("cp", "-a", str(self._image.srv), str(self._srv))
        else:
            self._srv.mkdir()
            (self._root / "etc/hostname").write_text(f"{self.name}\n", encoding="ascii")
            (self._root / "etc/machine-id").write_text("", encoding="ascii")
        self.cgroup.mkdir()
        netns = self.name
        sandbox.run("ip", "netns", "add", netns)
        sandbox.run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "host0", "netns", netns)
        sandbox.run("ip", "link", "set", self.link, "master", sandbox.BRIDGE, "up")
        sandbox.run("ip", "-n", netns, "link", "set", "lo", "up")
        sandbox.run("ip", "-n", netns, "addr", "add", f"{self.address}/{sandbox.NETMASK_BITS}", "dev", "host0")
        sandbox.run("ip", "-n", netns, "link", "set", "host0", "up")

    def start_boot(self):
        """Starts booting; finish_boot() waits for the end, so that several hosts boot at once."""
        assert not self.running, f"{self} is up already"
        path = self.work / "notify"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notify.bind(str(path))

        def enter():
            sandbox.die_with_parent()
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

        with open(self.work / "console.log", "ab") as console:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--notify-ready=yes",
                 "--console=pipe", f"--directory={self._root}", f"--machine={self.name}",
                 f"--network-namespace-path=/run/netns/{self.name}", f"--bind={self._srv}:/srv", *covered.nspawn_options(),
                 "--resolv-conf=off", "--timezone=off",
                 "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self "
                 "adjtimex clock_adjtime"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=enter,
                env={"PATH": PATH, "NOTIFY_SOCKET": str(path)})

    def finish_boot(self):
        """Waits until systemd in the host says that it is ready (READY=1 goes through systemd-nspawn to our socket)."""
        deadline = time.monotonic() + BOOT_TIMEOUT_SEC
        leader = None
        exited = os.pidfd_open(self._nspawn.pid)
        try:
            while True:
                readable, _, _ = select.select([self._notify, exited], [], [], max(0, deadline - time.monotonic()))
                if self._notify in readable:
                    lines = self._notify.recv(4096).decode().splitlines()
                    for line in lines:
                        if line.startswith("X_NSPAWN_LEADER_PID="):
                            leader = int(line.partition("=")[2])
                    if "READY=1" in lines and leader is not None:
                        break
                    continue
                log = (self.work / "console.log").read_text(errors="replace")
                raise AssertionError(f"{self} did not boot within {BOOT_TIMEOUT_SEC} s:\n{log}")
        finally:
            os.close(exited)
            self._notify.close()
        self._leader = leader
        self._booted = self.journal_cursor()

    def boot(self):
        self.start_boot()
        self.finish_boot()

    def crash(self):
        """Power loss: everything on the host is killed at once, what it had not synced stays in the page cache."""
        if self._nspawn is None:
            return
        if self._leader is not None:
            os.kill(self._leader, signal.SIGKILL)
        else:
            self._nspawn.kill()
        self._ended()

    @contextlib.contextmanager
    def systemd_hung(self):
        """In the block, systemd answers nobody."""
        os.kill(self._leader, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._leader, signal.SIGCONT)

    def shut_down(self):
        """An orderly power-off."""
        os.kill(self._leader, SIGRTMIN_POWEROFF)
        self._ended()

    def take_image(self, directory):
        """A copy of what is on the disk of a host that is down."""
        assert not self.running, f"{self} is up"
        directory.mkdir()
        for name in ("upper", "srv"):
            sandbox.run("cp", "-a", str(self.work / name), str(directory / name))
        return Image([directory / "upper", *self._lower], directory / "srv")

    def _ended(self):
        try:
            self._nspawn.wait(STOP_TIMEOUT_SEC)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
            raise AssertionError(f"{self} did not stop within {STOP_TIMEOUT_SEC} s") from None
        finally:
            self._nspawn = self._leader = None
        # everything below is a leftover of the ended host; the kernel may still be reaping it
        sandbox.wait_cgroup_empty(self.cgroup)
        for directory, _, _ in os.walk(self.cgroup, topdown=False):
            if directory != str(self.cgroup):
                os.rmdir(directory)

    def remove(self):
        covered.collect(self)
        self.crash()
        sandbox.run("umount", str(self._root))
        # the kernel would remove it with the namespace, but some time later: the next host may want its name by then
        sandbox.run("ip", "link", "del", self.link)
        sandbox.run("ip", "netns", "del", self.name)
        os.rmdir(self.cgroup)
        sandbox.remove_work(self.work)

    # -- commands and files

    def command(self, args, user=None):
        """The command that runs another one on the host."""
        assert self.running, f"{self} is down"
        command = ["nsenter", f"--target={self._leader}", "--mount", "--net", "--pid", "--uts", "--ipc"]
        if user is not None:
            # setpriv keeps no session and no PAM: the command is the user and nothing more
            args = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *args]
        return [*command, "--", *args]

    def run(self, args, *, check=True, input=None, timeout_sec=RUN_TIMEOUT_SEC, user=None, env=None):
        """Runs a command on the host and returns its Result; with check, another exit status than 0 fails the test."""
        args = [str(a) for a in args]
        done = subprocess.run(self.command(args, user), input=input, capture_output=True, text=True, errors="replace",
                              timeout=timeout_sec, env={"PATH": PATH, "LANG": "C.UTF-8", **covered.environment(), **(env or {})})
        result = Result(args, done.returncode, done.stdout, done.stderr)
        if check and result.rc != 0:
            raise CommandFailed(self, result)
        return result

    @contextlib.contextmanager
    def popen(self, args, *, user=None, env=None, **kwargs):
        """Runs a command beside the test; it is killed, and waited for, at the end of the block."""
        child = subprocess.Popen(self.command([str(a) for a in args], user), text=True, preexec_fn=sandbox.die_with_parent,
                                 env={"PATH": PATH, "LANG": "C.UTF-8", **covered.environment(), **(env or {})}, **kwargs)
        try:
            with child:
                yield child
                if child.poll() is None:
                    child.kill()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()

    def seen_from_here(self, path):
        """A path of the host, as it is reached from outside."""
        return f"/proc/{self._leader}/root{path}"

    def write(self, path, data, *, mode=0o644, owner="root:root"):
        """Writes a file (text or bytes), making its directory; never half: written aside and renamed."""
        data = data.encode() if isinstance(data, str) else data
        script = ('set -e; umask 077; mkdir -p -m 0755 -- "$(dirname -- "$1")"; t=$(mktemp -- "$1.XXXXXX"); cat >"$t"; '
                  'chown -- "$3" "$t"; chmod -- "$2" "$t"; mv -T -- "$t" "$1"')
        done = subprocess.run(self.command(["sh", "-c", script, "sh", path, f"{mode:o}", owner]), input=data,
                              capture_output=True, timeout=RUN_TIMEOUT_SEC, env={"PATH": PATH})
        if done.returncode != 0:
            raise AssertionError(f"{self}: cannot write {path}: {done.stderr.decode(errors='replace')}")

    def read_bytes(self, path):
        done = subprocess.run(self.command(["cat", "--", path]), capture_output=True, timeout=RUN_TIMEOUT_SEC,
                              env={"PATH": PATH})
        if done.returncode != 0:
            raise FileNotFoundError(f"{self}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def read(self, path):
        return self.read_bytes(path).decode()

    def exists(self, path):
        """Whether something is there, a broken link included."""
        return self.run(["sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "sh", path], check=False).rc == 0

    def readlink(self, path):
        """What a link holds, or None where there is none."""
        result = self.run(["readlink", "--", path], check=False)
        return result.stdout.rstrip("\n") if result.rc == 0 else None

    def listdir(self, path):
        """Names in a directory, hidden ones too, sorted."""
        return sorted(n for n in self.run(["find", path, "-mindepth", "1", "-maxdepth", "1", "-printf", r"%f\0"])
                      .stdout.split("\0") if n)

    def copy_in(self, source, path):
        """Copies a tree of the building machine to `path` on the host, which becomes its copy."""
        with subprocess.Popen(["tar", "-C", str(source), "-c", "."], stdout=subprocess.PIPE) as pack:
            done = subprocess.run(self.command(["sh", "-c", 'mkdir -p -- "$1" && tar -C "$1" -x', "sh", path]),
                                  stdin=pack.stdout, capture_output=True, text=True, timeout=300, env={"PATH": PATH})
        if done.returncode != 0 or pack.returncode != 0:
            raise AssertionError(f"{self}: cannot copy {source} to {path}: {done.stderr}")

    def mount_small(self, path, size_bytes, n_inodes=0):
        """Puts a small empty file system on a directory, for tests that fill it; n_inodes of 0 means no limit."""
        self.run(["mkdir", "-p", "--", path])
        self.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={n_inodes},mode=0755", "tmpfs", path])

    def trust_ca(self, certificate):
        """Adds a certificate authority (PEM text) to those that the host trusts."""
        bundle = self.read(CA_BUNDLE)
        if certificate not in bundle:
            self.write(CA_BUNDLE, bundle + certificate)

    def name_address(self, address, name):
        """An entry in the host's /etc/hosts."""
        self.run(["sh", "-c", 'printf "%s %s\\n" "$1" "$2" >>/etc/hosts', "sh", address, name])

    def net_down(self):
        """Takes the host off the network."""
        sandbox.run("ip", "link", "set", self.link, "down")

    def net_up(self):
        sandbox.run("ip", "link", "set", self.link, "up")

    # -- units and journal

    def write_unit(self, name, text):
        """Writes a unit file and lets systemd read it."""
        self.write(f"/etc/systemd/system/{name}", text)
        self.run(["systemctl", "daemon-reload"])

    def start_unit(self, name):
        """Starts a unit and waits for its job; on failure the test fails with the unit's journal."""
        result = self.run(["systemctl", "start", "--", name], check=False)
        if result.rc != 0:
            raise AssertionError(f"{self}: {name} did not start: {result.stderr}\n{self.journal(name)}")

    def stop_unit(self, name):
        self.run(["systemctl", "stop", "--", name])

    def unit(self, name, *properties):
        """A unit's properties as a dict, all of them if none is named."""
        args = [f"--property={','.join(properties)}"] if properties else []
        lines = self.run(["systemctl", "show", *args, "--", name]).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, unit=None, *matches):
        """The journal as text, oldest first: of a unit, or whole; matches are FIELD=VALUE."""
        args = ["journalctl", "--quiet", "--no-pager", "--output=short-precise", "--all"]
        if unit is not None:
            args += ["-u", unit]
        self.run(["journalctl", "--sync"])
        return self.run([*args, *matches]).stdout

    def journal_since_boot(self):
        """What was written to the journal since the host was up, for a report; also of a host in a bad state."""
        done = self.run(["journalctl", "--quiet", "--no-pager", "--output=short-precise", "--all",
                         f"--after-cursor={self._booted}"], check=False)
        return done.stdout + done.stderr

    def journal_cursor(self):
        """A place in the journal: wait_journal() after it sees only what comes later."""
        self.run(["journalctl", "--sync"])
        output = self.run(["journalctl", "--quiet", "--no-pager", "--lines=1", "--show-cursor"]).stdout
        return output.rpartition("-- cursor: ")[2].strip()

    def wait_journal(self, pattern, *, unit=None, after=None, timeout_sec=30):
        """Waits for a journal message that matches (re.search) and returns the match; sees older messages too unless `after`
        says otherwise."""
        args = ["journalctl", "--follow", "--output=cat", "--all"]
        args += ["--lines=all"] if after is None else [f"--after-cursor={after}"]
        args += ["-u", unit] if unit is not None else []
        deadline = time.monotonic() + timeout_sec
        seen, tail = [], ""
        with self.popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as follower:
            while True:
                left_sec = deadline - time.monotonic()
                ready = select.select([follower.stdout], [], [], max(0, left_sec))[0]
                data = os.read(follower.stdout.fileno(), 65536).decode(errors="replace") if ready else ""
                if not data:
                    raise AssertionError(f"{self}: no message matching {pattern!r} within {timeout_sec} s; there were:\n"
                                         + "\n".join(seen[-40:]))
                *lines, tail = (tail + data).split("\n")
                seen += lines
                for line in lines:
                    found = re.search(pattern, line)
                    if found:
                        return found


class Fleet:
    """Boots hosts, several at once, and removes them. lower is what make_layer() returns."""

    def __init__(self, work, lower):
        self._work = work
        self._lower = lower
        self.hosts = []

    def boot(self, n_hosts=1, *, bare=False, root=None, image=None, before_boot=lambda host: None):
        """New hosts, booted side by side; bare: without Slipway; root: on another root than the others, with nothing else;
        image: with an Image for a disk, as it is. before_boot(host) is called when files and network are there."""
        new = []
        for _ in range(n_hosts):
            number = self._free_number()
            directory = self._work / f"h{number}"
            directory.mkdir()
            lower = [root] if root is not None else self._lower[-1:] if bare else self._lower
            host = Host(number, directory, lower, image)
            self.hosts.append(host)
            host.prepare()
            before_boot(host)
            host.start_boot()
            new.append(host)
        for host in new:
            host.finish_boot()
        return new

    def _free_number(self):
        taken = {host.number for host in self.hosts}
        return next(n for n in range(1, N_HOSTS_MAX + 1) if n not in taken)

    def remove(self, hosts):
        """Removes hosts; all of them, even if one makes trouble, which is raised at the end."""
        with contextlib.ExitStack() as stack:
            for host in list(hosts):
                self.hosts.remove(host)
                stack.callback(host.remove)
