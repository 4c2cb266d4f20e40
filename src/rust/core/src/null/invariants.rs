//! The invariants of quadratic forms, from a kernel's spectrum.
//!
//! With K = U S Uᵀ on one sample of n locations, H = I - 11ᵀ/n and b = Uᵀ1, there are two kinds of form:
//!
//! - the score at no signal, A = H K H;
//! - the profile likelihood's form at a finite delta, A = H - delta P, where
//!   P = V⁻¹ - V⁻¹11ᵀV⁻¹/1ᵀV⁻¹1 and V = K + delta I. With f = s/(s + delta) and gamma = n - Σ f b² it is
//!   A = Σ f ũ ũᵀ + g gᵀ/gamma, where ũ are the centred eigenvectors and g = Σ f b ũ: of rank r like K.
//!
//! So A = Y Yᵀ with a matrix Y of r or r + 1 columns. Small samples work on A itself; large ones on Y, where
//! all invariants cost O(n r) but Σ aᵢⱼ³, which is estimated from some rows of A.

use super::moments::Invariants;
use crate::kernel::KernelAt;
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, ColRef, Mat, MatRef, Par};
use std::ops::Range;

/// Samples with more locations than this do not form A.
const DENSE_LIMIT: usize = 1000;

/// Kernels with fewer eigenvalues than this form Yᵀ Y.
const GRAM_LIMIT: usize = 300;

/// Rows of A, for large samples, that Σ aᵢⱼ³ is estimated from.
const SAMPLED_ROWS: usize = 1000;

/// The eigenpairs of one sample's block of a kernel.
pub struct SampleSpectrum<'a> {
    /// Kept eigenvalues.
    pub values: &'a [f64],
    /// Centred eigenvectors, n × r.
    pub centred: Mat<f64>,
    /// b = Uᵀ1.
    pub sums: Vec<f64>,
    /// Σ kᵢⱼ³ over j ≠ i for each i, a covariate of the same sums of A's entries; empty for small samples.
    pub kernel_cubes: Vec<f64>,
}

impl<'a> SampleSpectrum<'a> {
    /// From kept eigenvalues and eigenvectors (n × r).
    pub fn new(values: &'a [f64], vectors: MatRef<'_, f64>) -> Self {
        let n = vectors.nrows() as f64;
        let sums: Vec<f64> = vectors.col_iter().map(|u| u.iter().sum()).collect();
        let centred = Mat::from_fn(vectors.nrows(), values.len(), |i, k| vectors[(i, k)] - sums[k] / n);
        Self { values, centred, sums, kernel_cubes: Vec::new() }
    }

    /// With what large samples need of the kernel's own entries; `rows` are the sample's.
    pub fn with_kernel(mut self, kernel: &KernelAt<'_>, rows: Range<usize>) -> Self {
        if self.n() > DENSE_LIMIT {
            let mut cubes = vec![0.0; self.n()];
            for i in 0..self.n() {
                for j in 0..i {
                    let cube = kernel.value(rows.start + i, rows.start + j).powi(3);
                    cubes[i] += cube;
                    cubes[j] += cube;
                }
            }
            self.kernel_cubes = cubes;
        }
        self
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.centred.nrows()
    }

    /// The weights of z² in y'Ay for centred y, z = Uᵀy, and those of z in its square root's cross term (empty
    /// for the score form): `y'Ay = Σ w z² + (Σ c z)²`.
    pub fn weights(&self, delta: f64) -> (Vec<f64>, Vec<f64>) {
        if delta.is_infinite() {
            return (self.values.to_vec(), Vec::new());
        }
        let shrunk: Vec<f64> = self.values.iter().map(|s| s / (s + delta)).collect();
        // n - Σ f b² without its loss of digits where b² is nearly n.
        let spanned: f64 = self.sums.iter().map(|b| b * b).sum();
        let rest = (self.n() as f64 - spanned).max(0.0);
        let kept: f64 = self.values.iter().zip(&self.sums).map(|(s, b)| delta / (s + delta) * b * b).sum();
        let root = (rest + kept).sqrt();
        let cross = shrunk.iter().zip(&self.sums).map(|(f, b)| f * b / root).collect();
        (shrunk, cross)
    }

