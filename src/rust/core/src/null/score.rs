//! The score form of a kernel without a spectrum, A = H K H, from sums over the entries of K and products with it.
//!
//! All invariants are those of H M H with M = K - shift·I, whose traceless part A is. With r = M1, g = 1ᵀr/n² and
//! u = r/n - g/2, `aᵢⱼ = mᵢⱼ - uᵢ - uⱼ`, and sums of its powers expand into sums that cost as much as one product
//! with K. Only tr K³ does not: see [`EntrySums::triangles`].

use super::forms::SampleForm;
use super::invariants::make_traceless;
use super::moments::Invariants;
use crate::kernel::KernelAt;
use faer::Mat;
use faer::linalg::solvers::Solve;

/// Sums over the entries of K in one sample; locations may be in any order, the same for all of them.
pub struct EntrySums {
    /// K1.
    pub rows: Vec<f64>,
    /// Σ kᵢⱼ² over j ≠ i.
    pub squares: Vec<f64>,
    /// Σ kᵢⱼ³ over i ≠ j.
    pub cubes: f64,
    /// tr (K - I)³, exactly where that is affordable, otherwise from a quadrature of K's spectrum. `None` where the third
    /// power of the form is to be taken from its eigenvalues.
    pub triangles: Option<f64>,
    /// K's diagonal, where it is not 1.
    pub diagonal: Option<Vec<f64>>,
}

/// One sample's share of a score form.
pub struct ScoreSample {
    /// The form.
    pub form: SampleForm,
    /// Row sums of K over n, and 1ᵀK1/n²; the score form's entries are K's with these taken off.
    means: (Vec<f64>, f64),
}

impl ScoreSample {
    /// A form that is zero.
    pub fn zero(n: usize) -> Self {
        let size = n as f64;
        let invariants =
            Invariants { n: size, t2: 0.0, t3: 0.0, s2: 0.0, s3: 0.0, u: 0.0, r: 0.0, b: 0.0, squares: 0.0 };
        let form = SampleForm { shift: 0.0, invariants, eigenvalues: vec![(0.0, size - 1.0)] };
        Self { form, means: (vec![0.0; n], 0.0) }
    }

    /// From K's sums, its products with vectors, and about its eigenvalues with multiplicities.
    pub fn new(sums: &EntrySums, times: impl Fn(&[f64]) -> Vec<f64>, spectrum: &[(f64, f64)]) -> Self {
        Self::by(sums, |x, _| times(x), spectrum)
    }

    /// The same without products but K K1: where K's diagonal is 1 all vectors are multiples of K1 and 1 together.
    pub fn from_row_sums(sums: &EntrySums, twice: &[f64], spectrum: &[(f64, f64)]) -> Self {
        let times = |_: &[f64], [a, b]: [f64; 2]| {
            twice.iter().zip(&sums.rows).map(|(twice, row)| a * twice + b * row).collect()
        };
        Self::by(sums, times, spectrum)
    }

