"""What the documents promise exists: commands, options, files, links."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from places import ROOT

from edgec.pipeline.cli import COMMANDS, group
from edgec.pipeline.core.toml_file import read_toml

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
EXTRAS = read_toml(ROOT / "pyproject.toml", "bad-toml")["project"]["optional-dependencies"]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"edgec {name}" in README


def commands_in(document: Path) -> list[list[str]]:
    """Lines of shell blocks that start with edgec, as words; comments and pipes end them."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", document.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [part for line in lines for part in re.split(r"&&|\|(?!\|)|;", line.split(" #")[0])]
    return [shlex.split(call) for call in calls if call.strip().removeprefix("$ ").startswith("edgec ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_commands_parse(document: Path) -> None:
    """Each command and option of a shell block is one that the command line knows."""
    for words in commands_in(document):
        words = words[words.index("edgec") + 1 :]
        command: click.Command = group
        context = click.Context(group)
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"{document.name}: edgec has no command '{name}'"
            command = found
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known | {"--help", "--version"}, f"{document.name}: {' '.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in link:
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    """``pipeline/...``, ``targets/...`` and ``benchmarks/...`` in code style are files or folders of the repository."""
    for name in re.findall(r"`((?:pipeline|targets|benchmarks|calib_data|tests)/[\w./-]*)`", document.read_text()):
        assert (ROOT / name).exists(), f"{document.name} names {name}"


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.name)
def test_tutorials_hold_only_what_is_run(tutorial: Path) -> None:
    """``.ci/run`` runs every bash block of every tutorial, in order; what it installs itself is the first block."""
    text = tutorial.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["sh", *["bash"] * (len(blocks) - 1)]
    assert len(blocks) > 3
    installs = re.fullmatch(r'pip install -c constraints\.txt "\.\[([a-z,]+)\]"\n', blocks[0][1])
    assert installs is not None
    assert set(installs[1].split(",")) <= set(EXTRAS)
    extracting = re.search(r"sed -n '(.*?)' \"\$tutorial\"", (ROOT / ".ci" / "run").read_text())
    assert extracting is not None
    done = subprocess.run(["sed", "-n", extracting[1], str(tutorial)], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(code for _, code in blocks[1:])


def test_ci_runs_every_tutorial() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert '  for tutorial in "$here"/docs/tutorials/*.md; do' in lines
    assert {"start tutorials tutorials", "join tutorials"} <= set(lines)


def test_pre_commit_asks_what_ci_asks() -> None:
    """Each hook runs a line of the CI script, or what a line starts beside the others."""
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    lines = {re.sub(r"^start \S+ ", "", line) for line in (ROOT / ".ci" / "run").read_text().splitlines()}
    assert len(hooks) == 3
    assert set(hooks) <= lines
