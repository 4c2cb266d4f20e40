//! The covariance functions: their formulas, and what follows from these. No other file knows one.

use crate::error::{Error, Result};
use crate::locations::Locations;
use faer::Mat;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::ops::Range;

/// Values below this are set to zero: subnormal numbers slow a matrix product down fourfold.
const NEGLIGIBLE: f64 = 1e-30;

/// Beyond so many lengthscales an exponential is zero.
const LONG: f64 = 1e4;

/// The families of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Family {
    SquaredExponential,
    Matern32,
    Cosine,
    Linear,
}

/// The families by their names.
const NAMES: [(&str, Family); 4] = [
    ("SE", Family::SquaredExponential),
    ("matern32", Family::Matern32),
    ("PER", Family::Cosine),
    ("linear", Family::Linear),
];

/// A covariance function over locations, with checked parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    family: Family,
    /// Lengthscale or period, positive; NaN for the linear kernel.
    scale: f64,
}

impl Kernel {
    /// Squared exponential, `exp(-r² / (2 l²))`; name `SE`.
    ///
    /// # Errors
    /// A lengthscale (in units of the coordinates) that is not positive and finite.
    pub fn squared_exponential(lengthscale: f64) -> Result<Self> {
        Self::with_scale(Family::SquaredExponential, lengthscale)
    }

    /// Matérn of order 3/2, `(1 + √3 r / l) exp(-√3 r / l)`; name `matern32`. Its functions have one derivative, where
    /// those of the squared exponential have all.
    ///
    /// # Errors
    /// A lengthscale (in units of the coordinates) that is not positive and finite.
    pub fn matern32(lengthscale: f64) -> Result<Self> {
        Self::with_scale(Family::Matern32, lengthscale)
    }

    /// Cosine, `cos(2 pi r / p)`; name `PER`. Not positive semidefinite beyond one dimension: negative eigenvalues
    /// count as zero.
    ///
    /// # Errors
    /// A period (in units of the coordinates) that is not positive and finite.
    pub fn cosine(period: f64) -> Result<Self> {
        Self::with_scale(Family::Cosine, period)
    }

    /// Linear, `X Xᵀ / max(X Xᵀ)`; name `linear`.
    pub fn linear() -> Self {
        Self { family: Family::Linear, scale: f64::NAN }
    }

    /// The kernel of that name (`SE`, `matern32`, `PER`, `linear`); `scale` is the lengthscale or the period, which the linear
    /// kernel does without.
    ///
    /// # Errors
    /// An unknown name, or a scale that is not positive and finite.
    pub fn from_name(name: &str, scale: f64) -> Result<Self> {
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, Family::Linear)) => Ok(Self::linear()),
            Some((_, family)) => Self::with_scale(*family, scale),
            None => Err(Error::Parameter {
                name: "kernel",
                value: f64::NAN,
                must_be: "SE, matern32, PER or linear",
            }),
        }
    }

    fn with_scale(family: Family, scale: f64) -> Result<Self> {
        if scale > 0.0 && scale.is_finite() {
            Ok(Self { family, scale })
        } else {
            Err(Error::Parameter { name: "lengthscale", value: scale, must_be: "positive and finite" })
        }
    }

    /// The kernel's name: `SE`, `matern32`, `PER` or `linear`.
    pub fn name(&self) -> &'static str {
        NAMES.iter().find(|(_, family)| *family == self.family).map_or("", |(name, _)| name)
    }

    /// The lengthscale or the period; NaN for the linear kernel.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Parameters of the whole model (mean, variance, delta and the kernel's own), M in the BIC.
    pub fn parameters(&self) -> usize {
        match self.family {
            Family::SquaredExponential | Family::Matern32 | Family::Cosine => 4,
            Family::Linear => 3,
        }
    }

    /// Whether K has no negative eigenvalues, wherever the locations are.
    pub fn is_psd(&self) -> bool {
        match self.family {
            Family::SquaredExponential | Family::Matern32 | Family::Linear => true,
            Family::Cosine => false,
        }
    }

    /// Whether the function is analytic, so that K's eigenvalues fall faster than any power where it is longer than
    /// the locations' spacing.
    pub fn is_smooth(&self) -> bool {
        match self.family {
            Family::SquaredExponential | Family::Cosine | Family::Linear => true,
            Family::Matern32 => false,
        }
    }

    /// Whether [`crate::grid`] knows the kernel's spectral density: it is the squared exponential.
    pub fn has_meshes(&self) -> bool {
        self.family == Family::SquaredExponential
    }

    /// The distance in lengthscales from which on the kernel is below `exp(log_cutoff)`; `None` if it never ends.
    pub fn reach(&self, log_cutoff: f64) -> Option<f64> {
        match self.family {
            Family::SquaredExponential => Some((-2.0 * log_cutoff).sqrt()),
            Family::Matern32 => Some(matern32_reach(log_cutoff)),
            Family::Cosine | Family::Linear => None,
        }
    }

    /// A length, and the wave number (in units of its inverse) from which on the kernel's spectral density in so many
    /// dimensions is below `tolerance` of its largest value; `None` for a kernel that has none.
    pub fn band(&self, tolerance: f64, dim: usize) -> Option<(f64, f64)> {
        match self.family {
            Family::SquaredExponential => Some((self.scale, (-2.0 * tolerance.ln()).sqrt())),
            // Its density is (1 + k² l² / 3)^(-(d + 3) / 2).
            Family::Matern32 => {
                let power = -2.0 / (dim as f64 + 3.0);
                Some((self.scale, (3.0 * (tolerance.powf(power) - 1.0)).sqrt()))
            }
            // All its waves have the length p: wave number 2 pi / p.
            Family::Cosine => Some((self.scale / PI, 2.0)),
            Family::Linear => None,
        }
    }

    /// The covariance as a function of the squared distance; `None` if it depends on more.
    pub fn radial(&self) -> Option<Radial> {
        match self.family {
            Family::SquaredExponential => Some(Radial::squared_exponential(self.scale)),
            Family::Matern32 => {
                Some(Radial::Matern32 { factor: (3.0_f64.sqrt() / self.scale).min(f64::MAX) })
            }
            Family::Cosine => Some(Radial::Cosine { factor: (2.0 * PI / self.scale).min(f64::MAX) }),
            Family::Linear => None,
        }
    }

    /// The kernel over some locations.
    pub fn at<'a>(&self, locations: &'a Locations) -> KernelAt<'a> {
        let form = self.radial().map_or_else(
            || {
                // The largest entry of X Xᵀ lies on its diagonal.
                let largest = (0..locations.len()).map(|i| dot(locations, i, i)).fold(0.0_f64, f64::max);
                Form::Linear { factor: 1.0 / largest }
            },
            Form::Radial,
        );
        KernelAt { kernel: *self, locations, form }
    }
}

