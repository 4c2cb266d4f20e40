//! The tail of the ratio of a quadratic form to the sum of squares, for normal values.

use super::roots::falling_root;
use super::tails::{log_normal, log_pearson3};

/// The tail of the ratio y'Ay / y'y for normal y, divided by the Pearson III tail of the same skewness.
///
/// P(y'Ay > q y'y) is P(Σ (μ - q) χ²₁ > 0), μ the eigenvalues of A: a saddlepoint approximation
/// (Lugannani & Rice 1980 in Barndorff-Nielsen's form), exact enough to where the ratio is bounded. Tabulated over
/// u = -log(1 - q / max μ), which is linear in the log of the tail near that bound.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RatioTail {
    /// q per standard deviation, divided by max μ.
    slope: f64,
    values: Vec<f64>,
    /// Knot i is at √u = root · sinh(i · step).
    root: f64,
    step: f64,
}

const KNOTS: usize = 96;
/// The table's last argument is that of so many equal steps in √u.
const STEP: f64 = 0.04;
/// How near to the bound, as a share of it, tails are told apart. The bound is that of normal values: z in standard
/// deviations under permutation may be a little beyond it.
const NEAREST: f64 = 1e-4;
/// The first knot is at most so many standard deviations from the mean.
const FIRST_KNOT: f64 = 0.03;

impl RatioTail {
    /// For eigenvalues with multiplicities, whose sum with them is zero. `None` if all are zero.
    pub fn new(eigenvalues: &[(f64, f64)]) -> Option<Self> {
        let power = |p: i32| eigenvalues.iter().map(|(v, m)| m * v.powi(p)).sum::<f64>();
        let d: f64 = eigenvalues.iter().map(|(_, m)| m).sum();
        let largest = eigenvalues.iter().fold(0.0_f64, |most, (v, _)| most.max(*v));
        // Moments of the ratio for a uniform direction in d dimensions.
        let sd = (2.0 * power(2) / (d * (d + 2.0))).sqrt();
        let skewness = 8.0 * power(3) / (d * (d + 2.0) * (d + 4.0)) / (sd * sd * sd);
        if !(largest > 0.0 && sd > 0.0) {
            return None;
        }
        let scaled = grouped(eigenvalues, largest);
        let slope = sd / largest;
        let mut start = [0.0, 0.1];
        let (root, step) = spacing(slope);
        let values = (0..KNOTS)
            .map(|i| {
                let u = (root * (i as f64 * step).sinh()).powi(2);
                let (log_p, saddle) = log_ratio(&scaled, u, start);
                start = [saddle, (saddle - start[0]).max(1e-3)];
                log_p - log_pearson3(-(-u).exp_m1() / slope, skewness)
            })
            .collect();
        Some(Self { slope, values, root, step })
    }

    /// log of the ratio of the tails, z standard deviations from the mean.
    #[inline]
    pub fn log_correction(&self, z: f64) -> f64 {
        if z <= 0.0 {
            return self.values[0];
        }
        let rest = 1.0 - self.slope * z;
        let u = -rest.max(NEAREST).ln();
        let at = (u.sqrt() / self.root).asinh() / self.step;
        let i = (at as usize).min(KNOTS - 3);
        if i + 2 >= KNOTS - 1 {
            // Linear in u.
            let [u1, u0] =
                [KNOTS - 1, KNOTS - 2].map(|k| (self.root * (k as f64 * self.step).sinh()).powi(2));
            let (v1, v0) = (self.values[KNOTS - 1], self.values[KNOTS - 2]);
            return v1 + (v1 - v0) / (u1 - u0) * (u - u1);
        }
        let t = at - i as f64;
        let at = |k: usize| self.values[k];
        // The table is even in its argument.
        let (before, v0, v1, v2) = (at(if i == 0 { 1 } else { i - 1 }), at(i), at(i + 1), at(i + 2));
        let (m0, m1) = (0.5 * (v1 - before), 0.5 * (v2 - v0));
        let (c2, c3) = (3.0 * (v1 - v0) - 2.0 * m0 - m1, 2.0 * (v0 - v1) + m0 + m1);
        v0 + t * (m0 + t * (c2 + t * c3))
    }
}

/// `root` and `step` of a table whose knots are dense enough near the mean: a kernel with few close pairs of locations
/// has a bound thousands of standard deviations away.
fn spacing(slope: f64) -> (f64, f64) {
    let last = (KNOTS - 1) as f64;
    let finer = (STEP * STEP / (FIRST_KNOT * slope)).sqrt();
    // sinh(last · step) / (last · step) = finer.
    let (mut low, mut high) = (1e-3 / last, 50.0 / last);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if (last * middle).sinh() < finer * last * middle {
            low = middle;
        } else {
            high = middle;
        }
    }
    (STEP * last / (last * low).sinh(), low)
}

