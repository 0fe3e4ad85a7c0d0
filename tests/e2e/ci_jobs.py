"""CI services as a job sees them: the shell parts of the templates in packaging/ci, run in the order, by the shell and with the
variables of GitHub Actions, CodeBuild and GitLab CI. Nothing else of the services is here.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess

import yaml

import host as host_module

CI = pathlib.Path(__file__).resolve().parents[2] / "packaging/ci"
RUN_TIMEOUT_SEC = 120
REPOSITORY = "acme/web"
BRANCH = "main"
SPEC = '{ "activate": { "units": [ { "name": "web.service", "action": "restart" } ] } }\n'
GITHUB_SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")


@dataclasses.dataclass
class Outcome:
    """What a job came to. outputs: what it handed on; summary: what the service shows of it."""

    rc: int
    log: str
    outputs: dict
    summary: str = ""


def load(name):
    """A template as the YAML that it is."""
    return yaml.safe_load((CI / name).read_text(encoding="utf-8"))


def pairs(path):
    """NAME=VALUE lines of a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines)


class Checkout:
    """The checkout of an application that has packaging/ci and a trust root as slipway/, and a place for the job's files.
    environment: what the job gets besides the service's own variables, and nothing else."""

    def __init__(self, directory, root, environment):
        self.directory, self.base, self.temporary = directory / "checkout", directory, directory / "tmp"
        self.environment = environment
        self.temporary.mkdir(parents=True)
        (self.directory / "public").mkdir(parents=True)
        (self.directory / "public/index.html").write_text("hello\n", encoding="ascii")
        (self.directory / "slipway.json").write_text(SPEC, encoding="ascii")
        shutil.copytree(CI, self.directory / "slipway")
        shutil.copy(root, self.directory / "slipway/root.json")
        self.git("init", "--quiet", f"--initial-branch={BRANCH}")
        self.git("add", ".")
        self.git("-c", "user.name=ada", "-c", "user.email=ada@localhost", "commit", "--quiet", "-m", "web: first")
        self.commit = self.git("rev-parse", "HEAD").strip()

    def git(self, *args):
        return subprocess.run(["git", *args], cwd=self.directory, check=True, capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(self.base), "GIT_CONFIG_NOSYSTEM": "1"}).stdout

    def variables(self):
        return {"PATH": host_module.PATH, "HOME": str(self.base), "LANG": "C.UTF-8", "TMPDIR": str(self.temporary), "CI": "true",
                "AWS_EC2_METADATA_DISABLED": "true", **self.environment}

    def shell(self, command, text, environment, directory=None):
        """Runs a script by a shell, as (exit status, what it said)."""
        script = self.base / "script"
        script.write_text(text, encoding="utf-8")
        done = subprocess.run([*command, str(script)], cwd=directory or self.directory, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=RUN_TIMEOUT_SEC, stdin=subprocess.DEVNULL,
                              env={**self.variables(), **environment})
        return done.returncode, done.stdout


