//! Upper tail probabilities as natural logarithms, right far beyond what a double can hold.

use super::roots::falling_root;
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::LazyLock;

/// ½ log(2 pi).
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

/// The least skewness used: one that is negative would bound the distribution.
const LEAST_SKEWNESS: f64 = 1e-4;

/// log P(N > x) for a standard normal N.
pub fn log_normal(x: f64) -> f64 {
    if x < 0.0 { (-normal(-x)).ln_1p() } else { mills(x).ln() - 0.5 * x * x - HALF_LOG_TAU }
}

/// P(N > x).
fn normal(x: f64) -> f64 {
    0.5 * libm::erfc(x * FRAC_1_SQRT_2)
}

/// Mills' ratio P(N > x) / density(x), x >= 0.
fn mills(x: f64) -> f64 {
    if x < 6.0 {
        return normal(x) * (0.5 * x * x + HALF_LOG_TAU).exp();
    }
    // 1/(x + 1/(x + 2/(x + ...))): 24 steps are exact to rounding from here on.
    let mut tail = x;
    for k in (1..=24).rev() {
        tail = x + f64::from(k) / tail;
    }
    1.0 / tail
}

/// Pearson III: log P(Z > z), Z standardised, with this skewness.
pub fn log_pearson3(z: f64, skewness: f64) -> f64 {
    let s = skewness.max(LEAST_SKEWNESS);
    let shape = 4.0 / (s * s);
    // x/shape - 1, passed on for its digits where the shape is large.
    log_gamma_tail(shape, 0.5 * s * z)
}

/// log Q(a, a (1 + mu)), the upper regularised incomplete gamma function.
fn log_gamma_tail(a: f64, mu: f64) -> f64 {
    let x = a * (1.0 + mu);
    if x <= 0.0 {
        return 0.0;
    }
    if a >= 12.0 {
        let half_square = minus_log1p(mu);
        let eta = (2.0 * half_square).sqrt().copysign(mu);
        if eta.abs() < 1.0 {
            return uniform_expansion(a, eta);
        }
    }
    if mu * a < 1.0 {
        // Power series of the lower function.
        let (mut term, mut sum, mut k) = (1.0, 1.0, a);
        while term > 1e-17 * sum {
            k += 1.0;
            term *= x / k;
            sum += term;
        }
        let lower = (a * x.ln() - x - libm::lgamma(a + 1.0)).exp() * sum;
        return (-lower.min(1.0 - f64::EPSILON)).ln_1p();
    }
    let log_density = if a >= 12.0 {
        // log(x^a e^-x / Gamma(a)) through Stirling's remainder: no large terms that cancel.
        -a * minus_log1p(mu) + 0.5 * a.ln() - HALF_LOG_TAU - stirling_remainder(a)
    } else {
        a * x.ln() - x - libm::lgamma(a)
    };
    log_density + continued_fraction(a, x).ln()
}

/// Gamma(a, x) x^-a e^x by Legendre's continued fraction, x >= a + 1, in forward recurrence.
fn continued_fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let (mut p0, mut p1, mut q0, mut q1) = (0.0, 1.0, 1.0, b);
    let mut last = p1 / q1;
    let mut i = 0.0;
    for _ in 0..400 {
        for _ in 0..6 {
            i += 1.0;
            b += 2.0;
            let numerator = -i * (i - a);
            (p0, p1) = (p1, b * p1 + numerator * p0);
            (q0, q1) = (q1, b * q1 + numerator * q0);
        }
        let scale = 1.0 / q1;
        (p0, p1, q0, q1) = (p0 * scale, p1 * scale, q0 * scale, 1.0);
        if (p1 - last).abs() <= 1e-14 * p1.abs() {
            break;
        }
        last = p1;
    }
    p1
}

/// x - log(1 + x), without cancellation.
fn minus_log1p(x: f64) -> f64 {
    if x.abs() > 0.1 {
        return x - x.ln_1p();
    }
    // With r = x/(2 + x): log(1 + x) = 2 (r + r³/3 + ...), and x - 2r = x r.
    let r = x / (2.0 + x);
    let r2 = r * r;
    let mut sum = 0.0;
    for k in (1..=8).rev() {
        sum = r2 * (1.0 / f64::from(2 * k + 1) + sum);
    }
    x * r - 2.0 * r * sum
}

/// log Gamma(a) - ((a - ½) log a - a + ½ log 2 pi), a >= 12.
fn stirling_remainder(a: f64) -> f64 {
    let i2 = 1.0 / (a * a);
    (1.0 / 12.0 - i2 * (1.0 / 360.0 - i2 * (1.0 / 1260.0 - i2 * (1.0 / 1680.0 - i2 / 1188.0)))) / a
}

const POWERS: [usize; 5] = [24, 20, 16, 12, 8];