/// A covariance as a function of the distance, 1 at 0.
#[derive(Debug, Clone, Copy)]
pub enum Radial {
    /// `exp(factor r²)`.
    SquaredExponential {
        /// -1 / (2 l²).
        factor: f64,
    },
    /// `(1 + factor r) exp(-factor r)`.
    Matern32 {
        /// √3 / l.
        factor: f64,
    },
    /// `cos(factor r)`.
    Cosine {
        /// 2 pi / p.
        factor: f64,
    },
}

impl Radial {
    /// The squared exponential of a positive lengthscale.
    pub fn squared_exponential(lengthscale: f64) -> Self {
        // No infinity, which would not be 1 at the distance 0.
        Self::SquaredExponential { factor: (-0.5 / (lengthscale * lengthscale)).max(-f64::MAX) }
    }

    /// The covariance at a squared distance.
    #[inline]
    pub fn value(&self, squared_distance: f64) -> f64 {
        match *self {
            Self::SquaredExponential { factor } => (factor * squared_distance).exp(),
            Self::Matern32 { factor } => {
                let x = factor * squared_distance.sqrt();
                if x < LONG { (1.0 + x) * (-x).exp() } else { 0.0 }
            }
            Self::Cosine { factor } => {
                let x = factor * squared_distance.sqrt();
                if x.is_finite() { x.cos() } else { 0.0 }
            }
        }
    }
}

enum Form {
    Radial(Radial),
    Linear { factor: f64 },
}

/// A kernel over given locations: K's entries.
pub struct KernelAt<'a> {
    kernel: Kernel,
    locations: &'a Locations,
    form: Form,
}

