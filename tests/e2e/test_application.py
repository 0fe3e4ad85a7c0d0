"""The application: that it is as large as the tests promise, and runs."""

import filecmp
import os

import pytest

import application
from waiting import wait_for


def walk(tree):
    """path -> (inode, size) of the regular files."""
    found = {}
    for directory, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                status = os.lstat(path)
                found[os.path.relpath(path, tree)] = (status.st_ino, status.st_size)
    return found


def test_size(releases):
    files = walk(releases.first())
    assert len(files) > application.N_FILES_MIN
    assert sum(size for _, size in files.values()) > application.N_BYTES_MIN


def test_few_files_differ_between_releases(releases):
    first, second, third = (walk(t()) for t in (releases.first, releases.second, releases.crashing))
    assert set(second) - set(first) == {"CHANGES.md"}
    assert set(first) - set(second) == {"node_modules/lodash/LICENSE"}
    assert {p for p in first.keys() & second.keys() if first[p] != second[p]} == {
        "version.json", "node_modules/typescript/lib/typescript.js", "node_modules/lodash/README.md"}
    assert {p for p in second if second[p] != third[p]} == {"version.json", "server.js"}


def test_changes_leave_the_packages_alone(releases):
    kept = os.path.join(os.environ["SLIPWAY_E2E_APP_TREE"], "node_modules/lodash/README.md")
    assert filecmp.cmp(kept, releases.first() / "node_modules/lodash/README.md", shallow=False)
    assert not filecmp.cmp(kept, releases.second() / "node_modules/lodash/README.md", shallow=False)


@pytest.mark.parametrize("size", ["large", "small"])
def test_service_runs(host, releases, tmp_path, size):
    tree = releases.first() if size == "large" else application.small_tree(tmp_path / "tree", "1")
    host.copy_in(tree, "/srv/web/releases/r1")
    host.run(["ln", "-s", "releases/r1", "/srv/web/current"])
    host.write_unit("web.service", application.UNIT)
    host.start_unit("web.service")
    wait_for(lambda: application.version(host) == "1", 15, "the service to answer")
    assert application.answer(host)["release"] == "r1"
    if size == "large":
        assert application.answer(host, "/tree")["typescript"].startswith("5.")


def test_crashing_release_crashes(host, tmp_path):
    tree = application.small_tree(tmp_path / "tree", "3", crashes=True)
    host.copy_in(tree, "/srv/web/current")
    host.write_unit("web.service", application.UNIT)
    cursor = host.journal_cursor()
    host.run(["systemctl", "start", "web.service"])
    host.wait_journal("the new configuration cannot be read", unit="web.service", after=cursor)
    wait_for(lambda: int(host.unit("web.service", "NRestarts")["NRestarts"]) > 0, 15, "systemd to restart the service")
