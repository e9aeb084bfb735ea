"""The house's laws: how the source is cut, what it is called, and what an import may load."""

import ast
import codecs
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("*.py", "*.cc", "*.h", "*.cu", "*.sh")
MOST_PARAMETERS = 8
MOST_LINES = 300
# Words and phrases that give way to those of the field, in a cipher so that this file has none.
WORDS = codecs.decode(
    "ybbx,nfx,ernq_gjvpr,pbapyhqr,frngf,onyybg,ryrpgbef,gryy,gbyq,havgr,gehfg,whqtr,onaare,"
    "wbheany,dhvrg,jung bar frrf,jung bs guvf raivebazrag",
    "rot13",
).split(",")


def tracked(*patterns):
    """The tracked files of the repository that match, as paths relative to it."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    # A file that is deleted and not yet committed is still in the index.
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def occurrences(pattern):
    """``path:line`` of the tracked text files that match a regular expression, in any case."""
    command = ["git", "grep", "-n", "-i", "-I", "-E", "-e", pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [":".join(line.split(":", 2)[:2]) for line in done.stdout.splitlines()]


def parameters(function):
    """The names of the parameters of a function's syntax tree, without self or cls."""
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [a.arg for a in (given.vararg, given.kwarg) if a]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@pytest.fixture(scope="module", autouse=True)
def checkout():
    tracked()


def test_no_function_has_more_parameters_than_one_can_remember():
    long = []
    for name in tracked("fcis_tf/*.py", "scripts/*.py", "setup.py"):
        if name.startswith("fcis_tf/cli/"):
            continue  # options of commands
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = len(parameters(node))
                if count > MOST_PARAMETERS:
                    long.append(f"{name}:{node.lineno}: {node.name} has {count}")
    assert not long, "\n".join(["", *long])


def test_no_source_file_is_long():
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in tracked(*SOURCES)}
    long = [f"{name}: {count}" for name, count in lines.items() if count > MOST_LINES]
    assert not long, "\n".join(["", *long])


def test_no_reference_to_a_text_that_is_not_in_the_repository():
    found = occurrences("spec".join([r"\(", r"\b"]))
    assert not found, "\n".join(["", *found])


def test_every_module_has_a_docstring():
    bare = [
        name
        for name in tracked("fcis_tf/*.py")
        if not ast.get_docstring(ast.parse((ROOT / name).read_text()))
    ]
    assert not bare, "\n".join(["", *bare])


def loaded_by(module):
    """The modules that a fresh process has loaded after an import of this one, with their files."""
    code = (
        f"import json, sys, {module}; print(json.dumps({{name: getattr(module, '__file__', None)"
        " for name, module in sys.modules.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_data_pipeline_loads_no_keras():
    # TensorFlow imports Keras by itself, so what our own modules import is what counts.
    own = {k: v for k, v in loaded_by("fcis_tf.data.pipeline").items() if k.startswith("fcis_tf.")}
    assert "fcis_tf.data.pipeline" in own
    importers = []
    for name, file in own.items():
        for node in ast.walk(ast.parse(Path(file).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importers += [name for found in names if found.split(".")[0] == "keras"]
    assert not importers


def test_the_client_of_a_server_loads_neither_tensorflow_nor_keras():
    assert not {"tensorflow", "keras"} & set(loaded_by("fcis_tf.serving.client.remote"))


@pytest.mark.parametrize("word", WORDS, ids=lambda word: codecs.encode(word, "rot13"))
def test_no_word_of_the_old_dialect(word):
    found = occurrences(rf"\b{word}\b")
    assert not found, "\n".join(["", *found])
