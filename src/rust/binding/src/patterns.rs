//! Automatic expression histology.

use crate::convert::{in_unit, kernels, locations, matrix, message, to_r};
use crate::run::{Watch, in_own_pool, in_pool};
use extendr_api::Result;
use extendr_api::prelude::*;
use patina_core::memory::available;
use patina_core::patterns::{Fitted, Settings, find_patterns, predict};
use patina_core::prepare::spectra;
use patina_core::{Approximation, Request};

/// The family of a pattern's kernel.
const KERNEL: &str = "SE";

/// The best patterns over lengthscales and numbers of patterns; patterns and genes counted from 1.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_find_patterns(
    coords: RMatrix<f64>,
    sizes: &[i32],
    y: RMatrix<f64>,
    lengthscales: &[f64],
    n_patterns: &[i32],
    restarts: i32,
    seed: f64,
    tolerance: f64,
    max_iterations: i32,
    approximation: &str,
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let kernels = kernels(&vec![KERNEL.to_string(); lengthscales.len()], lengthscales, unit)?;
    let count = |x: i32| x.max(0) as usize;
    let settings = Settings {
        n_patterns: n_patterns.iter().map(|&c| count(c)).collect(),
        restarts: count(restarts),
        seed: seed as i64 as u64,
        tolerance,
        max_iterations: count(max_iterations),
    };
    let approximation = Approximation::from_name(approximation).map_err(message)?;
    let y = matrix(&y);
    let request = Request { memory: available(), ..Request::eigenpairs(approximation) };
    let spectra = in_own_pool(threads, &Watch::none(), move || spectra(&kernels, &locations, request))?;
    let fit = in_pool(threads, || find_patterns(&spectra, y, &settings))?;

    let selection = list!(
        lengthscale = fit.selection.iter().map(|c| c.lengthscale * unit).collect::<Vec<_>>(),
        n_patterns = fit.selection.iter().map(|c| c.n_patterns as i32).collect::<Vec<_>>(),
        found = fit.selection.iter().map(|c| c.found as i32).collect::<Vec<_>>(),
        bound = fit.selection.iter().map(|c| c.bound).collect::<Vec<_>>(),
        converged = fit.selection.iter().map(|c| c.converged).collect::<Vec<_>>()
    );
    Ok(list!(
        assignment = fit.assignment.iter().map(|&k| k as i32 + 1).collect::<Vec<_>>(),
        memberships = to_r(fit.responsibilities.as_ref()),
        values = to_r(fit.means.as_ref()),
        coefficients = to_r(fit.coefficients.as_ref()),
        lengthscale = fit.chosen.lengthscale * unit,
        n_patterns = fit.chosen.n_patterns as i32,
        noise = fit.noise,
        weights = fit.weights,
        elbo = fit.elbo,
        selection = selection
    ))
}

/// Patterns at new locations; samples counted from 1.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_predict_patterns(
    coords: RMatrix<f64>,
    sizes: &[i32],
    lengthscale: f64,
    coefficients: RMatrix<f64>,
    pattern_sizes: &[f64],
    noise: f64,
    new: RMatrix<f64>,
    sample: &[i32],
    approximation: &str,
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let approximation = Approximation::from_name(approximation).map_err(message)?;
    let sample: Vec<usize> = sample.iter().map(|&s| s.max(1) as usize - 1).collect();
    let (new, coefficients) = (in_unit(matrix(&new), unit), matrix(&coefficients));
    let kernels = kernels(&[KERNEL.to_string()], &[lengthscale], unit)?;
    let own = locations.clone();
    let request = Request { memory: available(), ..Request::eigenpairs(approximation) };
    let spectra = in_own_pool(threads, &Watch::none(), move || spectra(&kernels, &own, request))?;
    let fitted = Fitted { coefficients, sizes: pattern_sizes, noise };
    let prediction = in_pool(threads, || predict(&spectra[0], &locations, fitted, new.as_ref(), &sample))?;
    Ok(list!(value = to_r(prediction.means.as_ref()), se = to_r(prediction.std_errors.as_ref())))
}

extendr_module! {
    mod patterns;
    fn rust_find_patterns;
    fn rust_predict_patterns;
}