    /// Y with A = Y Yᵀ.
    fn factor(&self, delta: f64) -> Mat<f64> {
        let (weights, cross) = self.weights(delta);
        let rank = weights.len();
        let mut y = Mat::zeros(self.n(), rank + usize::from(!cross.is_empty()));
        for (k, weight) in weights.iter().enumerate() {
            let root = weight.sqrt();
            for i in 0..self.n() {
                y[(i, k)] = self.centred[(i, k)] * root;
                if !cross.is_empty() {
                    y[(i, rank)] += self.centred[(i, k)] * cross[k];
                }
            }
        }
        y
    }

    /// The form at this delta (infinite: the score form).
    pub fn form(&self, delta: f64) -> Form {
        if self.n() <= DENSE_LIMIT {
            Form::dense(product(self.factor(delta).as_ref()))
        } else if self.values.len() <= GRAM_LIMIT {
            Form::factored(self.factor(delta).as_ref(), &self.kernel_cubes, SAMPLED_ROWS)
        } else {
            self.structured_form(delta, SAMPLED_ROWS)
        }
    }

    /// As [`Form::factored`], with traces in O(r): Yᵀ Y is diagonal but for rank one or two, because
    /// ŨᵀŨ = I - bbᵀ/n. Loses digits where a kernel is nearly constant, which then has few eigenvalues.
    fn structured_form(&self, delta: f64, sampled_rows: usize) -> Form {
        let n = self.n();
        let size = n as f64;
        let (weights, cross) = self.weights(delta);
        // A = Ũ (diag(w) + α e eᵀ) Ũᵀ, A² = Ũ (diag(w²) + α (f eᵀ + e fᵀ) + β e eᵀ) Ũᵀ, with f = w e.
        let score = cross.is_empty();
        let e: Vec<f64> =
            if score { weights.iter().zip(&self.sums).map(|(w, b)| w * b).collect() } else { cross };
        let f: Vec<f64> = weights.iter().zip(&e).map(|(w, e)| w * e).collect();
        let (alpha, beta) = if score {
            (0.0, -1.0 / size)
        } else {
            // e holds a factor 1/√gamma; gamma = n - Σ w b².
            let gamma = size - weights.iter().zip(&self.sums).map(|(w, b)| w * b * b).sum::<f64>();
            (1.0, e.iter().map(|e| e * e).sum::<f64>() - size / gamma)
        };
        let (mut norms, mut inner) = (vec![0.0; n], vec![0.0; n]);
        let (mut along_e, mut along_f) = (vec![0.0; n], vec![0.0; n]);
        for k in 0..weights.len() {
            let (w, column) = (weights[k], self.centred.col_as_slice(k));
            for i in 0..n {
                let u = column[i];
                norms[i] += w * u * u;
                inner[i] += w * w * u * u;
                along_e[i] += e[k] * u;
                along_f[i] += f[k] * u;
            }
        }
        for i in 0..n {
            norms[i] += alpha * along_e[i] * along_e[i];
            inner[i] += along_e[i] * (2.0 * alpha * along_f[i] + beta * along_e[i]);
        }
        let shift = norms.iter().sum::<f64>() / (size - 1.0);
        let square = shift * shift * (size - 1.0);
        let t2 = inner.iter().sum::<f64>() - square;
        let t3 = if score {
            let sum = |p: i32| -> f64 {
                weights.iter().zip(&self.sums).map(|(w, b)| w.powi(p) * b * b / size).sum()
            };
            let cube: f64 = weights.iter().map(|w| w * w * w).sum();
            let trace = cube - 3.0 * sum(3) + 3.0 * sum(2) * sum(1) - sum(1).powi(3);
            trace - 3.0 * shift * t2 - shift * square
        } else {
            // delta·P = Z - Z11ᵀZ/1ᵀZ1, Z = delta V⁻¹, is H - A.
            let zeros = size - weights.len() as f64;
            let rest = size - self.sums.iter().map(|b| b * b).sum::<f64>();
            let trace = |p: i32| weights.iter().map(|w| (1.0 - w).powi(p)).sum::<f64>() + zeros;
            let ones = |p: i32| {
                weights.iter().zip(&self.sums).map(|(w, b)| (1.0 - w).powi(p) * b * b).sum::<f64>() + rest
            };
            let (g1, g2, g3, g4) = (ones(1), ones(2), ones(3), ones(4));
            let p1 = trace(1) - g2 / g1;
            let p2 = trace(2) - 2.0 * g3 / g1 + (g2 / g1).powi(2);
            let p3 = trace(3) - 3.0 * g4 / g1 + 3.0 * g2 * g3 / (g1 * g1) - (g2 / g1).powi(3);
            let mean = p1 / (size - 1.0);
            -(p3 - 3.0 * mean * p2 + 2.0 * mean.powi(3) * (size - 1.0))
        };
        let y = self.factor(delta);
        let cubes = off_diagonal_cubes(y.as_ref(), shift, [&norms, &inner, &self.kernel_cubes], sampled_rows);
        Form::from_diagonals(y.as_ref(), shift, [t2, t3], &norms, &inner, cubes)
    }

