"""Data frames of Spark, whose partitions come to its Python workers through Arrow."""

import functools
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow
from pyspark import TaskContext
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from jaxgmm.ground.partitions import Partitions

T = TypeVar("T")

_ANSWER = "place long, answer binary"


def held(value: Any, beside: Mapping[str, Any]) -> Partitions:
    """The partitions of a data frame."""
    # Of its columns, any name is an attribute.
    frame = value.to_spark() if hasattr(type(value), "to_spark") else value
    if not hasattr(type(frame), "mapInArrow"):
        raise TypeError(f"source is of type {type(value).__name__} of Spark; expected a data frame.")
    return _Frame(frame)


class _Frame(Partitions):
    """Read or made anew for every pass, unless Spark has been told to cache it."""

    def __init__(self, whole: Any, names: list[str] | None = None) -> None:
        self._whole = whole
        self._frame = whole if names is None else whole.select(*(f"`{name.replace('`', '``')}`" for name in names))
        self.names = tuple(self._frame.columns)

    @property
    def blank(self) -> Any:
        return to_arrow_schema(self._frame.schema).empty_table()

    def only(self, names: list[str]) -> Partitions:
        return _Frame(self._whole, names)

    def brought(self) -> Iterator[Any]:
        for row in self._frame.mapInArrow(_packed, _ANSWER).toLocalIterator():
            yield pyarrow.ipc.open_stream(row.answer).read_all()

    def total(self, task: Callable[[int, Any], T], add: Callable[[T, T], T]) -> T:
        rows = self._frame.mapInArrow(functools.partial(_told, task), _ANSWER).collect()
        answers = [pickle.loads(row.answer) for row in sorted(rows, key=lambda row: row.place)]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if not answers:
            raise ValueError("source has no rows; expected at least one.")
        return functools.reduce(add, answers)

    def extended(self, task: Callable[[int, Any], dict[str, Any]], like: dict[str, Any]) -> Any:
        added = from_arrow_schema(pyarrow.table(like).schema)
        schema = StructType([*self._whole.schema.fields, *added.fields])
        return self._whole.mapInArrow(functools.partial(_longer, task), schema)


def _place() -> int:
    """Which partition this worker has."""
    context: Any = TaskContext.get()
    return context.partitionId()


def _answer(answer: bytes) -> pyarrow.RecordBatch:
    return pyarrow.RecordBatch.from_pydict({"place": [_place()], "answer": [answer]})


def _told(task: Callable[[int, Any], Any], batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
    """One row: what is said of a partition. A refusal is an answer too, as Spark would ask again."""
    given = list(batches)
    if not given:
        return
    try:
        answer = task(_place(), pyarrow.Table.from_batches(given))
    except (TypeError, ValueError) as error:
        answer = type(error)(str(error))
    yield _answer(pickle.dumps(answer))


def _longer(
    task: Callable[[int, Any], dict[str, Any]], batches: Iterable[pyarrow.RecordBatch]
) -> Iterator[pyarrow.RecordBatch]:
    for batch in batches:
        added = task(_place(), pyarrow.Table.from_batches([batch]))
        arrays = [*batch.columns, *map(pyarrow.array, added.values())]
        yield pyarrow.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *added])


def _packed(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
    given = list(batches)
    if not given:
        return
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, given[0].schema) as stream:
        for batch in given:
            stream.write_batch(batch)
    yield _answer(sink.getvalue().to_pybytes())
