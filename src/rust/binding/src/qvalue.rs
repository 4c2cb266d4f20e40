//! q-values.

use crate::convert::message;
use extendr_api::Result;
use extendr_api::prelude::*;
use patina_core::qvalue::{estimate_pi0, qvalues};

/// Storey-Tibshirani q-values; NA stays NA, `pi0` NA means that it is estimated.
/// @noRd
#[extendr]
fn rust_qvalues(p: &[f64], pi0: f64) -> Result<List> {
    let pi0 = if pi0.is_nan() { estimate_pi0(p) } else { pi0 };
    let q = qvalues(p, Some(pi0)).map_err(message)?;
    Ok(list!(q = q, pi0 = pi0))
}

extendr_module! {
    mod qvalue;
    fn rust_qvalues;
}
