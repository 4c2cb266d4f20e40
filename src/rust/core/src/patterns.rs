//! Automatic expression histology: genes that share a spatial pattern, found by variational inference.
//!
//! The model of gene g, standardised to mean 0 and variance 1 (denominator n), is a mixture of Gaussian
//! processes (Svensson, Teichmann, Stegle 2018, doi:10.1038/nmeth.4636):
//!
//! ```text
//! y_g | z_g = k ~ N(mu_k, s2 I),   mu_k ~ N(0, K),   z_g ~ Categorical(pi),   k = 1..C
//! ```
//!
//! with q(mu_k) = N(m_k, Sigma_k) and q(z_g = k) = r_gk. In K's eigenbasis every Sigma_k is diagonal, so an
//! iteration costs O(rank · C · genes). The bound is the full evidence lower bound: the expected log
//! likelihood, the divergence of q(mu) from its prior, and the categorical terms. Directions where K's
//! eigenvalue is zero have no divergence: prior and posterior are both a point at zero there.
//!
//! Coordinate updates alone stop at the first partition in which each gene is nearest to the mean that it
//! helped to make. [`find_patterns`] therefore alternates them with moves of single genes, judged by the bound
//! with mu and pi maximised out, in which a gene does not speak for its own pattern.

mod ascent;
mod moves;
mod predict;
mod search;

pub use predict::{Fitted, Prediction, predict};
pub use search::Settings;

use crate::error::{Error, Result, check_size};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::spectrum::Spectrum;
use ascent::{Problem, Run, column_sums, most_probable};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// A larger number of patterns must raise the bound by this relative amount to be preferred.
const TIE: f64 = 1e-7;

/// The best run for one kernel and number of patterns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attempt {
    /// The kernel's lengthscale or period.
    pub lengthscale: f64,
    /// The number of patterns asked for.
    pub n_patterns: usize,
    /// The number of patterns left after pruning.
    pub found: usize,
    /// The evidence lower bound.
    pub bound: f64,
    /// Whether the run reached the tolerance.
    pub converged: bool,
}

/// The patterns of the run with the best bound; pattern 0 has the most genes, ties go to the first gene.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// The kernel.
    pub kernel: Kernel,
    /// q(z): genes × patterns, rows sum to 1.
    pub responsibilities: Mat<f64>,
    /// Each gene's most probable pattern, counted from 0.
    pub assignment: Vec<usize>,
    /// m_k at the locations: n × patterns, in standard deviations of a gene.
    pub means: Mat<f64>,
    /// K⁻¹ m_k: n × patterns; k(x, X) times these is the pattern at x, see [`predict`].
    pub coefficients: Mat<f64>,
    /// s2, the variance left to a gene within its pattern; the variance of a gene is 1.
    pub noise: f64,
    /// pi, the patterns' shares of the genes; they sum to 1.
    pub weights: Vec<f64>,
    /// The bound after each iteration of the winning run since its patterns were pruned; it never decreases.
    pub elbo: Vec<f64>,
    /// The best run of every kernel and number of patterns, kernels outermost.
    pub selection: Vec<Attempt>,
    /// The one of them that won.
    pub chosen: Attempt,
}