    /// Some rows of the score form, with zero trace: rows × n.
    pub fn score_rows(&self, rows: &[usize], shift: f64) -> Mat<f64> {
        let y = self.factor(f64::INFINITY);
        traceless_rows(y.as_ref(), rows, shift)
    }

    /// The eigenvalues of H K H besides zeros: between those of K, as roots of
    /// 1 = Σ s b²/n / (s - λ).
    pub fn centred_values(&self) -> Vec<f64> {
        let n = self.n() as f64;
        let mut pairs: Vec<(f64, f64)> =
            self.values.iter().zip(&self.sums).map(|(s, b)| (*s, s * b * b / n)).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        (0..pairs.len())
            .map(|k| {
                let (mut low, mut high) = (pairs.get(k + 1).map_or(0.0, |p| p.0), pairs[k].0);
                // Positive below the root.
                let secular = |x: f64| 1.0 - pairs.iter().map(|(s, v)| v / (s - x)).sum::<f64>();
                while high - low > 1e-13 * high {
                    let middle = 0.5 * (low + high);
                    if middle <= low || middle >= high {
                        break;
                    }
                    if secular(middle) > 0.0 {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
                0.5 * (low + high)
            })
            .collect()
    }
}

/// A form's traceless part, A - shift·H, through its invariants.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// tr A / (n - 1): the mean of y'Ay over permutations is shift · y'y.
    pub shift: f64,
    /// The invariants of A - shift·H.
    pub invariants: Invariants,
}

impl Form {
    /// From A itself; its rows sum to zero.
    pub fn dense(mut a: Mat<f64>) -> Self {
        let n = a.nrows();
        let shift = (0..n).map(|i| a[(i, i)]).sum::<f64>() / (n as f64 - 1.0);
        make_traceless(&mut a, &(0..n).collect::<Vec<_>>(), shift);
        let mut square = Mat::zeros(n, n);
        lower_product(&mut square, a.as_ref(), a.as_ref());

        let diagonal: Vec<f64> = (0..n).map(|i| a[(i, i)]).collect();
        let mut inv = Invariants { n: n as f64, t2: 0.0, t3: 0.0, s2: 0.0, s3: 0.0, u: 0.0, r: 0.0, b: 0.0 };
        for j in 0..n {
            let (d, column) = (diagonal[j], a.col_as_slice(j));
            let (mut cubes, mut third, mut weighted) = (0.0, 0.0, 0.0);
            for (i, x) in column.iter().enumerate().skip(j + 1) {
                cubes += x * x * x;
                third += x * square[(i, j)];
                weighted += x * diagonal[i];
            }
            inv.t2 += square[(j, j)];
            inv.t3 += 2.0 * third + d * square[(j, j)];
            inv.s2 += d * d;
            inv.s3 += d * d * d;
            inv.u += 2.0 * cubes + d * d * d;
            inv.r += d * square[(j, j)];
            inv.b += d * (2.0 * weighted + d * d);
        }
        Self { shift, invariants: inv }
    }

