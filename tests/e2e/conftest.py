"""Fixtures of the end-to-end tests. `scripts/test --e2e` starts them inside the sandbox and sets the SLIPWAY_E2E_… variables."""

import contextlib
import functools
import os
import pathlib
import uuid

import pytest

import application
import aws_emulator
import certificates
import fault_proxy
import follower as follower_module
import formats
import host as host_module
import packages
import s3_server
import sandbox
import slipway
import ssm_server
import toy

HOSTS = pytest.StashKey()
SUMMARY = pytest.StashKey()  # lines for the end of the run
# requests of the real agent, which are not in this repository
RECORDED = pathlib.Path(__file__).parents[2] / "../shared/reference/ssm-requests.json"


def directory_from(variable):
    path = os.environ.get(variable)
    if not path:
        pytest.exit(f"{variable} is not set: start these tests by scripts/test --e2e", returncode=2)
    return pathlib.Path(path)


@pytest.fixture(scope="session")
def work():
    """A directory of this run, in memory or on disk (see sandbox), removed after it."""
    return directory_from("SLIPWAY_E2E_WORK")


@pytest.fixture(scope="session")
def fleet(work):
    """The one that boots hosts; tests usually want `host`, `hosts` or `make_hosts`."""
    root = directory_from("SLIPWAY_E2E_HOST_ROOT")
    lower = host_module.make_layer(work, root, directory_from("SLIPWAY_E2E_INSTALL"))
    fleet = host_module.Fleet(work, lower)
    yield fleet
    fleet.remove(fleet.hosts)


def host_maker(fleet, node):
    made = []

    def make(n_hosts=1, **options):
        new = fleet.boot(n_hosts, **options)
        made.extend(new)
        return new

    node.stash[HOSTS] = made
    yield make
    fleet.remove(made)


@pytest.fixture
def make_hosts(fleet, request):
    """make_hosts(n, bare=False) boots n fresh hosts for this test and returns them; see Fleet.boot()."""
    yield from host_maker(fleet, request.node)


@pytest.fixture(scope="module")
def make_module_hosts(fleet, request):
    """make_module_hosts(n) boots n hosts that the tests of a module share."""
    yield from host_maker(fleet, request.node)


@pytest.fixture
def host(make_hosts):
    """A fresh host for this test."""
    return make_hosts(1)[0]


