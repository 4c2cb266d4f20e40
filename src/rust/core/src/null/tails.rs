//! Upper tail probabilities as natural logarithms, right far beyond what a double can hold.

use std::f64::consts::FRAC_1_SQRT_2;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::close;
    use statrs::function::gamma::gamma_ur;
    use std::f64::consts::PI;

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
}