impl KernelAt<'_> {
    /// The kernel's name.
    pub fn name(&self) -> &'static str {
        self.kernel.name()
    }

    /// K's entry for two locations of one sample.
    #[inline]
    pub fn value(&self, i: usize, j: usize) -> f64 {
        let value = match &self.form {
            Form::Radial(radial) => radial.value(self.locations.squared_distance(i, j)),
            Form::Linear { factor } => factor * dot(self.locations, i, j),
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

/// r / l where `(1 + √3 r / l) exp(-√3 r / l)` has fallen to `exp(log_cutoff)`, by fixed-point iteration.
fn matern32_reach(log_cutoff: f64) -> f64 {
    let mut x = -log_cutoff;
    for _ in 0..100 {
        x = x.ln_1p() - log_cutoff;
    }
    x / 3.0_f64.sqrt()
}

/// xᵢᵀ xⱼ.
#[inline]
fn dot(locations: &Locations, i: usize, j: usize) -> f64 {
    let x = locations.coords();
    (0..x.ncols()).map(|k| x[(i, k)] * x[(j, k)]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::mat;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-14, "{got} {expected}");
    }

    #[test]
    fn each_kernel_has_its_formula() {
        // A right triangle of sides 3, 4, 5, and two more points that make five.
        let coords = mat![[0.0, 0.0], [3.0, 0.0], [3.0, 4.0], [1.0, 1.0], [0.0, 2.0]];
        let locations = Locations::new(coords.as_ref()).unwrap();
        let value = |kernel: Kernel, i, j| kernel.at(&locations).value(i, j);
        let se = Kernel::squared_exponential(2.5).unwrap();
        close(value(se, 0, 2), (-2.0_f64).exp());
        close(value(se, 0, 1), (-9.0_f64 / 12.5).exp());
        let matern = Kernel::matern32(5.0 * 3.0_f64.sqrt()).unwrap();
        close(value(matern, 0, 2), 2.0 * (-1.0_f64).exp());
        close(value(matern, 1, 2), 1.8 * (-0.8_f64).exp());
        let cosine = Kernel::cosine(12.0).unwrap();
        close(value(cosine, 0, 1), 0.0);
        close(value(cosine, 1, 2), -0.5);
        close(value(cosine, 0, 2), -0.75_f64.sqrt());
        // The largest of X Xᵀ is the third point's with itself, 25.
        let linear = Kernel::linear();
        close(value(linear, 2, 2), 1.0);
        close(value(linear, 1, 2), 9.0 / 25.0);
        close(value(linear, 3, 4), 2.0 / 25.0);
        close(value(linear, 0, 2), 0.0);
        for kernel in [se, matern, cosine] {
            close(value(kernel, 3, 3), 1.0);
        }
    }

    #[test]
    fn what_follows_from_the_formulas_is_right() {
        for kernel in [Kernel::squared_exponential(0.7).unwrap(), Kernel::matern32(0.7).unwrap()] {
            let radial = kernel.radial().unwrap();
            for log_cutoff in [-1.0, -8.0, -18.0] {
                let distance = kernel.reach(log_cutoff).unwrap() * kernel.scale();
                let value = radial.value(distance * distance);
                assert!((value.ln() / log_cutoff - 1.0).abs() < 1e-9, "{}: {value}", kernel.name());
            }
        }
        // The spectral density of SE is exp(-k² l² / 2).
        let (length, wave) = Kernel::squared_exponential(3.0).unwrap().band(1e-6, 2).unwrap();
        close((-0.5 * (wave / length * 3.0).powi(2)).exp() * 1e6, 1.0);
        // That of Matérn 3/2 in one dimension is the integral of the covariance with a cosine, here by Simpson's rule.
        let kernel = Kernel::matern32(1.3).unwrap();
        let radial = kernel.radial().unwrap();
        let density = |k: f64| -> f64 {
            let (steps, width) = (40_000, 1e-3);
            let value = |i: usize| (k * i as f64 * width).cos() * radial.value((i as f64 * width).powi(2));
            let weight = |i: usize| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
            (0..=steps).map(|i| weight(i) * value(i)).sum::<f64>() * width / 3.0
        };
        let (length, wave) = kernel.band(1e-3, 1).unwrap();
        assert!((density(wave / length) / density(0.0) / 1e-3 - 1.0).abs() < 1e-6);
        // A cosine of period 5 has the wave number 2 pi / 5.
        let (length, wave) = Kernel::cosine(5.0).unwrap().band(1e-6, 2).unwrap();
        close(wave / length, 2.0 * PI / 5.0);
    }

    #[test]
    fn entries_are_numbers_at_the_ends_of_doubles() {
        let coords = mat![[0.0], [0.0], [1e-200], [1.0], [1e150]];
        let locations = Locations::new(coords.as_ref()).unwrap();
        for name in ["SE", "matern32", "PER"] {
            for scale in [5e-324, 1e-300, 1e-160, 1.0, 1e160, f64::MAX] {
                let kernel = Kernel::from_name(name, scale).unwrap();
                let k = kernel.at(&locations).block(0..5);
                assert!(k.col_iter().all(|column| column.iter().all(|v| v.abs() <= 1.0)), "{kernel:?}");
                assert_eq!(k[(0, 1)], 1.0);
            }
        }
    }

    #[test]
    fn names_lead_back_to_their_kernels_and_wrong_parameters_are_refused() {
        for (name, _) in NAMES {
            assert_eq!(Kernel::from_name(name, 2.0).unwrap().name(), name);
        }
        assert!(Kernel::from_name("Matern", 1.0).is_err());
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for name in ["SE", "matern32", "PER"] {
                assert!(Kernel::from_name(name, scale).is_err());
            }
        }
    }
}
