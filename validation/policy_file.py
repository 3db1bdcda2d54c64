"""Policies from files: loaded, looked over, compiled and tried, with one sentence and the line for what is wrong.

A file holds one policy class, or several, of which one is named: `my_policy.py` or `my_policy.py:MyPolicy`.
"""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import hashlib
import importlib.util
import multiprocessing as mp
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from numba.core.errors import NumbaError

from policies import RoundRobin
from queueing.models.iteration_time import Affine
from queueing.policy import Policy, View
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.workload import Workload

__all__ = ["COMPILING", "complaint", "guarded", "load_policy", "tried"]

# what a scheduler must not know, under the names somebody would try
HIDDEN = {"output", "outputs", "output_length", "true_output", "remaining_output"}


ENDLESS = "the body did not return within {:g} s; does a loop end?"
COMPILING = 120.0  # s


def _refuse(path: Path, line: int, sentence: str) -> NoReturn:
    raise ValueError(f"{at(path, line)}: {sentence}")


def at(path: Path, line: int | str | None) -> str:
    """The place in a file as a sentence starts with it; without a line where none is known."""
    return str(path) if line is None else f"{path}, line {line}"


def load_policy(text: str, seconds: float = 60.0) -> Policy:
    """The policy in a file, with its default parameters.

    The file is first imported in a process of its own; what it prints goes to standard error.

    Args:
        text: FILE.py, or FILE.py:NAME of the class.
        seconds: longest that the import may take.

    Raises:
        ValueError: there is no such file, it is not Python, cannot be imported, holds no policy or several, or its body
            reads what no scheduler knows, or writes to its view: one sentence with the line.
    """
    name, _, wanted = text.partition(".py")
    path = Path(f"{name}.py")
    wanted = wanted.removeprefix(":")
    if not path.is_file():
        raise ValueError(f"there is no policy file {path}; give FILE.py, or FILE.py:NAME of the class")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # bytes that are no text, or zeros
        raise ValueError(f"{path} is no Python source in UTF-8: {error}") from None
    look_over(path, tree)
    said = guarded(
        _import_trouble, (path, wanted), seconds, path, "not imported within {:g} s; does a loop end?"
    )
    if said:
        raise ValueError(said)
    return _imported(path, wanted)


def _import_trouble(path: Path, wanted: str) -> str:
    try:
        _imported(path, wanted)
    except ValueError as error:
        return str(error)
    return ""


def _imported(path: Path, wanted: str) -> Policy:
    spec = importlib.util.spec_from_file_location(f"tandem_policy_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a stranger's file raises)
        raise ValueError(complaint(error, path)) from None
    _tell_apart(module, path)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Policy) and value.__module__ == spec.name
    }
    if wanted and wanted not in found:
        raise ValueError(f"{path} has no policy {wanted!r}; it has {', '.join(found) or 'none'}")
    if not wanted and len(found) != 1:
        many = f"{len(found)} policies; name one, such as {path}:{next(iter(found))}" if found else (
            "no class derived from queueing.policy.Policy; add one")  # fmt: skip
        raise ValueError(f"{path} has {many}")
    cls = found[wanted] if wanted else next(iter(found.values()))
    if not hasattr(cls, "body"):
        raise ValueError(f"{path}: {cls.__name__} has no body; mark one of its functions with @plan")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return cls()
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a stranger's file raises)
        raise ValueError(f"{path}: {cls.__name__}() fails, {error}; give every parameter a default") from None


def _tell_apart(module: ModuleType, path: Path) -> None:
    """Put the digest of the file into the names of its named tuples.

    Numba finds the machine code for a call by the names of its argument's classes: a second version of a file in one
    process, with a memory of the same name, would be typed anew in every call, which takes longer than a short run.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, tuple) and value.__module__ == module.__name__:
            value.__name__ = f"{value.__name__}_{digest}"


def complaint(error: BaseException, path: Path) -> str:
    """An exception in a sentence, with the line of the last frame that lies in the file, if one does."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    line = next((f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()), None)
    return f"{at(path, line)}: {type(error).__name__}: {error}"


# -- the source, before it runs