/// Taylor coefficients in eta of the functions in Temme's uniform expansion (1979).
///
/// With mu(eta) from eta²/2 = mu - log(1 + mu), c₀ = 1/mu - 1/eta and
/// c_k = c'_{k-1}/eta + const/mu, where the constant is what removes the pole.
static EXPANSION: LazyLock<[[f64; 24]; 5]> = LazyLock::new(|| {
    const LEN: usize = 40;
    // mu mu' = eta (1 + mu) gives mu = eta + eta²/3 + ...
    let mut mu = [0.0; LEN + 2];
    mu[1] = 1.0;
    for m in 3..LEN + 2 {
        let inner: f64 = (2..m - 1).map(|i| mu[i] * mu[m - i]).sum();
        mu[m - 1] = mu[m - 2] / m as f64 - 0.5 * inner;
    }
    // eta/mu.
    let mut inverse = [0.0; LEN];
    inverse[0] = 1.0;
    for k in 1..LEN {
        inverse[k] = -(1..=k).map(|i| mu[i + 1] * inverse[k - i]).sum::<f64>();
    }
    let mut current: Vec<f64> = inverse[1..].to_vec();
    let mut table = [[0.0; 24]; 5];
    for (row, powers) in table.iter_mut().zip(POWERS) {
        row[..powers].copy_from_slice(&current[..powers]);
        let pole = current[1];
        current =
            (0..current.len() - 2).map(|n| (n + 2) as f64 * current[n + 2] - pole * inverse[n + 1]).collect();
    }
    table
});

/// log Q(a, x) for large a and x near a (Temme's expansion).
fn uniform_expansion(a: f64, eta: f64) -> f64 {
    let table = &*EXPANSION;
    let mut sum = 0.0;
    for (row, powers) in table.iter().zip(POWERS).rev() {
        let c = row[..powers].iter().rev().fold(0.0, |acc, coefficient| acc * eta + coefficient);
        sum = sum / a + c;
    }
    let root = a.sqrt();
    let y = eta * root;
    let log_density = -0.5 * y * y - HALF_LOG_TAU;
    if y >= 0.0 {
        log_density + (mills(y) + sum / root).ln()
    } else {
        (log_density.exp() * sum / root - normal(-y)).ln_1p()
    }
}

/// Inverse Gaussian, shifted to mean 0 and scaled to variance 1: log P(Z > z) with this skewness. Its excess
/// kurtosis is 5/3 of the squared skewness, where that of [`log_pearson3`] is 3/2.
pub fn log_inverse_gaussian(z: f64, skewness: f64) -> f64 {
    let mu = 3.0 / skewness.max(LEAST_SKEWNESS);
    let x = z + mu;
    if x <= 0.0 {
        return 0.0;
    }
    // Φ(-a) - exp((b² - a²)/2) Φ(-b), a = √(λ/x) (x/mu - 1), b = √(λ/x) (x/mu + 1), λ = mu³.
    let root = (mu / x).sqrt();
    let (a, b) = (root * z, root * (x + mu));
    let log_density = -0.5 * a * a - HALF_LOG_TAU;
    if a >= 0.0 {
        log_density + (mills(a) - mills(b)).ln()
    } else {
        (-(normal(-a) + log_density.exp() * mills(b)).min(1.0 - f64::EPSILON)).ln_1p()
    }
}

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
        // Beyond the bound only by rounding.
        let u = -rest.max(1e-300).ln();
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

