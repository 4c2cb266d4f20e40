//! The profile likelihood of one gene and one kernel as a function of delta, and its global maximum.
//!
//! With `V = K + delta I`, and a mean for each sample, `P = V⁻¹ - V⁻¹ B (Bᵀ V⁻¹ B)⁻¹ Bᵀ V⁻¹`,
//!
//! ```text
//! s2(delta) = yᵀ P y / n
//! LL(delta) = -½ [ n log(2 pi) + n log s2 + log det V + n ]
//! ```
//!
//! (Svensson et al. 2018). `dP/d delta = -P P`, so the derivatives need no more than `yᵀPPy`, `yᵀPPPy`, `tr V⁻¹`
//! and `tr V⁻²`. Nothing here knows how an engine computes these.

use std::f64::consts::PI;

/// The interval over which log delta is maximised.
pub const LOG_DELTA: (f64, f64) = (-10.0, 20.0);

/// A maximum is refined until log delta moves by less than this.
const LOG_DELTA_TOLERANCE: f64 = 1e-9;

/// Grid steps in log delta, below and above `GRID_BEND`: a signal that is stronger than the noise makes
/// the likelihood sharper.
const GRID_STEPS: (f64, f64) = (0.5, 1.0);
const GRID_BEND: f64 = 5.0;

/// What refinement may add to a maximum of the grid beside its parabola's gain: the grid is fine enough that more than
/// this has not been seen.
const REFINEMENT_MARGIN: f64 = 0.01;

/// The grid of log delta on which every likelihood is scanned before it is refined.
pub fn log_delta_grid() -> Vec<f64> {
    let (low, high) = LOG_DELTA;
    let fine = ((GRID_BEND - low) / GRID_STEPS.0).round() as usize;
    let coarse = ((high - GRID_BEND) / GRID_STEPS.1).round() as usize;
    let lower = (0..fine).map(|i| low + GRID_STEPS.0 * i as f64);
    let upper = (0..=coarse).map(|i| GRID_BEND + GRID_STEPS.1 * i as f64);
    lower.chain(upper).collect()
}

/// The log likelihood of the model without a spatial part, for a gene centred and scaled to a mean square of 1.
pub fn constant_loglik(n: usize) -> f64 {
    -0.5 * n as f64 * ((2.0 * PI).ln() + 1.0)
}

/// The log likelihood at some log delta, with its first two derivatives in log delta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// LL.
    pub value: f64,
    /// dLL / d log delta.
    pub slope: f64,
    /// d²LL / (d log delta)².
    pub curvature: f64,
}

/// What the likelihood is made of at one delta.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Terms {
    /// `yᵀ P y`.
    pub quadratic: f64,
    /// `yᵀ P P y`.
    pub quadratic2: f64,
    /// `yᵀ P P P y`.
    pub quadratic3: f64,
    /// `log det V`.
    pub log_det: f64,
    /// `tr V⁻¹`.
    pub trace: f64,
    /// `tr V⁻²`.
    pub trace2: f64,
}

impl Terms {
    /// The likelihood and its derivatives from its parts.
    pub fn evaluate(&self, n: usize, delta: f64) -> Evaluation {
        let n = n as f64;
        let q1 = -self.quadratic2 / self.quadratic;
        let q2 = 2.0 * self.quadratic3 / self.quadratic;
        let d1 = -0.5 * (n * q1 + self.trace);
        let d2 = -0.5 * (n * (q2 - q1 * q1) - self.trace2);
        Evaluation {
            value: loglik(n, self.quadratic, self.log_det),
            slope: delta * d1,
            curvature: delta * delta * d2 + delta * d1,
        }
    }
}

/// LL from `yᵀ P y` and `log det V`.
pub(crate) fn loglik(n: f64, quadratic: f64, log_det: f64) -> f64 {
    -0.5 * (n * (2.0 * PI).ln() + n * (quadratic / n).ln() + log_det + n)
}

/// A likelihood's maximum over delta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Maximum {
    /// log delta there.
    pub log_delta: f64,
    /// The likelihood there.
    pub value: f64,
    /// Its second derivative in log delta; none at the ends of the interval.
    pub curvature: Option<f64>,
}

/// A local maximum on the grid that is worth refining.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    index: usize,
    value: f64,
    /// The likelihood on the grid, plus what refinement may at most be expected to add.
    pub upper_bound: f64,
}

/// The local maxima of a likelihood on the grid, given as `yᵀ P y (det V)^(1/n)` (the smaller it is, the larger the
/// likelihood), each with the most that refinement may add: twice the gain of the parabola through it and its
/// neighbours. At the upper end, where delta is so large that the likelihood is monotone, there is nothing to add.
pub fn candidates(scanned: &[f64], n: usize, mut found: impl FnMut(Candidate)) {
    let last = scanned.len() - 1;
    let value = |index: usize| loglik(n as f64, scanned[index], 0.0);
    for (index, &here) in scanned.iter().enumerate() {
        let lower = |other: Option<&f64>| other.is_some_and(|&other| other < here);
        if here.is_nan() || lower(index.checked_sub(1).map(|i| &scanned[i])) || lower(scanned.get(index + 1))
        {
            continue;
        }
        let top = value(index);
        let (gain, margin) = if index == last {
            (0.0, 0.0)
        } else if index == 0 {
            ((top - value(1)) / 4.0, REFINEMENT_MARGIN)
        } else {
            let (left, right) = (top - value(index - 1), top - value(index + 1));
            let bend = left + right;
            (if bend > 0.0 { (left - right).powi(2) / (8.0 * bend) } else { 0.0 }, REFINEMENT_MARGIN)
        };
        found(Candidate { index, value: top, upper_bound: top + 2.0 * gain + margin });
    }
}

