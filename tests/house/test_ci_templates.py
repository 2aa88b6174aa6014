"""The GitHub Action and the GitLab template: valid by their published schemas, and each step does what it says.

No runner can be had here. ``Runner`` is a stand-in that knows as much of GitHub as the action uses: the files that
steps write into, inputs, outputs of earlier steps, and the shell's options. ``pip`` and ``gh`` are stand-ins that
write down their words; ``edgec`` is itself, and a stand-in of a given exit status where only that matters.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import ROOT

ACTION = ROOT / "action.yml"
TEMPLATE = ROOT / "ci" / "edgec.gitlab-ci.yml"
GUIDE = ROOT / "docs" / "ci.md"
SCHEMAS = {"github": "vendor.github-workflows", "action": "vendor.github-actions", "gitlab": "vendor.gitlab-ci"}
BUDGETS = """
[[budget]]
model = "colours"
target = "cpu"
device = "any"
owner = "the test"
reason = "a test"
[budget.limits]
size_bytes = 10
"""


def read_yaml(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def documented(kind: str) -> str:
    """The example in docs/ci.md that uses the action or the template."""
    (found,) = (
        block
        for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        if ("uses: OWNER/edgec@" if kind == "github" else "extends: .edgec") in block
    )
    return str(found)


@pytest.mark.parametrize("kind", ["action", "gitlab", "documented github", "documented gitlab"])
def test_schemas(kind: str, tmp_path: Path) -> None:
    """As check-jsonschema carries them from SchemaStore and GitLab: nothing is fetched."""
    checker = pytest.importorskip("check_jsonschema")
    text = {"action": ACTION, "gitlab": TEMPLATE}[kind].read_text() if kind in SCHEMAS else documented(kind.split()[1])
    file = tmp_path / "file.yml"
    file.write_text(text)
    transform = ["--data-transform", "gitlab-ci"] if "gitlab" in kind else []
    words = ["--builtin-schema", SCHEMAS[kind.split()[-1]], *transform, str(file)]
    done = CliRunner().invoke(checker.main, words)
    assert done.exit_code == 0, done.output


def test_expressions_name_what_there_is() -> None:
    """No value is pasted into a shell, where it would be read as code, and every name exists."""
    action = read_yaml(ACTION.read_text())
    steps = action["runs"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", ""), step["name"]
    text = ACTION.read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action["inputs"])
    assert set(re.findall(r"steps\.(\w+)\.outputs", text)) <= {step.get("id") for step in steps}


def test_what_is_documented_exists() -> None:
    (job,) = read_yaml(documented("github"))["jobs"].values()
    (use,) = (step for step in job["steps"] if step.get("uses", "").startswith("OWNER/edgec@"))
    action = read_yaml(ACTION.read_text())
    assert set(use["with"]) <= set(action["inputs"])
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= set(use["with"])
    example, template = read_yaml(documented("gitlab")), read_yaml(TEMPLATE.read_text())
    (job,) = (one for one in example.values() if isinstance(one, dict) and "extends" in one)
    assert set(job["variables"]) <= set(template[job["extends"]]["variables"])
    (include,) = example["include"]
    assert ROOT / include["file"].removeprefix("/") == TEMPLATE


@dataclass
class Runner:
    """A stand-in for a runner: one step after the other, as GitHub starts bash."""

    folder: Path
    repository: Path
    inputs: dict[str, str]
    number: str = "7"
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    def value(self, text: str) -> str:
        """An expression of the action, worked out."""

        def found(match: re.Match[str]) -> str:
            kind, *names = match[1].split(".")
            if kind == "inputs":
                return self.inputs[names[0]]
            if kind == "steps":
                return self.outputs.get(names[0], {}).get(names[2], "")
            return {"github.event.pull_request.number": self.number, "github.token": "secret"}[match[1]]

        return re.sub(r"\$\{\{ (.*?) \}\}", found, text)

    def step(self, step: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run it, and take its outputs."""
        script, said = self.folder / "step.sh", self.folder / "output"
        script.write_text(step["run"])
        said.write_text("")
        surroundings = {name: self.value(text) for name, text in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.repository,
            env=surroundings_of(self.folder) | surroundings | {"GITHUB_OUTPUT": str(said)},
            capture_output=True,
            text=True,
            check=False,
        )
        if "id" in step:
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in said.read_text().splitlines())
        return done


