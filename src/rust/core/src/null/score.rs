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

/// Sums over the entries of K in one sample; locations may be in any order, the same for all of them.
pub struct EntrySums {
    /// K1.
    pub rows: Vec<f64>,
    /// Σ kᵢⱼ² over j ≠ i.
    pub squares: Vec<f64>,
    /// Σ kᵢⱼ³ over i ≠ j.
    pub cubes: f64,
    /// tr (K - I)³, exactly where that is affordable, otherwise from a quadrature of K's spectrum.
    pub triangles: f64,
}

/// One sample's share of a score form.
pub struct ScoreSample {
    /// The form.
    pub form: SampleForm,
    /// Row sums of K over n, and 1ᵀK1/n²; the score form's entries are K's with these taken off.
    means: (Vec<f64>, f64),
}

impl ScoreSample {
    /// From K's sums, its products with vectors, and about its eigenvalues with multiplicities.
    pub fn new(sums: &EntrySums, times: impl Fn(&[f64]) -> Vec<f64>, spectrum: &[(f64, f64)]) -> Self {
        Self::by(sums, |x, _| times(x), spectrum)
    }

    /// The same without products but K K1: all vectors are multiples of K1 and 1 together.
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
        let shift = (size - size * mean) / (size - 1.0);
        let own = 1.0 - shift;
        let r: Vec<f64> = sums.rows.iter().map(|r| r - shift).collect();
        let g = total(&r) / (size * size);
        let u: Vec<f64> = r.iter().map(|r| r / size - 0.5 * g).collect();
        let product = |x: &[f64], of_rows: [f64; 2]| -> Vec<f64> {
            times(x, of_rows).iter().zip(x).map(|(k, x)| k - shift * x).collect()
        };
        let u_rows = [1.0 / size, -shift / size - 0.5 * g];
        let (w, mu) = (product(&r, [1.0, -shift]), product(&u, u_rows));
        let q: Vec<f64> = sums.squares.iter().map(|q| q + own * own).collect();

        let t2 = total(&q) - 2.0 * dot(&r, &r) / size + size * size * g * g;
        let cube = sums.triangles + 3.0 * own * total(&sums.squares) + size * own.powi(3);
        let t3 = cube - 3.0 * dot(&r, &w) / size + 3.0 * g * dot(&r, &r) - size.powi(3) * g.powi(3);
        let power = |p: i32| u.iter().map(|u| u.powi(p)).sum::<f64>();
        let squares: Vec<f64> = u.iter().map(|u| u * u).collect();
        // Σ (mᵢⱼ - uᵢ - uⱼ)³.
        let cubes = sums.cubes + size * own.powi(3) - 6.0 * dot(&u, &q)
            + 6.0 * dot(&squares, &r)
            + 6.0 * dot(&u, &mu)
            - 2.0 * size * power(3)
            - 6.0 * power(2) * power(1);
        let diagonal: Vec<f64> = u.iter().map(|u| own - 2.0 * u).collect();
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
        let b = dot(&centred, &product(&centred, [-2.0 * u_rows[0], own - 2.0 * u_rows[1] - centre]));
        let invariants = Invariants { n: size, t2, t3, s2, s3, u: cubes, r: along, b, squares: square_sum };
        let eigenvalues = spectrum.iter().map(|(s, m)| (s - shift, *m)).collect();
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
