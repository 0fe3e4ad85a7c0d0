"""The packages of scripts/package: what is in them, and what they do on a host that had nothing of Slipway before."""

import gzip
import json
import pathlib
import re
import subprocess

import pytest

import guide
import packages
import slipway
import toy
from waiting import wait_for

SOURCE = pathlib.Path(__file__).resolve().parents[2]
AGENT_MAX_BYTES = 1_000_000
HIGHER = "9.0.0"
# What stays when the package is purged, as packaging/README.md says, beside /srv and what the administrator made elsewhere:
# the two users, and dpkg's own books.
STAYS = re.compile(r"/etc/(passwd|group|shadow|gshadow)-?|/etc/\.pwd\.lock|/var/lib/dpkg/.*|/var/log/.*|/var/cache/ldconfig/.*"
                   r"|/srv/.*|/run/.*|/tmp/.*|/proc/.*|/sys/.*|/dev/.*")


def output(*args, **options):
    return subprocess.run([str(a) for a in args], check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture(scope="module")
def rpms(work):
    return packages.build("rpm", work / "rpms")


def unpack_rpm(rpm, directory):
    directory.mkdir()
    pack = subprocess.Popen(["rpm2cpio", rpm], stdout=subprocess.PIPE)
    subprocess.run(["cpio", "--extract", "--make-directories", "--quiet", "-D", directory], stdin=pack.stdout, check=True)
    assert pack.wait() == 0
    return directory


def unpack_deb(deb, directory):
    subprocess.run(["dpkg-deb", "--extract", deb, directory], check=True)
    return directory


def files(directory):
    """What a package installs, by path: without what each kind of package has in its own way, and man pages as text."""
    found = {}
    for path in directory.rglob("*"):
        name = "/" + str(path.relative_to(directory)).removesuffix(".gz")
        if path.is_file() and not name.startswith(("/usr/share/doc/", "/usr/share/licenses/")):
            found[name] = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return found


def installed_bytes(directory):
    """What a package takes on a host: man pages as they are packed, and a link is no second file."""
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file() and not p.is_symlink())


def with_version(deb, version, directory):
    """The same package under another version."""
    tree = directory / f"tree-{version}"
    output("dpkg-deb", "--raw-extract", deb, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*$", f"Version: {version}", control.read_text(encoding="utf-8")),
                       encoding="utf-8")
    made = directory / f"slipway_{version}.deb"
    output("dpkg-deb", "--build", "--root-owner-group", tree, made)
    return made


# -- what is in them

def test_lintian(debs):
    done = subprocess.run(["lintian", "--allow-root", "--fail-on=error,warning", debs["slipway"], debs["slipway-publish"]],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rpmlint(rpms):
    done = subprocess.run(["rpmlint", f"--rpmlintrc={SOURCE}/packaging/rpm/slipway.rpmlintrc", rpms["slipway"],
                           rpms["slipway-publish"], SOURCE / "packaging/rpm/slipway.spec"], capture_output=True, text=True)
    assert done.returncode == 0 and ": E: " not in done.stdout, done.stdout + done.stderr


def test_contents(debs, rpms, install, tmp_path):
    """All that `meson install` installs is in one of the two, in the .rpm as in the .deb; and the agent is small."""
    installed = files(install)
    for name in ("slipway", "slipway-publish"):
        tree = unpack_deb(debs[name], tmp_path / f"deb-{name}")
        deb = files(tree)
        rpm = files(unpack_rpm(rpms[name], tmp_path / f"rpm-{name}"))
        assert deb.keys() == rpm.keys()
        for path, content in deb.items():
            program = content.startswith(b"\x7fELF")
            assert program or content == rpm[path] == installed[path], path
            assert not program or b".symtab" not in content, path
            del installed[path]
        if name == "slipway":
            size = installed_bytes(tree)
            print(f"the agent takes {size} bytes")
            assert size <= AGENT_MAX_BYTES
    assert not installed


def test_same_commit_same_bytes(debs, work):
    again = packages.build("deb", work / "debs-again")
    for name, deb in debs.items():
        assert deb.read_bytes() == again[name].read_bytes(), name


# -- on a host

def push(host, path):
    target = f"/root/{path.name}"
    host.write(target, path.read_bytes())
    return target


def install_deb(host, deb, *options):
    """dpkg -i, with nobody to answer a question."""
    return host.run(["dpkg", *options, "-i", push(host, deb)], env={"DEBIAN_FRONTEND": "noninteractive"}, input="")


def version(host):
    return host.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "slipway"], check=False).stdout