/// Groups genes into patterns; the kernel and the number of patterns with the best bound win.
///
/// `spectra` are the kernels to try at the same n locations; `y` is the expression, n × genes, every column
/// finite and not constant. The runs share the current rayon pool; the result does not depend on its size.
///
/// # Errors
/// A setting outside its range, a column that is constant or not finite, or sizes that disagree.
pub fn find_patterns(spectra: &[Spectrum], y: MatRef<'_, f64>, settings: &Settings) -> Result<Patterns> {
    let (n, genes) = y.shape();
    settings.check(genes)?;
    if spectra.is_empty() {
        return Err(Error::Shape { what: "kernels", expected: 1, got: 0 });
    }
    spectra.iter().try_for_each(|spectrum| check_size("rows of y", spectrum.n(), n))?;
    let y = unit_variance(y)?;
    let problems: Vec<Problem<'_>> = spectra.par_iter().map(|s| Problem::new(s, y.as_ref())).collect();

    let mut counts = settings.n_patterns.clone();
    counts.sort_unstable();
    counts.dedup();
    let mut jobs = Vec::new();
    for kernel in 0..problems.len() {
        for &c in &counts {
            jobs.extend((0..settings.restarts).map(|restart| (kernel, c, restart)));
        }
    }
    let runs: Vec<Run> = jobs
        .par_iter()
        .with_max_len(1)
        .map(|&(kernel, c, restart)| {
            interrupt::check()?;
            Ok(problems[kernel].run(c, restart, settings))
        })
        .collect::<Result<_>>()?;
    interrupt::check()?;

    let mut selection = Vec::new();
    let mut winner: Option<(usize, &Run, Attempt)> = None;
    for (same_kernel, kernel) in runs.chunks(counts.len() * settings.restarts).zip(0..) {
        let mut best_here: Option<(&Run, Attempt)> = None;
        for (starts, &c) in same_kernel.chunks(settings.restarts).zip(&counts) {
            let best = starts.iter().reduce(|a, b| if b.bound() > a.bound() { b } else { a });
            let best = best.expect("there is at least one restart");
            let attempt = Attempt {
                lengthscale: spectra[kernel].kernel().scale(),
                n_patterns: c,
                found: best.r.ncols(),
                bound: best.bound(),
                converged: best.converged,
            };
            selection.push(attempt);
            if best_here.is_none_or(|(b, _)| best.bound() > b.bound() + TIE * b.bound().abs()) {
                best_here = Some((best, attempt));
            }
        }
        if let Some((best, attempt)) = best_here {
            if winner.is_none_or(|(_, w, _)| best.bound() > w.bound()) {
                winner = Some((kernel, best, attempt));
            }
        }
    }
    let (kernel, run, chosen) = winner.ok_or(Error::Shape { what: "runs", expected: 1, got: 0 })?;
    Ok(problems[kernel].finish(run, selection, chosen))
}

