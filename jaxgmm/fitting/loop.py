"""What a loop over passes is made of, whatever it climbs and whenever it stops."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Bool

from jaxgmm.model.mixture import Mixture
from jaxgmm.model.statistics import Statistics

Take = Callable[[Mixture, Array], Statistics]
"""A pass over the rows: `take_statistics` of a mixture, with log-densities counted from a reference."""


class Loop(ABC):
    """What stays the same from step to step: a record. A step is `propose`, a pass over the rows, and `accept`.

    These two are pure, and a state, a pytree, is all that they hand on. So the pass may be anywhere: `run` is compiled,
    and Python can be another loop around it, over rows that come in parts.
    """

    @abstractmethod
    def unfinished(self, state: Any) -> Bool[Array, ""]:
        """Whether there is to be another step."""

    @abstractmethod
    def propose(self, state: Any) -> Any:
        """Whose statistics are to be taken next: a record with a `mixture` and a `reference` ()."""

    @abstractmethod
    def accept(self, state: Any, proposal: Any, statistics: Statistics) -> Any:
        """The state after that step."""

    def step(self, state: Any, take: Take) -> Any:
        """`propose`, `take` the statistics, `accept`."""
        proposal = self.propose(state)
        return self.accept(state, proposal, take(proposal.mixture, proposal.reference))

    def run(self, state: Any, take: Take) -> Any:
        """Steps until the loop is finished."""
        return jax.lax.while_loop(self.unfinished, lambda state: self.step(state, take), state)
