"""Mixtures as numpyro distributions (needs the extra `numpyro`)."""

from typing import TYPE_CHECKING

from jaxgmm.model.mixture import Mixture

if TYPE_CHECKING:
    from jaxgmm.adapters.numpyro_distribution import MixtureDistribution


def to_numpyro(mixture: Mixture, *, validate_args: bool | None = None) -> "MixtureDistribution":
    """The mixture as a numpyro `Distribution` over rows, to observe data with or to use as a prior inside a model.

    Its densities, draws and gradients are those of the mixture, whatever the family of its components; what values are
    possible (real numbers, counts) the family says. It is a pytree whose leaves are the mixture's parameters, which may
    be traced: sampled in the model, or trained. So it works in plates and under numpyro's handlers and inference
    algorithms. A draw carries no gradient to the parameters, because the choice of a component has none.

    Args:
        mixture: a mixture of d columns, or a stack of them as `vmap` gives, every leaf with leading axes (b, ...).
        validate_args: whether numpyro checks parameters and values where it can see them. Default numpyro's own.

    Returns:
        A distribution with event shape (d,) and batch shape () or (b, ...). `log_prob` takes values (..., b, ..., d);
        `mean` and `variance` (b, ..., d) are those of each column; `mixture` is the mixture itself.

    Raises:
        ImportError: numpyro is not installed.
        NotImplementedError: a mixture with a noise component.
        TypeError, ValueError: not a mixture, leaves that do not share their leading axes or, where numpyro validates
            and outside `jit`, parameters that are not finite or weights that do not sum to one.

    >>> import jax, jaxgmm
    >>> mixture = jaxgmm.from_parameters([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [1.0, 2.0], "spherical")
    >>> jaxgmm.to_numpyro(mixture).sample(jax.random.key(0), (5,)).shape
    (5, 2)
    """
    if getattr(getattr(mixture, "components", None), "n_background", 0):
        raise NotImplementedError(
            "to_numpyro makes distributions, and mixture has a noise component, whose density has no finite integral. "
            "Write mixture.take(range(mixture.noise_component)) for the clusters alone."
        )
    try:
        from jaxgmm.adapters.numpyro_distribution import MixtureDistribution
    except ImportError as error:
        raise ImportError(f"to_numpyro needs numpyro: pip install 'jaxgmm[numpyro]' ({error}).") from error
    return MixtureDistribution(mixture, validate_args=validate_args)
