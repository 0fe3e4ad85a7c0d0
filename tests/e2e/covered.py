"""Programs that count which of their lines run: where SLIPWAY_E2E_COVERAGE names the build they are from (-Db_coverage=true).

On exit each adds to the counts in that build. On a host it is mounted at MOUNT, and slipwayd, which is killed with its host,
is stopped before. Its children may not write there: they count for nothing here.
"""

import os
import pathlib

BUILD = os.environ.get("SLIPWAY_E2E_COVERAGE")
MOUNT = "/coverage"


def environment():
    """What libgcov is to know on a host: the build's path there, for so many parts of its path here."""
    if not BUILD:
        return {}
    return {"GCOV_PREFIX": MOUNT, "GCOV_PREFIX_STRIP": str(len(pathlib.Path(BUILD).parts) - 1)}


def prepare_root(root):
    """In the root of the hosts: services know it as well, and slipwayd may write there."""
    if not BUILD:
        return
    variables = " ".join(f"{name}={value}" for name, value in environment().items())
    for name, text in [("system.conf.d/coverage.conf", f"[Manager]\nDefaultEnvironment={variables}\n"),
                       ("system/slipwayd.service.d/coverage.conf", f"[Service]\nReadWritePaths={MOUNT}\n")]:
        path = root / "etc/systemd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def nspawn_options():
    return [f"--bind={BUILD}:{MOUNT}"] if BUILD else []


def collect(host):
    """Before a host is removed."""
    if BUILD and host.running:
        host.run(["systemctl", "stop", "slipwayd.service"], check=False)
