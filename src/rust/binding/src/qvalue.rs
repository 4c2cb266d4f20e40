//! q-values.

use crate::convert::{NA_REAL, message};
use extendr_api::Result;
use extendr_api::prelude::*;
use patina_core::qvalue::{estimate_pi0, qvalues};

/// Storey-Tibshirani q-values; NA stays NA, `pi0` `NULL` or NA means that it is estimated.
/// @noRd
#[extendr]
fn rust_qvalues(p: &[f64], pi0: Option<f64>) -> Result<List> {
    let pi0 = pi0.unwrap_or_else(|| estimate_pi0(p));
    let q = qvalues(p, Some(pi0)).map_err(message)?;
    let q: Vec<f64> = q.into_iter().map(|q| if q.is_nan() { NA_REAL } else { q }).collect();
    Ok(list!(q = q, pi0 = pi0))
}

extendr_module! {
    mod qvalue;
    fn rust_qvalues;
}
