"""Reference for stabilize() and regress_out(): writes the naivede_*.csv files beside this script.

Made with NaiveDE 1.2.0, Python 3.11.7, numpy 2.4.6, scipy 1.17.1, pandas 3.1.1, patsy 1.0.3.
The counts are made up: negative binomial, 12 genes in 30 samples of different depth.

NaiveDE finds phi by an iterative fit with numerical derivatives, so that its values have errors of
some 1e-9. "stabilize_default" is that; all else is made with the same fit given exact derivatives.
"""

from functools import partial
from pathlib import Path

import NaiveDE
import numpy as np
import pandas as pd
from scipy import optimize

here = Path(__file__).parent
rng = np.random.default_rng(2018)

samples = [f"s{i}" for i in range(30)]
genes = [f"g{i}" for i in range(12)]
depth = rng.lognormal(0, 0.4, 30)
means = rng.lognormal(2, 1, 12)[:, None] * depth[None, :]
counts = pd.DataFrame(rng.poisson(rng.gamma(3, means / 3)), index=genes, columns=samples)
info = pd.DataFrame({"total_counts": counts.sum(), "age": rng.uniform(1, 9, 30).round(3)})

default = NaiveDE.stabilize(counts)
optimize.curve_fit = partial(
    optimize.curve_fit, jac=lambda mu, phi: np.asarray(mu**2)[:, None], ftol=1e-15, xtol=1e-15
)
stable = NaiveDE.stabilize(counts)
one = NaiveDE.regress_out(info, stable, "np.log(total_counts)")
two = NaiveDE.regress_out(info, stable, "np.log(total_counts) + age")

for name, table in {
    "counts": counts,
    "info": info,
    "stabilize_default": default,
    "stabilize": stable,
    "regress_total": one,
    "regress_total_age": two,
}.items():
    table.to_csv(here / f"naivede_{name}.csv", float_format="%.17g")
