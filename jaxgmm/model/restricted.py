"""What is climbed among mixtures that keep to something: all but that is as the objective climbed has it."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from jaxtyping import Array, Bool, Float

from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective, Variational, objective_of

R = TypeVar("R", bound="Restricted")


class Restricted(Objective):
    """An objective with a field `objective`, which is climbed; `placed` says what mixtures keep to."""

    if TYPE_CHECKING:
        # A field of each, after those that it is about.
        objective: Any

    @property
    def sustains(self) -> bool:
        return bool(self.objective.sustains)

    @property
    def reshapes(self) -> bool:
        return bool(self.objective.reshapes)

    @property
    def all_free(self) -> bool:
        return bool(self.objective.all_free)

    @property
    def sighted(self) -> bool:
        return bool(self.objective.sighted)

    @property
    def relative(self) -> bool:
        return bool(self.objective.relative)

    @property
    def given(self) -> Bool[Array, " k"] | None:
        mask: Bool[Array, " k"] | None = self.objective.given
        return mask

    def within(self: R, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]) -> R:
        return self._around(self.objective.within(center, scale, present))

    def counting(self: R, total: Float[Array, ""]) -> R:
        return self._around(self.objective.counting(total))

    def over(self: R, unit: Float[Array, ""]) -> R:
        return self._around(self.objective.over(unit))

    def read_by(self, mixture: Mixture) -> Mixture:
        read: Mixture = self.objective.read_by(mixture)
        return read

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | None:
        value: Float[Array, ""] | None = self.objective.penalty(mixture)
        return value

    def log_weights(
        self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]
    ) -> Float[Array, " k"] | None:
        weights: Float[Array, " k"] | None = self.objective.log_weights(mixture, counts, alive)
        return weights

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.objective.sums(mixture, counts, sums)

    def placed(self, mixture: Mixture) -> Mixture:
        placed: Mixture = self.objective.placed(mixture)
        return placed

    def n_parameters(self, mixture: Mixture) -> Any:
        return mixture.n_parameters if self.objective is None else self.objective.n_parameters(mixture)

    def _climbed(self, n_components: int, n_columns: int, dtype: Any) -> Objective:
        """What is climbed, checked: numbers of parameters, not distributions of them."""
        objective = objective_of(self.objective, n_components, n_columns, dtype)
        if isinstance(objective, Variational):
            raise NotImplementedError(
                f"{type(self).__name__} is about the parameters of a mixture, and Variational has distributions of "
                "them in the place of numbers. Take Posterior as its objective."
            )
        return objective

    def _around(self: R, objective: Objective) -> R:
        own: Any = self
        around: R = dataclasses.replace(own, objective=objective)
        return around