def surroundings_of(folder: Path) -> dict[str, str]:
    """What both services set, as far as it is used, with the stand-ins before everything else on the path."""
    return os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_REPOSITORY": "team/networks",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "WORDS": str(folder / "words"),
    }


def program(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def repository(tmp_path: Path, colours_toml: Path, tiny_images: Path) -> Path:
    """A user's repository, its remote being itself, with the tiny network, its pictures and budgets."""
    folder = tmp_path / "repository"
    shutil.copytree(colours_toml.parent, folder)
    shutil.copytree(tiny_images, folder / "photos")
    (folder / "budgets.toml").write_text(BUDGETS)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (
        ["init", "-q", "-b", "main"], ["add", "."], [*who, "commit", "-qm", "all"], ["remote", "add", "origin", "."],
    ):  # fmt: skip
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    program(tmp_path, "edgec", f'exec {sys.executable} -m edgec.pipeline.cli "$@"')
    program(tmp_path, "pip", 'echo pip "$@" >>"$WORDS"')
    program(tmp_path, "gh", 'echo gh "$@" >>"$WORDS"; case "$*" in *--jq*) cat "$(dirname "$WORDS")/comments";; esac')
    (tmp_path / "comments").write_text("")
    return folder


@pytest.mark.usefixtures("shared_store")
def test_the_action(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    action = read_yaml(ACTION.read_text())
    given = {"model": "colours.toml", "target": "cpu", "data": "photos", "base": "main"}
    runner = Runner(tmp_path, repository, {k: str(v.get("default")) for k, v in action["inputs"].items()} | given)
    runner.inputs["build-options"] += " --calibration-samples 12"
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    assert list(steps) == ["Install", "Build", "Check", "Keep the report", "Comment", "Verdict"]

    for name in ("Install", "Build", "Check"):
        done = runner.step(steps[name])
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "words").read_text() == f"pip install -c {ROOT}/constraints.txt {ROOT}[cpu]\n"
    assert runner.outputs["check"]["verdict"] == "fail"  # the report is kept before the last step ends the job
    assert "::error title=colours cpu size_bytes::" in done.stdout
    assert "edgec check: fail" in (tmp_path / "summary.md").read_text()
    kept = runner.value(steps["Keep the report"]["with"]["path"]).split()
    assert [len(list(Path(path).parent.glob(Path(path).name))) for path in kept] == [1, 3]
    base = Path(runner.outputs["build"]["work"]) / "base"
    assert (base / "manifest.json").exists()  # built from main, in a tree of its own

    (tmp_path / "words").unlink()
    for old, method in (("", "POST repos/team/networks/issues/7"), ("31\n44\n", "PATCH repos/team/networks/issues")):
        (tmp_path / "comments").write_text(old)
        done = runner.step(steps["Comment"])
        assert done.returncode == 0, done.stderr
        last = (tmp_path / "words").read_text().splitlines()[-1]
        assert f"--method {method}/comments" in last
        assert ("/comments/31 " in last) == bool(old)
    comment = Path(last.rpartition("body=@")[2]).read_text()
    assert comment.startswith("<!-- edgec check, edgec -->\n### ")
    assert "| `size_bytes` |" in comment


def test_a_base_that_cannot_be_built_is_a_warning(repository: Path, tmp_path: Path) -> None:
    """The first pull request of a model: main does not have it. Both templates go on without a baseline."""
    failing = 'echo "$@" >>"$WORDS"; case "$PWD" in */tree) exit 1;; esac; for last; do :; done; mkdir -p "$last"'
    program(tmp_path, "edgec", f'[ "$1" = build ] || {{ echo "$@" >>"$WORDS"; exit 0; }}; {failing}')
    action = read_yaml(ACTION.read_text())
    inputs = {k: str(v.get("default")) for k, v in action["inputs"].items()}
    runner = Runner(tmp_path, repository, inputs | {"model": "new.toml", "target": "cpu", "base": "main"})
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    done = runner.step(steps["Build"])
    assert done.returncode == 0, done.stderr
    assert "::warning title=edgec::'main' could not be built" in done.stdout
    assert not (Path(runner.outputs["build"]["work"]) / "base").exists()
    (job,) = (one for name, one in read_yaml(TEMPLATE.read_text()).items() if name == ".edgec")
    subprocess.run(["git", "worktree", "prune"], cwd=repository, check=True)
    asked = {"EDGEC_PACKAGE": "x", "EDGEC_MODEL": "new.toml", "EDGEC_TARGET": "cpu", "EDGEC_BASE": "main"}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(job["script"])],
        cwd=repository,
        env=surroundings_of(tmp_path) | job["variables"] | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'main' could not be built" in done.stdout
    assert "--baseline" not in (tmp_path / "words").read_text()


