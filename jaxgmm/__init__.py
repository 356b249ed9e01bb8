"""jaxgmm: differentiable mixture models on JAX."""

import importlib
from typing import TYPE_CHECKING, Any

import jaxgmm.ground.forks  # noqa: F401  from here on, it sees what process is forked from what

if TYPE_CHECKING:
    from jaxgmm.adapters.numpyro import to_numpyro
    from jaxgmm.adapters.scipy import to_scipy
    from jaxgmm.covariance.apart import Shapes, Volumes
    from jaxgmm.covariance.low_rank import LowRank
    from jaxgmm.covariance.oriented import OwnAxes, SharedAxes
    from jaxgmm.covariance.scale import Scale
    from jaxgmm.covariance.scales import Scales
    from jaxgmm.covariance.structure import Each, Shared
    from jaxgmm.covariance.tril import Tril
    from jaxgmm.covariance.unit import UnitScales, UnitTril
    from jaxgmm.divergences.bounds import Bounds, entropy_bounds, kl_bounds
    from jaxgmm.divergences.estimates import Estimate, kl_divergence
    from jaxgmm.divergences.l2 import l2_distance
    from jaxgmm.divergences.wasserstein import Transport, bures_distance, mixture_wasserstein
    from jaxgmm.families.bernoulli import Bernoulli
    from jaxgmm.families.beta import Beta
    from jaxgmm.families.categorical import Categorical
    from jaxgmm.families.conjugate import NormalWishart
    from jaxgmm.families.exponential import Exponential
    from jaxgmm.families.family import Family, Form
    from jaxgmm.families.gamma import Gamma
    from jaxgmm.families.gaussian import Gaussian
    from jaxgmm.families.kinds import table_form
    from jaxgmm.families.log_normal import LogNormal
    from jaxgmm.families.multinomial import Multinomial
    from jaxgmm.families.negative_binomial import NegativeBinomial
    from jaxgmm.families.noise import WithNoise
    from jaxgmm.families.poisson import Poisson
    from jaxgmm.families.product import Product
    from jaxgmm.families.pseudo import ProductPrior, PseudoRows
    from jaxgmm.families.student_t import StudentT, StudentTEstimated
    from jaxgmm.families.von_mises import VonMises
    from jaxgmm.fitting.batches import fit_batches
    from jaxgmm.fitting.em import fit
    from jaxgmm.fitting.gradient import GradientResult, GradientState, fit_gradient, negative_log_likelihood
    from jaxgmm.fitting.online import Online, fit_online, online, online_step
    from jaxgmm.fitting.result import FitError, FitResult, Status
    from jaxgmm.ground.archive import LoadError
    from jaxgmm.ground.batches import Batches
    from jaxgmm.ground.kept import keep_programs
    from jaxgmm.ground.rows import Evidence
    from jaxgmm.ground.schema import Schema
    from jaxgmm.model.bounded import Bounded
    from jaxgmm.model.evidence import batches, rows
    from jaxgmm.model.free import Free
    from jaxgmm.model.frozen import Frozen
    from jaxgmm.model.init import from_responsibilities, init
    from jaxgmm.model.mixture import Mixture
    from jaxgmm.model.noise import with_noise
    from jaxgmm.model.objective import Objective, Posterior, Prior, Variational
    from jaxgmm.model.parameters import from_parameters
    from jaxgmm.model.product import product
    from jaxgmm.model.projection import Projection, projection
    from jaxgmm.model.proportions import Dirichlet, StickBreaking
    from jaxgmm.model.recovery import TrueValues, denoise, impute, sample_missing
    from jaxgmm.model.saving import load, load_metadata, load_schema, save
    from jaxgmm.model.scale import scale_of
    from jaxgmm.model.scores import factor_scores
    from jaxgmm.model.shrinkage import Shrunk, shrunk
    from jaxgmm.model.statistics import Statistics
    from jaxgmm.model.steps import e_step, log_likelihood, m_step
    from jaxgmm.selection.agreement import adjusted_rand_index, align
    from jaxgmm.selection.bootstrap import LikelihoodRatioTest, Stability, likelihood_ratio_test, stability
    from jaxgmm.selection.candidates import Candidate, PassedOver, Selection
    from jaxgmm.selection.components import ComponentSelection, select_components
    from jaxgmm.selection.credible import Credible, credible
    from jaxgmm.selection.criteria import aic, aicc, bic, icl
    from jaxgmm.selection.many import fit_many
    from jaxgmm.selection.restarts import Restarts, fit_restarts
    from jaxgmm.selection.select import select
    from jaxgmm.selection.select_many import select_many
    from jaxgmm.selection.selections import Selections
    from jaxgmm.selection.uncertainty import Bootstrap, Parameters, bootstrap

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "Bernoulli",
    "Beta",
    "Bootstrap",
    "Bounded",
    "Bounds",
    "Candidate",
    "Categorical",
    "ComponentSelection",
    "Credible",
    "Dirichlet",
    "Each",
    "Estimate",
    "Evidence",
    "Exponential",
    "Family",
    "FitError",
    "FitResult",
    "Form",
    "Free",
    "Frozen",
    "Gamma",
    "Gaussian",
    "GradientResult",
    "GradientState",
    "LikelihoodRatioTest",
    "LoadError",
    "LogNormal",
    "LowRank",
    "Mixture",
    "Multinomial",
    "NegativeBinomial",
    "NormalWishart",
    "Objective",
    "Online",
    "OwnAxes",
    "Parameters",
    "PassedOver",
    "Poisson",
    "Posterior",
    "Prior",
    "Product",
    "ProductPrior",
    "Projection",
    "PseudoRows",
    "Restarts",
    "Scale",
    "Scales",
    "Schema",
    "Selection",
    "Selections",
    "Shapes",
    "Shared",
    "SharedAxes",
    "Shrunk",
    "Stability",
    "Statistics",
    "Status",
    "StickBreaking",
    "StudentT",
    "StudentTEstimated",
    "Transport",
    "Tril",
    "TrueValues",
    "UnitScales",
    "UnitTril",
    "Variational",
    "Volumes",
    "VonMises",
    "WithNoise",
    "adjusted_rand_index",
    "aic",
    "aicc",
    "align",
    "batches",
    "bic",
    "bootstrap",
    "bures_distance",
    "credible",
    "denoise",
    "e_step",
    "entropy_bounds",
    "factor_scores",
    "fit",
    "fit_batches",
    "fit_gradient",
    "fit_many",
    "fit_online",
    "fit_restarts",
    "from_parameters",
    "from_responsibilities",
    "icl",
    "impute",
    "init",
    "keep_programs",
    "kl_bounds",
    "kl_divergence",
    "l2_distance",
    "likelihood_ratio_test",
    "load",
    "load_metadata",
    "load_schema",
    "log_likelihood",
    "m_step",
    "mixture_wasserstein",
    "negative_log_likelihood",
    "online",
    "online_step",
    "product",
    "projection",
    "rows",
    "sample_missing",
    "save",
    "scale_of",
    "select",
    "select_components",
    "select_many",
    "shrunk",
    "stability",
    "table_form",
    "to_numpyro",
    "to_scipy",
    "with_noise",
]

