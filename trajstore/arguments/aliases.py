"""Arguments that may be given by either of two names, as `model` for `models`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def also_named(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator that takes each argument by another name too: `also_named(model="models")`.

    The function raises `TypeError`, as for any argument given twice, where both names are given.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        order = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for other, name in names.items():
                if other in kwargs:
                    if name in kwargs or name in order[: len(args)]:
                        raise TypeError(f"{function.__name__}() takes {name} or {other}, which are the same")
                    kwargs[name] = kwargs.pop(other)
            return function(*args, **kwargs)

        return call

    return decorate