    /// From Y with A = Y Yᵀ: O(n r²), and Σ aᵢⱼ³ from some rows.
    fn factored(y: MatRef<'_, f64>, kernel_cubes: &[f64], sampled_rows: usize) -> Self {
        let (n, rank) = y.shape();
        let mut gram = Mat::zeros(rank, rank);
        lower_product(&mut gram, y.transpose(), y);
        mirror(&mut gram);
        // (A²)ᵢᵢ = yᵢ'(gram)yᵢ.
        let mut product = Mat::zeros(n, rank);
        matmul(product.as_mut(), Accum::Replace, y, gram.as_ref(), 1.0, Par::Seq);
        let (mut norms, mut inner) = (vec![0.0; n], vec![0.0; n]);
        for k in 0..rank {
            for i in 0..n {
                norms[i] += y[(i, k)] * y[(i, k)];
                inner[i] += y[(i, k)] * product[(i, k)];
            }
        }
        // On the n - 1 dimensions of centred vectors A has the eigenvalues of the Gram matrix, and zeros.
        let shift = (0..rank).map(|k| gram[(k, k)]).sum::<f64>() / (n as f64 - 1.0);
        for k in 0..rank {
            gram[(k, k)] -= shift;
        }
        let zeros = n as f64 - 1.0 - rank as f64;
        let t2 = dot(gram.as_ref(), gram.as_ref()) + zeros * shift * shift;
        let mut square = Mat::zeros(rank, rank);
        lower_product(&mut square, gram.as_ref(), gram.as_ref());
        mirror(&mut square);
        let t3 = dot(gram.as_ref(), square.as_ref()) - zeros * shift * shift * shift;
        let cubes = off_diagonal_cubes(y, shift, [&norms, &inner, kernel_cubes], sampled_rows);
        Self::from_diagonals(y, shift, [t2, t3], &norms, &inner, cubes)
    }

    /// From Y with A = Y Yᵀ, tr A/(n - 1), t2 and t3, the diagonals of A and A², and Σ aᵢⱼ³ over i ≠ j of the
    /// traceless part.
    fn from_diagonals(
        y: MatRef<'_, f64>,
        shift: f64,
        [t2, t3]: [f64; 2],
        diagonal: &[f64],
        square_diagonal: &[f64],
        off_diagonal_cubes: f64,
    ) -> Self {
        let size = y.nrows() as f64;
        let own = shift * (1.0 - 1.0 / size);
        let traceless: Vec<f64> = diagonal.iter().map(|a| a - own).collect();
        let (mut s2, mut s3, mut r) = (0.0, 0.0, 0.0);
        for ((d, a), square) in traceless.iter().zip(diagonal).zip(square_diagonal) {
            s2 += d * d;
            s3 += d * d * d;
            r += d * (square - 2.0 * shift * a + shift * own);
        }
        let along = |column: ColRef<'_, f64>| column.iter().zip(&traceless).map(|(v, d)| v * d).sum::<f64>();
        let b = y.col_iter().map(|column| along(column).powi(2)).sum::<f64>() - shift * s2;
        let u = s3 + off_diagonal_cubes;
        Self { shift, invariants: Invariants { n: size, t2, t3, s2, s3, u, r, b } }
    }
}

/// Σ aᵢⱼ³ over i ≠ j of Y Yᵀ - shift·H, from `count` of its rows.
///
/// A quarter of them are those whose sums of the kernel's own cubes are largest (close neighbours), the others
/// are spread over the rest, where the rows' sums are regressed on what is known of all rows: the diagonals of
/// Y Yᵀ and of its square, their squares, and the kernel's sums.
fn off_diagonal_cubes(
    y: MatRef<'_, f64>,
    shift: f64,
    [diagonal, square_diagonal, kernel_cubes]: [&[f64]; 3],
    count: usize,
) -> f64 {
    let n = y.nrows();
    let own = shift * (1.0 - 1.0 / n as f64);
    let row_sums = |rows: &[usize]| {
        let mut sums = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(128) {
            let block = traceless_rows(y, chunk, shift);
            let mut cubes = vec![0.0; chunk.len()];
            for j in 0..n {
                for (sum, x) in cubes.iter_mut().zip(block.col_as_slice(j)) {
                    *sum += x * x * x;
                }
            }
            sums.extend(cubes.iter().zip(chunk).map(|(sum, &i)| sum - (diagonal[i] - own).powi(3)));
        }
        sums
    };
    if n <= count {
        return row_sums(&(0..n).collect::<Vec<_>>()).iter().sum();
    }

    let mut order: Vec<usize> = (0..n).collect();
    if !kernel_cubes.is_empty() {
        order.sort_by(|&i, &j| kernel_cubes[j].total_cmp(&kernel_cubes[i]));
    }
    let (close, rest) = order.split_at_mut(if kernel_cubes.is_empty() { 0 } else { count / 4 });
    rest.sort_unstable();
    let sampled = spread_rows(rest.len(), count - close.len());
    let sampled_sums = row_sums(&sampled.iter().map(|&i| rest[i]).collect::<Vec<_>>());

    let some = |values: &[f64]| standardised(rest.iter().filter_map(|&i| values.get(i).copied()).collect());
    let (d, e, k) = (some(diagonal), some(square_diagonal), some(kernel_cubes));
    let covariates = |i: usize| [1.0, d[i], d[i] * d[i], e[i], e[i] * e[i], k.get(i).copied().unwrap_or(0.0)];
    let mut normal = [[0.0; COVARIATES + 1]; COVARIATES];
    for (i, sum) in sampled.into_iter().zip(sampled_sums) {
        let x = covariates(i);
        for (row, v) in normal.iter_mut().zip(x) {
            for (cell, w) in row.iter_mut().zip(x.iter().chain([&sum])) {
                *cell += v * w;
            }
        }
    }
    let slopes = solve_symmetric(normal);
    let mut totals = [0.0; COVARIATES];
    for i in 0..rest.len() {
        for (total, v) in totals.iter_mut().zip(covariates(i)) {
            *total += v;
        }
    }
    let estimate: f64 = slopes.iter().zip(totals).map(|(slope, total)| slope * total).sum();
    row_sums(close).iter().sum::<f64>() + estimate
}

/// Centred and scaled to a standard deviation of one; zeros where nothing varies.
fn standardised(values: Vec<f64>) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.iter().map(|v| if sd > 1e-12 * mean.abs() { (v - mean) / sd } else { 0.0 }).collect()
}

