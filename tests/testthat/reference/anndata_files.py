"""Writes the .h5ad files of the tests: one small table of counts, dense, by spot (CSR) and by gene (CSC).

python anndata_files.py FOLDER    (made with anndata 0.12.19, h5py 3.16.0, Python 3.11)
"""
import sys

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

out = sys.argv[1]
rng = np.random.default_rng(1)
n, g = 60, 12
xy = np.column_stack([np.arange(n) % 10, np.arange(n) // 10]).astype(float)
mu = np.outer(1 + (xy[:, 0] > 4), rng.uniform(1, 6, g))
mu[:, 6:] = rng.uniform(1, 6, 6)
counts = rng.poisson(mu).astype(np.float32)
names = [f"spot{i:02d}" for i in range(n)]
cell_type = pd.Series(pd.Categorical(np.where(rng.random(n) < 0.5, "glia", "neuron")), index=names)
cell_type.iloc[3] = None
obs = pd.DataFrame(
    {
        "sample": pd.Categorical(["a"] * 30 + ["b"] * 30),
        "batch": rng.normal(size=n),
        "flag": [True, False] * 30,
        "area": pd.array([1, None] * 30, dtype="Int64"),
        "cell_type": cell_type,
    },
    index=names,
)
var = pd.DataFrame({"name": [f"Gene {i}" for i in range(g)]}, index=[f"g{i:02d}" for i in range(g)])
for kind, x in {"dense": counts, "csr": sp.csr_matrix(counts), "csc": sp.csc_matrix(counts)}.items():
    a = ad.AnnData(x, obs=obs.copy(), var=var.copy())
    a.layers["counts"] = x.copy()
    a.layers["scaled"] = x / 2
    a.obsm["spatial"] = xy
    a.uns["spatial"] = {"a": {"note": "first"}, "b": {"note": "second"}}
    a.write_h5ad(f"{out}/anndata_{kind}.h5ad")
