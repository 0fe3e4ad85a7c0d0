"""Slipway as `meson install` leaves it on a host."""

import os


def programs(install):
    """Paths below / of what was installed and is an ELF program."""
    for directory, _, names in os.walk(install):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                if os.access(path, os.X_OK) and file.read(4) == b"\x7fELF":
                    yield "/" + os.path.relpath(path, install)


def test_programs_find_their_libraries(install, host):
    found = list(programs(install))
    assert "/usr/bin/slipway" in found
    for path in found:
        assert "not found" not in host.run(["ldd", path]).stdout, path


def test_users_and_directories(host):
    fetcher, unpacker = (host.run(["id", "-u", name]).stdout for name in ("slipway", "slipway-unpack"))
    assert fetcher != unpacker and "0\n" not in (fetcher, unpacker)
    for directory in ("/var/cache/slipway", "/var/lib/slipway-fetch"):
        assert host.run(["stat", "-c", "%U %a", directory]).stdout.split() == ["slipway", "700"]
    assert host.run(["stat", "-c", "%U %a", "/run/slipway"]).stdout.split() == ["root", "700"]


def test_units_are_what_systemd_reads(host):
    """Not one setting that this systemd does not know, or takes for something else."""
    for options, unit in (((), "/usr/lib/systemd/system/slipwayd.service"), ((), "/usr/lib/systemd/system/slipway-ready.target"),
                          (("--user",), "/usr/lib/systemd/user/slipwayd.service")):
        path = host.run(["find", unit, unit.removeprefix("/usr"), "-maxdepth", "0"], check=False).stdout.split()[0]
        result = host.run(["systemd-analyze", "verify", "--man=no", *options, path], env={"XDG_RUNTIME_DIR": "/run"})
        assert result.stdout + result.stderr == "", path


def test_unit_is_known_and_not_enabled_by_itself(host):
    shown = host.unit("slipwayd.service", "LoadState", "UnitFileState", "ActiveState")
    assert shown == {"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "inactive"}
