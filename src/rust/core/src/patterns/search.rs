//! From one start to a partition that neither updates nor moves of single genes improve.

use super::ascent::{Problem, Run, most_probable};
use super::moves::move_genes;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::SplitMix64;
use faer::Mat;

/// The noise variance at which a run starts, as a share of a gene's variance.
const START_NOISE: f64 = 0.5;

/// How to search for patterns.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The numbers of patterns to try, each from 1 to the number of genes.
    pub n_patterns: Vec<usize>,
    /// Starts for each number of patterns and kernel, at least 1.
    pub restarts: usize,
    /// Seed of the starts.
    pub seed: u64,
    /// A run has converged when an iteration raises the bound by less than this share of it, > 0.
    pub tolerance: f64,
    /// Iterations at most between two rounds of single-gene moves, at least 1.
    pub max_iterations: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { n_patterns: (2..=8).collect(), restarts: 10, seed: 1, tolerance: 1e-9, max_iterations: 1000 }
    }
}

impl Settings {
    pub(super) fn check(&self, genes: usize) -> Result<()> {
        let wrong = |name, value, must_be| Err(Error::Parameter { name, value, must_be });
        if self.n_patterns.is_empty() {
            return wrong("n_patterns", f64::NAN, "at least one number");
        }
        if let Some(&c) = self.n_patterns.iter().find(|&&c| c < 1 || c > genes) {
            return wrong("n_patterns", c as f64, "from 1 to the number of genes");
        }
        if self.restarts < 1 {
            return wrong("restarts", 0.0, "at least 1");
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            return wrong("tolerance", self.tolerance, "between 0 and 1");
        }
        if self.max_iterations < 1 {
            return wrong("max_iterations", 0.0, "at least 1");
        }
        Ok(())
    }
}

impl Problem<'_> {
    /// From one start to a partition that neither updates nor moves of single genes improve.
    pub fn run(&self, c: usize, restart: usize, settings: &Settings) -> Run {
        let ascend = |r, noise| self.ascend(r, noise, settings.tolerance, settings.max_iterations);
        // The seed leaves out the kernel: the result for one does not depend on the others.
        let mut random = SplitMix64::new(settings.seed, &[c as u64, restart as u64]);
        let mut run = ascend(one_hot(&self.spread_start(c, &mut random), c), START_NOISE);
        loop {
            let mut partition = most_probable(run.r.as_ref());
            if !move_genes(&self.z, self.spectrum.values(), &mut partition, c, run.noise)
                || interrupt::requested()
            {
                break;
            }
            let next = ascend(one_hot(&partition, c), run.noise);
            if next.bound() <= run.bound() + settings.tolerance * run.bound().abs() {
                break;
            }
            // Where memberships are soft, the first iterations from the hard partition may lie lower.
            let last = run.bound();
            let mut elbo = run.elbo;
            elbo.extend(next.elbo.iter().copied().filter(|&b| b > last));
            run = Run { elbo, ..next };
        }
        let mut used = vec![false; c];
        most_probable(run.r.as_ref()).iter().for_each(|&k| used[k] = true);
        if used.contains(&false) {
            let kept: Vec<usize> = (0..c).filter(|&k| used[k]).collect();
            let mut r = Mat::from_fn(self.genes(), kept.len(), |g, k| run.r[(g, kept[k])]);
            for g in 0..r.nrows() {
                let sum: f64 = (0..r.ncols()).map(|k| r[(g, k)]).sum();
                (0..r.ncols()).for_each(|k| r[(g, k)] /= sum);
            }
            run = ascend(r, run.noise);
        }
        run
    }

    /// k-means++ over the genes, measured by what a pattern of one gene would keep of them.
    fn spread_start(&self, c: usize, random: &mut SplitMix64) -> Vec<usize> {
        let genes = self.genes();
        let weight: Vec<f64> = self.spectrum.values().iter().map(|s| s / (s + START_NOISE)).collect();
        let distance = |a: usize, b: usize| -> f64 {
            let (a, b) = (self.z.col_as_slice(a), self.z.col_as_slice(b));
            a.iter().zip(b).zip(&weight).map(|((x, y), w)| w * (x - y) * (x - y)).sum()
        };
        let mut nearest = vec![f64::INFINITY; genes];
        let mut partition = vec![0; genes];
        let mut centre = random.below(genes);
        for k in 0..c {
            for g in 0..genes {
                let d = distance(g, centre);
                if d < nearest[g] {
                    nearest[g] = d;
                    partition[g] = k;
                }
            }
            let total: f64 = nearest.iter().sum();
            let mut left = random.uniform() * total;
            // Falls through to the last candidate by rounding, and to gene 0 when all genes coincide.
            centre = (0..genes).rfind(|&g| nearest[g] > 0.0).unwrap_or(0);
            for (g, &d) in nearest.iter().enumerate() {
                left -= d;
                if left < 0.0 {
                    centre = g;
                    break;
                }
            }
        }
        partition
    }
}

fn one_hot(partition: &[usize], c: usize) -> Mat<f64> {
    Mat::from_fn(partition.len(), c, |g, k| if partition[g] == k { 1.0 } else { 0.0 })
}
