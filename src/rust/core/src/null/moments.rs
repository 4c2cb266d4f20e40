//! Exact first three moments of a quadratic form under permutation.
//!
//! Kazi-Aoual, Hitier, Sabatier, Lebreton 1995, "Refined approximations to permutation tests for
//! multivariate inference", Computational Statistics & Data Analysis 20, give the moments of
//! `tr(A P W Pᵀ)` over all permutation matrices P, for symmetric A and W whose rows sum to zero. A
//! multiple of `H = I - 11ᵀ/n` added to either only shifts the form by a constant; taken off so that
//! both traces vanish, most of the formula's terms vanish with them, and so does the loss of digits
//! between raw and central moments. Here W = y yᵀ, which enters through three sums alone.

/// The fewest locations in a sample for which the third moment exists.
pub const MIN_LOCATIONS: usize = 7;

/// Invariants of a symmetric n × n matrix A with zero row sums and zero trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Invariants {
    /// n.
    pub n: f64,
    /// tr A².
    pub t2: f64,
    /// tr A³.
    pub t3: f64,
    /// Σ aᵢᵢ².
    pub s2: f64,
    /// Σ aᵢᵢ³.
    pub s3: f64,
    /// Σ aᵢⱼ³ over all i and j.
    pub u: f64,
    /// Σ aᵢᵢ (A²)ᵢᵢ.
    pub r: f64,
    /// Σ aᵢᵢ aᵢⱼ aⱼⱼ over all i and j.
    pub b: f64,
    /// Σ (A²)ᵢᵢ², not for the moments, but for how many locations carry the form.
    pub squares: f64,
}

/// What the moments need of a gene's values in one sample, centred and scaled to Σ y² = n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// Σ (y² - 1)².
    pub s2: f64,
    /// Σ (y² - 1)³.
    pub s3: f64,
    /// (Σ y³)².
    pub m: f64,
}

/// Variance and third central moment of a form, as linear functions of a gene's [`Sums`].
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Cumulants {
    /// Coefficients of 1 and s2.
    variance: [f64; 2],
    /// Coefficients of 1, s2, s3 and m.
    third: [f64; 4],
}

impl Cumulants {
    /// The coefficients for a form with these invariants; n >= [`MIN_LOCATIONS`].
    pub fn new(a: &Invariants) -> Self {
        let unit = |k: usize| [0, 1, 2, 3].map(|i| if i == k { 1.0 } else { 0.0 });
        Self {
            variance: [0, 1].map(|k| variance(a, unit(k))),
            third: [0, 1, 2, 3].map(|k| third(a, unit(k))),
        }
    }

    /// The variance.
    #[inline]
    pub fn variance(&self, y: &Sums) -> f64 {
        self.variance[0] + self.variance[1] * y.s2
    }

    /// The third central moment.
    #[inline]
    pub fn third(&self, y: &Sums) -> f64 {
        let [c0, c1, c2, c3] = self.third;
        c0 + c1 * y.s2 + c2 * y.s3 + c3 * y.m
    }
}

/// Invariants of `W = y yᵀ - n/(n-1) H` that the variance needs, (t2, s2), linear in (1, s2, s3, m).
fn variance(a: &Invariants, [one, s2, _, _]: [f64; 4]) -> f64 {
    let n = a.n;
    let t2 = one * n * n * (n - 2.0) / (n - 1.0);
    2.0 * a.t2 * t2 / ((n + 1.0) * (n - 2.0))
        + (n * (n + 1.0) * a.s2 - 2.0 * (n - 1.0) * a.t2) * (n * (n + 1.0) * s2 - 2.0 * (n - 1.0) * t2)
            / ((n + 1.0) * n * (n - 1.0) * (n - 2.0) * (n - 3.0))
}

/// The third moment, with W's invariants written out in (1, s2, s3, m).
fn third(a: &Invariants, [one, s2, s3, m]: [f64; 4]) -> f64 {
    let n = a.n;
    let e = 1.0 / (n - 1.0);
    let t3 = one * n * n * n * (n - 2.0) * (n - 3.0) * e * e;
    let u =
        m - 3.0 * (1.0 + e) * s2 + one * (n * n * e * (3.0 + e * e) - n * (1.0 + e) * (1.0 + e) * (1.0 + e));
    let b = m - (1.0 + e) * s2;
    let r = (n - 2.0 * n * e) * s2;

    let n2 = n * n;
    let n3 = n2 * n;
    let n4 = n3 * n;
    let sum = n2 * (n + 1.0) * (n2 + 15.0 * n - 4.0) * a.s3 * s3
        + 4.0 * (n4 - 8.0 * n3 + 19.0 * n2 - 4.0 * n - 16.0) * a.u * u
        + 24.0 * (n2 - n - 4.0) * (a.u * b + a.b * u)
        + 6.0 * (n4 - 8.0 * n3 + 21.0 * n2 - 6.0 * n - 24.0) * a.b * b
        + 12.0 * (n4 - n3 - 8.0 * n2 + 36.0 * n - 48.0) * a.r * r
        + 24.0 * (n3 - 3.0 * n2 - 2.0 * n + 8.0) * (a.r * u + a.u * r)
        + 24.0 * (n3 - 2.0 * n2 - 3.0 * n + 12.0) * (a.r * b + a.b * r)
        - 2.0 * n * (n - 1.0) * (n2 - n + 4.0) * ((2.0 * a.u + 3.0 * a.b) * s3 + (2.0 * u + 3.0 * b) * a.s3)
        - 12.0 * n * (n - 1.0) * (n - 1.0) * (n + 4.0) * (a.r * s3 + r * a.s3)
        + 16.0 * n * (n - 1.0) * (n - 2.0) * (a.t3 * s3 + t3 * a.s3)
        + 8.0 * (n3 - 9.0 * n2 + 26.0 * n - 22.0) * a.t3 * t3
        - 8.0 * (3.0 * n2 - 15.0 * n + 16.0) * (a.t3 * u + a.u * t3)
        - 8.0 * (3.0 * n2 - 15.0 * n + 24.0) * (a.t3 * b + a.b * t3)
        - 8.0 * (n - 2.0) * (3.0 * n2 - 15.0 * n + 24.0) * (a.t3 * r + a.r * t3);
    sum / (n * (n - 1.0) * (n - 2.0) * (n - 3.0) * (n - 4.0) * (n - 5.0))
}

