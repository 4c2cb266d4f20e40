//! The exact posterior: a Cholesky factor of K + delta over all locations of a sample.

use super::Smoother;
use crate::error::Result;
use crate::factors::anchors::squared;
use crate::factors::kriging::cholesky;
use crate::interrupt;
use crate::kd_tree::Point;
use crate::kernel::Radial;
use crate::memory;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place as solve_lower, solve_upper_triangular_in_place as solve_upper,
};
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Columns of a panel of the factor. What one task does depends on this alone, so that bits do not on the threads.
const PANEL: usize = 128;
/// Columns that one task solves for.
const COLUMNS: usize = 32;

/// K + delta's factor, and places elsewhere.
pub(super) struct Dense<'a> {
    points: &'a [Point],
    new: &'a [Point],
    kernel: Radial,
    delta: f64,
    factor: Mat<f64>,
}

impl<'a> Dense<'a> {
    pub fn new(points: &'a [Point], new: &'a [Point], lengthscale: f64, delta: f64) -> Result<Self> {
        let n = points.len();
        memory::check(8.0 * (n as f64).powi(2))?;
        let kernel = Radial::squared_exponential(lengthscale);
        let mut factor = Mat::zeros(n, n);
        factor.as_mut().par_col_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, mut columns)| {
            for k in 0..columns.ncols() {
                let j = chunk * COLUMNS + k;
                for i in j..n {
                    columns[(i, k)] = kernel.value(squared(&points[i], &points[j]));
                }
                columns[(j, k)] += delta;
            }
        });
        decompose(factor.as_mut())?;
        Ok(Self { points, new, kernel, delta, factor })
    }

    /// What is left of the variance 1 at the locations: delta - delta² [(K + delta)⁻¹]ᵢᵢ.
    pub fn own_variance(&self) -> Vec<f64> {
        let n = self.points.len();
        let chunks: Vec<usize> = (0..n).step_by(COLUMNS).collect();
        // K + delta's inverse from that of its factor, whose columns are 0 above the diagonal.
        let norms = chunks.into_par_iter().map(|first| {
            let columns = COLUMNS.min(n - first);
            let mut unit = Mat::zeros(n - first, columns);
            (0..columns).for_each(|k| unit[(k, k)] = 1.0);
            solve_lower(self.factor.submatrix(first, first, n - first, n - first), unit.as_mut(), Par::Seq);
            squared_norms(&unit)
        });
        let norms: Vec<Vec<f64>> = norms.collect();
        norms.concat().into_iter().map(|x| self.delta - self.delta * self.delta * x).collect()
    }

    /// The same at the other places: 1 - k' (K + delta)⁻¹ k.
    pub fn new_variance(&self) -> Vec<f64> {
        let left = self.new.par_chunks(COLUMNS).map(|new| {
            let mut cross = self.cross(new);
            solve_lower(self.factor.as_ref(), cross.as_mut(), Par::Seq);
            squared_norms(&cross)
        });
        let left: Vec<Vec<f64>> = left.collect();
        left.concat().into_iter().map(|x| 1.0 - x).collect()
    }

    /// The kernel between all locations and some places.
    fn cross(&self, new: &[Point]) -> Mat<f64> {
        Mat::from_fn(self.points.len(), new.len(), |i, k| {
            self.kernel.value(squared(&self.points[i], &new[k]))
        })
    }
}

impl Smoother for Dense<'_> {
    fn smooth(&self, y: MatRef<'_, f64>, _: f64) -> Result<Mat<f64>> {
        let (n, count) = y.shape();
        let mut alpha = y.to_owned();
        alpha.as_mut().par_col_chunks_mut(COLUMNS).for_each(|mut columns| {
            solve_lower(self.factor.as_ref(), columns.as_mut(), Par::Seq);
            solve_upper(self.factor.transpose(), columns, Par::Seq);
        });
        interrupt::check()?;
        let mut out = Mat::zeros(n + self.new.len(), count);
        let (mut own, new) = out.as_mut().split_at_row_mut(n);
        own.copy_from(y);
        zip!(own, &alpha).for_each(|unzip!(own, alpha)| *own -= self.delta * *alpha);
        new.par_row_chunks_mut(COLUMNS).zip(self.new.par_chunks(COLUMNS)).for_each(|(out, new)| {
            let cross = self.cross(new);
            matmul(out, Accum::Replace, cross.transpose(), alpha.as_ref(), 1.0, Par::Seq);
        });
        Ok(out)
    }
}

fn squared_norms(a: &Mat<f64>) -> Vec<f64> {
    a.col_iter().map(|column| column.iter().map(|x| x * x).sum()).collect()
}

/// The lower Cholesky factor in place, panel by panel; what is above the diagonal is not used.
fn decompose(mut a: MatMut<'_, f64>) -> Result<()> {
    let n = a.nrows();
    for first in (0..n).step_by(PANEL) {
        interrupt::check()?;
        let width = PANEL.min(n - first);
        let (left, right) = a.as_mut().split_at_col_mut(first + width);
        let panel = left.subcols_mut(first, width).subrows_mut(first, n - first);
        let (mut top, mut panel) = panel.split_at_row_mut(width);
        // By rows; delta is on the diagonal, so that it is positive but for rounding.
        let mut small: Vec<f64> = (0..width * width).map(|k| top[(k / width, k % width)]).collect();
        cholesky(&mut small, width);
        (0..width).for_each(|i| (0..=i).for_each(|j| top[(i, j)] = small[i * width + j]));
        panel.as_mut().par_row_chunks_mut(PANEL).for_each(|rows| {
            solve_lower(top.as_ref(), rows.transpose_mut(), Par::Seq);
        });
        let panel = panel.as_ref();
        right.subrows_mut(first + width, n - first - width).par_col_chunks_mut(PANEL).enumerate().for_each(
            |(chunk, columns)| {
                let start = chunk * PANEL;
                let rows = panel.subrows(start, panel.nrows() - start);
                let across = panel.subrows(start, columns.ncols()).transpose();
                let columns = columns.subrows_mut(start, rows.nrows());
                matmul(columns, Accum::Add, rows, across, -1.0, Par::Seq);
            },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn the_factor_is_one() {
        for n in [1, 7, 128, 300] {
            let mut random = SplitMix64::new(1, &[n as u64]);
            let x = Mat::from_fn(n, n, |_, _| random.normal());
            let a = &x * x.transpose() + Mat::<f64>::identity(n, n);
            let mut factor = a.clone();
            decompose(factor.as_mut()).unwrap();
            let lower = Mat::from_fn(n, n, |i, j| if j <= i { factor[(i, j)] } else { 0.0 });
            assert!((&lower * lower.transpose() - &a).norm_max() < 1e-12 * a.norm_max());
        }
    }
}
