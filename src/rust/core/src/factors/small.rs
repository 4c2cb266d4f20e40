//! Matrices with a few columns: products, orthonormal columns, solves of the size of the number of factors.

use crate::eigen::eigen;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};

/// A B in one thread, so that its bits do not depend on how many there are.
pub(crate) fn times(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// x'y in eight interleaved sums, so that it vectorises and the order is fixed.
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let whole = x.len() / LANES * LANES;
    for (x, y) in x[..whole].chunks_exact(LANES).zip(y[..whole].chunks_exact(LANES)) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    for (x, y) in x[whole..].iter().zip(&y[whole..]) {
        sums[0] += x * y;
    }
    sums.iter().sum()
}

/// y += a x.
pub(crate) fn add(y: &mut [f64], a: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// A' diag(w) B, with a column for each of B's.
pub(crate) fn weighted_gram(a: MatRef<'_, f64>, w: &[f64], b: MatRef<'_, f64>) -> Mat<f64> {
    Mat::from_fn(a.ncols(), b.ncols(), |i, j| {
        a.col(i).iter().zip(b.col(j).iter()).zip(w).map(|((a, b), w)| a * b * w).sum()
    })
}

/// A' A.
pub(crate) fn gram(a: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.ncols(), a.ncols(), |i, j| dot(a.col_as_slice(i.min(j)), a.col_as_slice(i.max(j))))
}

/// Orthonormal columns that span those of A, and of `beside` none, by Gram-Schmidt done twice. Columns that depend on
/// those before become zero.
pub(crate) fn orthonormalise(a: &mut Mat<f64>, beside: Option<&Mat<f64>>) {
    for k in 0..a.ncols() {
        let mut column = a.col_as_slice(k).to_vec();
        let start = dot(&column, &column).sqrt();
        for _ in 0..2 {
            for j in 0..beside.map_or(0, |b| b.ncols()) {
                let other = beside.map_or(&[][..], |b| b.col_as_slice(j));
                let along = dot(&column, other);
                add(&mut column, -along, other);
            }
            for j in 0..k {
                let along = dot(&column, a.col_as_slice(j));
                add(&mut column, -along, a.col_as_slice(j));
            }
        }
        let norm = dot(&column, &column).sqrt();
        let scale = if norm > 1e-10 * start { 1.0 / norm } else { 0.0 };
        a.col_as_slice_mut(k).iter_mut().zip(&column).for_each(|(a, x)| *a = x * scale);
    }
}

/// Eigenvalues in decreasing order, with their vectors as columns.
pub(crate) fn eigen_decreasing(a: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let (values, vectors) = eigen(a)?;
    let n = values.len();
    let turned = Mat::from_fn(n, n, |i, j| vectors[(i, n - 1 - j)]);
    Some((values.into_iter().rev().collect(), turned))
}

/// f(A) of a symmetric matrix; `None` if its eigenvalues do not converge.
pub(crate) fn function(a: MatRef<'_, f64>, f: impl Fn(f64) -> f64) -> Option<Mat<f64>> {
    let (values, vectors) = eigen(a)?;
    let n = values.len();
    let values: Vec<f64> = values.into_iter().map(f).collect();
    Some(Mat::from_fn(n, n, |i, j| (0..n).map(|k| vectors[(i, k)] * values[k] * vectors[(j, k)]).sum()))
}

/// A⁻¹ of a symmetric positive semidefinite matrix, in the directions where it has one.
pub(crate) fn inverse(a: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let largest = (0..a.nrows()).map(|i| a[(i, i)]).fold(0.0, f64::max);
    function(a, |x| if x > 1e-12 * largest { 1.0 / x } else { 0.0 })
}
