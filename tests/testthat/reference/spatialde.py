"""Reference for the three analyses: writes the spatialde_*.csv files beside this script.

Made with SpatialDE 1.1.3, NaiveDE 1.2.0, Python 3.11.7, numpy 1.26.4, scipy 1.10.1, pandas 1.5.3.
The tissue is made up: 150 genes with negative binomial counts at 100 places, of which half have no
pattern and the others a hotspot, stripes or a gradient.

SpatialDE's optimiser of delta is a local one: now and then it stops short of the maximum. Its
log likelihood without a spatial part has n - 1 in the variance's denominator, which is why LLR is
not 0 where nothing is spatial.
"""

from functools import partial
from pathlib import Path

import NaiveDE
import numpy as np
import pandas as pd
import SpatialDE
from scipy import optimize

here = Path(__file__).parent
rng = np.random.default_rng(2018)

# Counts: places on a jittered lattice, depth that is not spatial.
places = np.array([(i, j) for i in range(10) for j in range(10)]) + rng.uniform(-0.3, 0.3, (100, 2))
info = pd.DataFrame(places.round(3), columns=["x", "y"], index=[f"s{i}" for i in range(100)])
genes = [f"g{i}" for i in range(150)]
patterns = [
    2 * np.exp(-((info.x - 3) ** 2 + (info.y - 6) ** 2) / 8) - 0.5,
    np.sin(2 * np.pi * info.y / 4.5),
    (info.x - 4.5) / 4,
]
depth = rng.lognormal(0, 0.3, 100)
means = rng.lognormal(2.5, 0.7, 150)
kind = np.arange(150) % 6  # 0, 1 and 2 are patterns
mu = np.empty((150, 100))
for g in range(150):
    shape = np.exp(0.7 * patterns[kind[g]]) if kind[g] < 3 else 1
    mu[g] = means[g] * depth * shape
counts = pd.DataFrame(rng.poisson(rng.gamma(4, mu / 4)), index=genes, columns=info.index)
info["total_counts"] = counts.sum()
counts.to_csv(here / "spatialde_counts.csv")
info.to_csv(here / "spatialde_info.csv")

# Preparation, with phi to machine precision.
optimize.curve_fit = partial(
    optimize.curve_fit, jac=lambda mu, phi: np.asarray(mu**2)[:, None], ftol=1e-15, xtol=1e-15
)
expression = NaiveDE.regress_out(info, NaiveDE.stabilize(counts), "np.log(total_counts)").T

X = info[["x", "y"]]
columns = ["g", "l", "FSV", "max_delta", "max_ll", "max_ll_null", "LLR", "pval", "qval"]


def in_order(table, names):
    return table.set_index("g").loc[names].reset_index()


results = in_order(SpatialDE.run(X, expression), genes)
hits = results[results.qval < 0.05]
search = in_order(SpatialDE.model_search(X, expression, hits), hits.g)
np.random.seed(1)
histology, _ = SpatialDE.aeh.spatial_patterns(X, expression, hits, C=2, l=1.5)

write = {"index": False, "float_format": "%.12g"}
results[columns].to_csv(here / "spatialde_run.csv", **write)
search[["g", "model", "l", "max_ll", "BIC", "SE_prob", "PER_prob", "linear_prob"]].to_csv(
    here / "spatialde_model_search.csv", **write
)
histology[["g", "pattern"]].to_csv(here / "spatialde_patterns.csv", **write)
