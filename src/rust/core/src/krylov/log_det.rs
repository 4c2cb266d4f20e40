//! The log determinant of K + delta as a function of log delta: a table, so that many nodes of a quadrature are
//! summed once and not for every gene.

use crate::likelihood::LOG_DELTA;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Knots in a unit of log delta.
const KNOTS: f64 = 8.0;

/// `log det(K + delta)` with its first two derivatives in log delta, over [`LOG_DELTA`].
///
/// Between the knots it is the polynomial of degree five that has these values. The function is analytic with a
/// radius of pi; a relative error of 1e-10 is left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogDet {
    knots: Vec<[f64; 3]>,
}

impl LogDet {
    /// From about the eigenvalues of K, with multiplicities; in the current rayon pool.
    pub fn new(eigenvalues: &[(f64, f64)]) -> Self {
        let (low, high) = LOG_DELTA;
        let count = ((high - low) * KNOTS) as usize + 1;
        let knots = (0..count).into_par_iter().map(|k| {
            let delta = (low + k as f64 / KNOTS).exp();
            eigenvalues.iter().fold([0.0; 3], |[value, slope, curvature], (eigenvalue, count)| {
                let share = delta / (eigenvalue + delta);
                [
                    value + count * (eigenvalue + delta).ln(),
                    slope + count * share,
                    curvature + count * share * (1.0 - share),
                ]
            })
        });
        Self { knots: knots.collect() }
    }

    /// The log determinant and its first two derivatives at a log delta within [`LOG_DELTA`].
    pub fn at(&self, log_delta: f64) -> [f64; 3] {
        let place = ((log_delta - LOG_DELTA.0) * KNOTS).max(0.0);
        let k = (place as usize).min(self.knots.len() - 2);
        let t = place - k as f64;
        // In units of the knots' distance; [t², t³, t⁴, t⁵] make up for what the left end's parabola misses.
        let scale = [1.0, 1.0 / KNOTS, 1.0 / (KNOTS * KNOTS)];
        let at = |k: usize| -> [f64; 3] { std::array::from_fn(|i| self.knots[k][i] * scale[i]) };
        let (a, b) = (at(k), at(k + 1));
        let gap = b[0] - a[0] - a[1] - 0.5 * a[2];
        let slope_gap = b[1] - a[1] - a[2];
        let curvature_gap = b[2] - a[2];
        let c3 = 10.0 * gap - 4.0 * slope_gap + 0.5 * curvature_gap;
        let c4 = -15.0 * gap + 7.0 * slope_gap - curvature_gap;
        let c5 = 6.0 * gap - 3.0 * slope_gap + 0.5 * curvature_gap;
        let value = a[0] + t * (a[1] + t * (0.5 * a[2] + t * (c3 + t * (c4 + t * c5))));
        let slope = a[1] + t * (a[2] + t * (3.0 * c3 + t * (4.0 * c4 + t * 5.0 * c5)));
        let curvature = a[2] + t * (6.0 * c3 + t * (12.0 * c4 + t * 20.0 * c5));
        [value / scale[0], slope / scale[1], curvature / scale[2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_sum_of_logs_between_the_knots() {
        let eigenvalues: Vec<(f64, f64)> =
            (0..60).map(|k| ((-0.4 * f64::from(k)).exp() * 50.0, 1.0 + f64::from(k))).collect();
        let log_det = LogDet::new(&eigenvalues);
        for step in 0..=3000 {
            let x = -10.0 + 0.01 * f64::from(step);
            let delta = x.exp();
            let [value, slope, curvature] = log_det.at(x);
            let sum = |f: &dyn Fn(f64) -> f64| eigenvalues.iter().map(|(s, m)| m * f(*s)).sum::<f64>();
            let n = sum(&|_| 1.0);
            assert!((value - sum(&|s| (s + delta).ln())).abs() < 1e-9 * n, "{x}");
            assert!((slope - sum(&|s| delta / (s + delta))).abs() < 1e-8 * n, "{x}");
            assert!((curvature - sum(&|s| delta * s / (s + delta).powi(2))).abs() < 1e-6 * n, "{x}");
        }
    }
}
