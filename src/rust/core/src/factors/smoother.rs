//! Each factor's kernel from a grid, and its posterior.

use super::kriging::{Level, Weights};
use super::small::dot;
use crate::error::Result;
use crate::locations::Locations;
use faer::Mat;
use rayon::prelude::*;
use std::collections::HashMap;

/// The narrowest kernel, in spacings, and the ratio of neighbours in the grid.
const NARROWEST: f64 = 0.7;
const RATIO: f64 = 1.5;
/// The widest kernel, as a share of the largest distance.
const WIDEST: f64 = 0.4;
/// The grid of delta.
const DELTAS: usize = 13;
const LEAST_DELTA: f64 = 0.05;
const MOST_DELTA: f64 = 50.0;
/// Locations, at most, by which a kernel is judged.
const JUDGES: usize = 2000;

/// A kernel of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Choice {
    pub level: usize,
    pub delta: usize,
}

/// The posterior of one factor.
pub(crate) struct Posterior {
    /// The factor as a whole: smooth part and what each location has of its own.
    pub total: Vec<f64>,
    /// The sum of its variances.
    pub total_variance: f64,
    /// The smooth part, and its variance.
    pub smooth: Vec<f64>,
    pub smooth_variance: Vec<f64>,
}

/// The grid, prepared at some locations.
pub(crate) struct Smoother {
    locations: Locations,
    pub levels: Vec<Level>,
    pub deltas: Vec<f64>,
    judges: Vec<usize>,
    /// Of the judges, for each level and delta.
    judged: Vec<Vec<Weights>>,
    rows: Vec<usize>,
    prepared: HashMap<Choice, Weights>,
}

/// Lengthscales from below the spacing to a good part of the tissue.
pub(crate) fn default_lengthscales(locations: &Locations) -> Vec<f64> {
    let spacing = locations.spacing();
    let most = (WIDEST * locations.distance_range().1).max(spacing);
    let steps = ((most / (NARROWEST * spacing)).ln() / RATIO.ln()).floor() as i32;
    (0..=steps).map(|i| NARROWEST * spacing * RATIO.powi(i)).collect()
}

impl Smoother {
    pub fn new(locations: &Locations, lengthscales: &[f64]) -> Result<Self> {
        let (n, spacing) = (locations.len(), locations.spacing());
        let step = (DELTAS - 1) as f64;
        let delta = |i: usize| LEAST_DELTA * (MOST_DELTA / LEAST_DELTA).powf(i as f64 / step);
        let deltas: Vec<f64> = (0..DELTAS).map(delta).collect();
        let count = n.min(JUDGES);
        let judges: Vec<usize> = (0..count).map(|i| i * n / count).collect();
        let levels: Vec<Level> =
            lengthscales.par_iter().map(|&l| Level::new(locations, l, spacing)).collect();
        let judged = levels
            .par_iter()
            .map(|level| level.weights(locations, &judges, &deltas))
            .collect::<Result<_>>()?;
        let rows = (0..n).collect();
        Ok(Self {
            locations: locations.clone(),
            levels,
            deltas,
            judges,
            judged,
            rows,
            prepared: HashMap::new(),
        })
    }

    /// The kernel whose predictions of left-out locations have the highest density; `None` if no kernel beats a
    /// constant. x is the factor plus noise of variance 1 / `precision`, as large as delta at least.
    ///
    /// The density is profiled over the scale. Geisser & Eddy 1979, doi:10.1080/01621459.1979.10481632.
    pub fn choose(&self, x: &[f64], precision: f64) -> Option<Choice> {
        let m = self.judges.len() as f64;
        let own: Vec<f64> = self.judges.iter().map(|&row| x[row]).collect();
        let alone = -0.5 * m * (dot(&own, &own) / m).ln();
        let best = (0..self.levels.len())
            .into_par_iter()
            .map(|level| {
                let mut best: (f64, Option<Choice>) = (alone, None);
                let sums = self.levels[level].anchors.sums(x);
                // Delta holds the noise at least.
                let first = self.deltas.iter().position(|d| d * precision >= 1.0).unwrap_or(DELTAS);
                let judged: Vec<&Weights> = self.judged[level][first..].iter().collect();
                if judged.is_empty() {
                    return best;
                }
                let errors = self.levels[level].errors(&judged, &self.judges, x, &sums);
                for (i, weights) in judged.iter().enumerate() {
                    let (delta, mut square) = (first + i, 0.0);
                    for (e, v) in errors[i..].iter().step_by(judged.len()).zip(&weights.variance) {
                        square += e * e / v;
                    }
                    let density = -0.5 * m * (square / m).ln() - 0.5 * weights.log_variance;
                    if density > best.0 {
                        best = (density, Some(Choice { level, delta }));
                    }
                }
                best
            })
            .collect::<Vec<_>>();
        // The first of equal ones.
        best.into_iter().fold((alone, None), |a, b| if b.0 > a.0 { b } else { a }).1
    }

