//! One sample of a kernel that is held as a sparse matrix.

use super::lanczos::{Lanczos, Product, centre};
use super::probes::{basis, probe};
use super::quadrature::{Quadrature, Tridiagonal};
use super::sparse::Sparse;
use crate::error::Result;
use crate::kd_tree::KdTree;
use crate::kernel::Radial;
use crate::null::score::EntrySums;
use faer::MatRef;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Steps of Lanczos for V⁻¹1, which the means need.
const MEAN_STEPS: usize = 40;

/// How a kernel is made sparse and probed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The covariance function.
    pub radial: Radial,
    /// The squared distance from which on it counts as zero.
    pub reach2: f64,
    /// See [`probe`].
    pub apart: f64,
    pub narrow: bool,
}

/// One sample. Inside it points go by their *place* in a k-d tree: vectors and matrix are indexed by it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The row of each place.
    rows: Vec<usize>,
    matrix: Sparse,
    /// Of `tr f(K)`.
    spectrum: Quadrature,
    /// K1.
    row_sums: Vec<f64>,
    /// Lanczos vectors started at 1, place by place, and their tridiagonal matrix.
    basis: Vec<f64>,
    tridiagonal: Tridiagonal,
}

impl Sample {
    /// Also returns the difference of Gauss and Radau quadrature of log det V on the grid, in units of the log likelihood.
    pub fn new(tree: &KdTree, plan: Plan, grid: &[f64]) -> Result<(Self, Vec<f64>)> {
        let matrix = Sparse::new(tree, plan.radial, plan.reach2);
        let row_sums = matrix.row_sums();
        let ((basis, tridiagonal), probed) = rayon::join(
            || basis(&matrix, MEAN_STEPS),
            || probe(&matrix, tree, plan.apart, plan.narrow, grid),
        );
        let probed = probed?;
        let rows = tree.rows().to_vec();
        Ok((Self { rows, matrix, spectrum: probed.spectrum, row_sums, basis, tridiagonal }, probed.gaps))
    }

    /// Number of locations.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row of each place.
    pub fn places(&self) -> &[usize] {
        &self.rows
    }

    /// About K's eigenvalues, with multiplicities.
    pub fn eigenvalues(&self) -> &[(f64, f64)] {
        &self.spectrum
    }

    /// 1ᵀK1.
    pub fn total(&self) -> f64 {
        self.row_sums.iter().sum()
    }

    /// Σ kᵢⱼ² over i ≠ j.
    pub fn squares(&self) -> f64 {
        self.matrix.power_sums(2).iter().sum()
    }

    /// K x, by place.
    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        self.matrix.times(x)
    }

    /// Sums over K's entries, by place.
    pub fn sums(&self) -> EntrySums {
        let spectral = || self.spectrum.iter().map(|(node, weight)| weight * (node - 1.0).powi(3)).sum();
        EntrySums {
            rows: self.row_sums.clone(),
            squares: self.matrix.power_sums(2),
            cubes: self.matrix.power_sums(3).iter().sum(),
            triangles: Some(self.matrix.triangles().unwrap_or_else(spectral)),
            diagonal: None,
        }
    }

    /// Puts genes side by side into a state of Lanczos, whose places of this sample begin at `from`.
    pub fn load(&self, state: &mut Lanczos, from: usize, y: MatRef<'_, f64>, genes: &[usize]) {
        for (point, &row) in state.current[from..].iter_mut().zip(&self.rows) {
            for (value, &g) in point.iter_mut().zip(genes) {
                *value = y[(row, g)];
            }
        }
    }

    /// H K H times the current vectors of a state.
    pub fn multiply_centred(&self, state: &mut Lanczos, range: Range<usize>) {
        self.matrix.multiply(&state.current[range.clone()], &mut state.next[range.clone()]);
        centre(&mut state.next[range]);
    }

    /// `1ᵀ V⁻¹ y / 1ᵀ V⁻¹ 1`: with Lanczos vectors Q started at 1, `V⁻¹ 1 = √n Q (T + delta)⁻¹ e₁`.
    pub fn mean(&self, y: &[f64], delta: f64) -> f64 {
        let root = (self.rows.len() as f64).sqrt();
        let weights = self.tridiagonal.solve_first(delta);
        let steps = weights.len();
        let mut cross = vec![0.0; steps];
        for (vector, &row) in self.basis.chunks_exact(steps).zip(&self.rows) {
            cross.iter_mut().zip(vector).for_each(|(sum, q)| *sum += q * y[row]);
        }
        let along: f64 = cross.iter().zip(&weights).map(|(c, w)| c * w).sum();
        along / (root * weights[0])
    }
}