/// Covariates of a row's sum of cubes.
const COVARIATES: usize = 6;

/// Solves a semidefinite system by elimination; coefficients without information are zero.
fn solve_symmetric(mut m: [[f64; COVARIATES + 1]; COVARIATES]) -> [f64; COVARIATES] {
    let scale: [f64; COVARIATES] = std::array::from_fn(|k| m[k][k]);
    let mut used = [false; COVARIATES];
    for k in 0..COVARIATES {
        if m[k][k] <= 1e-9 * scale[k] {
            continue;
        }
        used[k] = true;
        let pivot = m[k];
        for (i, row) in m.iter_mut().enumerate() {
            if i != k {
                let factor = row[k] / pivot[k];
                row.iter_mut().zip(pivot).for_each(|(cell, p)| *cell -= factor * p);
            }
        }
    }
    std::array::from_fn(|k| if used[k] { m[k][COVARIATES] / m[k][k] } else { 0.0 })
}

/// At most `count` of n rows, spread evenly by multiples of the golden ratio; all, in order, where n is not larger.
pub fn spread_rows(n: usize, count: usize) -> Vec<usize> {
    if n <= count {
        return (0..n).collect();
    }
    let golden = 0.5 * (5f64.sqrt() - 1.0);
    let mut taken = vec![false; n];
    let mut position = 0.5_f64;
    let mut left = count;
    while left > 0 {
        position = (position + golden).fract();
        let row = ((position * n as f64) as usize).min(n - 1);
        if !taken[row] {
            taken[row] = true;
            left -= 1;
        }
    }
    (0..n).filter(|&i| taken[i]).collect()
}

/// Rows of Y Yᵀ - shift·H.
fn traceless_rows(y: MatRef<'_, f64>, rows: &[usize], shift: f64) -> Mat<f64> {
    let some = Mat::from_fn(rows.len(), y.ncols(), |i, k| y[(rows[i], k)]);
    let mut block = Mat::zeros(rows.len(), y.nrows());
    matmul(block.as_mut(), Accum::Replace, some.as_ref(), y.transpose(), 1.0, Par::Seq);
    make_traceless(&mut block, rows, shift);
    block
}

/// Takes shift·H off rows of a matrix.
pub fn make_traceless(a: &mut Mat<f64>, rows: &[usize], shift: f64) {
    let off = shift / a.ncols() as f64;
    for j in 0..a.ncols() {
        a.col_as_slice_mut(j).iter_mut().for_each(|x| *x += off);
    }
    for (i, &row) in rows.iter().enumerate() {
        a[(i, row)] -= shift;
    }
}

