//! Eigenpairs of kernels that are smooth but not positive semidefinite (the cosine), without their n × n matrix.
//!
//! A Nyström basis (Williams & Seeger 2001): the columns of K at landmarks, spread over the tissue, span all of K once
//! there are half as many again as eigenvalues that matter. Then the Rayleigh-Ritz method: in an orthonormal basis Q
//! of them K is the small matrix QᵀKQ, whose eigenpairs are K's. What Q misses is measured by products with random
//! vectors.

use super::cholesky::CHUNK;
use crate::eigen::{self, eigen};
use crate::error::Result;
use crate::interrupt;
use crate::kd_tree::KdTree;
use crate::kernel::KernelAt;
use crate::random::sign;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Landmarks at first, and at most; their number doubles.
const LANDMARKS: (usize, usize) = (256, 4096);

/// Eigenvalues below this share of the largest do not matter.
const NEGLIGIBLE_EIGENVALUE: f64 = 1e-13;

/// Random vectors that measure what is missing, and the factor by which their estimate may be too small.
const PROBES: usize = 8;
const DOUBT: f64 = 2.0;

/// Rows of K at a time.
const ROWS: usize = 128;

/// Eigenpairs of one sample's block of K.
pub(crate) struct Eigenpairs {
    /// In increasing order.
    pub values: Vec<f64>,
    /// A row for each location of the sample.
    pub vectors: Mat<f64>,
    /// A bound on the sum of the absolute eigenvalues of what is missing (with high probability).
    pub residual: f64,
}

/// The eigenpairs of K over a tree's rows that matter, in the current rayon pool: O(n² r) time, O(n r) memory. `None`
/// if more than a share of `tolerance` of the trace n would be missing with the most landmarks.
pub(crate) fn eigenpairs(kernel: &KernelAt<'_>, tree: &KdTree, tolerance: f64) -> Result<Option<Eigenpairs>> {
    let order = tree.rows();
    let n = order.len();
    let start = tree.first_row();
    let failed = || eigen::failed(kernel.name());
    let mut count = LANDMARKS.0;
    while count < n && count <= LANDMARKS.1 {
        interrupt::check()?;
        let landmarks: Vec<usize> = (0..count).map(|k| order[k * n / count]).collect();
        let block = Mat::from_fn(count, count, |i, j| kernel.value(landmarks[i], landmarks[j]));
        let (values, vectors) = eigen(block.as_ref()).ok_or_else(failed)?;
        let least = NEGLIGIBLE_EIGENVALUE * values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        let kept: Vec<usize> = (0..count).filter(|&k| values[k].abs() > least).collect();
        if 3 * kept.len() <= 2 * count {
            // The landmarks' eigenvectors, extended to all locations, are nearly orthogonal.
            let extend = Mat::from_fn(count, kept.len(), |i, k| vectors[(i, kept[k])] / values[kept[k]]);
            let mut basis = by_rows(n, kept.len(), CHUNK, |rows, out| {
                let k = Mat::from_fn(rows.len(), count, |i, j| {
                    kernel.value(start + rows.start + i, landmarks[j])
                });
                matmul(out, Accum::Replace, k.as_ref(), extend.as_ref(), 1.0, Par::Seq);
            });
            for _ in 0..2 {
                basis = orthonormal(basis.as_ref()).ok_or_else(failed)?;
            }
            let found = in_basis(kernel, start, basis.as_ref()).ok_or_else(failed)?;
            interrupt::check()?;
            if found.residual <= tolerance * n as f64 {
                return Ok(Some(found));
            }
        }
        count *= 2;
    }
    if n > LANDMARKS.1 {
        return Ok(None);
    }
    let (values, vectors) = eigen(kernel.block(start..start + n).as_ref()).ok_or_else(failed)?;
    Ok(Some(Eigenpairs { values, vectors, residual: 0.0 }))
}

/// The eigenpairs of `Q QᵀKQ Qᵀ` for an orthonormal basis Q.
fn in_basis(kernel: &KernelAt<'_>, start: usize, basis: MatRef<'_, f64>) -> Option<Eigenpairs> {
    let (n, rank) = basis.shape();
    // K times the basis and the random vectors.
    let signs = Mat::from_fn(n, PROBES, |i, k| sign((i * PROBES + k) as u64));
    let both =
        Mat::from_fn(n, rank + PROBES, |i, k| if k < rank { basis[(i, k)] } else { signs[(i, k - rank)] });
    let product = by_rows(n, rank + PROBES, ROWS, |rows, out| {
        if interrupt::requested() {
            return;
        }
        let k = Mat::from_fn(rows.len(), n, |i, j| kernel.value(start + rows.start + i, start + j));
        matmul(out, Accum::Replace, k.as_ref(), both.as_ref(), 1.0, Par::Seq);
    });
    let raw = inner(basis, product.as_ref().subcols(0, rank));
    let small = Mat::from_fn(rank, rank, |i, j| 0.5 * (raw[(i, j)] + raw[(j, i)]));
    // Rows of E = K - Q small Qᵀ are as long as its products with signs on average.
    let mut missing = product.subcols(rank, PROBES).to_owned();
    let mut inside = Mat::zeros(rank, PROBES);
    let along = inner(basis, signs.as_ref());
    matmul(inside.as_mut(), Accum::Replace, small.as_ref(), along.as_ref(), 1.0, Par::Seq);
    matmul(missing.as_mut(), Accum::Add, basis, inside.as_ref(), -1.0, Par::Seq);
    let frobenius = (missing.squared_norm_l2() / PROBES as f64).sqrt();
    let (values, turn) = eigen(small.as_ref())?;
    let vectors = by_rows(n, rank, CHUNK, |rows, out| {
        matmul(out, Accum::Replace, basis.subrows(rows.start, rows.len()), turn.as_ref(), 1.0, Par::Seq);
    });
    Some(Eigenpairs { values, vectors, residual: DOUBT * (n as f64).sqrt() * frobenius })
}

