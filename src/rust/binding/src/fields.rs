//! Fields of single genes, and correlations of pairs.

use crate::convert::{NA_REAL, in_unit, locations, matrix};
use crate::run::in_pool;
use extendr_api::Result;
use extendr_api::prelude::*;
use faer::Mat;
use patina_core::cross::cross_correlations;
use patina_core::field::{FieldModel, gene_field};

/// The field of a gene at its own locations (`new` without rows) or at new ones; samples counted from 1.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_gene_field(
    coords: RMatrix<f64>,
    sizes: &[i32],
    y: &[f64],
    lengthscale: f64,
    delta: f64,
    variance: f64,
    level: f64,
    new: RMatrix<f64>,
    sample: &[i32],
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let model = FieldModel { lengthscale: lengthscale / unit, delta, variance, level };
    let sample: Vec<usize> = sample.iter().map(|&s| s.max(1) as usize - 1).collect();
    let new = in_unit(matrix(&new), unit);
    let places = (new.nrows() > 0).then_some((new.as_ref(), sample.as_slice()));
    let field = in_pool(threads, || gene_field(&locations, y, &model, places))?;
    Ok(list!(mean = field.mean, se = field.std_error, critical = field.critical))
}

/// Spatial cross-correlations of all pairs of genes.
/// @noRd
#[extendr]
fn rust_cross_correlations(
    coords: RMatrix<f64>,
    sizes: &[i32],
    y: RMatrix<f64>,
    lengthscale: f64,
    threads: i32,
) -> Result<List> {
    let (locations, unit) = locations(&coords, sizes)?;
    let y = matrix(&y);
    let found = in_pool(threads, || cross_correlations(&locations, y, lengthscale / unit))?;
    let out = |m: &Mat<f32>| {
        RMatrix::new_matrix(m.nrows(), m.ncols(), |i, j| {
            let x = m[(i, j)];
            if x.is_nan() { NA_REAL } else { f64::from(x) }
        })
    };
    Ok(list!(
        correlation = out(&found.correlation),
        z = out(&found.z),
        own = found.own,
        neighbours = found.neighbours
    ))
}

/// The typical distance of neighbouring locations.
/// @noRd
#[extendr]
fn rust_spacing(coords: RMatrix<f64>, sizes: &[i32]) -> Result<f64> {
    let (locations, unit) = locations(&coords, sizes)?;
    Ok(locations.spacing() * unit)
}

extendr_module! {
    mod fields;
    fn rust_gene_field;
    fn rust_cross_correlations;
    fn rust_spacing;
}
