"""What a fit that Python drives asks of all rows in each pass: it adds up over parts of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.families.support import check_support
from jaxgmm.ground import known, shares
from jaxgmm.ground.batches import Batches, Watch
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.threads import as_they_come
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective
from jaxgmm.model.passes import block_size_of, of_passes
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import take_statistics

# For how many passes good machine code is compiled.
_PASSES = 30


@record
class Question:
    """What is asked of all rows in a pass: the statistics of a mixture.

    Fields: `mixture`; `objective`, whose rows and densities they are; `unit` (), by which weights are divided;
    `reference` (), from which log-densities are counted.
    """

    mixture: Mixture
    objective: Objective
    unit: Leaf
    reference: Leaf


def statistics_of(batches: Batches, question: Question, watch: Watch = lambda n: None) -> Statistics:
    """Over all rows, wherever they are, in float64 of numpy; some of them have weight."""
    found = batches.total(statistics_over, question, _added, watch)
    if found is None:
        raise ValueError("source has given no rows with weight in a pass, and had some before; expected the same.")
    return found


def statistics_over(question: Question, batches: Batches, watch: Watch = lambda n: None) -> Statistics | None:
    """Over the rows of all batches, in float64 of numpy, so that no number of batches costs digits.

    On several cores at a time, and added in order, so that how many there are changes no bit. None if there are no
    batches.
    """

    there = shares.present(jnp.asarray(question.mixture.log_weights))

    def of(batch: tuple[int, Evidence]) -> tuple[int, Any]:
        n, rows = batch
        check_support(question.mixture.components, rows)
        rows = known.of_components(rows, there)
        with rows.on_devices():
            taken = _statistics(question, rows, block_size=block_size_of(question.mixture, rows))
        return n, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), taken)

    total: Any = None
    for n, statistics in as_they_come(of, batches.each(), batches.workers):
        total = _added(total, statistics)
        watch(n)
    return total


def _added(total: Any, statistics: Any) -> Any:
    if total is None or statistics is None:
        return statistics if total is None else total
    with np.errstate(over="ignore", invalid="ignore"):  # which the status tells
        return jax.tree.map(np.add, total, statistics)


def _work(question: Question, rows: Evidence, **options: Any) -> float:
    return of_passes(_PASSES)(question.mixture, rows)


@program(static=("block_size",), work=_work)
def _statistics(question: Question, rows: Evidence, *, block_size: int) -> Statistics:
    objective = question.objective
    counted = objective.rows_of(rows).divided(question.unit).in_blocks(block_size)
    return take_statistics(objective.read_by(question.mixture), counted, question.reference)
