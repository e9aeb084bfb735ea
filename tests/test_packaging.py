"""What pyproject.toml declares is what the package imports."""

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TENSORFLOW = {"cpu", "gpu"}  # extras, one of which everybody installs
FEATURES = {"sbd", "serve", "video"}  # extras for what not everybody uses
# tf.summary writes what TensorBoard shows; TensorFlow itself does not require it.
NOT_IMPORTED = {"tensorboard"}
OWNERS = metadata.packages_distributions()


def declared(*extras):
    lines = [*PROJECT["dependencies"]]
    lines += [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


def names(*extras):
    return {canonicalize_name(one.name) for one in declared(*extras)}


def imported(*, deferred):
    """Modules that the package imports: at the top of its files, or also inside functions."""
    modules = {}
    for file in sorted((ROOT / "fcis_tf").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree) if deferred else tree.body:
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module]
            modules |= {name: file for name in found}
    ours = {"fcis_tf", *sys.stdlib_module_names}
    return {name: file for name, file in modules.items() if name.partition(".")[0] not in ours}


def distributions(module):
    """The installed distributions that a module may come from; several share a name as google."""
    owners = OWNERS.get(module.partition(".")[0], [])
    if len(set(owners)) > 1:
        path = module.replace(".", "/") + "/"
        owners = [n for n in owners if any(str(f).startswith(path) for f in metadata.files(n))]
    return {canonicalize_name(name) for name in owners}


def test_what_is_imported_is_declared():
    for deferred, extras in ((False, TENSORFLOW), (True, TENSORFLOW | FEATURES)):
        for module, file in imported(deferred=deferred).items():
            assert distributions(module) & names(*extras), f"{file}: {module} is not declared"


def test_what_is_declared_is_imported():
    used = set().union(*map(distributions, imported(deferred=True)))
    assert names(*FEATURES) - used == NOT_IMPORTED


def test_every_requirement_has_a_lower_bound():
    for one in declared(*PROJECT["optional-dependencies"]):
        bounded = any(part.operator in {">=", "==", "~="} for part in one.specifier)
        assert bounded or one.name == PROJECT["name"], str(one)


def test_one_tensorflow_for_every_machine():
    cpu, gpu = (declared(extra)[len(PROJECT["dependencies"]) :] for extra in ("cpu", "gpu"))
    assert len({one.specifier for one in [*cpu, *gpu]}) == 1
    machines = [
        ("linux", "x86_64", "tensorflow-cpu"),
        ("linux", "aarch64", "tensorflow"),
        ("win32", "AMD64", "tensorflow-cpu"),
        ("darwin", "arm64", "tensorflow"),
        ("darwin", "x86_64", "tensorflow"),
    ]
    for system, machine, wanted in machines:
        where = {"sys_platform": system, "platform_machine": machine}
        assert [one.name for one in cpu if one.marker.evaluate(where)] == [wanted]