    /// `times(x, [a, b])` is K x for x = a K1 + b 1.
    fn by(sums: &EntrySums, times: impl Fn(&[f64], [f64; 2]) -> Vec<f64>, spectrum: &[(f64, f64)]) -> Self {
        let n = sums.rows.len();
        let size = n as f64;
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();

        let means: Vec<f64> = sums.rows.iter().map(|r| r / size).collect();
        let mean = total(&means) / size;
        let trace = sums.diagonal.as_ref().map_or(size, |diagonal| total(diagonal));
        let shift = (trace - size * mean) / (size - 1.0);
        let own: Vec<f64> = (0..n).map(|i| sums.diagonal.as_ref().map_or(1.0, |d| d[i]) - shift).collect();
        let r: Vec<f64> = sums.rows.iter().map(|r| r - shift).collect();
        let g = total(&r) / (size * size);
        let u: Vec<f64> = r.iter().map(|r| r / size - 0.5 * g).collect();
        let product = |x: &[f64], of_rows: [f64; 2]| -> Vec<f64> {
            times(x, of_rows).iter().zip(x).map(|(k, x)| k - shift * x).collect()
        };
        let u_rows = [1.0 / size, -shift / size - 0.5 * g];
        let (w, mu) = (product(&r, [1.0, -shift]), product(&u, u_rows));
        let q: Vec<f64> = sums.squares.iter().zip(&own).map(|(q, own)| q + own * own).collect();

        let t2 = total(&q) - 2.0 * dot(&r, &r) / size + size * size * g * g;
        let own_cubes: f64 = own.iter().map(|own| own.powi(3)).sum();
        let mut eigenvalues: Vec<(f64, f64)> = spectrum.iter().map(|(s, m)| (s - shift, *m)).collect();
        let t3 = match sums.triangles {
            Some(triangles) => {
                let cube = triangles + 3.0 * dot(&own, &sums.squares) + own_cubes;
                cube - 3.0 * dot(&r, &w) / size + 3.0 * g * dot(&r, &r) - size.powi(3) * g.powi(3)
            }
            None => {
                with_powers(&mut eigenvalues, &[size - 1.0, 0.0, t2]);
                eigenvalues.iter().map(|(v, m)| m * v.powi(3)).sum()
            }
        };
        let power = |p: i32| u.iter().map(|u| u.powi(p)).sum::<f64>();
        let squares: Vec<f64> = u.iter().map(|u| u * u).collect();
        // Σ (mᵢⱼ - uᵢ - uⱼ)³.
        let cubes = sums.cubes + own_cubes - 6.0 * dot(&u, &q) + 6.0 * dot(&squares, &r) + 6.0 * dot(&u, &mu)
            - 2.0 * size * power(3)
            - 6.0 * power(2) * power(1);
        let diagonal: Vec<f64> = u.iter().zip(&own).map(|(u, own)| own - 2.0 * u).collect();
        let (mut s2, mut s3, mut along, mut square_sum) = (0.0, 0.0, 0.0, 0.0);
        let (first, second) = (power(1), power(2));
        for i in 0..n {
            // (A²)ᵢᵢ.
            let square =
                q[i] - 2.0 * (u[i] * r[i] + mu[i]) + size * u[i] * u[i] + 2.0 * u[i] * first + second;
            s2 += diagonal[i] * diagonal[i];
            s3 += diagonal[i].powi(3);
            along += diagonal[i] * square;
            square_sum += square * square;
        }
        let centre = total(&diagonal) / size;
        let centred: Vec<f64> = diagonal.iter().map(|d| d - centre).collect();
        // Where K's diagonal is 1.
        let of_rows = [-2.0 * u_rows[0], own[0] - 2.0 * u_rows[1] - centre];
        let b = dot(&centred, &product(&centred, of_rows));
        let invariants = Invariants { n: size, t2, t3, s2, s3, u: cubes, r: along, b, squares: square_sum };
        Self { form: SampleForm { shift, invariants, eigenvalues }, means: (means, mean) }
    }

    /// Some rows of the score form, with zero trace: rows × n. The sample's locations begin at `start`, and are in the
    /// sums by the order of `places`.
    pub fn rows(&self, kernel: &KernelAt<'_>, start: usize, places: &[usize], rows: &[usize]) -> Mat<f64> {
        let (by_place, mean) = &self.means;
        let mut means = vec![0.0; by_place.len()];
        places.iter().zip(by_place).for_each(|(&row, mean)| means[row - start] = *mean);
        let mut block = Mat::from_fn(rows.len(), means.len(), |i, j| {
            kernel.value(start + rows[i], start + j) - means[rows[i]] - means[j] + mean
        });
        make_traceless(&mut block, rows, self.form.shift);
        block
    }
}

/// Changes multiplicities as little as possible so that sums of the first powers of the eigenvalues, from the zeroth on,
/// are these; as many of them as can be had with positive multiplicities.
pub fn with_powers(eigenvalues: &mut Vec<(f64, f64)>, powers: &[f64]) {
    let scale = (powers[2] / powers[0]).sqrt();
    if !(scale > 0.0 && scale.is_finite()) {
        return;
    }
    for count in (1..=powers.len()).rev() {
        let own = |v: f64, p: usize| (v / scale).powi(p as i32);
        let sum = |p: usize| eigenvalues.iter().map(|(v, m)| m * own(*v, p)).sum::<f64>();
        let matrix = Mat::from_fn(count, count, |i, j| sum(i + j));
        let missing = Mat::from_fn(count, 1, |i, _| powers[i] / scale.powi(i as i32) - sum(i));
        let change = matrix.partial_piv_lu().solve(missing);
        let factor = |v: f64| 1.0 + (0..count).map(|p| change[(p, 0)] * own(v, p)).sum::<f64>();
        if eigenvalues.iter().all(|(v, _)| factor(*v) > 0.0) {
            let changed = eigenvalues.iter().map(|(v, m)| (*v, m * factor(*v))).collect();
            *eigenvalues = changed;
            return;
        }
    }
}