def look_over(path: Path, tree: ast.Module) -> None:
    """Refuse bodies that read what no scheduler knows, or write to their view."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        marks = {node.id for node in function.decorator_list if isinstance(node, ast.Name)}
        if not marks & {"plan", "kernel"}:
            continue
        views = {arg.arg for arg in function.args.args if arg.arg == "view"}
        if "plan" in marks and len(function.args.args) >= 3:
            views.add(function.args.args[2].arg)
        for node in ast.walk(function):
            _look_at(path, node, views)


def _look_at(path: Path, node: ast.AST, views: set[str]) -> None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in views:
        if node.attr in HIDDEN:
            _refuse(path, node.lineno, f"the body reads {node.value.id}.{node.attr}: no scheduler knows the output "
                    "length; use what was announced, view.predicted")  # fmt: skip
        if node.attr not in View._fields:
            _refuse(path, node.lineno, f"the view has no {node.attr!r}; it has {', '.join(View._fields)}")
    written = isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Attribute | ast.Subscript) and written and _root(node) in views:
        _refuse(path, node.lineno, f"the body writes to its view ({ast.unparse(node)}); a view is read only, keep "
                "what is yours in memory")  # fmt: skip


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


# -- the body, compiled and tried


def tried(policy: Policy, path: Path, seconds: float, compiling: float = COMPILING) -> None:
    """Run the policy on a few requests, interpreted and then compiled, in a process of its own with a time limit.

    Args:
        policy: to be tried.
        path: its file, for the sentence.
        seconds: longest that the interpreted run may take.
        compiling: longest that the compiled one may take, compilation included.

    Raises:
        ValueError: it breaks a rule of the contract, raises, runs on for ever, or does not compile: one sentence with
            the line where there is one.
    """
    said = guarded(_try, (policy, path, True), seconds, path)
    said = said or guarded(
        _try, (policy, path, False), compiling, path, "the body is not compiled within {:g} s"
    )
    if said:
        raise ValueError(said)


def _try(policy: Policy, path: Path, python: bool) -> str:
    system = System(Affine(1.0, 0.0), blocks=20, block_size=1, watermark=0.0)
    workload = Workload([0.0, 0.5, 1.5], [1, 2, 3], [1, 2, 3], [0, 1, 0], predicted=[1, 2, 3])
    try:  # with the falsifier's router, so that its loop is compiled once
        simulate(workload, system, policy, python=python, horizon=1e4, router=RoundRobin())
    except PolicyBreach as breach:
        return f"{path}: {breach}"
    except NumbaError as error:
        lines = re.findall(rf'File "[^"]*{re.escape(path.name)}", line (\d+)', str(error))
        return f"{at(path, lines[0] if lines else None)}: the body does not compile: {_reason(str(error))}"
    except Exception as error:  # noqa: BLE001 (whatever a stranger's file raises)
        return complaint(error, path)
    return ""


def _reason(message: str) -> str:
    """What of numba's message helps: the first line that names a trouble, the call it is about, the innermost cause."""
    said = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", message).splitlines() if line.strip()]
    said = [line for line in said if not line.startswith("Failed in nopython mode")]
    calls = [line.removeprefix(">>> ") for line in said if line.startswith(">>> ")]
    causes = [line for line in said if re.match(r"\w+Error: (?!Failed in)", line)]
    first = said[0] if said else "unknown reason"
    call = f" {calls[0]}" if calls and first.endswith("for signature:") else ""
    cause = f"; {causes[-1]}" if causes and causes[-1] != first else ""
    return f"{first}{call}{cause}"


def guarded(
    task: Callable[..., str], arguments: tuple[Any, ...], seconds: float, path: Path, late: str = ENDLESS
) -> str:
    """Run `task` in a process of its own and return its sentence, or `late` with the line in which it hangs."""
    context = mp.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile("r", suffix=".trace") as dump:
        child = context.Process(target=_child, args=(task, arguments, sender, dump.name, seconds))
        child.start()
        sender.close()
        try:
            if receiver.poll(seconds + 5):
                return receiver.recv()
        except EOFError:
            pass
        finally:
            child.kill()
            child.join()
        frames = dump.read()
    if not frames:
        return f"{path}: the policy ended the process"
    lines = re.findall(rf'File "[^"]*{re.escape(path.name)}", line (\d+)', frames)
    return f"{at(path, lines[0] if lines else None)}: {late.format(seconds)}"


def _child(
    task: Callable[..., str], arguments: tuple[Any, ...], sender: Any, dump: str, seconds: float
) -> None:
    os.dup2(2, 1)  # what a stranger's file prints is no output of ours
    with Path(dump).open("w") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        said = task(*arguments)
        faulthandler.cancel_dump_traceback_later()
    sender.send(said)
