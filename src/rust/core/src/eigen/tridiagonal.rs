//! The tridiagonal form of a symmetric matrix, panel by panel, with a look for interrupts between them.
//!
//! Householder reflections, of which a panel's are applied to the rest of the matrix at once, as a product of thin matrices
//! (Dongarra, Sorensen & Hammarling 1989): half of the work reads the matrix once and writes nothing.

use crate::error::Result;
use crate::interrupt;
use crate::simd::{dot, vectorized};
use faer::diag::{Diag, DiagRef};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Reflections in a panel.
const PANEL: usize = 32;

/// Columns of the matrix that are multiplied at once.
const TOGETHER: usize = 4;

/// Lanes of the sums below, which fix their order whatever the hardware.
const LANES: usize = 8;

/// `K = Q T Qᵀ`, with Q a product of reflections.
pub(super) struct Tridiagonal {
    /// Column j has the vector of reflection j from row j + 1 on.
    reflections: Mat<f64>,
    /// Reflection j is `I - scale v vᵀ`.
    scales: Vec<f64>,
    diagonal: Diag<f64>,
    off_diagonal: Diag<f64>,
}

impl Tridiagonal {
    /// From a symmetric matrix, of which the lower triangle is read. In two parts, whatever the number of threads.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn new(mut k: Mat<f64>) -> Result<Self> {
        let n = k.nrows();
        let (mut diagonal, mut off_diagonal) = (Diag::zeros(n), Diag::zeros(n.saturating_sub(1)));
        let mut scales = Vec::with_capacity(n);
        // What the panel's reflections do to the rest of the matrix: k - v wᵀ - w vᵀ.
        let mut w = Mat::<f64>::zeros(n, PANEL);
        for from in (0..n).step_by(PANEL) {
            interrupt::check()?;
            let to = (from + PANEL).min(n);
            for j in from..to {
                let mut column = k.col_as_slice(j)[j..].to_vec();
                for q in from..j {
                    let (v, w) = (&k.col_as_slice(q)[j..], &w.col_as_slice(q - from)[j..]);
                    add(&mut column, -w[0], v, -v[0], w);
                }
                diagonal[j] = column[0];
                if j + 1 == n {
                    break;
                }
                let (v, scale, length) = reflection(&column[1..]);
                off_diagonal[j] = length;
                let mut own = times(&k, j + 1, &v);
                for q in from..j {
                    let (before, its) = (&k.col_as_slice(q)[j + 1..], &w.col_as_slice(q - from)[j + 1..]);
                    add(&mut own, -dot(its, &v), before, -dot(before, &v), its);
                }
                let along = -0.5 * scale * scale * dot(&own, &v);
                own.iter_mut().zip(&v).for_each(|(own, v)| *own = scale * *own + along * v);
                w.col_as_slice_mut(j - from)[j + 1..].copy_from_slice(&own);
                k.col_as_slice_mut(j)[j + 1..].copy_from_slice(&v);
                scales.push(scale);
            }
            let (done, rest) = k.as_mut().split_at_col_mut(to);
            let mut rest = rest.subrows_mut(to, n - to);
            let count = to - from;
            let (v, w) =
                (done.as_ref().submatrix(to, from, n - to, count), w.submatrix(to, 0, n - to, count));
            let (left, right) = (beside(v, w), beside(w, v));
            triangular::matmul(
                rest.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                left.as_ref(),
                BlockStructure::Rectangular,
                right.transpose(),
                BlockStructure::Rectangular,
                -1.0,
                Par::rayon(2),
            );
        }
        Ok(Self { reflections: k, scales, diagonal, off_diagonal })
    }

    /// T's diagonal.
    pub fn diagonal(&self) -> DiagRef<'_, f64> {
        self.diagonal.as_ref()
    }

    /// What is below it.
    pub fn off_diagonal(&self) -> DiagRef<'_, f64> {
        self.off_diagonal.as_ref()
    }

    /// Q times a matrix, in its place.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn turn_back(&self, mut u: MatMut<'_, f64>) -> Result<()> {
        let n = self.reflections.nrows();
        let par = Par::rayon(2);
        for from in (0..self.scales.len()).step_by(PANEL).rev() {
            interrupt::check()?;
            let count = PANEL.min(self.scales.len() - from);
            let rows = n - from - 1;
            let v = Mat::from_fn(rows, count, |i, j| {
                if i >= j { self.reflections[(from + 1 + i, from + j)] } else { 0.0 }
            });
            // The product of the reflections is I - V S Vᵀ, with S upper triangular.
            let gram = v.transpose() * &v;
            let mut s = Mat::<f64>::zeros(count, count);
            for j in 0..count {
                let scale = self.scales[from + j];
                for i in 0..j {
                    s[(i, j)] = -scale * (i..j).map(|m| s[(i, m)] * gram[(m, j)]).sum::<f64>();
                }
                s[(j, j)] = scale;
            }
            let mut own = u.as_mut().subrows_mut(from + 1, rows);
            let mut along = Mat::zeros(count, own.ncols());
            matmul(along.as_mut(), Accum::Replace, v.transpose(), own.as_ref(), 1.0, par);
            let turned = &s * &along;
            matmul(own.as_mut(), Accum::Add, v.as_ref(), turned.as_ref(), -1.0, par);
        }
        Ok(())
    }
}