/// Y Yᵀ.
fn product(y: MatRef<'_, f64>) -> Mat<f64> {
    let mut a = Mat::zeros(y.nrows(), y.nrows());
    lower_product(&mut a, y, y.transpose());
    mirror(&mut a);
    a
}

/// The lower triangle of a symmetric product.
fn lower_product(out: &mut Mat<f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    use triangular::BlockStructure::{Rectangular, TriangularLower};
    triangular::matmul(
        out.as_mut(),
        TriangularLower,
        Accum::Replace,
        left,
        Rectangular,
        right,
        Rectangular,
        1.0,
        Par::Seq,
    );
}

/// Copies the lower triangle to the upper.
fn mirror(a: &mut Mat<f64>) {
    for j in 0..a.ncols() {
        for i in j + 1..a.nrows() {
            a[(j, i)] = a[(i, j)];
        }
    }
}

/// Σ aᵢⱼ bᵢⱼ.
pub fn dot(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    let column = |j| a.col(j).iter().zip(b.col(j).iter()).map(|(x, y)| x * y).sum::<f64>();
    (0..a.ncols()).map(column).sum()
}

#[cfg(test)]
mod tests {
    use super::super::moments::{Cumulants, Sums};
    use super::*;
    use crate::{Kernel, Locations, Spectrum};
    use faer::prelude::*;

    /// Irregular points in the unit square (additive recurrence), two of them the same.
    fn points(n: usize) -> Locations {
        let at = |i: usize, step: f64| (0.5 + i as f64 * step).fract();
        let coords =
            Mat::from_fn(n, 2, |i, k| at(i.max(1), [0.754_877_666_246_692_7, 0.569_840_290_998_053_3][k]));
        Locations::new(coords.as_ref()).unwrap()
    }

    fn assert_same(got: &Form, expected: &Form, tolerance: f64, what: &str) {
        let (a, b) = (&got.invariants, &expected.invariants);
        // Each invariant against its natural size: powers of the root of t2.
        let size = b.t2.sqrt();
        let errors = [
            (got.shift - expected.shift) / expected.shift,
            (a.t2 - b.t2) / b.t2,
            (a.t3 - b.t3) / size.powi(3),
            (a.s2 - b.s2) / b.s2,
            (a.s3 - b.s3) / b.s2.powf(1.5),
            (a.u - b.u) / size.powi(3),
            (a.r - b.r) / size.powi(3),
            (a.b - b.b) / size.powi(3),
        ];
        assert!(errors.iter().all(|e| e.abs() < tolerance), "{what}: {errors:?}");
    }

    #[test]
    fn all_ways_to_the_invariants_agree() {
        let locations = points(150);
        let kernels = [
            (Kernel::SquaredExponential { lengthscale: 0.02 }, 1e-9),
            (Kernel::SquaredExponential { lengthscale: 0.15 }, 1e-9),
            (Kernel::SquaredExponential { lengthscale: 2.0 }, 1e-9),
            // Nearly constant: the structured way is not used there.
            (Kernel::SquaredExponential { lengthscale: 100.0 }, f64::INFINITY),
            (Kernel::Cosine { period: 0.4 }, 1e-9),
            (Kernel::Linear, 1e-9),
        ];
        for (kernel, structured) in kernels {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let sample = SampleSpectrum::new(spectrum.values(), spectrum.blocks()[0].vectors());
            for delta in [f64::INFINITY, 10.0, 0.1] {
                let what = format!("{kernel:?} at {delta}");
                let y = sample.factor(delta);
                let dense = Form::dense(product(y.as_ref()));
                assert_same(&Form::factored(y.as_ref(), &[], 150), &dense, 1e-9, &what);
                assert_same(&sample.structured_form(delta, 150), &dense, structured, &what);
            }
        }
    }

