//! Genes made ready: centred within samples and scaled, and those that cannot be tested told apart.

use crate::locations::Locations;
use faer::{MatMut, MatRef};

/// A gene whose standard deviation is below this share of its largest value is constant to rounding.
pub(crate) const CONSTANT: f64 = 1e-13;

/// Whether a gene could be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was tested.
    Ok,
    /// It is the same at all locations (of each sample).
    Constant,
    /// It has a NaN or an infinite value, or a variance beyond what a double holds.
    NonFinite,
    /// Its likelihood's maximum is not known to the tolerance; its calibrated p-value is.
    NotConverged,
}

impl Status {
    /// `ok`, `constant`, `non-finite` or `not converged`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Constant => "constant",
            Self::NonFinite => "non-finite",
            Self::NotConverged => "not converged",
        }
    }
}

/// How a gene was centred and scaled.
pub(crate) struct Standard {
    pub status: Status,
    /// Of each sample.
    pub means: Vec<f64>,
    /// The root mean square of what is left.
    pub scale: f64,
}

impl Standard {
    /// What scaling took from the log likelihood.
    pub fn shift(&self, n: usize) -> f64 {
        -(n as f64) * self.scale.ln()
    }
}

/// Centres gene `g` within samples and scales it to a mean square of 1, into the same column of `out`.
pub(crate) fn standardise(
    y: MatRef<'_, f64>,
    g: usize,
    locations: &Locations,
    mut out: MatMut<'_, f64>,
) -> Standard {
    let (from, n) = (y.col(g), y.nrows() as f64);
    let mut standard = Standard { status: Status::Ok, means: Vec::new(), scale: f64::NAN };
    if from.iter().any(|v| !v.is_finite()) {
        standard.status = Status::NonFinite;
        return standard;
    }
    let largest = from.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
    if largest == 0.0 {
        standard.status = Status::Constant;
        return standard;
    }
    let mut to = out.as_mut().col_mut(g);
    let mut square = 0.0;
    for rows in locations.samples() {
        let len = rows.len() as f64;
        let mean = rows.clone().map(|i| from[i] / largest).sum::<f64>() / len;
        // A second pass takes the rounding error out of the mean.
        let mean = mean + rows.clone().map(|i| from[i] / largest - mean).sum::<f64>() / len;
        for i in rows.clone() {
            to[i] = from[i] / largest - mean;
            square += to[i] * to[i];
        }
        standard.means.push(mean * largest);
    }
    let sd = (square / n).sqrt();
    if sd <= CONSTANT {
        standard.status = Status::Constant;
        to.fill(0.0);
        return standard;
    }
    standard.scale = sd * largest;
    if !(standard.scale * standard.scale).is_normal() {
        standard.status = Status::NonFinite;
        to.fill(0.0);
        return standard;
    }
    to.iter_mut().for_each(|v| *v /= sd);
    standard
}