    /// Prepares the kernels that have been chosen.
    pub fn prepare(&mut self, choices: &[Option<Choice>]) -> Result<()> {
        if self.all_judge() {
            return Ok(());
        }
        for choice in choices.iter().flatten() {
            if !self.prepared.contains_key(choice) {
                let delta = [self.deltas[choice.delta]];
                let weights = self.levels[choice.level].weights(&self.locations, &self.rows, &delta)?;
                self.prepared.extend(weights.into_iter().map(|w| (*choice, w)));
            }
        }
        Ok(())
    }

    /// Whether kernels are judged by all locations, so that their weights are prepared from the start.
    fn all_judge(&self) -> bool {
        self.judges.len() == self.rows.len()
    }

    /// The weights at all locations.
    fn weights(&self, choice: Choice) -> &Weights {
        if self.all_judge() { &self.judged[choice.level][choice.delta] } else { &self.prepared[&choice] }
    }

    /// The share of a factor's variance that is smooth: a factor has variance 1, and noise 1 / `precision` is added.
    pub fn share(&self, choice: Option<Choice>, precision: f64) -> f64 {
        choice.map_or(0.0, |c| ((1.0 + 1.0 / precision) / (1.0 + self.deltas[c.delta])).min(1.0))
    }

    /// The posterior of a factor seen as x with noise of variance 1 / `precision`. The kernel must have been prepared.
    ///
    /// Since the kernel was chosen there may have come more noise than its delta holds. A factor is what its neighbours
    /// predict then, at most: beyond that it would have a negative variance, and grow without end.
    pub fn posterior(&self, x: &[f64], precision: f64, choice: Option<Choice>) -> Posterior {
        let (n, noise) = (x.len(), 1.0 / precision);
        let Some(choice) = choice else {
            let shrink = 1.0 / (1.0 + noise);
            return Posterior {
                total: x.iter().map(|x| x * shrink).collect(),
                total_variance: n as f64 * noise * shrink,
                smooth: vec![0.0; n],
                smooth_variance: vec![0.0; n],
            };
        };
        let weights = self.weights(choice);
        let (share, delta) = (self.share(Some(choice), precision), self.deltas[choice.delta]);
        let level = &self.levels[choice.level];
        let errors = level.errors(&[weights], &self.rows, x, &level.anchors.sums(x));
        let mut out = Posterior {
            total: vec![0.0; n],
            total_variance: 0.0,
            smooth: vec![0.0; n],
            smooth_variance: vec![0.0; n],
        };
        for i in 0..n {
            let (error, variance) = (errors[i], weights.variance[i]);
            let to_neighbours = (noise / (share * variance)).min(1.0);
            out.total[i] = x[i] - error * to_neighbours;
            out.total_variance += noise * (1.0 - to_neighbours);
            out.smooth[i] = x[i] - error * delta / variance;
            out.smooth_variance[i] = (share * delta * (1.0 - delta / variance)).max(0.0);
        }
        out
    }

    /// The smooth part smoothed once at a middle scale, for the start.
    pub fn rough(&mut self, x: &Mat<f64>) -> Result<Mat<f64>> {
        let spacing = self.locations.spacing();
        let level = self.levels.iter().rposition(|l| l.lengthscale <= 1.8 * spacing).unwrap_or(0);
        let delta = self.deltas.iter().position(|&d| d >= 1.0).unwrap_or(0);
        let choice = Choice { level, delta };
        self.prepare(&[Some(choice)])?;
        let columns: Vec<Vec<f64>> =
            (0..x.ncols()).map(|k| self.posterior(x.col_as_slice(k), 1e9, Some(choice)).smooth).collect();
        Ok(Mat::from_fn(x.nrows(), x.ncols(), |i, k| columns[k][i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::irregular;
    use crate::random::SplitMix64;

    #[test]
    fn however_much_noise_comes_after_the_choice_a_factor_is_between_itself_and_its_neighbours() {
        let n = 60;
        let locations = irregular(n, 2, 3);
        let mut random = SplitMix64::new(4, &[]);
        let x: Vec<f64> = (0..n).map(|i| locations.coords()[(i, 0)] + 0.1 * random.normal()).collect();
        let mut smoother = Smoother::new(&locations, &[0.2, 0.5]).unwrap();
        let choice = smoother.choose(&x, 100.0);
        smoother.prepare(&[choice]).unwrap();
        let none = smoother.posterior(&x, 1e-9, choice);
        for precision in [1e6, 100.0, 10.0, 1.0, 0.1, 1e-3] {
            let found = smoother.posterior(&x, precision, choice);
            let most = n as f64 / precision;
            assert!((0.0..=most).contains(&found.total_variance), "{precision}: {}", found.total_variance);
            for ((total, x), neighbours) in found.total.iter().zip(&x).zip(&none.total) {
                assert!((x.min(*neighbours)..=x.max(*neighbours)).contains(total), "{precision}");
            }
        }
    }
}
