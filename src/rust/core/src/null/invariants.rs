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
//! all invariants cost O(n r) but Σ aᵢⱼ³, which is had from K's entries for the score form (as long as O(n²) is
//! affordable), and estimated from some rows of A for others.

use super::cubes::{KernelCubes, off_diagonal_cubes};
use super::forms::{KernelForms, SampleForm};
use super::moments::Invariants;
use super::roots::falling_root;
use super::weights::dot;
use crate::eigen::{eigenvalues_of, failed};
use crate::error::Result;
use crate::kernel::KernelAt;
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, ColRef, Mat, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

/// Samples with more locations than this do not form A.
const FORM_LIMIT: usize = 1000;

/// Samples with more locations do not look at all of the kernel's entries: it is smooth if it has a spectrum.
const KERNEL_LIMIT: usize = 20_000;

/// Kernels with fewer eigenvalues than this form Yᵀ Y.
const GRAM_LIMIT: usize = 300;

/// Rows of A, for large samples, that Σ aᵢⱼ³ is estimated from.
const SAMPLED_ROWS: usize = 1000;

/// An eigenvector's part in the mean below this share of the largest eigenvalue is the rounding of none: leaving it out
/// moves eigenvalues by less than 1e-14 of the largest.
const SUM_OF_ZERO: f64 = 64.0 * f64::EPSILON * f64::EPSILON;

/// The eigenpairs of one sample's block of a kernel.
pub struct SampleSpectrum<'a> {
    /// Kept eigenvalues.
    pub values: &'a [f64],
    /// Centred eigenvectors, n × r.
    pub centred: Mat<f64>,
    /// b = Uᵀ1.
    pub sums: Vec<f64>,
    /// The eigenvalues of H K H, as many as `values`.
    centred_values: Vec<f64>,
    /// Σ aᵢⱼ³ of the score form, and covariates of the same sums of others; none for small samples, and very large ones.
    kernel_cubes: Option<KernelCubes>,
}

impl<'a> SampleSpectrum<'a> {
    /// From kept eigenvalues and eigenvectors (n × r).
    pub fn new(values: &'a [f64], vectors: MatRef<'_, f64>) -> Self {
        let n = vectors.nrows() as f64;
        let sums: Vec<f64> = vectors.col_iter().map(|u| u.iter().sum()).collect();
        let centred = Mat::from_fn(vectors.nrows(), values.len(), |i, k| vectors[(i, k)] - sums[k] / n);
        let centred_values = centred_values(values, &sums, n);
        Self { values, centred, sums, centred_values, kernel_cubes: None }
    }

    /// With what large samples need of the kernel's own entries; `rows` are the sample's.
    pub fn with_kernel(mut self, kernel: &KernelAt<'_>, rows: Range<usize>) -> Self {
        if (FORM_LIMIT + 1..=KERNEL_LIMIT).contains(&self.n()) {
            self.kernel_cubes = Some(KernelCubes::new(kernel, rows, &self.centring()));
        }
        self
    }

    /// u with aᵢⱼ = kᵢⱼ - uᵢ - uⱼ for i ≠ j in the traceless score form.
    fn centring(&self) -> Vec<f64> {
        let size = self.n() as f64;
        let (_, shift) = self.eigenvalues(f64::INFINITY);
        let along: Vec<f64> = self.values.iter().zip(&self.sums).map(|(s, b)| s * b / size).collect();
        let mean = along.iter().zip(&self.sums).map(|(along, b)| along * b).sum::<f64>() / size;
        let mut u = vec![0.5 * (mean - shift / size); self.n()];
        for (along, column) in along.iter().zip(self.centred.col_iter()) {
            u.iter_mut().zip(column.iter()).for_each(|(u, value)| *u += along * value);
        }
        u
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.centred.nrows()
    }

    /// See [`form_weights`].
    fn weights(&self, delta: f64) -> (Vec<f64>, Vec<f64>) {
        form_weights(self.values, &self.sums, self.n(), delta)
    }

