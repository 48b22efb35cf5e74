"""What the package says of itself: README, stub, tools."""

import ast
import enum
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import cairn
from cairn import _cairn


def test_the_example_of_the_readme(source_tree, tmp_path, monkeypatch):
    readme = (source_tree / "README.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})


def test_the_stub_names_what_is_there():
    stub = (pathlib.Path(cairn.__file__).parent / "_cairn.pyi").read_text()
    classes = dict(re.findall(r"(?m)^class (\w+).*:\n((?:(?:    .*)?\n)*)", stub))
    there = {name: one for name, one in vars(_cairn).items() if inspect.isclass(one)}
    assert set(classes) == set(there)
    for name, one in there.items():
        if issubclass(one, enum.Enum):
            named = set(re.findall(r"(?m)^    (\w+) = ", classes[name]))
            assert named == set(one.__members__), name
        else:
            named = set(re.findall(r"(?m)^    def (\w+)", classes[name]))
            public = {method for method in vars(one) if not method.startswith("_")}
            assert {method for method in named if not method.startswith("_")} == public, name


def test_the_stub_names_every_option_of_a_store(source_tree, tmp_path):
    stub = ast.parse((pathlib.Path(cairn.__file__).parent / "_cairn.pyi").read_text())
    [store] = [one for one in stub.body if isinstance(one, ast.ClassDef) and one.name == "Store"]
    [init] = [one for one in store.body if getattr(one, "name", "") == "__init__"]
    named = [argument.arg for argument in init.args.kwonlyargs]
    header = (source_tree / "include/cairn/options.h").read_text()
    options = header.partition("StoreOptions {")[2].partition("\n};")[0]
    field = r"(?m)^  (?!static|absl::Status)[\w:<>() ]+ (\w+)(?: = [^;]*)?;"
    fields = set(re.findall(field, options))
    assert sorted(named) == sorted(fields - {"path", "log"})
    for name in named:
        with pytest.raises(TypeError, match=f"Store: {name} cannot be <object"):
            _cairn.Store(str(tmp_path / "store"), **{name: object()})
    assert not (tmp_path / "store").exists()


def test_everything_exported_is_documented():
    for name in cairn.__all__:
        assert getattr(cairn, name).__doc__, name


@pytest.mark.parametrize("tool", ["kv-offload", "store-inspect"])
def test_the_tools(tool):
    command = [sys.executable, "-m", "cairn", tool, "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout


def test_an_unknown_tool():
    command = [sys.executable, "-m", "cairn", "nothing"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "usage" in result.stderr
