//! Fitted patterns at new locations.

use crate::error::{Result, check_size};
use crate::locations::Locations;
use crate::spectrum::Spectrum;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// New locations that are predicted at once.
const CHUNK: usize = 512;

/// Patterns at new locations.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The posterior mean: new locations × patterns.
    pub means: Mat<f64>,
    /// The posterior standard deviation: new locations × patterns.
    pub std_errors: Mat<f64>,
}

/// What [`predict`] needs to know of fitted patterns.
#[derive(Debug, Clone, Copy)]
pub struct Fitted<'a> {
    /// [`Patterns::coefficients`](super::Patterns::coefficients), n × patterns.
    pub coefficients: MatRef<'a, f64>,
    /// The expected number of genes of each pattern: [`Patterns::weights`](super::Patterns::weights) times the number of genes.
    pub sizes: &'a [f64],
    /// [`Patterns::noise`](super::Patterns::noise).
    pub noise: f64,
}

/// The patterns' posterior at new locations, given the kernel's spectrum at the old ones.
///
/// q(mu_k) is the posterior of a process seen at the locations with noise s2 / R_k, so with k = k(x, X)
/// its mean at x is `k K⁻¹ m_k`, and its variance `k(x, x) - k (K + s2 / R_k)⁻¹ kᵀ`.
/// `new` has a row for each new location, `sample` says to which sample it belongs (counted from 0).
///
/// # Errors
/// Sizes that disagree, or a new location that is not finite.
pub fn predict(
    spectrum: &Spectrum,
    locations: &Locations,
    fitted: Fitted<'_>,
    new: MatRef<'_, f64>,
    sample: &[usize],
) -> Result<Prediction> {
    let n = locations.len();
    let patterns = fitted.coefficients.ncols();
    check_size("locations of the spectrum", n, spectrum.n())?;
    check_size("rows of the coefficients", n, fitted.coefficients.nrows())?;
    check_size("sizes of the patterns", patterns, fitted.sizes.len())?;
    locations.check_new(new, sample)?;
    let shrink = Mat::from_fn(spectrum.rank(), patterns, |i, k| {
        fitted.sizes[k] / (fitted.noise + fitted.sizes[k] * spectrum.values()[i])
    });
    let starts: Vec<usize> = (0..new.nrows()).step_by(CHUNK).collect();
    let chunks: Vec<(Mat<f64>, Mat<f64>)> = starts
        .par_iter()
        .map(|&start| {
            let rows = start..(start + CHUNK).min(new.nrows());
            let new = new.subrows(start, rows.len());
            predict_chunk(spectrum, locations, fitted.coefficients, shrink.as_ref(), new, &sample[rows])
        })
        .collect::<Result<_>>()?;
    let mut means = Mat::zeros(new.nrows(), patterns);
    let mut std_errors = Mat::zeros(new.nrows(), patterns);
    for (&start, (mean, se)) in starts.iter().zip(&chunks) {
        means.as_mut().subrows_mut(start, mean.nrows()).copy_from(mean);
        std_errors.as_mut().subrows_mut(start, se.nrows()).copy_from(se);
    }
    Ok(Prediction { means, std_errors })
}

fn predict_chunk(
    spectrum: &Spectrum,
    locations: &Locations,
    coefficients: MatRef<'_, f64>,
    shrink: MatRef<'_, f64>,
    new: MatRef<'_, f64>,
    sample: &[usize],
) -> Result<(Mat<f64>, Mat<f64>)> {
    let (n, m, d) = (locations.len(), new.nrows(), locations.dim());
    let patterns = coefficients.ncols();
    let old = locations.coords();
    let all = Locations::new(
        Mat::from_fn(n + m, d, |i, j| if i < n { old[(i, j)] } else { new[(i - n, j)] }).as_ref(),
    )?;
    let kernel = spectrum.kernel().at(&all);
    let mut means = Mat::zeros(m, patterns);
    let mut squares = Mat::zeros(m, spectrum.rank());
    let mut first = 0;
    for (block, (rows, s)) in spectrum.blocks().iter().zip(locations.samples().iter().zip(0..)) {
        let (len, rank) = (block.n(), block.rank());
        // Points of different samples are independent.
        let cross =
            Mat::from_fn(
                m,
                len,
                |i, j| {
                    if sample[i] == s { kernel.value(n + i, rows.start + j) } else { 0.0 }
                },
            );
        let weights = coefficients.subrows(rows.start, len);
        matmul(means.as_mut(), Accum::Add, cross.as_ref(), weights, 1.0, Par::Seq);
        let part = squares.as_mut().subcols_mut(first, rank);
        matmul(part, Accum::Replace, cross.as_ref(), block.vectors().as_ref().as_ref(), 1.0, Par::Seq);
        first += rank;
    }
    for j in 0..squares.ncols() {
        squares.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= *x);
    }
    let mut se = Mat::from_fn(m, patterns, |i, _| kernel.value(n + i, n + i));
    matmul(se.as_mut(), Accum::Add, squares.as_ref(), shrink, -1.0, Par::Seq);
    for k in 0..patterns {
        se.col_as_slice_mut(k).iter_mut().for_each(|v| *v = v.max(0.0).sqrt());
    }
    Ok((means, se))
}
