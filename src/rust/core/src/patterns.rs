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

use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::locations::Locations;
use crate::random::SplitMix64;
use crate::spectrum::Spectrum;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// The noise variance at which a run starts, as a share of a gene's variance.
const START_NOISE: f64 = 0.5;
/// The noise variance never falls below this share of a gene's variance.
const LEAST_NOISE: f64 = 1e-8;
/// A larger number of patterns must raise the bound by this relative amount to be preferred.
const TIE: f64 = 1e-7;
/// Rounds of single-gene moves over all genes, at most, between two ascents.
const MAX_SWEEPS: usize = 100;
/// New locations that are predicted at once.
const CHUNK: usize = 512;

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
    fn check(&self, genes: usize) -> Result<()> {
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

/// The best run for one kernel and number of patterns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
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
    /// Standard deviation of q(mu_k) at the locations: n × patterns.
    pub std_errors: Mat<f64>,
    /// The diagonal of Sigma_k in the eigenbasis: rank × patterns.
    pub variances: Mat<f64>,
    /// K⁻¹ m_k: n × patterns; k(x, X) times these is the pattern at x, see [`predict`].
    pub coefficients: Mat<f64>,
    /// s2, the variance left to a gene within its pattern; the variance of a gene is 1.
    pub noise: f64,
    /// pi, the patterns' shares of the genes; they sum to 1.
    pub weights: Vec<f64>,
    /// The bound after each iteration of the winning run since its patterns were pruned; it never decreases.
    pub elbo: Vec<f64>,
    /// The best run of every kernel and number of patterns, kernels outermost.
    pub selection: Vec<Candidate>,
    /// The one of them that won.
    pub chosen: Candidate,
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
    if let Some(spectrum) = spectra.iter().find(|s| s.n() != n) {
        return Err(Error::Shape { what: "rows of y", expected: spectrum.n(), got: n });
    }
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
    let mut winner: Option<(usize, &Run, Candidate)> = None;
    for (same_kernel, kernel) in runs.chunks(counts.len() * settings.restarts).zip(0..) {
        let mut best_here: Option<(&Run, Candidate)> = None;
        for (starts, &c) in same_kernel.chunks(settings.restarts).zip(&counts) {
            let best = starts.iter().reduce(|a, b| if b.bound() > a.bound() { b } else { a });
            let best = best.expect("there is at least one restart");
            let candidate = Candidate {
                lengthscale: spectra[kernel].kernel().scale(),
                n_patterns: c,
                found: best.r.ncols(),
                bound: best.bound(),
                converged: best.converged,
            };
            selection.push(candidate);
            if best_here.is_none_or(|(b, _)| best.bound() > b.bound() + TIE * b.bound().abs()) {
                best_here = Some((best, candidate));
            }
        }
        if let Some((best, candidate)) = best_here
            && winner.is_none_or(|(_, w, _)| best.bound() > w.bound())
        {
            winner = Some((kernel, best, candidate));
        }
    }
    let (kernel, run, chosen) = winner.ok_or(Error::Shape { what: "runs", expected: 1, got: 0 })?;
    Ok(problems[kernel].finish(run, selection, chosen))
}

/// Patterns at new locations.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The posterior mean: new locations × patterns.
    pub means: Mat<f64>,
    /// The posterior standard deviation: new locations × patterns.
    pub std_errors: Mat<f64>,
}

/// What [`predict`] needs to know of fitted patterns.
#[derive(Debug, Clone, Copy)]
pub struct Fitted<'a> {
    /// [`Patterns::coefficients`], n × patterns.
    pub coefficients: MatRef<'a, f64>,
    /// The expected number of genes of each pattern: [`Patterns::weights`] times the number of genes.
    pub sizes: &'a [f64],
    /// [`Patterns::noise`].
    pub noise: f64,
}