/// Two matrices of as many columns as one.
fn beside(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let (rows, count) = a.shape();
    Mat::from_fn(rows, 2 * count, |i, j| if j < count { a[(i, j)] } else { b[(i, j - count)] })
}

/// The reflection that takes a vector to a multiple of the first axis: its vector, whose first entry is 1, its scale, and
/// the multiple.
fn reflection(x: &[f64]) -> (Vec<f64>, f64, f64) {
    let rest = dot(&x[1..], &x[1..]);
    let mut v = x.to_vec();
    v[0] = 1.0;
    if rest == 0.0 {
        return (v, 0.0, x[0]);
    }
    let length = -(x[0] * x[0] + rest).sqrt().copysign(x[0]);
    v[1..].iter_mut().for_each(|v| *v /= x[0] - length);
    (v, (length - x[0]) / length, length)
}

/// The product of the matrix's part from row and column `from` on with a vector; the lower triangle is read.
fn times(k: &Mat<f64>, from: usize, x: &[f64]) -> Vec<f64> {
    let m = x.len();
    // Two parts of about the same number of entries.
    let middle = (m as f64 * (1.0 - 0.5_f64.sqrt())) as usize / TOGETHER * TOGETHER;
    let part = |columns: std::ops::Range<usize>| {
        let mut y = vec![0.0; m];
        let column = |j: usize| &k.col_as_slice(from + j)[from..];
        vectorized!({
            let mut j = columns.start;
            while j + TOGETHER <= columns.end {
                let below = j + TOGETHER;
                let own: [&[f64]; TOGETHER] = std::array::from_fn(|c| column(j + c));
                for (c, own) in own.iter().enumerate() {
                    y[j + c] += own[j + c] * x[j + c];
                    for i in j + c + 1..below {
                        y[i] += own[i] * x[j + c];
                        y[j + c] += own[i] * x[i];
                    }
                }
                let along = std::array::from_fn(|c| x[j + c]);
                let sums = add_and_dot(&mut y[below..], own.map(|own| &own[below..]), along, &x[below..]);
                y[j..below].iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
                j = below;
            }
            for j in j..columns.end {
                let own = column(j);
                y[j] += own[j] * x[j];
                let [sum] = add_and_dot(&mut y[j + 1..], [&own[j + 1..]], [x[j]], &x[j + 1..]);
                y[j] += sum;
            }
        });
        y
    };
    let (mut first, second) = rayon::join(|| part(0..middle), || part(middle..m));
    first.iter_mut().zip(second).for_each(|(a, b)| *a += b);
    first
}

/// `y += Σ a x` over columns a, and the product of each column with another vector: every entry of y and of the other
/// vector is read once for all columns.
#[inline(always)]
fn add_and_dot<const C: usize>(y: &mut [f64], a: [&[f64]; C], x: [f64; C], other: &[f64]) -> [f64; C] {
    let n = y.len();
    let whole = n / LANES * LANES;
    let mut lanes = [[0.0; LANES]; C];
    let (other, a) = (&other[..n], a.map(|a| &a[..n]));
    for from in (0..whole).step_by(LANES) {
        let at = from..from + LANES;
        let (y, other) = (&mut y[at.clone()], &other[at.clone()]);
        for c in 0..C {
            let a = &a[c][at.clone()];
            for k in 0..LANES {
                y[k] += a[k] * x[c];
                lanes[c][k] += a[k] * other[k];
            }
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().sum::<f64>());
    for i in whole..n {
        for c in 0..C {
            y[i] += a[c][i] * x[c];
            sums[c] += a[c][i] * other[i];
        }
    }
    sums
}

/// `y += a u + b v`.
fn add(y: &mut [f64], a: f64, u: &[f64], b: f64, v: &[f64]) {
    y.iter_mut().zip(u).zip(v).for_each(|((y, u), v)| *y += a * u + b * v);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::uniform;

    #[test]
    fn the_form_turned_back_is_the_matrix() {
        for n in [1, 2, 3, 31, 32, 33, 34, 64, 100] {
            let mut uniform = uniform(n as u64);
            let x = Mat::from_fn(n, n, |_, _| uniform() - 0.5);
            let k = &x + x.transpose();
            let form = Tridiagonal::new(k.clone()).unwrap();
            let mut back = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
                0 => form.diagonal()[i],
                1 => form.off_diagonal()[i.min(j)],
                _ => 0.0,
            });
            form.turn_back(back.as_mut()).unwrap();
            // Q T, and from the other side.
            let mut back = back.transpose().to_owned();
            form.turn_back(back.as_mut()).unwrap();
            assert!((back - &k).norm_max() < 1e-13 * n as f64, "{n}");
        }
    }

    #[test]
    fn a_diagonal_matrix_stays_as_it_is() {
        let k = Mat::from_fn(40, 40, |i, j| if i == j { i as f64 } else { 0.0 });
        let form = Tridiagonal::new(k).unwrap();
        assert!((0..40).all(|i| form.diagonal()[i] == i as f64));
        assert!((0..39).all(|i| form.off_diagonal()[i] == 0.0));
    }
}