CHECKED = 'echo "$@" >>"$WORDS"; [ "$1" = report ] && exit; for last; do :; done; echo table >"${last#markdown=}"; exit'


@pytest.mark.parametrize(
    ("status", "verdict", "allowed", "ends"),
    [(0, "pass", "false", 0), (3, "fail", "true", 1), (4, "inconclusive", "true", 0), (4, "inconclusive", "false", 1)],
)
def test_verdicts(tmp_path: Path, status: int, verdict: str, allowed: str, ends: int) -> None:
    """Of two boards' bundles, without a baseline."""
    program(tmp_path, "edgec", f"{CHECKED} {status}")
    for board in ("arm", "cpu"):
        (tmp_path / "work" / "candidate" / board).mkdir(parents=True)
    inputs = {"budgets": "limits.toml", "check-options": "--no-device --budget-s 9", "allow-inconclusive": allowed}
    runner = Runner(tmp_path, tmp_path, inputs, outputs={"build": {"work": str(tmp_path / "work")}})
    steps = {step["name"]: step for step in read_yaml(ACTION.read_text())["runs"]["steps"]}
    assert runner.step(steps["Check"]).returncode == 0
    assert runner.outputs["check"]["verdict"] == verdict
    report, check = (tmp_path / "words").read_text().splitlines()
    both = f"{tmp_path}/work/candidate/arm/ {tmp_path}/work/candidate/cpu/"
    assert report == f"report {both} --output {tmp_path}/work/report.html"
    assert check.startswith(f"check {both} --budgets limits.toml --no-device --budget-s 9 --format github")
    assert (tmp_path / "summary.md").read_text() == "table\n"
    assert runner.step(steps["Verdict"]).returncode == ends


@pytest.mark.parametrize("status", [1, 2])
def test_a_mistake_is_no_verdict(tmp_path: Path, status: int) -> None:
    program(tmp_path, "edgec", f"{CHECKED} {status}")
    inputs = {"budgets": "limits.toml", "check-options": "", "allow-inconclusive": "true"}
    runner = Runner(tmp_path, tmp_path, inputs, outputs={"build": {"work": str(tmp_path)}})
    steps = {step["name"]: step for step in read_yaml(ACTION.read_text())["runs"]["steps"]}
    assert runner.step(steps["Check"]).returncode == status
    assert runner.outputs["check"] == {}
    assert runner.step(steps["Verdict"]).returncode == 1


@pytest.mark.usefixtures("shared_store")
def test_the_gitlab_template(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    job = read_yaml(TEMPLATE.read_text())[".edgec"]
    given = {
        "EDGEC_PACKAGE": "edgec.whl[cpu]", "EDGEC_MODEL": "colours.toml", "EDGEC_TARGET": "cpu", "EDGEC_DATA": "photos",
        "EDGEC_BASE": "main", "EDGEC_BUILD_OPTIONS": "--no-measure --calibration-samples 12",
    }  # fmt: skip
    assert set(given) <= set(job["variables"])

    def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])]
        surroundings = surroundings_of(tmp_path) | variables
        return subprocess.run(words, cwd=repository, env=surroundings, capture_output=True, text=True, check=False)

    assert run(job["variables"]).returncode != 0  # nothing is said of what to install
    done = run(job["variables"] | given)
    assert done.returncode == 3, done.stdout + done.stderr
    assert (tmp_path / "words").read_text() == "pip install edgec.whl[cpu]\n"
    assert (repository / "edgec-gate" / "base" / "manifest.json").exists()
    for path in [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]:
        assert (repository / path).exists(), path
    assert "verdict: fail" in done.stdout
