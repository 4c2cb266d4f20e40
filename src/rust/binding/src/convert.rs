//! Conversions between R's and the core's types.

use extendr_api::Result;
use extendr_api::prelude::*;
use faer::{Mat, MatRef};
use patina_core::{Kernel, Locations};

/// R's missing number: a NaN with the payload 1954.
pub const NA_REAL: f64 = f64::from_bits(0x7FF0_0000_0000_07A2);

/// The core's errors, as R sees them: those that R tells apart have their kind in front, in brackets.
pub fn message(error: patina_core::Error) -> Error {
    let kind = match error {
        patina_core::Error::Unsupported { .. } => "[unsupported] ",
        patina_core::Error::TooWide { .. } => "[wide] ",
        patina_core::Error::File { .. } => "[file] ",
        patina_core::Error::Memory { .. } => "[memory] ",
        patina_core::Error::Interrupted => "[interrupted] ",
        patina_core::Error::Parameter { .. } => "[argument] ",
        _ => "",
    };
    Error::Other(format!("{kind}{error}"))
}

/// An R matrix, without a copy.
pub fn matrix(x: &RMatrix<f64>) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(x.data(), x.nrows(), x.ncols())
}

/// A matrix of R's, copied.
pub fn to_r(x: MatRef<'_, f64>) -> RMatrix<f64> {
    RMatrix::new_matrix(x.nrows(), x.ncols(), |i, j| x[(i, j)])
}

/// Coordinates with an extent beyond these are computed with in another unit: squares must not over- or underflow.
const EXTENT: (f64, f64) = (1e-100, 1e100);

/// The unit of length that coordinates are computed in, a power of two: nearly always 1.
fn unit(coords: MatRef<'_, f64>) -> f64 {
    let range = |column: faer::ColRef<'_, f64>| {
        let ends = column
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        // Half of each, so that the difference is finite.
        0.5 * ends.1 - 0.5 * ends.0
    };
    let extent = coords.col_iter().map(range).fold(0.0, f64::max);
    if extent > 0.0 && extent.is_finite() && !(EXTENT.0..=EXTENT.1).contains(&extent) {
        // Within what a double and its inverse hold.
        extent.log2().floor().clamp(-1020.0, 1020.0).exp2()
    } else {
        1.0
    }
}

/// Coordinates in a unit that squares of distances can be computed in, the sizes of the samples, and that unit.
pub fn locations(coords: &RMatrix<f64>, sizes: &[i32]) -> Result<(Locations, f64)> {
    let sizes: Vec<usize> = sizes.iter().map(|&s| s.max(0) as usize).collect();
    let unit = unit(matrix(coords));
    let locations = if unit == 1.0 {
        Locations::with_samples(matrix(coords), &sizes)
    } else {
        Locations::with_samples(in_unit(matrix(coords), unit).as_ref(), &sizes)
    };
    Ok((locations.map_err(message)?, unit))
}

/// Coordinates in another unit.
pub fn in_unit(coords: MatRef<'_, f64>, unit: f64) -> Mat<f64> {
    Mat::from_fn(coords.nrows(), coords.ncols(), |i, k| coords[(i, k)] / unit)
}

/// Kernels from their names, and lengthscales in the user's unit.
pub fn kernels(models: &[String], lengthscales: &[f64], unit: f64) -> Result<Vec<Kernel>> {
    models
        .iter()
        .zip(lengthscales)
        .map(|(model, &scale)| Kernel::from_name(model, scale / unit).map_err(message))
        .collect()
}