_PLACES = {
    "Batches": "ground.batches",
    "Bernoulli": "families.bernoulli",
    "Beta": "families.beta",
    "Bootstrap": "selection.uncertainty",
    "Bounded": "model.bounded",
    "Bounds": "divergences.bounds",
    "Candidate": "selection.candidates",
    "Categorical": "families.categorical",
    "ComponentSelection": "selection.components",
    "Credible": "selection.credible",
    "Dirichlet": "model.proportions",
    "Each": "covariance.structure",
    "Estimate": "divergences.estimates",
    "Evidence": "ground.rows",
    "Exponential": "families.exponential",
    "Family": "families.family",
    "FitError": "fitting.result",
    "FitResult": "fitting.result",
    "Form": "families.family",
    "Free": "model.free",
    "Frozen": "model.frozen",
    "Gamma": "families.gamma",
    "Gaussian": "families.gaussian",
    "GradientResult": "fitting.gradient",
    "GradientState": "fitting.gradient",
    "LikelihoodRatioTest": "selection.bootstrap",
    "LoadError": "ground.archive",
    "LogNormal": "families.log_normal",
    "LowRank": "covariance.low_rank",
    "Mixture": "model.mixture",
    "Multinomial": "families.multinomial",
    "NegativeBinomial": "families.negative_binomial",
    "NormalWishart": "families.conjugate",
    "Objective": "model.objective",
    "Online": "fitting.online",
    "OwnAxes": "covariance.oriented",
    "Parameters": "selection.uncertainty",
    "PassedOver": "selection.candidates",
    "Poisson": "families.poisson",
    "Posterior": "model.objective",
    "Prior": "model.objective",
    "Product": "families.product",
    "ProductPrior": "families.pseudo",
    "Projection": "model.projection",
    "PseudoRows": "families.pseudo",
    "Restarts": "selection.restarts",
    "Scale": "covariance.scale",
    "Scales": "covariance.scales",
    "Schema": "ground.schema",
    "Selection": "selection.candidates",
    "Selections": "selection.selections",
    "Shapes": "covariance.apart",
    "Shared": "covariance.structure",
    "SharedAxes": "covariance.oriented",
    "Shrunk": "model.shrinkage",
    "Stability": "selection.bootstrap",
    "Statistics": "model.statistics",
    "Status": "fitting.result",
    "StickBreaking": "model.proportions",
    "StudentT": "families.student_t",
    "StudentTEstimated": "families.student_t",
    "Transport": "divergences.wasserstein",
    "Tril": "covariance.tril",
    "TrueValues": "model.recovery",
    "UnitScales": "covariance.unit",
    "UnitTril": "covariance.unit",
    "Variational": "model.objective",
    "Volumes": "covariance.apart",
    "VonMises": "families.von_mises",
    "WithNoise": "families.noise",
    "adjusted_rand_index": "selection.agreement",
    "aic": "selection.criteria",
    "aicc": "selection.criteria",
    "align": "selection.agreement",
    "batches": "model.evidence",
    "bic": "selection.criteria",
    "bootstrap": "selection.uncertainty",
    "bures_distance": "divergences.wasserstein",
    "credible": "selection.credible",
    "denoise": "model.recovery",
    "e_step": "model.steps",
    "entropy_bounds": "divergences.bounds",
    "factor_scores": "model.scores",
    "fit": "fitting.em",
    "fit_batches": "fitting.batches",
    "fit_gradient": "fitting.gradient",
    "fit_many": "selection.many",
    "fit_online": "fitting.online",
    "fit_restarts": "selection.restarts",
    "from_parameters": "model.parameters",
    "from_responsibilities": "model.init",
    "icl": "selection.criteria",
    "impute": "model.recovery",
    "init": "model.init",
    "keep_programs": "ground.kept",
    "kl_bounds": "divergences.bounds",
    "kl_divergence": "divergences.estimates",
    "l2_distance": "divergences.l2",
    "likelihood_ratio_test": "selection.bootstrap",
    "load": "model.saving",
    "load_metadata": "model.saving",
    "load_schema": "model.saving",
    "log_likelihood": "model.steps",
    "m_step": "model.steps",
    "mixture_wasserstein": "divergences.wasserstein",
    "negative_log_likelihood": "fitting.gradient",
    "online": "fitting.online",
    "online_step": "fitting.online",
    "product": "model.product",
    "projection": "model.projection",
    "rows": "model.evidence",
    "sample_missing": "model.recovery",
    "save": "model.saving",
    "scale_of": "model.scale",
    "select": "selection.select",
    "select_components": "selection.components",
    "select_many": "selection.select_many",
    "shrunk": "model.shrinkage",
    "stability": "selection.bootstrap",
    "table_form": "families.kinds",
    "to_numpyro": "adapters.numpyro",
    "to_scipy": "adapters.scipy",
    "with_noise": "model.noise",
}

if not TYPE_CHECKING:
    # A public name is imported where it is first used: whoever asks the command for its help does not wait for JAX.
    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'jaxgmm' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"jaxgmm.{_PLACES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