impl Sums {
    /// From Σ y², Σ y³, Σ y⁴ and Σ y⁶ of n values centred within their sample.
    pub fn from_powers(n: usize, [square, cube, fourth, sixth]: [f64; 4]) -> Self {
        if square <= 0.0 {
            return Self { s2: 0.0, s3: 0.0, m: 0.0 };
        }
        let n = n as f64;
        let scale = n / square;
        let (fourth, sixth) = (fourth * scale * scale, sixth * scale.powi(3));
        Self { s2: fourth - n, s3: sixth - 3.0 * fourth + 2.0 * n, m: cube * cube * scale.powi(3) }
    }

    /// The sums of values centred within their sample, and Σ y² before scaling.
    pub fn new(y: &[f64]) -> (Self, f64) {
        let n = y.len() as f64;
        let square: f64 = y.iter().map(|v| v * v).sum();
        if square <= 0.0 {
            return (Self { s2: 0.0, s3: 0.0, m: 0.0 }, 0.0);
        }
        let scale = (n / square).sqrt();
        let (mut s2, mut s3, mut cubes) = (0.0, 0.0, 0.0);
        for v in y {
            let v = v * scale;
            let d = v * v - 1.0;
            s2 += d * d;
            s3 += d * d * d;
            cubes += v * v * v;
        }
        (Self { s2, s3, m: cubes * cubes }, square)
    }
}

#[cfg(test)]
mod tests {
    use super::super::invariants::by_products;
    use super::*;
    use crate::fixtures::uniform;
    use faer::Mat;

    /// Mean, variance and third central moment of y'Ay over all permutations of y, by Heap's algorithm.
    fn brute_force(a: &Mat<f64>, y: &[f64]) -> [f64; 3] {
        fn visit(k: usize, y: &mut Vec<f64>, f: &mut dyn FnMut(&[f64])) {
            if k == 1 {
                return f(y);
            }
            for i in 0..k {
                visit(k - 1, y, f);
                let j = if k.is_multiple_of(2) { i } else { 0 };
                y.swap(j, k - 1);
            }
        }
        let mut values = Vec::new();
        visit(y.len(), &mut y.to_vec(), &mut |y| {
            let form = |i: usize| (0..y.len()).map(|j| a[(i, j)] * y[j]).sum::<f64>() * y[i];
            values.push((0..y.len()).map(form).sum::<f64>());
        });
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let central = |p| values.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / count;
        [mean, central(2), central(3)]
    }

    #[test]
    fn moments_agree_with_all_permutations() {
        let mut uniform = uniform(7);
        for n in [7, 8] {
            for case in 0..4 {
                let mut a = Mat::zeros(n, n);
                for i in 0..n {
                    for j in 0..=i {
                        let value = uniform() - 0.5;
                        a[(i, j)] = value;
                        a[(j, i)] = value;
                    }
                }
                let mut y: Vec<f64> = (0..n).map(|_| uniform() - 0.5).collect();
                if case == 3 {
                    y = (0..n).map(|i| if i == 1 { 1.0 } else { 0.0 }).collect();
                }
                let mean = y.iter().sum::<f64>() / n as f64;
                y.iter_mut().for_each(|v| *v -= mean);

                // Centred as a score form.
                let h = Mat::from_fn(n, n, |i, j| f64::from(i == j) - 1.0 / n as f64);
                let a = &h * &a * &h;
                let form = by_products(a.clone());
                let cumulants = Cumulants::new(&form.invariants);
                let (sums, square) = Sums::new(&y);
                let scale = square / n as f64;
                let expected = brute_force(&a, &y);
                let got = [
                    form.shift * square,
                    cumulants.variance(&sums) * scale * scale,
                    cumulants.third(&sums) * scale * scale * scale,
                ];
                let size = expected[1].sqrt();
                for (p, (x, e)) in got.iter().zip(&expected).enumerate() {
                    let error = (x - e).abs() / size.powi(p as i32 + 1);
                    assert!(error < 1e-10, "n {n}, case {case}, moment {}: {x} {e}", p + 1);
                }
            }
        }
    }
}