    /// The form at this delta (infinite: the score form) with its eigenvalues.
    pub fn sample_form(&self, delta: f64) -> SampleForm {
        let Traceless { shift, invariants } = self.form(delta);
        SampleForm { shift, invariants, eigenvalues: self.eigenvalues(delta).0 }
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

    /// The eigenvalues with multiplicities, on the n - 1 dimensions of centred vectors, of the form at this delta
    /// less its mean eigenvalue, and that mean, tr A/(n - 1).
    fn eigenvalues(&self, delta: f64) -> (Vec<(f64, f64)>, f64) {
        // H - delta P has the eigenvectors of the score form H K H. A full spectrum has one value too many, a 0.
        let own = |s: f64| if delta.is_infinite() { s } else { s / (s + delta) };
        let dimensions = self.n() as f64 - 1.0;
        let shift = self.centred_values.iter().map(|s| own(*s)).sum::<f64>() / dimensions;
        let zeros = (-shift, dimensions - self.values.len() as f64);
        (self.centred_values.iter().map(|s| (own(*s) - shift, 1.0)).chain([zeros]).collect(), shift)
    }

    /// The form at this delta (infinite: the score form).
    fn form(&self, delta: f64) -> Traceless {
        let y = self.factor(delta);
        let (eigenvalues, shift) = self.eigenvalues(delta);
        let power = |p: i32| eigenvalues.iter().map(|(v, m)| m * v.powi(p)).sum::<f64>();
        let traces = [power(2), power(3)];
        if self.n() <= FORM_LIMIT {
            Traceless::dense(product(y.as_ref()), shift, traces)
        } else {
            self.factored(delta, y.as_ref(), shift, traces, SAMPLED_ROWS)
        }
    }

    /// The form from Y with A = Y Yᵀ, with the diagonals of A and A² in O(n r), and Σ aᵢⱼ³ from so many rows where it is
    /// not known.
    fn factored(
        &self,
        delta: f64,
        y: MatRef<'_, f64>,
        shift: f64,
        traces: [f64; 2],
        rows: usize,
    ) -> Traceless {
        let (norms, inner) =
            if y.ncols() <= GRAM_LIMIT { diagonals(y) } else { self.structured_diagonals(delta) };
        let cubes = match &self.kernel_cubes {
            Some(cubes) if delta.is_infinite() => cubes.centred,
            cubes => {
                let covariate = cubes.as_ref().map_or(&[][..], |cubes| &cubes.rows);
                let rows_of = |some: &[usize]| traceless_rows(y, some, shift);
                off_diagonal_cubes(rows_of, shift, [&norms, &inner, covariate], rows)
            }
        };
        Traceless::from_diagonals(y, shift, traces, &norms, &inner, cubes)
    }

    /// The diagonals of A and A²: Yᵀ Y is diagonal but for rank one or two, because ŨᵀŨ = I - bbᵀ/n. Loses digits
    /// where a kernel is nearly constant, which then has few eigenvalues.
    fn structured_diagonals(&self, delta: f64) -> (Vec<f64>, Vec<f64>) {
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
        (norms, inner)
    }

    /// Some rows of the score form, with zero trace: rows × n.
    pub fn score_rows(&self, rows: &[usize]) -> Mat<f64> {
        let y = self.factor(f64::INFINITY);
        let (_, shift) = self.eigenvalues(f64::INFINITY);
        traceless_rows(y.as_ref(), rows, shift)
    }
}

/// The weights of z² in y'Ay for centred y, z = Uᵀy, and those of z in its square root's cross term (empty
/// for the score form): `y'Ay = Σ w z² + (Σ c z)²`. From eigenvalues and b = Uᵀ1 of a sample with n locations.
pub fn form_weights(values: &[f64], sums: &[f64], n: usize, delta: f64) -> (Vec<f64>, Vec<f64>) {
    if delta.is_infinite() {
        return (values.to_vec(), Vec::new());
    }
    let shrunk: Vec<f64> = values.iter().map(|s| s / (s + delta)).collect();
    // n - Σ f b² without its loss of digits where b² is nearly n.
    let spanned: f64 = sums.iter().map(|b| b * b).sum();
    let rest = (n as f64 - spanned).max(0.0);
    let kept: f64 = values.iter().zip(sums).map(|(s, b)| delta / (s + delta) * b * b).sum();
    let root = (rest + kept).sqrt();
    let cross = shrunk.iter().zip(sums).map(|(f, b)| f * b / root).collect();
    (shrunk, cross)
}

/// A form's traceless part, A - shift·H, through its invariants.
#[derive(Debug, Clone, Copy)]
pub struct Traceless {
    /// tr A / (n - 1): the mean of y'Ay over permutations is shift · y'y.
    pub shift: f64,
    /// The invariants of A - shift·H.
    pub invariants: Invariants,
}

impl Traceless {
    /// From A itself, whose rows sum to zero, its shift, and t2 and t3 of its traceless part.
    pub fn dense(mut a: Mat<f64>, shift: f64, [t2, t3]: [f64; 2]) -> Self {
        let n = a.nrows();
        make_traceless(&mut a, &(0..n).collect::<Vec<_>>(), shift);
        let diagonal: Vec<f64> = (0..n).map(|i| a[(i, i)]).collect();
        let mut inv =
            Invariants { n: n as f64, t2, t3, s2: 0.0, s3: 0.0, u: 0.0, r: 0.0, b: 0.0, squares: 0.0 };
        for j in 0..n {
            let d = diagonal[j];
            let (mut squares, mut weighted) = (0.0, 0.0);
            for (x, other) in a.col_as_slice(j).iter().zip(&diagonal) {
                let square = x * x;
                squares += square;
                inv.u += square * x;
                weighted += x * other;
            }
            inv.s2 += d * d;
            inv.s3 += d * d * d;
            inv.r += d * squares;
            inv.b += d * weighted;
            inv.squares += squares * squares;
        }
        Self { shift, invariants: inv }
    }