/// Eigenvalues in units of the largest; others that are close to each other are replaced by their mean.
fn grouped(eigenvalues: &[(f64, f64)], largest: f64) -> Vec<(f64, f64)> {
    const WIDTH: f64 = 2e-3;
    let mut sorted: Vec<(f64, f64)> = eigenvalues.iter().map(|(v, m)| (v / largest, *m)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut groups: Vec<(f64, f64)> = Vec::new();
    let mut first = f64::INFINITY;
    for (v, m) in sorted {
        match groups.last_mut() {
            Some(group) if first - v < WIDTH && first < 0.5 && group.1 + m > 0.0 => {
                group.0 = (group.0 * group.1 + v * m) / (group.1 + m);
                group.1 += m;
            }
            _ => {
                groups.push((v, m));
                first = v;
            }
        }
    }
    groups
}

/// log P(Σ m (v - q) χ² > 0) at q = 1 - e^-u, max v = 1, and the saddlepoint as -log(1 - theta).
///
/// `start` is that saddlepoint for a smaller u, and a guess of how far the next one is.
fn log_ratio(eigenvalues: &[(f64, f64)], u: f64, start: [f64; 2]) -> (f64, f64) {
    // With theta = 2t/(1 + 2tq), 1 - 2t(v - q) is proportional to 1 - theta v, and the saddlepoint's equation gives
    // 1 - q as a ratio of two sums over 1/(1 - theta v); it decreases in theta.
    let gap = |psi: f64| {
        let theta = -(-psi).exp_m1();
        let (mut top, mut bottom) = (0.0, 0.0);
        for (v, m) in eigenvalues {
            let h = m / (1.0 - theta * v);
            top += h * (1.0 - v);
            bottom += h;
        }
        (top / bottom).ln() + u
    };
    let psi = if u > 0.0 {
        let (mut low, mut high) = (start[0], start[0] + 1.2 * start[1]);
        let (mut f_low, mut f_high) = (gap(low), gap(high));
        while f_high > 0.0 {
            (low, f_low) = (high, f_high);
            high += 2.0 * start[1];
            f_high = gap(high);
        }
        falling_root(gap, [low, high], [f_low, f_high], 1e-9)
    } else {
        0.0
    };
    let theta = -(-psi).exp_m1();
    let q = -(-u).exp_m1();
    let t = 0.5 * theta / (1.0 - theta * q);
    let (mut k0, mut k2, mut k3) = (0.0, 0.0, 0.0);
    for (v, m) in eigenvalues {
        let x = v - q;
        let h = x / (1.0 - 2.0 * t * x);
        k0 -= 0.5 * m * (-2.0 * t * x).ln_1p();
        k2 += 2.0 * m * h * h;
        k3 += 8.0 * m * h * h * h;
    }
    let w = (-2.0 * k0).max(0.0).sqrt();
    let adjusted = if w < 1e-3 {
        // The limit at the mean, a sixth of the skewness.
        w + k3 / (6.0 * k2 * k2.sqrt())
    } else {
        w + (t * k2.sqrt() / w).ln() / w
    };
    (log_normal(adjusted), psi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_tail_agrees_with_a_beta_distribution() {
        // For a projection of rank 2 in d dimensions the ratio is Beta(1, (d - 2)/2).
        for d in [20.0, 200.0] {
            let mean = 2.0 / d;
            let tail = RatioTail::new(&[(1.0 - mean, 2.0), (-mean, d - 2.0)]).unwrap();
            let sd = (2.0 * (2.0 / d) * (1.0 - 2.0 / d) / (d + 2.0)).sqrt();
            let skewness = {
                let (a, b) = (1.0, 0.5 * (d - 2.0));
                let top: f64 = 2.0 * (b - a) * f64::sqrt(a + b + 1.0);
                top / ((a + b + 2.0) * f64::sqrt(a * b))
            };
            for x in [0.5 * (mean + 0.2), 0.3, 0.6, 0.9, 0.99, 0.9999] {
                let z = (x - mean) / sd;
                let got = log_pearson3(z, skewness) + tail.log_correction(z);
                let expected = 0.5 * (d - 2.0) * f64::ln_1p(-x);
                assert!(
                    (got - expected).abs() < 0.04 + 1e-3 * expected.abs(),
                    "d {d}, x {x}: {got} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_single_pair_among_many_locations_has_its_own_tail() {
        // Eigenvalues 1 and -1 among zeros: y'Ay is x² - w², whose tail is an integral of Bessel's K₀.
        let d = 20_000.0;
        let tail = RatioTail::new(&[(1.0, 1.0), (-1.0, 1.0), (0.0, d - 2.0)]).unwrap();
        for z in [0.1, 0.4, 1.0, 2.0, 4.0, 8.0, 16.0] {
            let q = z * 2.0;
            let step = 1e-4;
            let sum: f64 = (0..100_000)
                .map(|i| ((i as f64 + 0.5) * step).cosh())
                .map(|cosh| (-0.5 * q * cosh).exp() / cosh)
                .sum();
            let exact = (sum * step / std::f64::consts::PI).ln();
            let own = log_pearson3(z, 0.0) + tail.log_correction(z);
            assert!((own - exact).abs() < 0.15, "{z}: {own} {exact}");
        }
    }
}
