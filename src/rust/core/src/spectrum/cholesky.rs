//! Low-rank factors of positive semidefinite kernels, K ≈ L Lᵀ, by pivoted Cholesky in panels.
//!
//! Each panel's pivots are chosen among candidates that are spread over space in proportion to what is left of
//! K's diagonal, the largest first, so that most of the work is matrix products. What a factor leaves of K's
//! trace is known exactly.

use crate::interrupt;
use crate::kd_tree::KdTree;
use crate::kernel::KernelAt;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Most pivots in a panel, and the candidates they are chosen from.
const PANEL: usize = 64;
const CANDIDATES: usize = 192;

/// A panel ends when what is left at its candidates falls below this share of what was left at its start.
const PANEL_END: f64 = 0.1;

/// Rows that are worked on together; fixed, so that results do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1024;

/// A factor L of the kernel over one sample's rows.
pub(crate) struct Factor {
    /// L's rows in chunks of [`CHUNK`].
    chunks: Vec<Mat<f64>>,
    rank: usize,
    /// Columns that memory is reserved for.
    capacity: usize,
    /// `tr(K - L Lᵀ)`.
    residual: f64,
}

impl Factor {
    /// Factors K over the rows of a tree until at most `tolerance` of its trace is left. `None` if that takes a rank above `limit`,
    /// or at an interrupt.
    pub fn new(kernel: &KernelAt<'_>, tree: &KdTree, tolerance: f64, limit: usize) -> Option<Self> {
        let order = tree.rows();
        let start = tree.first_row();
        let n = order.len();
        let mut left: Vec<f64> = (start..start + n).map(|i| kernel.value(i, i)).collect();
        let mut factor = Self {
            chunks: (0..n.div_ceil(CHUNK)).map(|c| Mat::zeros(CHUNK.min(n - c * CHUNK), 0)).collect(),
            rank: 0,
            capacity: 0,
            residual: left.iter().sum(),
        };
        while factor.residual > tolerance {
            let candidates = factor.candidates(order, start, &left);
            let (pivots, corner) = factor.choose(kernel, start, &candidates);
            if pivots.is_empty() {
                break;
            }
            if factor.rank + pivots.len() > limit || interrupt::requested() {
                return None;
            }
            factor.extend(kernel, start, &pivots, corner.as_ref(), &mut left);
            factor.residual = left.iter().sum();
        }
        Some(factor)
    }

    /// Number of columns.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What is left of K's trace.
    pub fn residual(&self) -> f64 {
        self.residual
    }

    /// The factor's rows in chunks of [`CHUNK`].
    pub fn into_chunks(self) -> Vec<Mat<f64>> {
        self.chunks
    }

    /// The factor's rows, all together.
    pub fn rows(&self) -> Mat<f64> {
        Mat::from_fn(self.chunks.iter().map(Mat::nrows).sum(), self.rank, |i, k| self.row(i)[k])
    }

    /// `Lᵀ L`, in parallel over fixed sets of columns.
    pub fn gram(&self) -> Mat<f64> {
        const COLUMNS: usize = 256;
        let rank = self.rank;
        let mut gram = Mat::<f64>::zeros(rank, rank);
        gram.as_mut().par_col_chunks_mut(COLUMNS).enumerate().for_each(|(tile, mut out)| {
            let from = tile * COLUMNS;
            let width = out.ncols();
            let mut out = out.as_mut().subrows_mut(from, rank - from);
            for chunk in &self.chunks {
                let left = chunk.as_ref().subcols(from, rank - from);
                let right = chunk.as_ref().subcols(from, width);
                matmul(out.as_mut(), Accum::Add, left.transpose(), right, 1.0, Par::Seq);
            }
        });
        for j in 0..rank {
            for i in j + 1..rank {
                gram[(j, i)] = gram[(i, j)];
            }
        }
        gram
    }

