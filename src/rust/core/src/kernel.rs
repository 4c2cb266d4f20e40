//! The covariance functions. This file is the only one that knows their formulas.

use crate::error::{Error, Result};
use crate::locations::Locations;
use faer::Mat;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Values below this are set to zero: subnormal numbers slow a matrix product down fourfold.
const NEGLIGIBLE: f64 = 1e-30;

/// A covariance function over locations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Kernel {
    /// Squared exponential, `exp(-r² / (2 l²))`; name `SE`.
    SquaredExponential {
        /// The lengthscale l, in units of the coordinates, > 0.
        lengthscale: f64,
    },
    /// Cosine, `cos(2 pi r / p)`; name `PER`. Not positive definite beyond one dimension: negative
    /// eigenvalues count as zero.
    Cosine {
        /// The period p, in units of the coordinates, > 0.
        period: f64,
    },
    /// Linear, `X Xᵀ / max(X Xᵀ)`; name `linear`.
    Linear,
}

impl Kernel {
    /// The kernel of that name (`SE`, `PER`, `linear`); `scale` is the lengthscale or the period.
    pub fn from_name(name: &str, scale: f64) -> Result<Self> {
        let positive = || {
            if scale > 0.0 && scale.is_finite() {
                Ok(scale)
            } else {
                Err(Error::Parameter { name: "lengthscale", value: scale, must_be: "positive and finite" })
            }
        };
        match name {
            "SE" => Ok(Self::SquaredExponential { lengthscale: positive()? }),
            "PER" => Ok(Self::Cosine { period: positive()? }),
            "linear" => Ok(Self::Linear),
            _ => Err(Error::Parameter { name: "kernel", value: f64::NAN, must_be: "SE, PER or linear" }),
        }
    }

    /// The kernel's name: `SE`, `PER` or `linear`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SquaredExponential { .. } => "SE",
            Self::Cosine { .. } => "PER",
            Self::Linear => "linear",
        }
    }

    /// The lengthscale or the period; NaN for the linear kernel.
    pub fn scale(&self) -> f64 {
        match *self {
            Self::SquaredExponential { lengthscale } => lengthscale,
            Self::Cosine { period } => period,
            Self::Linear => f64::NAN,
        }
    }

    /// Parameters of the whole model (mean, variance, delta and the kernel's own), M in the BIC.
    pub fn parameters(&self) -> usize {
        match self {
            Self::SquaredExponential { .. } | Self::Cosine { .. } => 4,
            Self::Linear => 3,
        }
    }

    /// The kernel prepared for some locations.
    pub fn at<'a>(&self, locations: &'a Locations) -> KernelAt<'a> {
        let shape = match *self {
            Self::SquaredExponential { lengthscale } => Shape::Se(-0.5 / (lengthscale * lengthscale)),
            Self::Cosine { period } => Shape::Cosine(2.0 * std::f64::consts::PI / period),
            Self::Linear => {
                let coords = locations.coords();
                // The largest entry of X Xᵀ lies on its diagonal.
                let largest = (0..locations.len())
                    .map(|i| (0..locations.dim()).map(|k| coords[(i, k)] * coords[(i, k)]).sum())
                    .fold(0.0_f64, f64::max);
                Shape::Linear(1.0 / largest)
            }
        };
        KernelAt { locations, shape }
    }
}

enum Shape {
    Se(f64),
    Cosine(f64),
    Linear(f64),
}

/// A kernel over given locations: K's entries.
pub struct KernelAt<'a> {
    locations: &'a Locations,
    shape: Shape,
}

impl KernelAt<'_> {
    /// K's entry for two locations of one sample.
    #[inline]
    pub fn value(&self, i: usize, j: usize) -> f64 {
        let value = match self.shape {
            Shape::Se(factor) => (factor * self.locations.squared_distance(i, j)).exp(),
            Shape::Cosine(factor) => (factor * self.locations.squared_distance(i, j).sqrt()).cos(),
            Shape::Linear(factor) => {
                let x = self.locations.coords();
                factor * (0..x.ncols()).map(|k| x[(i, k)] * x[(j, k)]).sum::<f64>()
            }
        };
        if value.abs() < NEGLIGIBLE { 0.0 } else { value }
    }

    /// The block of K over the rows of one sample.
    pub fn block(&self, rows: Range<usize>) -> Mat<f64> {
        let mut k = Mat::zeros(rows.len(), rows.len());
        for j in 0..rows.len() {
            for i in j..rows.len() {
                let value = self.value(rows.start + i, rows.start + j);
                k[(i, j)] = value;
                k[(j, i)] = value;
            }
        }
        k
    }
}