/// The range of log delta in which a likelihood, given on its grid as for [`candidates`], is at least `least`; between the
/// grid's points a parabola. `None` if it is so at none of them.
pub fn range_above(scanned: &[f64], grid: &[f64], n: usize, least: f64) -> Option<(f64, f64)> {
    let most = n as f64 * (-2.0 * (least - constant_loglik(n)) / n as f64).exp();
    let first = scanned.iter().position(|value| *value <= most)?;
    let last = scanned.iter().rposition(|value| *value <= most)?;
    let point = |at: usize| (grid[at], loglik(n as f64, scanned[at], 0.0) - least);
    // From a point inside towards its neighbour outside, which may be unknown.
    let end = |inside: usize, outside: Option<usize>, behind: Option<usize>| {
        let known = outside.filter(|&o| scanned.get(o).is_some_and(|value| *value > most));
        let behind = behind.filter(|&b| b < scanned.len());
        known.map_or(grid[inside], |outside| crossing(behind.map(point), point(inside), point(outside)))
    };
    let before = |at: usize| at.checked_sub(1);
    Some((end(first, before(first), Some(first + 1)), end(last, Some(last + 1), before(last))))
}

/// Where a parabola through points (x, f) crosses zero between the second one, where it is not below, and the third,
/// where it is; a line where there is no first one.
fn crossing(behind: Option<(f64, f64)>, (inside, f): (f64, f64), (outside, below): (f64, f64)) -> f64 {
    let step = outside - inside;
    let slope = (below - f) / step;
    let bend = behind.map_or(0.0, |(x, value)| (slope - (f - value) / (inside - x)) / (outside - x));
    let bend = if bend.is_finite() { bend } else { 0.0 };
    // bend u² + along u + f = 0 at u from the point inside.
    let along = slope - step * bend;
    let root = (along * along - 4.0 * bend * f).max(0.0).sqrt();
    let share = 2.0 * f / (root.copysign(step) - along) / step;
    inside + if share > 0.0 { share.min(1.0) * step } else { 0.0 }
}

/// Refines a local maximum of the grid by Newton's method on the slope, kept inside the neighbouring grid
/// points by bisection. `value` is needed only where the search ends, `slopes` (whose value is not used) at every step.
pub fn refine(
    candidate: Candidate,
    grid: &[f64],
    slopes: impl Fn(f64) -> Evaluation,
    value: impl Fn(f64) -> f64,
) -> Maximum {
    let mut x = grid[candidate.index];
    if candidate.index + 1 == grid.len() {
        return Maximum { log_delta: x, value: candidate.value, curvature: None };
    }
    let mut low = grid[candidate.index.saturating_sub(1)];
    let mut high = grid[candidate.index + 1];
    let mut at = slopes(x);
    for _ in 0..100 {
        if at.slope == 0.0 {
            break;
        }
        if at.slope > 0.0 {
            low = x;
        } else {
            high = x;
        }
        let newton = x - at.slope / at.curvature;
        let next =
            if at.curvature < 0.0 && newton > low && newton < high { newton } else { 0.5 * (low + high) };
        let moved = (next - x).abs();
        if moved == 0.0 {
            break;
        }
        x = next;
        at = slopes(x);
        if moved < LOG_DELTA_TOLERANCE {
            break;
        }
    }
    let curvature = (x > grid[0] && at.curvature < 0.0).then_some(at.curvature);
    Maximum { log_delta: x, value: value(x), curvature }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_parabolas_do() {
        let (grid, n) = (log_delta_grid(), 50);
        // Peaks on the grid and between its points, of all widths; one wider than the grid.
        for (centre, curvature) in [(0.0, 1.0), (0.2, 3.0), (-3.3, 40.0), (4.9, 0.7), (7.4, 2.0), (5.0, 0.01)]
        {
            let top = constant_loglik(n) + 20.0;
            let value = |x: f64| top - 0.5 * curvature * (x - centre) * (x - centre);
            let scanned: Vec<f64> = grid
                .iter()
                .map(|&x| n as f64 * (-2.0 * (value(x) - constant_loglik(n)) / n as f64).exp())
                .collect();
            let found = range_above(&scanned, &grid, n, top - 3.0);
            let half = (6.0_f64 / curvature).sqrt();
            let Some((low, high)) = found else {
                assert!(half < 0.5, "{centre} {curvature}");
                continue;
            };
            assert!((low - (centre - half).max(grid[0])).abs() < 1e-9, "{centre} {curvature}: {low}");
            assert!((high - (centre + half).min(20.0)).abs() < 1e-9, "{centre} {curvature}: {high}");
        }
        // Where a neighbour is not known, or nothing is there.
        assert_eq!(crossing(None, (1.0, 2.0), (3.0, -2.0)), 2.0);
        assert_eq!(crossing(Some((0.0, 1.0)), (1.0, 2.0), (3.0, f64::NEG_INFINITY)), 1.0);
        assert_eq!(crossing(Some((0.0, 1.0)), (1.0, 0.0), (3.0, -1.0)), 1.0);
    }
}
