"""Policies and routers by name, for the command line; whatever the package exports is in the catalogue."""

from __future__ import annotations

import dataclasses
import re
from enum import IntEnum
from types import ModuleType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from queueing.one_shot import OneShotPolicy
from queueing.policy import Policy, Router

__all__ = ["classes", "named", "names", "one_shot_named", "one_shot_names", "router_named", "router_names"]

_Kind = TypeVar("_Kind", Policy, Router, OneShotPolicy)


def classes(kind: type[_Kind], package: ModuleType | None = None) -> dict[str, type[_Kind]]:
    """Return every exported class of `kind` under its name in snake case, which is the name of its pseudo-code."""
    if package is None:
        import policies as package
    exported = (getattr(package, name) for name in package.__all__)
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): cls
        for cls in exported
        if isinstance(cls, type) and issubclass(cls, kind)
    }


def names() -> tuple[str, ...]:
    """Return the names of all policies."""
    return tuple(sorted(classes(Policy)))


def router_names() -> tuple[str, ...]:
    """Return the names of all routers."""
    return tuple(sorted(classes(Router)))


def one_shot_names() -> tuple[str, ...]:
    """Return the names of all policies of one-shot requests."""
    return tuple(sorted(classes(OneShotPolicy)))


def named(name: str, *parameters: str) -> Policy:
    """Return the policy called `name` (kebab or snake case) with "parameter=value" settings, the rest at defaults.

    Raises:
        ValueError: no such policy or parameter, or a value that the parameter does not take; one sentence says which.

    Example:
        >>> named("slai", "token_budget=256", "order=fifo")
        Slai(token_budget=256, ...)
        >>> named("lifo")
        Traceback (most recent call last):
        ValueError: there is no policy 'lifo'; ...
    """
    return _build("policy", classes(Policy), name, parameters)


def router_named(name: str, *parameters: str) -> Router:
    """Return the router called `name`, as :func:`named` does for policies.

    Example:
        >>> router_named("power-of-d", "d=3")
        PowerOfD(d=3)
    """
    return _build("router", classes(Router), name, parameters)


def one_shot_named(name: str, *parameters: str) -> OneShotPolicy:
    """Return the policy of one-shot requests called `name`, as :func:`named` does for policies of LLM requests."""
    return _build("one-shot policy", classes(OneShotPolicy), name, parameters)


def _build(kind: str, known: dict[str, type[Any]], name: str, parameters: tuple[str, ...]) -> Any:
    cls = known.get(name.strip().lower().replace("-", "_"))
    if cls is None:
        raise ValueError(f"there is no {kind} {name!r}; the known ones are {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    settings: dict[str, Any] = {}
    for parameter in parameters:
        key, equals, text = parameter.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ValueError(f"a parameter is written key=value, not {parameter!r}")
        if key not in fields:
            raise ValueError(f"{name} has no parameter {key!r}; it takes {', '.join(fields) or 'none'}")
        settings[key] = _parse(name, key, fields[key], text.strip())
    return cls(**settings)


def _parse(name: str, key: str, kind: type[Any], text: str) -> Any:
    """Read `text` as a value of the annotated type of a field; the members of a tuple are separated by "/"."""
    if get_origin(kind) is tuple:
        return tuple(_parse(name, key, get_args(kind)[0], item.strip()) for item in text.split("/"))
    if issubclass(kind, Policy):
        raise ValueError(f"{key} of {name} is a policy of its own; set it in Python")
    if hasattr(kind, "parse"):
        return cast("Any", kind).parse(text)
    if issubclass(kind, IntEnum):
        members = kind.__members__
        if text.upper().replace("-", "_") not in members:
            raise ValueError(f"{key} of {name} must be one of {', '.join(members).lower()}, not {text!r}")
        return members[text.upper().replace("-", "_")]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{key} of {name} must be true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        article = "an integer" if kind is int else "a number"
        raise ValueError(f"{key} of {name} must be {article}, not {text!r}") from None