/// An orthonormal basis of the columns, up to rounding where they are nearly so.
fn orthonormal(columns: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let (values, vectors) = eigen(inner(columns, columns).as_ref())?;
    let least = NEGLIGIBLE_EIGENVALUE * values.last()?;
    let kept: Vec<usize> = (0..values.len()).filter(|&k| values[k] > least).collect();
    let turn = Mat::from_fn(values.len(), kept.len(), |i, k| vectors[(i, kept[k])] / values[kept[k]].sqrt());
    Some(by_rows(columns.nrows(), kept.len(), CHUNK, |rows, out| {
        matmul(out, Accum::Replace, columns.subrows(rows.start, rows.len()), turn.as_ref(), 1.0, Par::Seq);
    }))
}

/// `aᵀ b`, in parallel over fixed sets of columns.
pub(crate) fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    const COLUMNS: usize = 128;
    let mut out = Mat::<f64>::zeros(a.ncols(), b.ncols());
    out.as_mut().par_col_chunks_mut(COLUMNS).enumerate().for_each(|(tile, out)| {
        let b = b.subcols(tile * COLUMNS, out.ncols());
        matmul(out, Accum::Replace, a.transpose(), b, 1.0, Par::Seq);
    });
    out
}

/// A matrix whose rows are filled in chunks, in parallel.
pub(crate) fn by_rows(
    rows: usize,
    columns: usize,
    chunk: usize,
    fill: impl Fn(std::ops::Range<usize>, MatMut<'_, f64>) + Sync,
) -> Mat<f64> {
    let mut out = Mat::zeros(rows, columns);
    out.as_mut().par_row_chunks_mut(chunk).enumerate().for_each(|(c, out)| {
        let from = c * chunk;
        fill(from..from + out.nrows(), out);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cosine, grid_with_gaps, irregular, normal, two_samples};
    use crate::spatial_test::Status;
    use crate::{Approximation, Request, SpatialTest};

    #[test]
    fn eigenvalues_and_what_is_missing_are_right() {
        for (locations, period) in
            [(irregular(700, 2, 1), 12.0), (grid_with_gaps(28), 30.0), (irregular(600, 3, 2), 20.0)]
        {
            let kernel = cosine(period);
            let entries = kernel.at(&locations);
            let n = locations.len();
            let tree = KdTree::new(locations.coords(), 0..n);
            let found = eigenpairs(&entries, &tree, 1e-7).unwrap().unwrap();
            assert!(found.values.len() < n / 2 && found.residual > 0.0);
            let k = entries.block(0..n);
            let (exact, _) = eigen(k.as_ref()).unwrap();
            let top = |values: &[f64]| values.iter().rev().take(20).copied().collect::<Vec<_>>();
            for (a, b) in top(&exact).iter().zip(top(&found.values)) {
                assert!((a - b).abs() < 1e-9 * n as f64, "{a} {b}");
            }
            // The sum of the absolute eigenvalues of what is missing is no larger than said.
            let mut missing = k;
            let scaled = Mat::from_fn(n, found.values.len(), |i, j| found.vectors[(i, j)] * found.values[j]);
            matmul(missing.as_mut(), Accum::Add, scaled.as_ref(), found.vectors.transpose(), -1.0, Par::Seq);
            let (values, _) = eigen(missing.as_ref()).unwrap();
            let sum: f64 = values.iter().map(|v| v.abs()).sum();
            assert!(sum <= found.residual, "{sum} {}", found.residual);
        }
    }

    #[test]
    fn likelihoods_are_those_of_the_dense_spectrum() {
        let kernels = [8.0, 11.0, 18.0, 40.0, 200.0].map(cosine);
        for locations in [irregular(900, 2, 1), grid_with_gaps(30), two_samples(600)] {
            let n = locations.len();
            let mut normal = normal(4);
            let noise = [3.0, 1.0, 0.1, 0.01];
            let y = Mat::from_fn(n, 12, |i, g| {
                let x = locations.coords();
                let waves = (x[(i, 0)] / 2.0).sin() + (x[(i, 1)] / 4.0).cos();
                if g < 4 { normal() } else { waves * (g % 3) as f64 + noise[g % 4] * normal() }
            });
            for kernel in kernels {
                let test = |approximation| {
                    SpatialTest::with_groups(&[kernel], &[0], locations.clone(), Request::test(approximation))
                        .unwrap()
                };
                let (exact, low_rank) = (test(Approximation::Exact), test(Approximation::PivotedCholesky));
                assert_eq!(low_rank.models()[0].engine(), "landmarks");
                let fits = exact.fit(y.as_ref()).unwrap().into_iter().zip(low_rank.fit(y.as_ref()).unwrap());
                for (exact, found) in fits {
                    assert_eq!(found.status, Status::Ok);
                    let (a, b) = (exact.best[0].llr, found.best[0].llr);
                    assert!((a - b).abs() <= 1e-5 * (1.0 + a), "{a} {b}");
                }
            }
        }
    }
}
