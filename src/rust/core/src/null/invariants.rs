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
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, Mat, MatRef, Par};

/// Samples with more locations than this do not form A.
const DENSE_LIMIT: usize = 1000;

/// Rows of A, for large samples, that Σ aᵢⱼ³ is estimated from.
const SAMPLED_ROWS: usize = 2000;

/// The eigenpairs of one sample's block of a kernel.
pub struct SampleSpectrum<'a> {
    /// Kept eigenvalues.
    pub values: &'a [f64],
    /// Centred eigenvectors, n × r.
    pub centred: Mat<f64>,
    /// b = Uᵀ1.
    pub sums: Vec<f64>,
}

impl<'a> SampleSpectrum<'a> {
    /// From kept eigenvalues and eigenvectors (n × r).
    pub fn new(values: &'a [f64], vectors: MatRef<'_, f64>) -> Self {
        let n = vectors.nrows() as f64;
        let sums: Vec<f64> = vectors.col_iter().map(|u| u.iter().sum()).collect();
        let centred = Mat::from_fn(vectors.nrows(), values.len(), |i, k| vectors[(i, k)] - sums[k] / n);
        Self { values, centred, sums }
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
        let y = self.factor(delta);
        if self.n() <= DENSE_LIMIT { Form::dense(product(y.as_ref())) } else { Form::factored(y.as_ref()) }
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

    /// From Y with A = Y Yᵀ: all in O(n r²) at most, Σ aᵢⱼ³ from some rows.
    fn factored(y: MatRef<'_, f64>) -> Self {
        let (n, rank) = y.shape();
        let size = n as f64;
        let mut gram = Mat::zeros(rank, rank);
        lower_product(&mut gram, y.transpose(), y);
        mirror(&mut gram);
        let shift = (0..rank).map(|k| gram[(k, k)]).sum::<f64>() / (size - 1.0);

        // On the n - 1 dimensions of centred vectors A has the eigenvalues of the Gram matrix, and zeros.
        // Powers of (gram - shift), and of -shift for the zeros, have no cancellation.
        for k in 0..rank {
            gram[(k, k)] -= shift;
        }
        let zeros = size - 1.0 - rank as f64;
        let t2 = squares(gram.as_ref()) + zeros * shift * shift;
        let mut gram_square = Mat::zeros(rank, rank);
        lower_product(&mut gram_square, gram.as_ref(), gram.as_ref());
        mirror(&mut gram_square);
        let t3 = dot(gram.as_ref(), gram_square.as_ref()) - zeros * shift * shift * shift;

        // aᵢᵢ = |yᵢ|² - shift (1 - 1/n); (A²)ᵢᵢ = yᵢ'(gram)yᵢ - 2 shift |yᵢ|² + shift² (1 - 1/n), and the gram
        // above is less one shift already.
        let mut product = Mat::zeros(n, rank);
        matmul(product.as_mut(), Accum::Replace, y, gram.as_ref(), 1.0, Par::Seq);
        let own = shift * (1.0 - 1.0 / size);
        let mut norms = vec![0.0; n];
        let mut inner = vec![0.0; n];
        for k in 0..rank {
            for i in 0..n {
                norms[i] += y[(i, k)] * y[(i, k)];
                inner[i] += y[(i, k)] * product[(i, k)];
            }
        }
        let diagonal: Vec<f64> = norms.iter().map(|v| v - own).collect();
        let (mut s2, mut s3, mut r) = (0.0, 0.0, 0.0);
        for i in 0..n {
            let d = diagonal[i];
            s2 += d * d;
            s3 += d * d * d;
            r += d * (inner[i] - shift * norms[i] + shift * own);
        }
        let along: f64 = y
            .col_iter()
            .map(|column| {
                let sum: f64 = column.iter().zip(&diagonal).map(|(v, d)| v * d).sum();
                sum * sum
            })
            .sum();
        let b = along - shift * s2;
        let u = s3 + off_diagonal_cubes(y, &diagonal, shift);
        Self { shift, invariants: Invariants { n: size, t2, t3, s2, s3, u, r, b } }
    }
}

/// Σ aᵢⱼ³ over i ≠ j, from some rows: the row sums are regressed on 1, d, d² and d³, d the diagonal, whose
/// sums over all rows are known.
fn off_diagonal_cubes(y: MatRef<'_, f64>, diagonal: &[f64], shift: f64) -> f64 {
    let n = y.nrows();
    let rows = spread_rows(n, SAMPLED_ROWS);
    let mut sums = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(128) {
        let block = traceless_rows(y, chunk, shift);
        let mut cubes = vec![0.0; chunk.len()];
        for j in 0..n {
            for (sum, x) in cubes.iter_mut().zip(block.col_as_slice(j)) {
                *sum += x * x * x;
            }
        }
        sums.extend(cubes.iter().zip(chunk).map(|(sum, &i)| sum - diagonal[i].powi(3)));
    }
    if rows.len() == n {
        return sums.iter().sum();
    }

    let mean = diagonal.iter().sum::<f64>() / n as f64;
    let spread = (diagonal.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    let covariates = |i: usize| {
        let d = if spread > 0.0 { (diagonal[i] - mean) / spread } else { 0.0 };
        [1.0, d, d * d, d * d * d]
    };
    let mut normal = [[0.0; 5]; 4];
    for (&i, sum) in rows.iter().zip(&sums) {
        let x = covariates(i);
        for (row, v) in normal.iter_mut().zip(x) {
            for (cell, w) in row.iter_mut().zip(x.iter().chain([sum])) {
                *cell += v * w;
            }
        }
    }
    let slopes = solve_symmetric(normal);
    let mut totals = [0.0; 4];
    for i in 0..n {
        for (total, v) in totals.iter_mut().zip(covariates(i)) {
            *total += v;
        }
    }
    slopes.iter().zip(totals).map(|(slope, total)| slope * total).sum()
}

/// Solves a semidefinite 4 × 4 system by elimination; coefficients without information are zero.
fn solve_symmetric(mut m: [[f64; 5]; 4]) -> [f64; 4] {
    let scale: [f64; 4] = std::array::from_fn(|k| m[k][k]);
    let mut used = [false; 4];
    for k in 0..4 {
        if m[k][k] <= 1e-10 * scale[k] {
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
    std::array::from_fn(|k| if used[k] { m[k][4] / m[k][k] } else { 0.0 })
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

fn squares(a: MatRef<'_, f64>) -> f64 {
    dot(a, a)
}
