//! Conversions between R's and the core's types.

use extendr_api::Result;
use extendr_api::prelude::*;
use faer::MatRef;
use patina_core::{Kernel, Locations};

/// R's missing number: a NaN with the payload 1954.
pub const NA_REAL: f64 = f64::from_bits(0x7FF0_0000_0000_07A2);

/// The core's errors, as R sees them: those that R tells apart have their kind in front, in brackets.
pub fn message(error: patina_core::Error) -> Error {
    let kind = match error {
        patina_core::Error::Unsupported { .. } => "[unsupported] ",
        patina_core::Error::File { .. } => "[file] ",
        patina_core::Error::Interrupted => "[interrupted] ",
        _ => "",
    };
    Error::Other(format!("{kind}{error}"))
}

/// An R matrix, without a copy.
pub fn matrix(x: &RMatrix<f64>) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(x.data(), x.nrows(), x.ncols())
}

/// Coordinates and the sizes of the samples.
pub fn locations(coords: &RMatrix<f64>, sizes: &[i32]) -> Result<Locations> {
    let sizes: Vec<usize> = sizes.iter().map(|&s| s.max(0) as usize).collect();
    Locations::with_samples(matrix(coords), &sizes).map_err(message)
}

/// Kernels from their names and lengthscales.
pub fn kernels(models: &[String], lengthscales: &[f64]) -> Result<Vec<Kernel>> {
    models
        .iter()
        .zip(lengthscales)
        .map(|(model, &scale)| Kernel::from_name(model, scale).map_err(message))
        .collect()
}