class GitHub:
    """Runs a workflow's jobs one after another; what it knows of other actions is what the example uses. contexts: `vars`,
    `secrets`, `env`. token_url: where jobs that may have an OIDC token get it, for request_token."""

    def __init__(self, checkout, *, token_url="", request_token="", **contexts):
        self._checkout, self._contexts = checkout, contexts
        self._token = {"ACTIONS_ID_TOKEN_REQUEST_URL": token_url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": request_token}
        self._artifacts = {}
        self._log, self._summary = "", ""

    def _evaluate(self, text, contexts):
        """Expressions of names, of which the first that is not empty counts."""
        def value(match):
            for name in match[1].split("||"):
                found = contexts
                for part in name.strip().split("."):
                    found = found.get(part, "") if isinstance(found, dict) else ""
                if found:
                    return found
            return ""
        return EXPRESSION.sub(value, str(text))

    def _variables(self, permissions):
        checkout = self._checkout
        return {"GITHUB_ACTIONS": "true", "GITHUB_SHA": checkout.commit, "GITHUB_REF": f"refs/heads/{BRANCH}",
                "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "4711",
                "GITHUB_ACTOR": "ada", "GITHUB_WORKSPACE": str(checkout.directory), "RUNNER_TEMP": str(checkout.temporary),
                **(self._token if permissions.get("id-token") == "write" else {})}

    def _run(self, step, environment, contexts):
        """One step with `run`; returns its exit status and outputs."""
        output, summary = self._checkout.base / "github-output", self._checkout.base / "github-summary"
        for path in (output, summary):
            path.write_text("", encoding="ascii")
        environment = {**environment, "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary),
                       **{n: self._evaluate(v, contexts) for n, v in step.get("env", {}).items()}}
        status, said = self._checkout.shell(GITHUB_SHELL, self._evaluate(step["run"], contexts), environment)
        self._log += said
        self._summary += summary.read_text(encoding="utf-8")
        return status, pairs(output)

    def action(self, inputs, environment):
        """The steps of the composite action; returns exit status and outputs."""
        action = load("github/action.yml")
        known = action["inputs"]
        assert set(inputs) <= set(known), "the action does not know these inputs"
        assert all(inputs.get(name) for name, said in known.items() if said["required"]), "a required input is missing"
        contexts = {"inputs": {n: inputs.get(n) or said.get("default", "") for n, said in known.items()}, "steps": {},
                    "env": self._checkout.variables()}
        environment = {**environment, "GITHUB_ACTION_PATH": str(self._checkout.directory / "slipway/github")}
        for step in action["runs"]["steps"]:
            status, outputs = self._run(step, environment, contexts)
            contexts["steps"][step["id"]] = {"outputs": outputs}
            if status != 0:
                return status, {}
        return 0, {name: self._evaluate(said["value"], contexts) for name, said in action["outputs"].items()}

    def _step(self, step, environment, contexts):
        uses, given = step.get("uses", ""), {n: self._evaluate(v, contexts) for n, v in step.get("with", {}).items()}
        if uses == "./slipway/github":
            return self.action(given, environment)
        if uses.startswith("actions/upload-artifact@"):
            self._artifacts[given["name"]] = (given["path"], (self._checkout.directory / given["path"]).read_bytes())
        elif uses.startswith("actions/download-artifact@"):
            path, content = self._artifacts[given["name"]]
            (self._checkout.directory / path).write_bytes(content)
        elif uses.startswith("actions/checkout@"):
            self._checkout.git("clean", "--quiet", "-dfx")
        else:
            assert not uses, f"{uses} is not known here"
            return self._run(step, environment, contexts)
        return 0, {}

    def workflow(self, name):
        workflow = load(name)
        for job in workflow["jobs"].values():
            environment = self._variables(job.get("permissions", workflow["permissions"]))
            contexts = {**self._contexts, "steps": {}}
            for step in job["steps"]:
                status, outputs = self._step(step, environment, contexts)
                contexts["steps"][step.get("id", "")] = {"outputs": outputs}
                if status != 0:
                    return Outcome(status, self._log, {}, self._summary)
        outputs = {name: value for step in contexts["steps"].values() for name, value in step["outputs"].items()}
        return Outcome(0, self._log, outputs, self._summary)

    def release(self, permissions=("id-token",), **inputs):
        """A job with the action alone."""
        status, outputs = self.action({name.replace("_", "-"): value for name, value in inputs.items()},
                                      self._variables(dict.fromkeys(permissions, "write")))
        return Outcome(status, self._log, outputs, self._summary)


class CodeBuild:
    """Runs a buildspec's commands, one after another in one shell, until one fails."""

    def __init__(self, checkout):
        self._checkout = checkout
        self._variables = {"CODEBUILD_BUILD_ID": "web:1", "CODEBUILD_RESOLVED_SOURCE_VERSION": checkout.commit,
                           "CODEBUILD_BUILD_ARN": "arn:aws:codebuild:eu-central-1:111122223333:build/web:1",
                           "CODEBUILD_SRC_DIR": str(checkout.directory)}

    def build(self, spec, environment, *, initiator):
        for phase in ("install", "pre_build", "build"):
            assert spec["phases"].get(phase, {}).get("on-failure", "ABORT") == "ABORT"
        commands = [c for phase in ("install", "pre_build", "build") for c in spec["phases"].get(phase, {}).get("commands", [])]
        exported = self._checkout.base / "exported"
        exported.unlink(missing_ok=True)
        names = spec.get("env", {}).get("exported-variables", [])
        tell = [f'printf "%s\\n" "{name}=$(printenv {name})" >>{exported}' for name in names]
        status, said = self._checkout.shell([spec["env"]["shell"]], "".join(f"{{ {c}\n}} || exit $?\n" for c in commands + tell),
                                            {**self._variables, "CODEBUILD_INITIATOR": initiator, **environment})
        return Outcome(status, said, pairs(exported))

    def project(self, environment):
        """A project whose source is a repository."""
        return self.build(load("codebuild/buildspec.yml"),
                          {"CODEBUILD_SOURCE_REPO_URL": f"https://github.com/{REPOSITORY}.git",
                           "CODEBUILD_WEBHOOK_HEAD_REF": f"refs/heads/{BRANCH}", **environment}, initiator="GitHub-Hookshot/1")

    def pipeline(self, environment, artifact):
        """The publishing project of a pipeline: its source has no git, and the build's artifact lies elsewhere."""
        shutil.rmtree(self._checkout.directory / ".git")
        return self.build(load("codebuild/buildspec.yml"), {"CODEBUILD_SRC_DIR_Build": str(artifact), **environment},
                          initiator="codepipeline/web")


class GitLab:
    """Runs the jobs of a pipeline, each in a clean checkout with the artifacts of those before."""

    def __init__(self, checkout, environment, *, id_token="none", source="push"):
        self._checkout, self._environment, self._id_token, self._source = checkout, environment, id_token, source

    def _variables(self):
        return {"GITLAB_CI": "true", "CI_PROJECT_URL": f"https://gitlab.example/{REPOSITORY}",
                "CI_COMMIT_SHA": self._checkout.commit, "CI_COMMIT_BRANCH": BRANCH, "CI_DEFAULT_BRANCH": BRANCH,
                "CI_COMMIT_TIMESTAMP": "2026-11-22T15:00:00+01:00", "CI_JOB_URL": f"https://gitlab.example/{REPOSITORY}/-/jobs/42",
                "GITLAB_USER_LOGIN": "ada", "CI_PROJECT_DIR": str(self._checkout.directory), "CI_PIPELINE_SOURCE": self._source,
                **self._environment}

    def _runs(self, job):
        """What its rules say; of their grammar, what the example uses."""
        def value(text):
            return self._variables()[text[1:]] if text.startswith("$") else json.loads(text)

        def holds(term):
            left, operator, right = term.split()
            assert operator in ("==", "!=")
            return (value(left) == value(right)) == (operator == "==")
        rules = job.get("rules")
        return rules is None or any(all(holds(term) for term in rule["if"].split(" && ")) for rule in rules)

    def _job(self, job):
        """One job; returns its Outcome."""
        tokens = dict.fromkeys(job.get("id_tokens", {}), self._id_token)
        report = job.get("artifacts", {}).get("reports", {}).get("dotenv")
        script = "\n".join(["set -eo pipefail", *job.get("before_script", []), *job["script"]])
        status, said = self._checkout.shell(["bash"], script, {**self._variables(), **tokens, **job.get("variables", {})})
        return Outcome(status, said, pairs(self._checkout.directory / report) if report else {})

    def release(self):
        """A job that adds nothing to the template."""
        return self._job(load("gitlab/slipway.gitlab-ci.yml")[".slipway-release"])

    def pipeline(self, name):
        pipeline = load(name)
        templates = {}
        for included in pipeline["include"]:
            templates |= load(included["local"].removeprefix("slipway/"))
        log = ""
        for stage in pipeline["stages"]:
            for job in [j for j in pipeline.values() if isinstance(j, dict) and j.get("stage") == stage and self._runs(j)]:
                template = templates.get(job.get("extends"), {})
                job = {**template, **job, "variables": {**template.get("variables", {}), **job.get("variables", {})}}
                outcome = self._job(job)
                log += outcome.log
                if outcome.rc != 0:
                    return dataclasses.replace(outcome, log=log)
        return dataclasses.replace(outcome, log=log)