def everything(host):
    """All paths on the host, without other file systems."""
    paths = host.run(["find", "/", "-xdev", "-print0"]).stdout.split("\0")
    return {p for p in paths if p and not STAYS.fullmatch(p)}


@pytest.fixture
def bare_host(make_hosts):
    return make_hosts(1, bare=True)[0]


@pytest.fixture
def web(bare_host, debs):
    """The package is installed, and release r1 is live."""
    install_deb(bare_host, debs["slipway"])
    web = toy.Toy(bare_host, toy.local_store(bare_host))
    web.release()
    toy.configure([web])
    bare_host.run(["systemctl", "enable", "--now", "--quiet", "slipwayd.service"])
    web.assert_whole("r1")
    return web


def main_pid(host):
    return host.unit("slipwayd.service", "MainPID")["MainPID"]


def restarted(host, before):
    """Whether another slipwayd runs since, which never failed."""
    shown = host.unit("slipwayd.service", "ActiveState", "NRestarts", "MainPID")
    return shown.pop("MainPID") != before and shown == {"ActiveState": "active", "NRestarts": "0"}


def test_install(bare_host, debs):
    """Users and directories are there at once; nothing runs before somebody says so."""
    host = bare_host
    assert not host.exists("/usr/bin/slipway")
    install_deb(host, debs["slipway"])
    for path, owner in (("/run/slipway", "root"), ("/var/cache/slipway", "slipway"), ("/var/lib/slipway-fetch", "slipway")):
        assert host.run(["stat", "-c", "%U %a", path]).stdout.split() == [owner, "700"]
    shown = host.unit("slipwayd.service", "LoadState", "UnitFileState", "ActiveState")
    assert shown == {"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "inactive"}
    assert host.run(["systemctl", "--global", "is-enabled", "slipwayd.service"], check=False).stdout == "disabled\n"
    assert host.unit("slipway-metrics.timer", *shown) == shown
    # what `journalctl -x` explains (a trigger of systemd's package)
    assert "Slipway: " in host.run(["journalctl", "--list-catalog"]).stdout
    # installing it again changes nothing
    install_deb(host, debs["slipway"])
    assert host.unit("slipwayd.service", "UnitFileState", "ActiveState") == {"UnitFileState": "disabled",
                                                                            "ActiveState": "inactive"}


def test_publisher(bare_host, debs):
    install_deb(bare_host, debs["slipway-publish"])
    bare_host.run(["slipway-publish", "keygen", "deploy"])
    assert not bare_host.exists("/usr/bin/slipway")


def test_quick_start(bare_host, debs):
    """README.md, from installing to going back."""
    host, home = bare_host, "/root/slipway"

    def bring_packages():
        for deb in debs.values():
            host.write(f"{home}/build/packages/{deb.name}", deb.read_bytes())
    guide.Guide("README.md", {"host": (host, home, {"HOME": "/root"})}, by_hand=[bring_packages]).run()
    wait_for(lambda: host.run(["curl", "-s", "http://127.0.0.1:8000/"], check=False).stdout == "Hello again\n", toy.WAIT_SEC,
             "the last release to be live again")
    history = json.loads(host.run(["slipway", "--json", "history", "hello"]).stdout)
    assert [(e["action"], e["result"]) for e in history][:4] == [("deploy", "done"), ("deploy", "reverted"), ("deploy", "done"),
                                                                 ("rollback", "done")]


@pytest.mark.parametrize("phase", ["restarting", "baking"])
def test_upgrade_amid_a_deployment(web, debs, tmp_path, phase):
    host, pid = web.host, main_pid(web.host)
    web.close_gate()
    if phase == "restarting":
        web.release([toy.gate(), *toy.GOOD])
    else:
        web.release(bake="2s")
    web.wait_phase(phase, "r2")
    install_deb(host, with_version(debs["slipway"], HIGHER, tmp_path))
    assert version(host) == f"ii {HIGHER}" and restarted(host, pid)
    if phase == "restarting":
        web.wait_phase(phase, "r2")
        web.open_gate()
    web.assert_whole("r2")


def test_upgrade_and_downgrade_keep_what_the_administrator_made(web, debs, tmp_path):
    host = web.host
    host.write("/etc/slipway/agent.d/50-keep.json", '{ "poll": { "interval": "2s" } }\n')
    host.write("/etc/slipway/environment", "AWS_REGION=eu-central-1\n", mode=0o600)
    host.write("/etc/systemd/system/slipwayd.service.d/paths.conf", "[Service]\nReadWritePaths=/opt\n")
    made = ["/etc/slipway/agent.json", "/etc/slipway/agent.d/50-keep.json", "/etc/slipway/environment",
            "/etc/slipway/trust/root.json", "/etc/systemd/system/slipwayd.service.d/paths.conf"]

    def look():
        return host.run(["sh", "-c", 'stat -c "%n %a %U %Y" "$@"; cat "$@"', "sh", *made]).stdout
    before, first = look(), version(host)
    for deb, then in ((with_version(debs["slipway"], HIGHER, tmp_path), f"ii {HIGHER}"), (debs["slipway"], first)):
        pid = main_pid(host)
        install_deb(host, deb)
        assert restarted(host, pid) and look() == before and version(host) == then
        assert host.unit("slipwayd.service", "UnitFileState")["UnitFileState"] == "enabled"
        web.assert_whole(web.release())


def test_upgrade_of_a_stopped_one(web, debs, tmp_path):
    """It stays as it is."""
    host = web.host
    host.stop_unit("slipwayd.service")
    host.run(["systemctl", "--quiet", "mask", "slipwayd.service"])
    install_deb(host, with_version(debs["slipway"], HIGHER, tmp_path))
    assert host.unit("slipwayd.service", "UnitFileState", "ActiveState") == {"UnitFileState": "masked",
                                                                            "ActiveState": "inactive"}


def test_remove_and_install_again(web, debs):
    """The applications run on, and what was known of them is known again."""
    host, pid = web.host, web.host.unit("web.service", "MainPID")
    host.run(["dpkg", "--remove", "slipway"])
    assert host.unit("slipwayd.service", "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
    assert not host.exists("/usr/lib/slipway") and host.exists("/etc/slipway/agent.json")
    assert host.exists("/var/lib/slipway/web.json")
    assert host.unit("web.service", "MainPID") == pid and web.running() == "r1"
    install_deb(host, debs["slipway"])
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")
    assert host.unit("web.service", "MainPID") == pid
    web.assert_whole(web.release())


def test_purge(bare_host, debs):
    host = bare_host
    before = everything(host)
    install_deb(host, debs["slipway"])
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.configure([web])
    host.run(["systemctl", "enable", "--now", "--quiet", "slipwayd.service", "slipway-metrics.timer"])
    web.assert_whole("r1")
    host.run(["dpkg", "--purge", "slipway"])
    assert host.unit("slipway-metrics.timer", "ActiveState")["ActiveState"] == "inactive"
    assert "Slipway: " not in host.run(["journalctl", "--list-catalog"]).stdout
    known = before | {"/etc/systemd/system/web.service", f"/root/{debs['slipway'].name}"}
    # systemd removes a private /tmp some time after the service has ended
    wait_for(lambda: everything(host) <= known, toy.WAIT_SEC, f"only {known - before} to be left")
    assert not host.exists("/run/slipway")
    # what stays: the releases, the application, and the users, whose numbers are in /srv
    assert slipway.current(host) == "r1" and web.running() == "r1"
    assert host.run(["stat", "-c", "%U", "/srv/web/releases/r1"]).stdout == "slipway-unpack\n"


def test_rpm(bare_host, rpms, tmp_path):
    """There is no rpm on the host: the package is unpacked, and its scripts are run as rpm runs them."""
    host = bare_host
    tree = unpack_rpm(rpms["slipway"], tmp_path / "tree")
    for directory in tree.iterdir():
        host.copy_in(directory, f"/{directory.name}")

    def script(tag, n_installed):
        text = output("rpm", "--query", "--package", "--queryformat", f"%{{{tag}}}", rpms["slipway"])
        host.run(["sh", "-c", text, "sh", n_installed])
    script("POSTIN", 1)
    assert "Slipway: " in host.run(["journalctl", "--list-catalog"]).stdout
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.configure([web])
    host.run(["systemctl", "reload", "dbus.service"])
    host.run(["systemctl", "enable", "--now", "--quiet", "slipwayd.service"])
    web.assert_whole("r1")
    # an upgrade: the new one's %post, then the old one's %preun and %postun
    pid = main_pid(host)
    web.release(bake="2s")
    web.wait_phase("baking", "r2")
    script("POSTIN", 2)
    script("PREUN", 1)
    assert main_pid(host) == pid
    script("POSTUN", 1)
    wait_for(lambda: restarted(host, pid), toy.WAIT_SEC, "a new slipwayd")
    web.assert_whole("r2")
    script("PREUN", 0)
    assert host.unit("slipwayd.service", "ActiveState")["ActiveState"] == "inactive"
    assert host.run(["systemctl", "is-enabled", "slipwayd.service"], check=False).stdout == "disabled\n"
    assert web.running() == "r2"