    #[test]
    fn forms_are_those_of_the_definition() {
        // A = H K H, and H - delta P, entry by entry from K's inverse.
        let locations = points(40);
        let n = 40;
        let h = Mat::from_fn(n, n, |i, j| f64::from(i == j) - 1.0 / n as f64);
        for kernel in [Kernel::SquaredExponential { lengthscale: 0.3 }, Kernel::Linear] {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let sample = SampleSpectrum::new(spectrum.values(), spectrum.blocks()[0].vectors());
            let k = kernel.at(&locations).block(0..n);
            for delta in [f64::INFINITY, 10.0, 1.0] {
                let expected = if delta.is_infinite() {
                    &h * &k * &h
                } else {
                    let v = Mat::from_fn(n, n, |i, j| k[(i, j)] + if i == j { delta } else { 0.0 });
                    let inverse = v.partial_piv_lu().solve(Mat::<f64>::identity(n, n));
                    let sums: Vec<f64> = (0..n).map(|i| (0..n).map(|j| inverse[(i, j)]).sum()).collect();
                    let total: f64 = sums.iter().sum();
                    Mat::from_fn(n, n, |i, j| {
                        h[(i, j)] - delta * (inverse[(i, j)] - sums[i] * sums[j] / total)
                    })
                };
                let got = product(sample.factor(delta).as_ref());
                assert!((&got - &expected).norm_max() < 1e-12, "{kernel:?} at {delta}");
                // And y'Ay from z.
                let mut y = Mat::from_fn(n, 1, |i, _| ((i * i) as f64).sin());
                let mean = y.col(0).iter().sum::<f64>() / n as f64;
                (0..n).for_each(|i| y[(i, 0)] -= mean);
                let mut z = Mat::zeros(spectrum.rank(), 1);
                spectrum.project(y.as_ref(), z.as_mut());
                let (squares, cross) = sample.weights(delta);
                let mut q: f64 = squares.iter().enumerate().map(|(i, w)| w * z[(i, 0)] * z[(i, 0)]).sum();
                q += cross.iter().enumerate().map(|(i, c)| c * z[(i, 0)]).sum::<f64>().powi(2);
                let direct = (y.transpose() * &expected * &y)[(0, 0)];
                assert!((q - direct).abs() < 1e-11 * direct, "{kernel:?} at {delta}: {q} {direct}");
            }
        }
    }

    #[test]
    fn sampled_rows_give_the_skewness() {
        let n = 1200;
        let locations = points(n);
        // Genes in 3, 30 and nearly all spots.
        let genes = [3, 30, n].map(|count| {
            let mut y: Vec<f64> =
                (0..n).map(|i| if i < count { 1.0 + (0.1 * i as f64).sin() } else { 0.0 }).collect();
            let mean = y.iter().sum::<f64>() / n as f64;
            y.iter_mut().for_each(|v| *v -= mean);
            Sums::new(&y).0
        });
        for lengthscale in [0.02, 0.05, 0.3] {
            let kernel = Kernel::SquaredExponential { lengthscale };
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let sample = SampleSpectrum::new(spectrum.values(), spectrum.blocks()[0].vectors())
                .with_kernel(&kernel.at(&locations), 0..n);
            for delta in [f64::INFINITY, 1.0] {
                let cumulants = |rows| Cumulants::new(&sample.structured_form(delta, rows).invariants);
                let (exact, sampled) = (cumulants(n), cumulants(n / 4));
                for gene in &genes {
                    let error = (sampled.third(gene) - exact.third(gene)) / exact.variance(gene).powf(1.5);
                    let skewness = exact.third(gene) / exact.variance(gene).powf(1.5);
                    println!("l {lengthscale}, delta {delta}: {skewness} {error:e}");
                    assert!(error.abs() < 0.003 * skewness);
                }
            }
        }
    }

    #[test]
    fn centred_eigenvalues_are_those_of_the_matrix() {
        let locations = points(60);
        for kernel in [Kernel::SquaredExponential { lengthscale: 0.1 }, Kernel::Linear] {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let sample = SampleSpectrum::new(spectrum.values(), spectrum.blocks()[0].vectors());
            let a = product(sample.factor(f64::INFINITY).as_ref());
            let (mut expected, _) = crate::spectrum::eigen(a.as_ref()).unwrap();
            expected.reverse();
            for (got, value) in sample.centred_values().iter().zip(&expected) {
                assert!((got - value).abs() < 1e-9 * expected[0], "{kernel:?}: {got} {value}");
            }
        }
    }
}