/// The patterns' posterior at new locations, given the kernel's spectrum at the old ones.
///
/// q(mu_k) is the posterior of a process seen at the locations with noise s2 / R_k, so with k = k(x, X)
/// its mean at x is `k K⁻¹ m_k`, and its variance `k(x, x) - k (K + s2 / R_k)⁻¹ kᵀ`.
/// `new` has a row for each new location, `sample` says to which sample it belongs (counted from 0).
///
/// # Errors
/// Sizes that disagree, or a new location that is not finite.
pub fn predict(
    spectrum: &Spectrum,
    locations: &Locations,
    fitted: Fitted<'_>,
    new: MatRef<'_, f64>,
    sample: &[usize],
) -> Result<Prediction> {
    let (n, d) = (locations.len(), locations.dim());
    let patterns = fitted.coefficients.ncols();
    let shapes = [
        ("locations of the spectrum", n, spectrum.n()),
        ("rows of the coefficients", n, fitted.coefficients.nrows()),
        ("sizes of the patterns", patterns, fitted.sizes.len()),
        ("coordinates of the new locations", d, new.ncols()),
        ("samples of the new locations", new.nrows(), sample.len()),
    ];
    for (what, expected, got) in shapes {
        if expected != got {
            return Err(Error::Shape { what, expected, got });
        }
    }
    if let Some(&s) = sample.iter().find(|&&s| s >= locations.samples().len()) {
        return Err(Error::Shape { what: "samples", expected: locations.samples().len(), got: s + 1 });
    }
    if let Some(i) = (0..new.nrows()).find(|&i| (0..d).any(|j| !new[(i, j)].is_finite())) {
        return Err(Error::NonFiniteLocation(i + 1));
    }
    let shrink = Mat::from_fn(spectrum.rank(), patterns, |i, k| {
        fitted.sizes[k] / (fitted.noise + fitted.sizes[k] * spectrum.values()[i])
    });
    let starts: Vec<usize> = (0..new.nrows()).step_by(CHUNK).collect();
    let chunks: Vec<(Mat<f64>, Mat<f64>)> = starts
        .par_iter()
        .map(|&start| {
            let rows = start..(start + CHUNK).min(new.nrows());
            let new = new.subrows(start, rows.len());
            predict_chunk(spectrum, locations, fitted.coefficients, shrink.as_ref(), new, &sample[rows])
        })
        .collect::<Result<_>>()?;
    let mut means = Mat::zeros(new.nrows(), patterns);
    let mut std_errors = Mat::zeros(new.nrows(), patterns);
    for (&start, (mean, se)) in starts.iter().zip(&chunks) {
        means.as_mut().subrows_mut(start, mean.nrows()).copy_from(mean);
        std_errors.as_mut().subrows_mut(start, se.nrows()).copy_from(se);
    }
    Ok(Prediction { means, std_errors })
}

fn predict_chunk(
    spectrum: &Spectrum,
    locations: &Locations,
    coefficients: MatRef<'_, f64>,
    shrink: MatRef<'_, f64>,
    new: MatRef<'_, f64>,
    sample: &[usize],
) -> Result<(Mat<f64>, Mat<f64>)> {
    let (n, m, d) = (locations.len(), new.nrows(), locations.dim());
    let patterns = coefficients.ncols();
    let old = locations.coords();
    let all = Locations::new(
        Mat::from_fn(n + m, d, |i, j| if i < n { old[(i, j)] } else { new[(i - n, j)] }).as_ref(),
    )?;
    let kernel = spectrum.kernel().at(&all);
    let mut means = Mat::zeros(m, patterns);
    let mut squares = Mat::zeros(m, spectrum.rank());
    let mut first = 0;
    for (block, (rows, s)) in spectrum.blocks().iter().zip(locations.samples().iter().zip(0..)) {
        let (len, rank) = block.vectors().shape();
        // Points of different samples are independent.
        let cross =
            Mat::from_fn(
                m,
                len,
                |i, j| {
                    if sample[i] == s { kernel.value(n + i, rows.start + j) } else { 0.0 }
                },
            );
        let weights = coefficients.subrows(rows.start, len);
        matmul(means.as_mut(), Accum::Add, cross.as_ref(), weights, 1.0, Par::Seq);
        let part = squares.as_mut().subcols_mut(first, rank);
        matmul(part, Accum::Replace, cross.as_ref(), block.vectors(), 1.0, Par::Seq);
        first += rank;
    }
    for j in 0..squares.ncols() {
        squares.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= *x);
    }
    let mut se = Mat::from_fn(m, patterns, |i, _| kernel.value(n + i, n + i));
    matmul(se.as_mut(), Accum::Add, squares.as_ref(), shrink, -1.0, Par::Seq);
    for k in 0..patterns {
        se.col_as_slice_mut(k).iter_mut().for_each(|v| *v = v.max(0.0).sqrt());
    }
    Ok((means, se))
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

