"""One other method on one data set: peer.py METHOD FOLDER OUT

FOLDER has counts.mtx (genes x spots), coords.csv and genes.txt; OUT.csv gets a p-value for each gene, OUT.json the
version, processor seconds and peak memory. Each method is called as its own documentation shows for counts. What is
compiled at the first call is compiled on 50 genes before the clock starts.
"""

import importlib.metadata
import json
import resource
import sys
import warnings

import numpy as np
import pandas as pd
from scipy.io import mmread
from scipy.sparse import csr_matrix

warnings.filterwarnings("ignore")


def moran(counts, coords):
    """squidpy: Moran's I of log-normalised counts over six neighbours, analytic p-values."""
    import anndata
    import scanpy
    import squidpy

    data = anndata.AnnData(csr_matrix(counts.T, dtype=np.float64), obsm={"spatial": coords})
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    squidpy.gr.spatial_neighbors(data, n_neighs=6, coord_type="generic")
    squidpy.gr.spatial_autocorr(data, mode="moran", n_perms=None, n_jobs=1, show_progress_bar=False)
    table = data.uns["moranI"]
    return table["pval_norm"].reindex(data.var_names).to_numpy()


def flashs(counts, coords):
    """FlashS on raw counts, as its documentation recommends; genes it does not test have p = 1."""
    from flashs import FlashS

    return FlashS().fit_test(coords, csr_matrix(counts.T, dtype=np.float64)).pvalues


def scbsp(counts, coords):
    """scBSP with its default radii."""
    from scbsp import granp

    return granp(coords, csr_matrix(counts.T, dtype=np.float64))["p_values"].to_numpy()


def hotspot(counts, coords):
    """Hotspot: the depth-adjusted negative binomial model, 30 neighbours."""
    import anndata
    import hotspot as package

    keep = np.asarray(counts.sum(axis=1)).ravel() > 0
    data = anndata.AnnData(csr_matrix(counts[keep].T, dtype=np.float64), obsm={"spatial": coords})
    data.obs["total"] = np.asarray(counts.sum(axis=0)).ravel().astype(np.float64)
    data.layers["counts"] = data.X.tocsc()
    test = package.Hotspot(
        data, layer_key="counts", model="danb", latent_obsm_key="spatial", umi_counts_obs_key="total"
    )
    test.create_knn_graph(weighted_graph=False, n_neighbors=min(30, len(coords) // 4))
    table = test.compute_autocorrelations(jobs=1)
    pvalues = np.full(len(keep), np.nan)
    pvalues[keep] = table["Pval"].reindex(data.var_names).to_numpy()
    return pvalues


def spatialde(counts, coords):
    """SpatialDE with NaiveDE's preparation."""
    import NaiveDE
    import SpatialDE

    table = pd.DataFrame(counts.T)
    info = pd.DataFrame(coords, columns=["x", "y"])
    info["total_counts"] = table.sum(axis=1)
    stable = NaiveDE.stabilize(table.T).T
    residuals = NaiveDE.regress_out(info, stable.T, "np.log(total_counts)").T
    results = SpatialDE.run(info[["x", "y"]].to_numpy(), residuals)
    return results.set_index("g")["pval"].reindex(table.columns).to_numpy()


METHODS = {
    "squidpy Moran": (moran, "squidpy"),
    "FlashS": (flashs, "flashs"),
    "scBSP": (scbsp, "scbsp"),
    "Hotspot": (hotspot, "hotspotsc"),
    "SpatialDE": (spatialde, "SpatialDE"),
}


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime


def main():
    name, folder, out = sys.argv[1:]
    method, package = METHODS[name]
    counts = csr_matrix(mmread(folder + "/counts.mtx"))
    coords = pd.read_csv(folder + "/coords.csv").to_numpy(dtype=np.float64)
    genes = [line.strip() for line in open(folder + "/genes.txt")]
    if name == "SpatialDE":
        counts = counts.toarray()
    rich = np.argsort(-np.asarray(counts.sum(axis=1)).ravel())
    method(counts[rich[:50]], coords)

    start = processor_seconds()
    pvalues = method(counts, coords)
    seconds = processor_seconds() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pd.DataFrame({"gene": genes, "pval": pvalues}).to_csv(out + ".csv", index=False)
    with open(out + ".json", "w") as file:
        json.dump(
            {"version": importlib.metadata.version(package), "cpu": seconds, "memory": memory}, file
        )


main()