/// Combines p-values by the Cauchy combination (Liu & Xie 2020): log of the combined p-value.
///
/// `log_p` and their weights, which sum to one; p-values count as 1 - 1e-3 at most.
pub fn log_cauchy(log_p: &[f64], weights: &[f64]) -> f64 {
    const CAP: f64 = 0.999;
    /// Below this p, cot(pi p) is 1/(pi p) to rounding.
    const SMALL: f64 = -20.0;
    let least = log_p.iter().copied().fold(0.0_f64, f64::min);
    // Sums of 1/p are scaled by the least p, so that nothing overflows.
    let scale = if least < SMALL { least } else { 0.0 };
    let mut sum = 0.0;
    for (lp, w) in log_p.iter().zip(weights) {
        sum += w * if *lp < SMALL {
            (scale - lp).exp() / PI
        } else {
            scale.exp() / (PI * lp.exp().min(CAP)).tan()
        };
    }
    if scale < 0.0 { scale - (PI * sum).ln() } else { (f64::atan2(1.0, sum) / PI).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::function::gamma::gamma_ur;

    fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
        let error = (got - expected).abs() / expected.abs().max(1e-300);
        assert!(error < tolerance, "{what}: {got} {expected} ({error:e})");
    }

    #[test]
    fn gamma_tail_has_its_closed_forms() {
        // Q(1, x) = exp(-x); Q(k, x) = exp(-x) Σ x^i / i! for whole k.
        for x in [0.01, 0.3, 1.9, 2.1, 50.0, 2_000.0, 1e5] {
            close(log_gamma_tail(1.0, x - 1.0), -x, 1e-12, "exponential");
        }
        for k in [3, 11, 12, 13, 40, 200_i32] {
            for ratio in [0.2, 0.5, 0.9, 0.999, 1.0, 1.001, 1.1, 1.5, 2.3, 2.4, 3.0] {
                let a = f64::from(k);
                let x = a * ratio;
                let (mut term, mut sum) = (1.0, 1.0);
                for i in 1..k {
                    term *= x / f64::from(i);
                    sum += term;
                }
                let expected = sum.ln() - x;
                // Where the tail is nearly all, its log is lost in the sum itself.
                let got = log_gamma_tail(a, ratio - 1.0);
                let error = (got - expected).abs();
                let limit = 1e-9 * expected.abs() + 1e-14 * (x + 1.0);
                assert!(error < limit, "k {k}, ratio {ratio}: {got} {expected}");
            }
        }
    }

    #[test]
    fn gamma_tail_agrees_with_another_implementation() {
        for a in [0.016, 0.3, 0.5, 2.0, 7.7, 11.99, 12.01, 25.0, 300.0, 1e4] {
            for z in [-2.0_f64, -0.7, -0.1, 0.0, 0.3, 1.0, 3.0, 6.0, 12.0] {
                let x: f64 = a + z * f64::sqrt(a);
                if x > 0.0 {
                    let expected = gamma_ur(a, x);
                    close(log_gamma_tail(a, x / a - 1.0), expected.ln(), 1e-9, &format!("a {a}, z {z}"));
                }
            }
        }
    }

    #[test]
    fn far_tails_keep_their_digits() {
        // log P(N > 40), from the asymptotic series.
        close(log_normal(40.0), -804.608_442_013_753_8, 1e-13, "normal at 40");
        close(log_normal(-8.0), -6.220_960_574_271_784e-16, 1e-9, "normal at -8");
        close(log_pearson3(40.0, 0.0), -804.608_442_013_753_8, 2e-2, "no skewness");
        // Skewness 2 is the exponential distribution.
        close(log_pearson3(5_000.0, 2.0), -5_001.0, 1e-12, "exponential");
        // A rounding error apart at the switch between methods.
        for z in [20.0_f64, 200.0] {
            let (low, high) = (log_pearson3(z, 1.154_700_538_4), log_pearson3(z, 1.154_700_538_3));
            close(low, high, 1e-8, "switch");
        }
    }

    #[test]
    fn inverse_gaussian_agrees_with_quadrature() {
        for skewness in [0.3, 1.0, 2.5, 8.0] {
            let mu: f64 = 3.0 / skewness;
            let lambda = mu.powi(3);
            let density = |x: f64| {
                (lambda / (2.0 * PI * x.powi(3))).sqrt()
                    * (-lambda * (x - mu).powi(2) / (2.0 * mu * mu * x)).exp()
            };
            for z in [-0.2, 0.5, 3.0, 10.0] {
                if z + mu <= 0.0 {
                    continue;
                }
                // Simpson's rule in log x.
                let (from, to) = ((z + mu).ln(), (z + mu + 400.0 * (1.0 + skewness * skewness)).ln());
                let steps = 40_000;
                let width = (to - from) / f64::from(steps);
                let mut sum = 0.0;
                for i in 0..=steps {
                    let x = (from + f64::from(i) * width).exp();
                    let weight = if i == 0 || i == steps {
                        1.0
                    } else if i % 2 == 1 {
                        4.0
                    } else {
                        2.0
                    };
                    sum += weight * density(x) * x;
                }
                let expected = (sum * width / 3.0).ln();
                close(log_inverse_gaussian(z, skewness), expected, 1e-7, &format!("s {skewness}, z {z}"));
            }
        }
    }

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
    fn combination_of_equal_p_values_is_their_value() {
        for log_p in [-0.01, -0.5, -3.0, -19.9, -20.1, -800.0, -1e5] {
            close(log_cauchy(&[log_p; 4], &[0.25; 4]), log_p.min(0.999_f64.ln()), 1e-9, "equal");
        }
        // The smallest dominates, divided by its weight.
        close(
            log_cauchy(&[-2_000.0, -1.0, 0.0], &[0.2, 0.3, 0.5]),
            -2_000.0 - 0.2_f64.ln(),
            1e-12,
            "smallest",
        );
        // Continuous where the way of computing changes.
        let at = |log_p: f64| log_cauchy(&[log_p, -0.1], &[0.5, 0.5]);
        close(at(-20.0 - 1e-9), at(-20.0 + 1e-9), 1e-8, "switch");
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
