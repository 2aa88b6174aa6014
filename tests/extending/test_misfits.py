"""Packages that do not keep to what they should: each is named, and nothing of edgec's own is lost by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.pipeline.core import code, extensions
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Stage, stage_modules
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms import compiler
from edgec.pipeline.forms.answer import Answer
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.form import HereForm, ThereForm
from edgec.pipeline.forms.golden import Golden
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.forms.score import figure
from edgec.pipeline.forms.spec import TargetSpec
from edgec.pipeline.quantize.check import Check
from edgec.pipeline.tasks import task
from edgec.pipeline.tasks.task import Metric

TOY = Path(__file__).parent / "toy"
Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a module ``misfit`` on the path, which brings ``name`` under the entry point group."""
    caches = (
        *(extensions._points, extensions._found, compiler.load_compiler, task.load_task, task.metrics_of),
        *(code._imports, code._source, code._found, code._source_sha256),
    )

    def forget() -> None:
        for cache in caches:
            cache.cache_clear()
        for module in [module for module in sys.modules if module.partition(".")[0] == "misfit"]:
            del sys.modules[module]

    def bring(group: str, name: str, text: str) -> None:
        entry, _, attribute = name.partition("=")
        package = f"misfits{len(list(tmp_path.glob('*.dist-info')))}"
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{entry} = misfit{attribute and ':' + attribute}\n")
        (tmp_path / "misfit.py").write_text(text)
        forget()

    monkeypatch.syspath_prepend(tmp_path)
    yield bring
    forget()


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(EdgecError) as caught:
        ask()
    assert caught.value.code == "bad-extension"
    return caught.value.message


LOADERS: dict[str, Callable[[], object]] = {
    "edgec.compilers": lambda: compiler.load_compiler("odd"),
    "edgec.tasks": lambda: task.load_task("odd"),
    "edgec.metrics": lambda: task.metrics_of("classification"),
}


@pytest.mark.parametrize("group", LOADERS)
@pytest.mark.parametrize(
    "text", ["raise ValueError('no licence')", "1 / 0", "import sys; sys.exit(3)", "odd = missing"]
)
def test_whatever_a_package_raises_is_its_own_fault(install: Install, group: str, text: str) -> None:
    install(group, "odd", text)
    assert "cannot be loaded" in refused(LOADERS[group])


@pytest.mark.parametrize(("group", "name"), [("edgec.compilers", "openvino"), ("edgec.tasks", "classification")])
def test_a_name_of_ours_is_not_silently_kept_or_replaced(install: Install, group: str, name: str) -> None:
    install(group, name, "")
    load: Callable[[str], object] = compiler.load_compiler if group == "edgec.compilers" else task.load_task
    assert "takes a name of edgec's own" in refused(lambda: load(name))
    other = "onnxruntime" if name == "openvino" else "tensors"
    assert load(other)


COMPILER = (TOY / "compiler.py").read_text()


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ('TOOLCHAIN: tuple[str, ...] = ("onnxruntime",)', 'TOOLCHAIN = "onnxruntime"', "TOOLCHAIN 'onnxruntime'"),
        ('artifact: str = "model.toy"', 'artifact: str = "deep/model.toy"', "deep/model.toy"),
        ('artifact: str = "model.toy"', 'artifact: str = "../model.toy"', "../model.toy"),
    ],
)
def test_a_compiler_of_the_wrong_types(install: Install, old: str, new: str, fragment: str) -> None:
    assert old in COMPILER
    install("edgec.compilers", "odd", COMPILER.replace(old, new))
    assert fragment in refused(lambda: compiler.load_compiler("odd"))


def test_settings_that_cannot_be_a_key(install: Install) -> None:
    board = TargetSpec("mine", "", "odd", load_scheme("openvino"))
    for made, fragment in (("{}", "settings {}"), ("ToySettings({1, 2})", "cannot be set: {1, 2}")):
        given = COMPILER.replace("return read_options(ToySettings, target)", f"return {made}")
        install("edgec.compilers", "odd", given)
        assert fragment in refused(lambda: compiler.settings_of(board))


TASK = (TOY / "task.py").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@dataclass(frozen=True)\nclass Brightness", "class Brightness"),
        ('name: str = "brightness"', 'name: str = "classification"'),
    ],
)
def test_a_task_that_could_not_be_found_again(install: Install, old: str, new: str) -> None:
    assert old in TASK
    install("edgec.tasks", "brightness=TASK", TASK.replace(old, new))
    assert "whose name is 'brightness'" in refused(lambda: task.load_task("brightness"))


METRIC = "from edgec.pipeline.tasks.task import Metric\n"


@pytest.mark.parametrize(
    "text", ["odd = 3", "odd = Metric", "odd = Metric('x', 'classification', '', len)", "odd = Metric('x', 'y', '', 3)"]
)
def test_a_metric_that_is_none(install: Install, text: str) -> None:
    install("edgec.metrics", "odd=odd", METRIC + text)
    assert "is no Metric" in refused(LOADERS["edgec.metrics"])


def test_two_metrics_of_one_name(install: Install) -> None:
    made = (
        METRIC + "def f(*kept): ...\none = Metric('x', 'classification', '', f)\ntwo = Metric('x', 'tensors', '', f)\n"
    )
    install("edgec.metrics", "one=one", made)
    install("edgec.metrics", "two=two", made)
    assert [len(task.metrics_of(name)) for name in ("classification", "tensors")] == [1, 1]
    install("edgec.metrics", "three=three", made + "three = Metric('x', 'classification', '', lambda *kept: 1.0)")
    assert "a name that is taken" in refused(LOADERS["edgec.metrics"])


@pytest.mark.parametrize("found", [float("nan"), float("inf"), np.float32("nan"), "80 %", [1.0], 1j])
def test_what_is_no_figure(found: object) -> None:
    assert "'x'" in refused(lambda: figure(Metric("x", "classification", "", lambda *kept: found), {}, {}, None))


@pytest.mark.parametrize("found", [1, 1.5, np.float32(1.5), np.int64(2), True, None])
def test_what_is_a_figure(found: Any) -> None:
    assert figure(Metric("x", "classification", "", lambda *kept: found), {}, {}, None) == found


def test_a_metric_that_fails() -> None:
    made = Metric("x", "classification", "", lambda kept, *others: kept["nothing"])
    assert "gave KeyError: 'nothing'" in refused(lambda: figure(made, {}, {}, None))


@dataclass(frozen=True)
class Elsewhere:
    """Settings whose module does not import the compiler."""


@pytest.mark.parametrize("kind", ["check", "compile", "golden", "here", "there"])
def test_a_compilers_code_decides_wherever_its_settings_lie(install: Install, kind: str) -> None:
    install("edgec.compilers", "odd", COMPILER)
    images, settings = Dataset(Path(), ()), Elsewhere()
    forms = {"here": HereForm("odd", settings, {}), "there": ThereForm("odd", settings, "ssh://me@board", {})}
    stages: dict[str, Stage] = {
        "check": Check("odd", settings, load_scheme("openvino")),
        "compile": Compile("odd", settings),
        "golden": Golden("odd", settings, Preprocess(), images),
        **{name: Answer(form, task.load_task("tensors"), Preprocess(), (), images) for name, form in forms.items()},
    }
    modules = code.import_closure(stage_modules(stages[kind]))
    assert "misfit" in modules
    assert (".".join(("edgec", "targets", "devices", "ssh")) in modules) == (kind == "there")