    /// From Y with A = Y Yᵀ, its shift, t2 and t3, the diagonals of A and A², and Σ aᵢⱼ³ over i ≠ j of the
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
        let (mut s2, mut s3, mut r, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for ((d, a), square) in traceless.iter().zip(diagonal).zip(square_diagonal) {
            let square = square - 2.0 * shift * a + shift * own;
            s2 += d * d;
            s3 += d * d * d;
            r += d * square;
            squares += square * square;
        }
        let along = |column: ColRef<'_, f64>| column.iter().zip(&traceless).map(|(v, d)| v * d).sum::<f64>();
        let b = y.col_iter().map(|column| along(column).powi(2)).sum::<f64>() - shift * s2;
        let u = s3 + off_diagonal_cubes;
        Self { shift, invariants: Invariants { n: size, t2, t3, s2, s3, u, r, b, squares } }
    }
}

/// The eigenvalues of H K H besides zeros, from those of K and b: those whose eigenvectors have a sum of zero, as the
/// symmetry of a lattice makes them, stay; between each two of the others is one, a root of 1 = Σ s b²/n / (s - λ).
fn centred_values(values: &[f64], sums: &[f64], n: f64) -> Vec<f64> {
    let largest = values.iter().fold(0.0_f64, |most, s| most.max(*s));
    let pairs = values.iter().zip(sums).map(|(s, b)| (*s, s * b * b / n));
    let (mut pairs, stay): (Vec<(f64, f64)>, Vec<_>) = pairs.partition(|(_, v)| *v > SUM_OF_ZERO * largest);
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let secular = |x: f64| 1.0 - pairs.iter().map(|(s, v)| v / (s - x)).sum::<f64>();
    let root = |k: usize, largest: f64| {
        // Times the distances to both poles the function is smooth, and positive below the root.
        let ((upper, above), tolerance) = (pairs[k], 1e-13 * largest);
        match pairs.get(k + 1) {
            Some(&(lower, below)) => {
                let gap = upper - lower;
                let smooth = |x: f64| secular(x) * (upper - x) * (x - lower);
                falling_root(smooth, [lower, upper], [below * gap, -above * gap], tolerance)
            }
            None => {
                let smooth = |x: f64| secular(x) * (upper - x);
                falling_root(smooth, [0.0, upper], [smooth(0.0), -above], tolerance)
            }
        }
    };
    let mut values: Vec<f64> = pairs.iter().take(1).map(|(upper, _)| root(0, *upper)).collect();
    if let Some(&largest) = values.first() {
        values.par_extend((1..pairs.len()).into_par_iter().map(|k| root(k, largest)));
    }
    values.extend(stay.into_iter().map(|(s, _)| s));
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// The diagonals of Y Yᵀ and of its square.
fn diagonals(y: MatRef<'_, f64>) -> (Vec<f64>, Vec<f64>) {
    let (n, rank) = y.shape();
    let mut gram = Mat::zeros(rank, rank);
    lower_product(&mut gram, y.transpose(), y);
    mirror(&mut gram);
    let mut product = Mat::zeros(n, rank);
    matmul(product.as_mut(), Accum::Replace, y, gram.as_ref(), 1.0, Par::Seq);
    let (mut norms, mut inner) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..rank {
        for i in 0..n {
            norms[i] += y[(i, k)] * y[(i, k)];
            inner[i] += y[(i, k)] * product[(i, k)];
        }
    }
    (norms, inner)
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

/// The forms of a kernel over one sample from all of each A, whose rows sum to zero, the score form first; kernels are
/// compared by these rows of it. For engines that form them, and for tests.
///
/// # Errors
/// [`NoConvergence`](crate::Error::NoConvergence) of their eigenvalues.
pub fn dense_forms(forms: &[Option<Mat<f64>>], rows: &[usize]) -> Result<KernelForms> {
    let form = |a: &Mat<f64>| {
        let Traceless { shift, invariants } = by_products(a.clone());
        let values = eigenvalues_of(a.as_ref()).ok_or_else(|| failed("quadratic"))?;
        // On centred vectors only: the constant is one eigenvalue too many, a 0.
        let centred = values.iter().map(|value| (value - shift, 1.0)).chain([(-shift, -1.0)]);
        Ok(SampleForm { shift, invariants, eigenvalues: centred.collect() })
    };
    let samples = forms.iter().map(|a| a.as_ref().map(form).transpose()).collect::<Result<Vec<_>>>()?;
    let compared = |(score, sample): (&Mat<f64>, &SampleForm)| {
        let mut some = Mat::from_fn(rows.len(), score.ncols(), |i, j| score[(rows[i], j)]);
        make_traceless(&mut some, rows, sample.shift);
        some
    };
    let rows = forms.iter().flatten().zip(samples.iter().flatten()).take(1).map(compared).collect();
    Ok(KernelForms::new(samples.into_iter().map(|sample| sample.map(|own| vec![own])).collect(), rows))
}

/// A form from all of A, whose rows sum to zero, by plain matrix products.
pub fn by_products(a: Mat<f64>) -> Traceless {
    let n = a.nrows();
    let shift = (0..n).map(|i| a[(i, i)]).sum::<f64>() / (n as f64 - 1.0);
    let mut traceless = a.clone();
    make_traceless(&mut traceless, &(0..n).collect::<Vec<_>>(), shift);
    let square = &traceless * &traceless;
    let traces = [dot(traceless.as_ref(), traceless.as_ref()), dot(square.as_ref(), traceless.as_ref())];
    Traceless::dense(a, shift, traces)
}

#[cfg(test)]
mod tests {
    use super::super::moments::{Cumulants, Sums};
    use super::*;
    use crate::eigen::eigen;
    use crate::fixtures::{cosine, se};
    use crate::{Kernel, Locations, Spectrum};
    use faer::prelude::*;

    /// Irregular points in the unit square (additive recurrence), two of them the same.
    fn points(n: usize) -> Locations {
        let at = |i: usize, step: f64| (0.5 + i as f64 * step).fract();
        let coords =
            Mat::from_fn(n, 2, |i, k| at(i.max(1), [0.754_877_666_246_692_7, 0.569_840_290_998_053_3][k]));
        Locations::new(coords.as_ref()).unwrap()
    }

    fn assert_same(got: &Traceless, expected: &Traceless, tolerance: f64, what: &str) {
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
            (se(0.02), 1e-9),
            (se(0.15), 1e-9),
            (se(2.0), 1e-9),
            // Nearly constant: the structured way is not used there.
            (se(100.0), f64::INFINITY),
            (cosine(0.4), 1e-9),
            (Kernel::linear(), 1e-9),
        ];
        for (kernel, structured) in kernels {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let vectors = spectrum.blocks()[0].vectors();
            let sample = SampleSpectrum::new(spectrum.values(), vectors.as_ref().as_ref());
            for delta in [f64::INFINITY, 10.0, 0.1] {
                let what = format!("{kernel:?} at {delta}");
                let y = sample.factor(delta);
                let expected = by_products(product(y.as_ref()));
                assert_same(&sample.form(delta), &expected, 1e-9, &what);
                let (_, shift) = sample.eigenvalues(delta);
                let traces = [expected.invariants.t2, expected.invariants.t3];
                let form = |(norms, inner): (Vec<f64>, Vec<f64>)| {
                    let cubes = off_diagonal_cubes(
                        |some| traceless_rows(y.as_ref(), some, shift),
                        shift,
                        [&norms, &inner, &[]],
                        150,
                    );
                    Traceless::from_diagonals(y.as_ref(), shift, traces, &norms, &inner, cubes)
                };
                assert_same(&form(diagonals(y.as_ref())), &expected, 1e-9, &what);
                assert_same(&form(sample.structured_diagonals(delta)), &expected, structured, &what);
            }
        }
    }

    #[test]
    fn forms_are_those_of_the_definition() {
        // A = H K H, and H - delta P, entry by entry from K's inverse.
        let locations = points(40);
        let n = 40;
        let h = Mat::from_fn(n, n, |i, j| f64::from(i == j) - 1.0 / n as f64);
        for kernel in [se(0.3), Kernel::linear()] {
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let vectors = spectrum.blocks()[0].vectors();
            let sample = SampleSpectrum::new(spectrum.values(), vectors.as_ref().as_ref());
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
        let n = 600;
        let locations = points(n);
        // Genes in 3, 30 and nearly all spots.
        let genes = [3, 30, n].map(|count| {
            let mut y: Vec<f64> =
                (0..n).map(|i| if i < count { 1.0 + (0.1 * i as f64).sin() } else { 0.0 }).collect();
            let mean = y.iter().sum::<f64>() / n as f64;
            y.iter_mut().for_each(|v| *v -= mean);
            Sums::new(&y).0
        });
        for lengthscale in [0.03, 0.07, 0.3] {
            let kernel = se(lengthscale);
            let spectrum = Spectrum::dense(kernel, &locations).unwrap();
            let vectors = spectrum.blocks()[0].vectors();
            let mut sample = SampleSpectrum::new(spectrum.values(), vectors.as_ref().as_ref());
            let cubes = KernelCubes::new(&kernel.at(&locations), 0..n, &sample.centring());
            let score = sample.form(f64::INFINITY).invariants;
            assert!((cubes.centred - (score.u - score.s3)).abs() < 1e-10 * score.t2.powf(1.5));
            sample.kernel_cubes = Some(cubes);
            for delta in [10.0, 1.0] {
                let y = sample.factor(delta);
                let cumulants = |rows| {
                    let (_, shift) = sample.eigenvalues(delta);
                    let known = sample.form(delta).invariants;
                    let form = sample.factored(delta, y.as_ref(), shift, [known.t2, known.t3], rows);
                    Cumulants::new(&form.invariants)
                };
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
        let lattice = |sides: [usize; 3], n: usize, step: [f64; 3]| {
            let x = Mat::from_fn(n, 3, |i, k| {
                let place = [i % sides[0], i / sides[0] % sides[1], i / sides[0] / sides[1]];
                step[k] * place[k] as f64
            });
            Locations::new(x.as_ref()).unwrap()
        };
        // With all the symmetries that lattices have: eigenvalues come twice, eigenvectors have sums of zero.
        let tissues = [
            points(60),
            lattice([7, 7, 7], 63, [1.0; 3]),
            lattice([8, 8, 1], 64, [1.0; 3]),
            lattice([9, 7, 1], 63, [1.0; 3]),
            lattice([9, 9, 1], 81, [1.0, 0.7, 1.0]),
            lattice([4, 4, 4], 64, [1.0; 3]),
            lattice([40, 1, 1], 40, [1.0; 3]),
            lattice([41, 1, 1], 41, [1.0; 3]),
        ];
        for locations in tissues {
            for kernel in [0.1, 0.5, 0.8, 1.1, 1.65, 2.5, 6.0].map(se).into_iter().chain([Kernel::linear()]) {
                let spectrum = Spectrum::dense(kernel, &locations).unwrap();
                let vectors = spectrum.blocks()[0].vectors();
                let sample = SampleSpectrum::new(spectrum.values(), vectors.as_ref().as_ref());
                let a = product(sample.factor(f64::INFINITY).as_ref());
                let (mut expected, _) = eigen(a.as_ref()).unwrap();
                expected.reverse();
                assert_eq!(sample.centred_values.len(), spectrum.rank());
                for (got, value) in sample.centred_values.iter().zip(&expected) {
                    assert!((got - value).abs() < 1e-9 * expected[0], "{kernel:?}: {got} {value}");
                }
            }
        }
    }
}