@pytest.fixture
def web(host):
    """An application on a fresh host, whose release r1 is live."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    return web


@pytest.fixture
def hosts(make_hosts):
    """Three fresh hosts for this test."""
    return make_hosts(3)


def pytest_configure(config):
    config.stash[SUMMARY] = []


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[SUMMARY]:
        terminalreporter.write_line(line)


def timeout_sec(item):
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0


def pytest_collection_modifyitems(config, items):
    """The modules that may take longest begin first: with several lanes none is to work on one alone at the end. What compares
    with recordings of others, which are not in this repository, is left out where they are not."""
    if not RECORDED.exists():
        without = [item for item in items if "recorded_requests" in item.fixturenames]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]
    longest = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0), timeout_sec(item))
    items.sort(key=lambda item: -longest[item.path])


@functools.cache
def claim(module):
    """Whether the module is this lane's: each takes the next one that no other has begun (see scripts/test)."""
    claims = os.environ.get("SLIPWAY_E2E_CLAIMS")
    if not claims:
        return True
    try:
        os.close(os.open(os.path.join(claims, module), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    return None if claim(item.path.stem) else True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the journals of its hosts."""
    report = yield
    if report.when == "call" and report.failed:
        for host in (h for node in item.listchain() for h in node.stash.get(HOSTS, [])):
            if host.running:
                report.sections.append((f"journal of {host}", host.journal_since_boot()))
    return report


@pytest.fixture(scope="session")
def s3(work):
    """The S3 server of this run; see S3Server."""
    server = s3_server.S3Server(directory_from("SLIPWAY_E2E_S3_ROOT"), work / "s3")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def aws(work):
    """The emulator of AWS' other services; see aws_emulator."""
    emulator = aws_emulator.Emulator(work / "aws")
    try:
        emulator.start()
        yield emulator
    finally:
        emulator.stop()


@contextlib.contextmanager
def fresh_bucket(s3):
    name = f"test-{uuid.uuid4().hex[:16]}"
    client = s3.client()
    client.create_bucket(Bucket=name)
    yield name
    s3_server.remove_bucket(client, name)


@pytest.fixture
def bucket(s3):
    """The name of a fresh bucket of the first user; it and what is in it are removed after the test."""
    with fresh_bucket(s3) as name:
        yield name


@pytest.fixture(scope="module")
def make_follower(make_module_hosts, s3, tmp_path_factory):
    """make_follower(endpoint=None) is a host whose agent is to follow a channel on S3, directly or through another endpoint;
    shared by the tests of a module, not yet started. See follower.Follower."""
    with contextlib.ExitStack() as stack:
        def make(endpoint=None):
            store = formats.S3Store(s3.client(), stack.enter_context(fresh_bucket(s3)))
            return follower_module.Follower(make_module_hosts(1)[0], store, tmp_path_factory.mktemp("follower") / "tree",
                                            environment=slipway.store_environment(s3, endpoint=endpoint))
        yield make


@pytest.fixture
def boto(s3):
    """boto3's S3 client for the first user: the second opinion on what Slipway reads and writes."""
    return s3.client()


@pytest.fixture
def s3_proxy(s3):
    """A fault proxy in front of the S3 server, with TLS, reachable from the hosts; see fault_proxy."""
    with fault_proxy.FaultProxy(sandbox.SERVER_ADDRESS, s3.address, tls=s3.tls_context()) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxy(s3):
    """The same for all tests of a module."""
    with fault_proxy.FaultProxy(sandbox.SERVER_ADDRESS, s3.address, tls=s3.tls_context()) as proxy:
        yield proxy


@pytest.fixture
def ssm_authority(tmp_path):
    """Who signed the certificate of `ssm`; a host is to trust_ca(ssm_authority.certificate)."""
    return certificates.Authority(tmp_path / "ssm")


@pytest.fixture
def ssm(ssm_authority):
    """A stand-in for SSM's endpoints, with TLS, reachable from the hosts; it knows no instance yet. See ssm_server."""
    with ssm_server.SsmServer(sandbox.SERVER_ADDRESS, tls=ssm_authority.context(sandbox.SERVER_ADDRESS)) as server:
        yield server


@pytest.fixture(scope="session")
def releases(work):
    """The application's trees; see application.Releases."""
    directory = work / "releases"
    directory.mkdir()
    return application.Releases(directory_from("SLIPWAY_E2E_APP_TREE"), directory)


@pytest.fixture(scope="session")
def install():
    """Where `meson install` put Slipway, as below /."""
    return directory_from("SLIPWAY_E2E_INSTALL")


@pytest.fixture(scope="session")
def debs(work):
    """The .deb packages of this checkout, by the names of the packages."""
    return packages.build("deb", work / "debs")


@pytest.fixture
def make_publisher(install, tmp_path):
    """make_publisher(url, environment=None, …) is slipway-publish with a key and a trust root of its own."""
    made = []

    def make(url, environment=None, **options):
        made.append(slipway.Publisher(install, tmp_path / f"publisher-{len(made) + 1}", url, environment, **options))
        return made[-1]
    return make


@pytest.fixture(params=["file", "s3"])
def any_store(request, tmp_path):
    """(store, environment) for a store in a directory, then for one on S3: the same test for both. See formats."""
    if request.param == "file":
        (tmp_path / "store").mkdir()
        return formats.FileStore(tmp_path / "store"), {}
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
    return formats.S3Store(s3.client(), bucket), slipway.store_environment(s3)