/// Columns with mean 0 and variance 1 (denominator n).
fn unit_variance(y: MatRef<'_, f64>) -> Result<Mat<f64>> {
    let n = y.nrows() as f64;
    let mut out = y.to_owned();
    for g in 0..y.ncols() {
        let column = out.col_as_slice_mut(g);
        let mean = column.iter().sum::<f64>() / n;
        let largest = column.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
        column.iter_mut().for_each(|x| *x -= mean);
        let sd = (column.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
        // Also false for NaN.
        if !(sd > 1e-12 * largest && sd.is_finite()) {
            let must_be = "a column that is finite and not constant";
            return Err(Error::Parameter { name: "gene", value: (g + 1) as f64, must_be });
        }
        column.iter_mut().for_each(|x| *x /= sd);
    }
    Ok(out)
}

impl Problem<'_> {
    /// Orders the patterns, and returns to the locations.
    fn finish(&self, run: &Run, selection: Vec<Attempt>, chosen: Attempt) -> Patterns {
        let (genes, c) = run.r.shape();
        let partition = most_probable(run.r.as_ref());
        let mut order: Vec<(usize, usize, usize)> = (0..c)
            .map(|k| {
                let members = partition.iter().filter(|&&p| p == k).count();
                (genes - members, partition.iter().position(|&p| p == k).unwrap_or(genes), k)
            })
            .collect();
        order.sort_unstable();
        let r = Mat::from_fn(genes, c, |g, k| run.r[(g, order[k].2)]);

        let (values, s2) = (self.spectrum.values(), run.noise);
        let sizes = column_sums(r.as_ref());
        let precision = |i: usize, k: usize| 1.0 / (s2 + sizes[k] * values[i]);
        let mut sums = Mat::zeros(values.len(), c);
        matmul(sums.as_mut(), Accum::Replace, self.z.as_ref(), r.as_ref(), 1.0, Par::Seq);
        let scaled = Mat::from_fn(values.len(), c, |i, k| sums[(i, k)] * precision(i, k));
        let means = Mat::from_fn(values.len(), c, |i, k| values[i] * scaled[(i, k)]);
        Patterns {
            kernel: self.spectrum.kernel(),
            assignment: most_probable(r.as_ref()),
            means: self.expand(means.as_ref()),
            coefficients: self.expand(scaled.as_ref()),
            noise: s2,
            weights: sizes.iter().map(|size| size / genes as f64).collect(),
            responsibilities: r,
            elbo: run.elbo.clone(),
            selection,
            chosen,
        }
    }

    /// U a: n × patterns from rank × patterns.
    fn expand(&self, a: MatRef<'_, f64>) -> Mat<f64> {
        let mut out = Mat::zeros(self.spectrum.n(), a.ncols());
        let mut first = 0;
        for block in self.spectrum.blocks() {
            let u = block.vectors();
            let (len, rank) = u.shape();
            let rows = out.as_mut().subrows_mut(block.start(), len);
            matmul(rows, Accum::Replace, u.as_ref().as_ref(), a.subrows(first, rank), 1.0, Par::Seq);
            first += rank;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::moves::Group;
    use super::*;
    use crate::fixtures::se;
    use crate::locations::Locations;
    use crate::random::SplitMix64;

    fn problem_data() -> (Spectrum, Mat<f64>, SplitMix64) {
        let mut random = SplitMix64::new(1, &[]);
        let coords = Mat::from_fn(35, 2, |_, _| 6.0 * random.uniform());
        let locations = Locations::new(coords.as_ref()).unwrap();
        let spectrum = Spectrum::dense(se(1.2), &locations).unwrap();
        let y = Mat::from_fn(35, 14, |i, g| {
            (coords[(i, g % 2)] * (1.0 + (g % 3) as f64 * 0.4)).sin() + 2.0 * (random.uniform() - 0.5)
        });
        (spectrum, unit_variance(y.as_ref()).unwrap(), random)
    }

    #[test]
    fn every_update_raises_the_bound_from_any_start() {
        let (spectrum, y, mut random) = problem_data();
        let problem = Problem::new(&spectrum, y.as_ref());
        for round in 0..40 {
            let c = 1 + round % 7;
            let mut r = Mat::from_fn(14, c, |_, _| random.uniform().powi(1 + round as i32 % 5) + 1e-9);
            for g in 0..14 {
                let sum: f64 = (0..c).map(|k| r[(g, k)]).sum();
                (0..c).for_each(|k| r[(g, k)] /= sum);
            }
            let run = problem.ascend(r, 0.05 + random.uniform(), 1e-9, 1000);
            for pair in run.elbo.windows(2) {
                assert!(pair[1] >= pair[0] - 1e-11 * pair[0].abs(), "{pair:?}");
            }
            assert!(run.converged);
        }
    }

    #[test]
    fn gain_of_a_move_is_the_difference_of_bounds() {
        // With q(mu), pi maximised out at fixed s2, as a fresh group gives it.
        let (spectrum, y, _) = problem_data();
        let problem = Problem::new(&spectrum, y.as_ref());
        let value = |members: &[usize]| {
            let mut group = Group::empty(spectrum.rank());
            members.iter().for_each(|&g| group.add(problem.z.col_as_slice(g), 1.0));
            group.update(spectrum.values(), 0.4);
            group
        };
        let (small, large) = (value(&[1, 2, 5]), value(&[1, 2, 5, 9]));
        let z = problem.z.col_as_slice(9);
        assert!((small.gain(z, 1.0) - (large.value - small.value)).abs() < 1e-10);
        assert!((large.gain(z, -1.0) - (small.value - large.value)).abs() < 1e-10);
        let (none, one) = (value(&[]), value(&[9]));
        assert!((none.gain(z, 1.0) - (one.value - none.value)).abs() < 1e-10);
        assert!((one.gain(z, -1.0) + one.value).abs() < 1e-10);
    }
}
