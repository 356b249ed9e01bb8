"""Rows in partitions that an engine holds, maybe on other machines, and works on where they are.

It is told what to do as a function that can be pickled, and gives back what all partitions say, added: rows stay.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# By the first name of the module of a value's type. Each has a function `held`.
_ENGINES = {"dask": "on_dask", "pyspark": "on_spark"}


class Partitions(ABC):
    """Each is a table, or a dictionary of arrays by the names of a part.

    Attributes: `names` of the columns of a table, none for arrays; `blank`, a partition without rows, as one of tables,
    and with one row of zeros, as one of arrays.
    """

    names: tuple[str, ...]
    blank: Any

    @abstractmethod
    def only(self, names: list[str]) -> "Partitions":
        """The same rows of these columns."""

    @abstractmethod
    def brought(self) -> Iterator[Any]:
        """All partitions here, one after the other."""

    @abstractmethod
    def total(self, task: Callable[[int, Any], T], add: Callable[[T, T], T]) -> T:
        """What a function says of the number of each partition, from 0 on, and of what that holds, added.

        In an order that the partitions alone decide. A partition that is lost with who works on it is done again.
        """

    @abstractmethod
    def extended(self, task: Callable[[int, Any], dict[str, Any]], like: dict[str, Any]) -> Any:
        """The table that was given, lazily, with further columns: arrays as those are which are `like` them.

        The function makes them of the number of a partition, and of that or of some rows of it, with all columns.
        """


def is_held(value: Any) -> bool:
    """Whether an engine has it."""
    return _engine(value) in _ENGINES


def held(value: Any, beside: Mapping[str, Any]) -> Partitions:
    """The partitions of something that an engine has, with the arrays that stand `beside` one."""
    return importlib.import_module(f"jaxgmm.ground.{_ENGINES[_engine(value)]}").held(value, beside)


def _engine(value: Any) -> str:
    return type(value).__module__.partition(".")[0]
