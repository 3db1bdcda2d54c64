"""What a user installs and types: the walls between packages, the wheel, the make targets, the README."""

import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = ("queueing", "policies", "gpu", "validation")
HEAVY = ("torch", "triton", "matplotlib", "polars", "pandas", "pooch", "pyserq", "sphinx", "ray")


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# --- the walls ---------------------------------------------------------------------------------------------------


def lint_imports(cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
        cwd=cwd,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages and of the contracts, to break walls in."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_walls_stand() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("queueing", "import policies"),
        ("queueing", "import validation"),
        ("queueing", "import torch"),
        ("policies", "import time"),
        ("policies", "import random"),
        ("policies", "import torch"),
        ("policies", "import gpu"),
        ("gpu", "import policies"),
        ("validation", "import torch"),
    ],
)
def test_each_wall_falls_when_broken(copy: Path, package: str, line: str) -> None:
    """Negative control: the contracts name the module that breaks one."""
    (copy / package / "breach.py").write_text(line + "\n")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert f"{package}.breach" in result.stdout


# --- the core ----------------------------------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1].split(","):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded_by(packages: str, cwd: Path = ROOT) -> set[str]:
    """Top-level modules in memory after every module of `packages` has been imported in a fresh process."""
    result = run(sys.executable, "-c", IMPORT_ALL, packages, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_of_the_core_loads_nothing_heavy() -> None:
    assert loaded_by("queueing,policies").isdisjoint(HEAVY)


def test_import_of_the_core_is_watched(copy: Path) -> None:
    """Negative control: a core module that plots is found out."""
    (copy / "queueing" / "breach.py").write_text("import matplotlib\n")
    assert "matplotlib" in loaded_by("queueing", copy)


BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_command_line_needs_no_extra() -> None:
    """`tandem --help` works where none of the extras is installed."""
    start = BLOCK + "sys.argv = ['tandem', '--help']\nfrom validation.cli import main\nmain()"
    result = run(sys.executable, "-c", start, ",".join(HEAVY))
    assert result.returncode == 0, result.stderr
    control = run(sys.executable, "-c", BLOCK + "import matplotlib", ",".join(HEAVY))
    assert "matplotlib is not installed" in control.stderr


def installed_with(requirements: list[str], extra: str) -> set[str]:
    """Names that an install of `requirements` pulls in, as far as this environment knows their own requirements."""
    found: set[str] = set()
    queue = [(Requirement(line), extra) for line in requirements]
    while queue:
        requirement, wanted = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        queue += [(Requirement(line), each) for line in lines for each in (requirement.extras or {""})]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built without a network."""
    target = tmp_path_factory.mktemp("wheel")
    result = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target))
    assert result.returncode == 0, result.stderr
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def requires(wheel: zipfile.ZipFile) -> list[str]:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist", [])


def test_core_install_pulls_nothing_heavy(requires: list[str]) -> None:
    core = installed_with(requires, "")
    assert {
        "numpy",
        "numba",
        "highspy",
        "llvmlite",
    } <= core  # the closure was followed, not only the first line
    assert core.isdisjoint(HEAVY)


@pytest.mark.parametrize(("extra", "name"), [("gpu", "torch"), ("plots", "matplotlib"), ("tables", "polars")])
def test_extra_pulls_what_it_is_for(requires: list[str], extra: str, name: str) -> None:
    """Negative control of the closure: with the extra, the heavy name appears."""
    assert name in installed_with(requires, extra)


# --- the wheel ---------------------------------------------------------------------------------------------------


COMPILED = {".vo", ".vok", ".vos", ".glob", ".aux", ".cache"}  # by the Coq compiler


def sources() -> Iterator[str]:
    """Files of the packages as the wheel should hold them."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in COMPILED:
                yield path.relative_to(ROOT).as_posix()


def test_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(sources())


def test_wheel_is_typed_and_licensed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    inside = {name.partition(".dist-info/licenses/")[2]: name for name in names if "/licenses/" in name}
    assert {key: wheel.read(value) for key, value in inside.items()} == {
        name: (ROOT / name).read_bytes() for name in ("LICENSE", "NOTICE")
    }


# --- the make targets --------------------------------------------------------------------------------------------

TARGETS = {"reproduce", "test", "env", "check", "bench", "docs", "clean", "help"}


def documented(text: str) -> set[str]:
    """Targets named as `make target` in a document."""
    return set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", "".join(re.findall(r"`[^`]*`", text))))


def listed() -> set[str]:
    return set(re.findall(r"^  make ([\w-]+)", run("make", "help").stdout, re.MULTILINE))


def test_targets_exist() -> None:
    assert listed() >= TARGETS


def test_targets_of_the_readme_exist() -> None:
    named = documented((ROOT / "README.md").read_text())
    assert {"reproduce", "test"} <= named
    assert named <= listed()
    assert not documented("`make coffee`") <= listed()  # negative control


def commands(text: str) -> list[list[str]]:
    """The lines of shell blocks that call `tandem`, split as a shell would."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["tandem"]]


def tandem(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", "from validation.cli import main; main()", *arguments, cwd=cwd)


@pytest.mark.timeout(300)  # a dozen commands, each compiling what it runs
def test_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Every command line runs as printed; of experiments, which take minutes, the options are read."""
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0.0,700,30\n0.5,90,4\n")
    shutil.copy(ROOT / "tests" / "validation" / "plain_vtc.py", tmp_path / "my_policy.py")
    lines = commands((ROOT / "README.md").read_text())
    assert {line[0] for line in lines} >= {"experiment", "simulate", "compare"}
    for line in lines:
        result = tandem(*line, *(["--help"] if line[0] in ("experiment", "report") else []), cwd=tmp_path)
        assert result.returncode == 0, (line, result.stderr)
    assert tandem("simulate", "--policy", "coffee", cwd=tmp_path).returncode == 2  # negative control


SOLVED = ("capacity", "--class", "sharegpt@1.5", "--class", "6144,128@0.5")


def test_json_is_all_that_reaches_standard_output(tmp_path: Path) -> None:
    """What libraries print below Python counts, too: a solver's banner would be no JSON."""
    for line in (SOLVED, ("tile", "--lengths", "sharegpt")):
        result = tandem(*line, "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)
    with pytest.raises(json.JSONDecodeError):  # negative control
        json.loads(tandem(*SOLVED, cwd=tmp_path).stdout)


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with the Makefile and stamps that say everything is installed."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    for stamp in (".created", ".run", ".test", ".env"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


@pytest.mark.parametrize("target", ["reproduce", "test", "env", "check"])
def test_installs_once_and_again_when_the_project_changes(workshop: Path, target: str) -> None:
    assert "pip install" not in run("make", "--dry-run", target, cwd=workshop).stdout
    (workshop / "pyproject.toml").touch()
    for stamp in (workshop / ".venv").iterdir():
        stat = (workshop / "pyproject.toml").stat()
        os.utime(stamp, (stat.st_atime - 10, stat.st_mtime - 10))
    assert "pip install" in run("make", "--dry-run", target, cwd=workshop).stdout


def test_python_that_is_too_old_is_refused_in_one_sentence(workshop: Path) -> None:
    (workshop / ".venv" / ".created").unlink()
    old = workshop / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")  # what `sys.exit(sys.version_info < (3, 11))` does there
    old.chmod(0o755)
    result = run("make", f"PYTHON={old}", "env", cwd=workshop)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "Python 3.11 or newer" in said[0]
    assert not (workshop / ".venv" / ".created").exists()


# --- the README --------------------------------------------------------------------------------------------------


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    """The blocks run in order, as one script, the way a reader would paste them."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    result = run(sys.executable, str(script), cwd=tmp_path)
    assert result.returncode == 0, result.stderr


# --- the newcomer: install, a first result, a policy of one's own ----------------------------------------------------

TUTORIALS = ROOT / "docs" / "tutorials"


def cells(page: str) -> list[str]:
    """The blocks of a tutorial that are run when the site is built."""
    text = (TUTORIALS / page).read_text()
    return re.findall(r"^```\{code-cell\} python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and nothing of the checkout; the libraries it needs are those of this environment."""
    site = tmp_path_factory.mktemp("installed")
    command = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site))
    result = run(sys.executable, *command, str(wheel.filename))
    assert result.returncode == 0, result.stderr
    return site


def as_newcomer(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in another folder, which finds the packages where they were installed."""
    return subprocess.run(
        (sys.executable, *arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_install_of_the_tutorial_names_extras_that_exist() -> None:
    (extras,) = re.findall(
        r"^pip install -e '\.\[(.*)\]'$", (TUTORIALS / "five_minutes.md").read_text(), re.MULTILINE
    )
    assert set(extras.split(",")) <= set(project()["optional-dependencies"])


@pytest.mark.timeout(300)  # everything is compiled anew
def test_newcomer_gets_a_result_and_a_policy(installed: Path, tmp_path: Path) -> None:
    """The text of the tutorials itself, pasted by somebody who has the wheel and an empty folder."""
    first = tmp_path / "first.py"
    first.write_text("\n".join(cells("five_minutes.md")) + "\nimport queueing; print(queueing.__file__)\n")
    result = as_newcomer(installed, tmp_path, str(first))
    assert result.returncode == 0, result.stderr
    *said, where = result.stdout.splitlines()
    assert Path(where).is_relative_to(installed)
    assert [line.split()[0] for line in said[:2]] == ["Sarathi", "Slai"]

    policy, simulated, *_ = cells("own_policy.md")
    magic, _, source = policy.partition("\n")
    (tmp_path / magic.removeprefix("%%writefile ")).write_text(source)
    _, _, body = source.partition("@dataclass")
    assert len([line for line in body.splitlines() if line.strip()]) == 15  # as its heading says
    (tmp_path / "second.py").write_text(simulated)
    result = as_newcomer(installed, tmp_path, "second.py")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["Sarathi", "Few"]

    control = as_newcomer(tmp_path, tmp_path, "-S", "second.py")  # nothing is installed
    assert "No module named" in control.stderr
