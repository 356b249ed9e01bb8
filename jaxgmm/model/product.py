"""The product of two mixtures, which is a mixture again but for its normaliser."""

from jaxtyping import Array, Float

from jaxgmm.ground.programs import program
from jaxgmm.model.geometry import reweighed
from jaxgmm.model.mixture import Mixture, check_pair


def product(p: Mixture, q: Mixture) -> tuple[Float[Array, ""], Mixture]:
    """The product of two densities, p(x) q(x) = exp(log_normalizer) r(x), with r a mixture.

    Two sources that know the same x by independent measurements are combined like this. Component i k_q + j of the
    result is that of p_i and q_j, which have N(a; b, S + T) in common::

        N(x; a, S) N(x; b, T) = N(a; b, S + T) N(x; a + S (S + T)^-1 (b - a), (S^-1 + T^-1)^-1)

    Args:
        p: k_p components in d columns.
        q: k_q components in as many columns, of the same family. Where the two have one structure, so has the result;
            otherwise it is "full".

    Returns:
        The log-normaliser (), -inf where it underflows even as a logarithm, in natural units of 1 / volume; and the
        mixture, of k_p k_q components. The weights of an underflowing product are those of p and q alone. A pair of
        which one is absent is absent.

    Raises:
        TypeError, ValueError: not mixtures, or of different columns or families.
        NotImplementedError: a family without products.

    >>> import jaxgmm
    >>> p = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    >>> q = jaxgmm.from_parameters([1.0], [[2.0]], [1.0], "spherical")
    >>> log_normalizer, both = jaxgmm.product(p, q)
    >>> f"{log_normalizer:.3f}", f"{both.means[0, 0]:.2f}", f"{both.covariances[0, 0, 0]:.2f}"
    ('-2.266', '1.00', '0.50')
    """
    return _product(*check_pair(p, q))


@program
def _product(p: Mixture, q: Mixture) -> tuple[Float[Array, ""], Mixture]:
    log_weights = (p.log_weights[:, None] + q.log_weights).ravel()
    total, log_weights = reweighed(log_weights, p.components.log_overlap(q.components).ravel())
    return total, Mixture(log_weights, p.components.product(q.components))