    /// A row of L.
    fn row(&self, i: usize) -> RowRef<'_, f64> {
        self.chunks[i / CHUNK].row(i % CHUNK)
    }

    /// Rows (counted from the sample's first) in proportion to what is left of the diagonal, and the one with most left.
    fn candidates(&self, order: &[usize], start: usize, left: &[f64]) -> Vec<usize> {
        let step = self.residual / CANDIDATES as f64;
        let mut chosen = Vec::with_capacity(CANDIDATES + 1);
        let (mut sum, mut next) = (0.0, 0.5 * step);
        let mut largest = order[0] - start;
        for &row in order {
            let i = row - start;
            sum += left[i];
            if left[i] > left[largest] {
                largest = i;
            }
            if sum > next && left[i] > 0.0 {
                chosen.push(i);
                while next < sum {
                    next += step;
                }
            }
        }
        if !chosen.contains(&largest) {
            chosen.push(largest);
        }
        chosen
    }

    /// The pivots among candidates, largest first, and the Cholesky factor of what is left of K at them.
    fn choose(&self, kernel: &KernelAt<'_>, start: usize, candidates: &[usize]) -> (Vec<usize>, Mat<f64>) {
        let m = candidates.len();
        let rows = Mat::from_fn(m, self.rank, |i, k| self.row(candidates[i])[k]);
        let mut schur = Mat::from_fn(m, m, |i, j| kernel.value(start + candidates[i], start + candidates[j]));
        matmul(schur.as_mut(), Accum::Add, rows.as_ref(), rows.transpose(), -1.0, Par::Seq);

        let mut factor = Mat::<f64>::zeros(m, PANEL.min(m));
        let mut left: Vec<f64> = (0..m).map(|i| schur[(i, i)]).collect();
        let mut chosen: Vec<usize> = Vec::with_capacity(PANEL);
        let mut first = 0.0;
        while chosen.len() < factor.ncols() {
            let k = chosen.len();
            let (pivot, most) = left
                .iter()
                .enumerate()
                .fold((0, f64::NEG_INFINITY), |best, (i, v)| if *v > best.1 { (i, *v) } else { best });
            if k == 0 {
                first = most;
            }
            if most <= PANEL_END * first || most <= 0.0 {
                break;
            }
            let root = most.sqrt();
            for i in 0..m {
                let known: f64 = (0..k).map(|c| factor[(i, c)] * factor[(pivot, c)]).sum();
                factor[(i, k)] = (schur[(i, pivot)] - known) / root;
                left[i] -= factor[(i, k)] * factor[(i, k)];
            }
            for &earlier in &chosen {
                factor[(earlier, k)] = 0.0;
            }
            factor[(pivot, k)] = root;
            left[pivot] = f64::NEG_INFINITY;
            chosen.push(pivot);
        }
        let corner = Mat::from_fn(chosen.len(), chosen.len(), |i, k| factor[(chosen[i], k)]);
        (chosen.into_iter().map(|i| candidates[i]).collect(), corner)
    }

    /// Appends the columns of some pivots, and takes them off the diagonal.
    fn extend(
        &mut self,
        kernel: &KernelAt<'_>,
        start: usize,
        pivots: &[usize],
        corner: MatRef<'_, f64>,
        left: &mut [f64],
    ) {
        let (rank, width) = (self.rank, pivots.len());
        let rows = Mat::from_fn(width, rank, |i, k| self.row(pivots[i])[k]);
        let grow = self.capacity < rank + width;
        if grow {
            // A third more than needed: the columns move seldom, and little is wasted.
            self.capacity = (rank + width) * 4 / 3;
        }
        let capacity = self.capacity;
        self.chunks.par_iter_mut().zip(left.par_chunks_mut(CHUNK)).enumerate().for_each(
            |(c, (chunk, left))| {
                let from = start + c * CHUNK;
                let len = chunk.nrows();
                let mut new = Mat::from_fn(len, width, |i, k| kernel.value(from + i, start + pivots[k]));
                matmul(new.as_mut(), Accum::Add, chunk.as_ref(), rows.transpose(), -1.0, Par::Seq);
                solve_lower_triangular_in_place(corner, new.as_mut().transpose_mut(), Par::Seq);
                if grow {
                    chunk.reserve(len, capacity);
                }
                chunk.resize_with(len, rank + width, |i, k| new[(i, k - rank)]);
                for k in 0..width {
                    for (left, v) in left.iter_mut().zip(new.col(k).iter()) {
                        *left -= v * v;
                    }
                }
                left.iter_mut().for_each(|v| *v = v.max(0.0));
            },
        );
        for &pivot in pivots {
            left[pivot] = 0.0;
        }
        self.rank += width;
    }
}