/// Standardised genes in the eigenbasis of one kernel.
struct Problem<'a> {
    spectrum: &'a Spectrum,
    /// Uᵀ y, rank × genes.
    z: Mat<f64>,
}

/// The end of one run.
struct Run {
    /// Responsibilities, genes × patterns.
    r: Mat<f64>,
    noise: f64,
    elbo: Vec<f64>,
    converged: bool,
}

impl Run {
    fn bound(&self) -> f64 {
        *self.elbo.last().expect("a run has at least one iteration")
    }
}

impl<'a> Problem<'a> {
    fn new(spectrum: &'a Spectrum, y: MatRef<'_, f64>) -> Self {
        let mut z = Mat::zeros(spectrum.rank(), y.ncols());
        spectrum.project(y, z.as_mut());
        Self { spectrum, z }
    }

    fn genes(&self) -> usize {
        self.z.ncols()
    }

    /// From one start to a partition that neither updates nor moves of single genes improve.
    fn run(&self, c: usize, restart: usize, settings: &Settings) -> Run {
        // The seed leaves out the kernel: the result for one does not depend on the others.
        let mut random = SplitMix64::new(settings.seed, &[c as u64, restart as u64]);
        let mut run = self.ascend(one_hot(&self.spread_start(c, &mut random), c), START_NOISE, settings);
        loop {
            let mut partition = most_probable(run.r.as_ref());
            if !self.move_genes(&mut partition, c, run.noise) || interrupt::requested() {
                break;
            }
            let next = self.ascend(one_hot(&partition, c), run.noise, settings);
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
            run = self.ascend(r, run.noise, settings);
        }
        run
    }

    /// Coordinate ascent on q(mu), s2, pi and q(z), in this order, from given responsibilities.
    fn ascend(&self, mut r: Mat<f64>, mut s2: f64, settings: &Settings) -> Run {
        let (genes, c) = r.shape();
        let (n, values) = (self.spectrum.n() as f64, self.spectrum.values());
        let mut m = Mat::<f64>::zeros(values.len(), c);
        let mut e = Mat::<f64>::zeros(genes, c);
        let mut logits = vec![0.0; c];
        let mut elbo: Vec<f64> = Vec::new();
        let mut converged = false;
        while elbo.len() < settings.max_iterations && !converged {
            // q(mu): m holds Σ_g r_gk z_g, then the mean; e collects E‖y_g - mu_k‖².
            let sizes = column_sums(r.as_ref());
            matmul(m.as_mut(), Accum::Replace, self.z.as_ref(), r.as_ref(), 1.0, Par::Seq);
            let mut divergence = 0.0;
            for (k, &size) in sizes.iter().enumerate() {
                let (mut norm, mut trace) = (0.0, 0.0);
                for (mean, &s) in m.col_as_slice_mut(k).iter_mut().zip(values) {
                    let precision = 1.0 / (s2 + size * s);
                    let scaled = *mean * precision;
                    *mean = s * scaled;
                    norm += *mean * *mean;
                    trace += s2 * s * precision;
                    // Sigma/S - 1 + m²/S + log(S/Sigma), without dividing by S.
                    divergence +=
                        0.5 * (s * scaled * scaled - size * s * precision + (size * s / s2).ln_1p());
                }
                e.col_as_slice_mut(k).fill(n + norm + trace);
            }
            matmul(e.as_mut(), Accum::Add, self.z.transpose(), m.as_ref(), -2.0, Par::Seq);

            let mut residual = 0.0;
            for k in 0..c {
                residual += r.col_as_slice(k).iter().zip(e.col_as_slice(k)).map(|(r, e)| r * e).sum::<f64>();
            }
            let total = genes as f64 * n;
            s2 = (residual / total).max(LEAST_NOISE);

            let mut evidence = 0.0;
            for g in 0..genes {
                let mut top = f64::NEG_INFINITY;
                for k in 0..c {
                    logits[k] = (sizes[k] / genes as f64).ln() - e[(g, k)] / (2.0 * s2);
                    top = top.max(logits[k]);
                }
                let sum: f64 = logits.iter().map(|x| (x - top).exp()).sum();
                for k in 0..c {
                    r[(g, k)] = (logits[k] - top).exp() / sum;
                }
                // Σ_k r (log pi - E/(2 s2) - log r) at the r that maximises it.
                evidence += top + sum.ln();
            }
            let bound = evidence - divergence - 0.5 * total * (2.0 * std::f64::consts::PI * s2).ln();
            converged = interrupt::requested()
                || elbo.last().is_some_and(|&last| bound - last <= settings.tolerance * last.abs());
            elbo.push(bound);
        }
        Run { r, noise: s2, elbo, converged }
    }

