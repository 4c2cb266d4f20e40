//! Coordinate ascent on the evidence lower bound, for one kernel, from given memberships.

use crate::interrupt;
use crate::spectrum::Spectrum;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// The noise variance never falls below this share of a gene's variance.
const LEAST_NOISE: f64 = 1e-8;

/// Standardised genes in the eigenbasis of one kernel.
pub struct Problem<'a> {
    pub spectrum: &'a Spectrum,
    /// Uᵀ y, rank × genes.
    pub z: Mat<f64>,
}

/// The end of one run.
pub struct Run {
    /// Responsibilities, genes × patterns.
    pub r: Mat<f64>,
    pub noise: f64,
    /// The bound after each iteration.
    pub elbo: Vec<f64>,
    pub converged: bool,
}

impl Run {
    /// The last bound.
    pub fn bound(&self) -> f64 {
        *self.elbo.last().expect("a run has at least one iteration")
    }
}

impl<'a> Problem<'a> {
    pub fn new(spectrum: &'a Spectrum, y: MatRef<'_, f64>) -> Self {
        let mut z = Mat::zeros(spectrum.rank(), y.ncols());
        spectrum.project(y, z.as_mut());
        Self { spectrum, z }
    }

    pub fn genes(&self) -> usize {
        self.z.ncols()
    }

    /// Coordinate ascent on q(mu), s2, pi and q(z), in this order, from given responsibilities.
    pub fn ascend(&self, mut r: Mat<f64>, mut s2: f64, tolerance: f64, max_iterations: usize) -> Run {
        let (genes, c) = r.shape();
        let (n, values) = (self.spectrum.n() as f64, self.spectrum.values());
        let mut m = Mat::<f64>::zeros(values.len(), c);
        let mut e = Mat::<f64>::zeros(genes, c);
        let mut logits = vec![0.0; c];
        let mut elbo: Vec<f64> = Vec::new();
        let mut converged = false;
        while elbo.len() < max_iterations && !converged {
            // q(mu): m holds Σ_g r_gk z_g, then the mean; e collects E‖y_g - mu_k‖².
            let sizes = column_sums(r.as_ref());
            matmul(m.as_mut(), Accum::Replace, self.z.as_ref(), r.as_ref(), 1.0, Par::Seq);
            let mut divergence = 0.0;
            for (k, &size) in sizes.iter().enumerate() {
                let (mut norm, mut trace) = (0.0, 0.0);
                for (mean, &s) in m.col_as_slice_mut(k).iter_mut().zip(values) {
                    let precision = 1.0 / (s2 + size * s);
                    let scaled = *mean * precision;
                    *mean = s * scaled;
                    norm += *mean * *mean;
                    trace += s2 * s * precision;
                    // Sigma/S - 1 + m²/S + log(S/Sigma), without dividing by S.
                    divergence +=
                        0.5 * (s * scaled * scaled - size * s * precision + (size * s / s2).ln_1p());
                }
                e.col_as_slice_mut(k).fill(n + norm + trace);
            }
            matmul(e.as_mut(), Accum::Add, self.z.transpose(), m.as_ref(), -2.0, Par::Seq);

            let mut residual = 0.0;
            for k in 0..c {
                residual += r.col_as_slice(k).iter().zip(e.col_as_slice(k)).map(|(r, e)| r * e).sum::<f64>();
            }
            let total = genes as f64 * n;
            s2 = (residual / total).max(LEAST_NOISE);

            let mut evidence = 0.0;
            for g in 0..genes {
                let mut top = f64::NEG_INFINITY;
                for k in 0..c {
                    logits[k] = (sizes[k] / genes as f64).ln() - e[(g, k)] / (2.0 * s2);
                    top = top.max(logits[k]);
                }
                let sum: f64 = logits.iter().map(|x| (x - top).exp()).sum();
                for k in 0..c {
                    r[(g, k)] = (logits[k] - top).exp() / sum;
                }
                // Σ_k r (log pi - E/(2 s2) - log r) at the r that maximises it.
                evidence += top + sum.ln();
            }
            let bound = evidence - divergence - 0.5 * total * (2.0 * std::f64::consts::PI * s2).ln();
            converged = interrupt::requested()
                || elbo.last().is_some_and(|&last| bound - last <= tolerance * last.abs());
            elbo.push(bound);
        }
        Run { r, noise: s2, elbo, converged }
    }
}

/// Σ over rows of each column.
pub fn column_sums(r: MatRef<'_, f64>) -> Vec<f64> {
    (0..r.ncols()).map(|k| (0..r.nrows()).map(|g| r[(g, k)]).sum()).collect()
}

/// The column of each row's largest entry, the first of equal ones.
pub fn most_probable(r: MatRef<'_, f64>) -> Vec<usize> {
    (0..r.nrows())
        .map(|g| (1..r.ncols()).fold(0, |best, k| if r[(g, k)] > r[(g, best)] { k } else { best }))
        .collect()
}
