//! One p-value of the p-values of many forms.

use std::f64::consts::PI;

/// The Cauchy combination (Liu & Xie 2020) of p-values, as natural logs; NaN do not count, and the weights of the
/// others are scaled to a sum of 1. NaN if none has a weight.
///
/// For correlated forms the combination is exact in the tail only (their Theorem 1): with these forms and weights,
/// P(p <= a) is about 1.1 a for a of .001 and more, over simulated locations and values of many kinds. The result is
/// larger by as much there, and by less and less beyond.
pub fn combine(log_p: &[f64], weights: &[f64]) -> f64 {
    combine_with(log_p, weights, &[])
}

/// The same, and beside it others, pairs of log p and weight, in the other direction: where the first are small these are
/// nearly 1, which must not take anything from them. So they count only below one half, and add to the weights.
pub fn combine_with(log_p: &[f64], weights: &[f64], others: &[(f64, f64)]) -> f64 {
    /// The share by which the combination is too small, and the p-value where half of it is taken off.
    const EXCESS: (f64, f64) = (0.1, 1e-3);
    let counts = || log_p.iter().zip(weights).filter(|(p, _)| !p.is_nan());
    let total: f64 = counts().map(|(_, weight)| weight).sum();
    if total > 0.0 {
        let others = others.iter().filter(|(p, _)| *p < 0.5_f64.ln()).copied();
        let own = counts().map(|(p, weight)| (*p, weight / total));
        let (log_p, weights): (Vec<f64>, Vec<f64>) = own.chain(others).unzip();
        let combined = log_cauchy(&log_p, &weights);
        let p = combined.exp();
        combined + (EXCESS.0 * (1.0 - p) * p / (p + EXCESS.1)).ln_1p()
    } else {
        f64::NAN
    }
}

/// Combines p-values by the Cauchy combination (Liu & Xie 2020): log of the combined p-value.
///
/// `log_p` and their weights, which sum to about one; p-values count as 1 - 1e-3 at most.
fn log_cauchy(log_p: &[f64], weights: &[f64]) -> f64 {
    const CAP: f64 = 0.999;
    /// Below this p, cot(pi p) is 1/(pi p) to rounding.
    const SMALL: f64 = -20.0;
    /// The least log p that is told apart from others.
    const LEAST: f64 = -1e300;
    /// From this sum of cotangents on its inverse is 1/(pi p) to rounding.
    const LARGE: f64 = 1e4;
    let least = log_p.iter().copied().fold(0.0_f64, f64::min).max(LEAST);
    // Sums of 1/p are scaled by the least p, so that nothing overflows.
    let scale = if least < SMALL { least } else { 0.0 };
    let mut sum = 0.0;
    for (lp, w) in log_p.iter().zip(weights) {
        let lp = lp.max(LEAST);
        sum += w * if lp < SMALL {
            (scale - lp).exp() / PI
        } else {
            scale.exp() / (PI * lp.exp().min(CAP)).tan()
        };
    }
    // The smallest p-value may have next to no weight.
    if scale < 0.0 && sum * (-scale).exp() > LARGE {
        scale - (PI * sum).ln()
    } else {
        (f64::atan2(1.0, sum * (-scale).exp()) / PI).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::close;

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
    fn the_combination_is_larger_by_its_excess() {
        // One form is its own combination but for what is taken off: a tenth of p where p is large, half of that at
        // p = .001, and nothing far out.
        let factor = |p: f64| combine(&[p.ln()], &[1.0]).exp() / p;
        close(factor(1e-3), 1.0 + 0.1 * 0.999 * 0.5, 1e-9, "at .001");
        close(factor(0.05), 1.0 + 0.1 * 0.95 * 0.05 / 0.051, 1e-9, "at .05");
        close(combine(&[-800.0], &[1.0]), -800.0, 1e-12, "far out");
    }

    #[test]
    fn small_weights_and_vanishing_p_values_give_a_number() {
        // The smallest p-value has next to no weight: it counts for little, as the others have it.
        for share in [1e-3, 1e-6, 1e-9, 1e-12, 1e-300, 0.0] {
            let combined = combine(&[-21.0, -0.01, -0.3], &[share, 0.5, 0.5 - share]);
            assert!(
                combined <= 0.0 && combined > -21.0 - share.max(1e-300).ln().abs(),
                "{share}: {combined}"
            );
        }
        // Continuous in the weight.
        let at = |share: f64| combine(&[-21.0, -0.5], &[share, 1.0 - share]);
        let mut last = at(1e-12);
        for step in 1..1000 {
            let next = at(10f64.powf(-12.0 + 0.012 * f64::from(step)));
            assert!(next <= last && next > last - 0.1, "{step}: {last} {next}");
            last = next;
        }
        for log_p in [&[f64::NEG_INFINITY, -1.0][..], &[f64::NEG_INFINITY; 2], &[-1e308, -1e305]] {
            let combined = combine(log_p, &[0.5, 0.5]);
            assert!(combined.is_finite() && combined < -1e299, "{combined}");
        }
        assert!(combine(&[f64::NAN, -1.0], &[0.5, 0.5]).is_finite());
    }
}