    /// Moves single genes between the patterns of a hard partition for as long as the bound rises, with q(mu) and
    /// pi maximised out and s2 fixed; says whether any gene moved. A gene is compared with patterns that it is no part of.
    fn move_genes(&self, partition: &mut [usize], c: usize, s2: f64) -> bool {
        let values = self.spectrum.values();
        let mut groups: Vec<Group> = (0..c).map(|_| Group::empty(values.len())).collect();
        for (g, &k) in partition.iter().enumerate() {
            groups[k].add(self.z.col_as_slice(g), 1.0);
        }
        groups.iter_mut().for_each(|group| group.update(values, s2));
        let mut any = false;
        for _ in 0..MAX_SWEEPS {
            let mut moved = false;
            for (g, home) in partition.iter_mut().enumerate() {
                let z = self.z.col_as_slice(g);
                let leave = groups[*home].gain(z, -1.0);
                let mut best = (*home, 0.0);
                for (k, group) in groups.iter().enumerate() {
                    if k == *home {
                        continue;
                    }
                    let gain = leave + group.gain(z, 1.0);
                    if gain > best.1 {
                        best = (k, gain);
                    }
                }
                // Rounding must not send a gene back and forth.
                if best.1 > 1e-7 {
                    for (k, sign) in [(*home, -1.0), (best.0, 1.0)] {
                        groups[k].add(z, sign);
                        groups[k].update(values, s2);
                    }
                    *home = best.0;
                    moved = true;
                }
            }
            any |= moved;
            if !moved || interrupt::requested() {
                break;
            }
        }
        any
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

    /// Orders the patterns, and returns to the locations.
    fn finish(&self, run: &Run, selection: Vec<Candidate>, chosen: Candidate) -> Patterns {
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
        let variances = Mat::from_fn(values.len(), c, |i, k| s2 * values[i] * precision(i, k));
        let mut std_errors = self.expand(variances.as_ref(), |u| u * u);
        for k in 0..c {
            std_errors.col_as_slice_mut(k).iter_mut().for_each(|v| *v = v.sqrt());
        }
        Patterns {
            kernel: self.spectrum.kernel(),
            assignment: most_probable(r.as_ref()),
            means: self.expand(means.as_ref(), |u| u),
            std_errors,
            variances,
            coefficients: self.expand(scaled.as_ref(), |u| u),
            noise: s2,
            weights: sizes.iter().map(|size| size / genes as f64).collect(),
            responsibilities: r,
            elbo: run.elbo.clone(),
            selection,
            chosen,
        }
    }

    /// f(U) a: n × patterns from rank × patterns.
    fn expand(&self, a: MatRef<'_, f64>, f: impl Fn(f64) -> f64) -> Mat<f64> {
        let mut out = Mat::zeros(self.spectrum.n(), a.ncols());
        let mut first = 0;
        for block in self.spectrum.blocks() {
            let u = block.vectors();
            let (len, rank) = u.shape();
            let u = Mat::from_fn(len, rank, |i, j| f(u[(i, j)]));
            let rows = out.as_mut().subrows_mut(block.start(), len);
            matmul(rows, Accum::Replace, u.as_ref(), a.subrows(first, rank), 1.0, Par::Seq);
            first += rank;
        }
        out
    }
}

/// The genes of one pattern in a hard partition, and what the bound gains by one more or one less.
///
/// With q(mu) and pi maximised out, a pattern of R genes with sum t adds
/// `F(R, t) = ½ Σ_i [S t² / (s2 (s2 + R S)) - log(1 + R S / s2)] + R log R` to the bound.
struct Group {
    size: f64,
    sum: Vec<f64>,
    /// F at the present size and sum.
    value: f64,
    /// The same with one gene less, and with one more: weights of t², and what does not depend on t.
    less: (Vec<f64>, f64),
    more: (Vec<f64>, f64),
}

impl Group {
    fn empty(rank: usize) -> Self {
        let weights = || (vec![0.0; rank], 0.0);
        Self { size: 0.0, sum: vec![0.0; rank], value: 0.0, less: weights(), more: weights() }
    }

