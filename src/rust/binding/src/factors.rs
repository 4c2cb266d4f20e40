//! Spatial factors and domains.

use crate::convert::{in_unit, locations, matrix, to_r};
use crate::run::in_pool;
use extendr_api::Result;
use extendr_api::prelude::*;
use patina_core::domains::find_domains;
use patina_core::factors::{Kernel, Settings, Summary, find_factors, folds, predict};
use patina_core::graph::morans_i;

/// Rows that are left out in turn, counted from 1.
/// @noRd
#[extendr]
fn rust_factor_folds(coords: RMatrix<f64>, sizes: &[i32]) -> Result<List> {
    let (locations, _) = locations(&coords, sizes)?;
    let rows = |fold: &Vec<usize>| fold.iter().map(|&row| row as i32 + 1).collect::<Vec<_>>();
    Ok(List::from_values(folds(&locations).iter().map(rows)))
}

/// Spatial factors; `n_factors` 0 chooses up to `most`, no lengthscales mean a grid by the distances, `means` without
/// rows are none.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_find_factors(
    coords: RMatrix<f64>,
    sizes: &[i32],
    y: RMatrix<f64>,
    means: RMatrix<f64>,
    n_factors: i32,
    most: i32,
    lengthscales: &[f64],
    max_iterations: i32,
    genes: i32,
    fold_genes: List,
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let fold_genes = fold_genes.values().map(|columns| {
        let columns = columns.as_integer_slice().unwrap_or(&[]);
        columns.iter().map(|&column| column.max(1) as usize - 1).collect()
    });
    let count = |x: i32| x.max(0) as usize;
    let settings = Settings {
        n_factors: (n_factors > 0).then(|| count(n_factors)),
        most: count(most),
        lengthscales: lengthscales.iter().map(|l| l / unit).collect(),
        max_iterations: count(max_iterations),
        genes: Some(count(genes)),
        fold_genes: fold_genes.collect(),
    };
    let (y, means) = (matrix(&y), Some(matrix(&means)).filter(|means| means.nrows() > 0));
    let fit = in_pool(threads, || find_factors(&locations, y, means, &settings))?;
    let column = |of: fn(&Summary) -> f64| -> Vec<f64> { fit.summaries.iter().map(of).collect() };
    let summary = list!(
        variance = column(|s| s.variance),
        lengthscale = fit.summaries.iter().map(|s| s.lengthscale * unit).collect::<Vec<f64>>(),
        smooth = column(|s| s.smooth),
        delta = column(|s| s.delta),
        prior = column(|s| s.prior)
    );
    let held_out = list!(
        n_factors = fit.held_out.iter().map(|h| h.n_factors as i32).collect::<Vec<_>>(),
        r_squared = fit.held_out.iter().map(|h| h.r_squared).collect::<Vec<_>>(),
        se = fit.held_out.iter().map(|h| h.se).collect::<Vec<_>>(),
        z = fit.held_out.iter().map(|h| h.z).collect::<Vec<_>>()
    );
    let kernels = &fit.tissue.kernels;
    let tissue = list!(
        values = to_r(fit.tissue.values.as_ref()),
        totals = to_r(fit.tissue.totals.as_ref()),
        sample_means = to_r(fit.tissue.sample_means.as_ref()),
        seen = to_r(fit.tissue.seen.as_ref()),
        lengthscale = kernels.iter().map(|k| k.lengthscale * unit).collect::<Vec<f64>>(),
        delta = kernels.iter().map(|k| k.delta).collect::<Vec<f64>>(),
        prior = kernels.iter().map(|k| k.variance).collect::<Vec<f64>>(),
        turn = to_r(fit.tissue.turn.as_ref())
    );
    Ok(list!(
        values = to_r(fit.values.as_ref()),
        sample_means = to_r(fit.sample_means.as_ref()),
        std_errors = to_r(fit.std_errors.as_ref()),
        totals = to_r(fit.totals.as_ref()),
        loadings = to_r(fit.loadings.as_ref()),
        seen = to_r(fit.seen.as_ref()),
        summary = summary,
        tissue = tissue,
        held_out = held_out,
        supported = fit.supported.map_or(Rbool::na(), Rbool::from),
        iterations = fit.iterations as i32
    ))
}

/// Smooth fields at new locations; samples counted from 1.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_predict_factors(
    coords: RMatrix<f64>,
    sizes: &[i32],
    seen: RMatrix<f64>,
    lengthscales: &[f64],
    delta: &[f64],
    prior: &[f64],
    new: RMatrix<f64>,
    sample: &[i32],
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let sample: Vec<usize> = sample.iter().map(|&s| s.max(1) as usize - 1).collect();
    let kernels: Vec<Kernel> = lengthscales
        .iter()
        .zip(delta)
        .zip(prior)
        .map(|((&lengthscale, &delta), &variance)| Kernel {
            lengthscale: lengthscale / unit,
            delta,
            variance,
        })
        .collect();
    let (new, seen) = (in_unit(matrix(&new), unit), matrix(&seen));
    let prediction = in_pool(threads, || predict(&locations, seen, &kernels, new.as_ref(), &sample))?;
    Ok(list!(value = to_r(prediction.means.as_ref()), se = to_r(prediction.std_errors.as_ref())))
}

/// Domains of factors, counted from 1.
/// @noRd
#[extendr]
fn rust_find_domains(
    coords: RMatrix<f64>,
    sizes: &[i32],
    smooth: RMatrix<f64>,
    total: RMatrix<f64>,
    n_domains: &[i32],
    threads: i32,
) -> Result<List> {
    let (locations, _) = locations(&coords, sizes)?;
    let numbers: Vec<usize> = n_domains.iter().map(|&d| d.max(0) as usize).collect();
    let (smooth, total) = (matrix(&smooth), matrix(&total));
    let fit = in_pool(threads, || find_domains(&locations, smooth, total, &numbers))?;
    Ok(list!(
        labels = fit.labels.iter().map(|&k| k as i32 + 1).collect::<Vec<_>>(),
        probabilities = to_r(fit.probabilities.as_ref()),
        beta = fit.beta,
        share = fit.share,
        n_domains = fit.criterion.iter().map(|c| c.0 as i32).collect::<Vec<_>>(),
        criterion = fit.criterion.iter().map(|c| c.1).collect::<Vec<_>>()
    ))
}

/// Moran's I of genes over neighbouring spots.
/// @noRd
#[extendr]
fn rust_morans_i(coords: RMatrix<f64>, sizes: &[i32], y: RMatrix<f64>, threads: i32) -> Result<Vec<f64>> {
    let (locations, _) = locations(&coords, sizes)?;
    let y = matrix(&y);
    in_pool(threads, || morans_i(&locations, y))
}

extendr_module! {
    mod factors;
    fn rust_factor_folds;
    fn rust_find_factors;
    fn rust_predict_factors;
    fn rust_find_domains;
    fn rust_morans_i;
}