    fn add(&mut self, z: &[f64], sign: f64) {
        self.size += sign;
        self.sum.iter_mut().zip(z).for_each(|(t, z)| *t += sign * z);
    }

    fn update(&mut self, values: &[f64], s2: f64) {
        let constant = |size: f64, weights: &mut [f64]| {
            let mut log_det = 0.0;
            for (w, &s) in weights.iter_mut().zip(values) {
                *w = s / (s2 * (s2 + size * s));
                log_det += (size * s / s2).ln_1p();
            }
            let entropy = if size > 0.0 { size * size.ln() } else { 0.0 };
            entropy - 0.5 * log_det
        };
        // `less` serves as scratch space before it gets its own values.
        let here = constant(self.size, &mut self.less.0);
        self.value = here + 0.5 * weighted_norm(&self.less.0, &self.sum, &self.sum, 0.0);
        if self.size > 0.0 {
            self.less.1 = constant(self.size - 1.0, &mut self.less.0);
        }
        self.more.1 = constant(self.size + 1.0, &mut self.more.0);
    }

    /// The bound's change when a gene joins (sign 1) or leaves (sign -1).
    fn gain(&self, z: &[f64], sign: f64) -> f64 {
        let (weights, constant) = if sign > 0.0 { &self.more } else { &self.less };
        constant + 0.5 * weighted_norm(weights, &self.sum, z, sign) - self.value
    }
}

/// Σ w (t + a z)², in eight interleaved sums, so that it vectorises and the order is fixed.
fn weighted_norm(w: &[f64], t: &[f64], z: &[f64], a: f64) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let whole = w.len() / LANES * LANES;
    let lanes = w[..whole].chunks_exact(LANES).zip(t[..whole].chunks_exact(LANES));
    for ((w, t), z) in lanes.zip(z[..whole].chunks_exact(LANES)) {
        for i in 0..LANES {
            let x = t[i] + a * z[i];
            sums[i] += w[i] * x * x;
        }
    }
    for i in whole..w.len() {
        let x = t[i] + a * z[i];
        sums[0] += w[i] * x * x;
    }
    sums.iter().sum()
}

fn column_sums(r: MatRef<'_, f64>) -> Vec<f64> {
    (0..r.ncols()).map(|k| (0..r.nrows()).map(|g| r[(g, k)]).sum()).collect()
}

fn one_hot(partition: &[usize], c: usize) -> Mat<f64> {
    Mat::from_fn(partition.len(), c, |g, k| if partition[g] == k { 1.0 } else { 0.0 })
}

/// The column of each row's largest entry, the first of equal ones.
fn most_probable(r: MatRef<'_, f64>) -> Vec<usize> {
    (0..r.nrows())
        .map(|g| (1..r.ncols()).fold(0, |best, k| if r[(g, k)] > r[(g, best)] { k } else { best }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::se;

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
            let run = problem.ascend(r, 0.05 + random.uniform(), &Settings::default());
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
