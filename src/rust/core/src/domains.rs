//! Domains: parts of a tissue in which its factors have the same values, up to noise.
//!
//! A mixture over locations whose labels z follow a Potts model, `p(z) ∝ exp(beta · pairs of neighbours in one domain)`.
//! Given its domain, a location's values are t-distributed around the domain's mean with a covariance that all domains
//! share, so that single odd spots make no domain (Zhao et al. 2021, doi:10.1038/s41587-021-00935-2, have the same errors).
//! The covariance is drawn towards equal variances, the more the fewer locations there are: the unit of the values says how
//! much a difference in each counts. Errors of locations near each other are alike (see `errors`). Labels are inferred by
//! mean field, beta by pseudo-likelihood (Besag 1975, doi:10.2307/2987782), from several starts; the best
//! pseudo-likelihood wins.

mod errors;
mod starts;

use crate::error::{Error, Result, check_size};
use crate::factors::kriging::{backward, cholesky, forward};
use crate::graph::Graph;
use crate::interrupt;
use crate::locations::Locations;
use errors::Around;
use faer::prelude::*;
use rayon::prelude::*;

/// Degrees of freedom of the errors.
const FREEDOM: f64 = 10.0;
/// The weight of equal variances in the covariance, in locations, where there are at most so many; with more it falls with
/// the square of their number, because what the weaker axes tell is then known.
const EQUAL: f64 = 200.0;
const FEW: f64 = 1000.0;
/// The least variance within domains, as a share of the values'.
const LEAST: f64 = 1e-6;
/// Beta is shrunk: labels that were smoothed by it make it look larger than it is.
const SHRINK: f64 = 0.25;
const MOST_BETA: f64 = 3.0;
/// Iterations: of every start, of the best one, and sweeps of the labels in each.
const SHORT: usize = 15;
const LONG: usize = 100;
const SWEEPS: usize = 2;
/// Starts for each way of smoothing, and times that they are found anew in the metric of the covariance found.
const SEEDS: u64 = 4;
const ROUNDS: usize = 3;
/// Of more locations than this, so many find the start of all: fewer starts of all locations find worse optima.
const MANY: usize = 5_000;
/// No probability changes by more than this at the end.
const TOLERANCE: f64 = 1e-3;
/// What each location has of its own counts by this share of the ratio of variances, the smooth part's over its own, from
/// and to so much.
const OWN_SHARE: f64 = 0.15;
const LEAST_OWN: f64 = 0.1;
const MOST_OWN: f64 = 0.4;
/// The least beta of domains that are areas, and where the ratio is below that given.
const LEAST_BETA: f64 = 0.25;
const LEAST_BETA_MIXED: f64 = 0.35;
const MOSTLY_SMOOTH: f64 = 2.0;
/// The power of the probabilities that are reported: to the mixture the axes of a location, and locations near each other,
/// are more evidence than they are, so that it is too sure of the domains as a whole.
const TEMPER: f64 = 0.3;
/// A division gains at least this share of what the first ones, to so many domains, gain on the average.
const LEAST_GAIN: f64 = 0.25;
const FIRST: usize = 3;

/// Domains of one number.
#[derive(Debug, Clone)]
pub struct Domains {
    /// Each location's domain, counted from 0; domain 0 has the most locations.
    pub labels: Vec<usize>,
    /// Locations × domains, rows sum to 1: the mixture's, evened so that of locations with a probability of .8 in the mean
    /// 80 % are right.
    pub probabilities: Mat<f64>,
    /// The strength of the neighbours' influence, from 0.
    pub beta: f64,
    /// How much of what each location has of its own counted, from 0 to 1.
    pub share: f64,
    /// The numbers tried, with the criterion of each; the highest was chosen.
    pub criterion: Vec<(usize, f64)>,
}

/// Finds domains; of several numbers the one with the best criterion. The result does not depend on the size of the
/// current rayon pool.
///
/// `smooth` and `total` have a row for each location: what is smooth about it, and that with what it has of its own. A
/// unit in one column counts as much as in another. Values are those of `smooth`, and of what locations have of their own
/// a share, .15 times the ratio of both variances, from .1 to .4: it makes borders sharper, and domains of types of cells,
/// which are no areas. If neighbours tell so little of a location's domain that beta is below .25 (or .35 where the ratio
/// is below 2), domains are kinds of locations all the same: they are found again from the means of neighbours' values.
///
/// The criterion is the objective (log pseudo-likelihood of values and labels) less a penalty for each domain: a quarter of
/// what the first two divisions gain on the average, and half of log n for each parameter of a mean at least. Values vary
/// smoothly within domains too, and lie between those of two domains where these meet, so that the objective always grows,
/// by more where domains themselves differ by more: half of log n alone is much too little.
///
/// # Errors
/// Sizes that disagree, values that are not finite, or a number of domains that is not from 1 to that of locations.
pub fn find_domains(
    locations: &Locations,
    smooth: MatRef<'_, f64>,
    total: MatRef<'_, f64>,
    numbers: &[usize],
) -> Result<Domains> {
    let (n, p) = smooth.shape();
    check_size("rows of the factors", locations.len(), n)?;
    check_size("rows of the factors as a whole", n, total.nrows())?;
    check_size("columns of the factors as a whole", p, total.ncols())?;
    if numbers.is_empty() || p == 0 {
        return Err(Error::Shape { what: "factors and numbers of domains", expected: 1, got: 0 });
    }
    if let Some(&d) = numbers.iter().find(|&&d| d < 1 || d > n) {
        let must_be = "from 1 to the number of locations";
        return Err(Error::Parameter { name: "n_domains", value: d as f64, must_be });
    }
    let finite = |m: MatRef<'_, f64>, k: usize| m.col(k).iter().all(|x| x.is_finite());
    if let Some(k) = (0..p).find(|&k| !(finite(smooth, k) && finite(total, k))) {
        return Err(Error::Parameter { name: "factor", value: (k + 1) as f64, must_be: "finite" });
    }
    // Squares stay in range.
    let unit = largest(smooth).max(largest(total));
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let scaled = |m: MatRef<'_, f64>| Mat::from_fn(n, p, |i, k| m[(i, k)] / unit);
    let (smooth, total) = (scaled(smooth), scaled(total));
    let ratio = smooth_ratio(&smooth, &total);
    let share = (OWN_SHARE * ratio).clamp(LEAST_OWN, MOST_OWN);
    let value = |i: usize, k: usize| (1.0 - share) * smooth[(i, k)] + share * total[(i, k)];
    let (locations, order) = locations.near_together();
    let x = order.iter().flat_map(|&i| (0..p).map(move |k| value(i, k))).collect();
    let graphs = Graphs::new(&locations);
    let (problem, chosen) = choose(&graphs, x, p, numbers)?;
    let least_beta = if ratio < MOSTLY_SMOOTH { LEAST_BETA_MIXED } else { LEAST_BETA };
    if chosen.run.d == 1 || chosen.run.beta >= least_beta {
        return Ok(problem.finish(chosen, &order, share));
    }
    let smoothed = starts::neighbours_mean(&graphs.all, &problem.x, p);
    let (problem, chosen) = choose(&graphs, smoothed, p, numbers)?;
    Ok(problem.finish(chosen, &order, share))
}

/// The largest absolute value.
fn largest(m: MatRef<'_, f64>) -> f64 {
    m.col_iter().flat_map(|c| c.iter()).fold(0.0_f64, |a, x| a.max(x.abs()))
}

/// The variance of what is smooth over that of what each location has of its own.
fn smooth_ratio(smooth: &Mat<f64>, total: &Mat<f64>) -> f64 {
    let n = smooth.nrows() as f64;
    let squares = |of: &dyn Fn(usize, usize) -> f64| -> f64 {
        let column = |k: usize| -> f64 {
            let mean = (0..smooth.nrows()).map(|i| of(i, k)).sum::<f64>() / n;
            (0..smooth.nrows()).map(|i| (of(i, k) - mean).powi(2)).sum()
        };
        (0..smooth.ncols()).map(column).sum()
    };
    let own = squares(&|i, k| total[(i, k)] - smooth[(i, k)]);
    if own > 0.0 { squares(&|i, k| smooth[(i, k)]) / own } else { f64::INFINITY }
}

/// Neighbours of all locations, and, where these are many, of every so many-th of them.
struct Graphs {
    all: Graph,
    thinned: Option<(usize, Graph)>,
}

impl Graphs {
    fn new(locations: &Locations) -> Self {
        let step = locations.len().div_ceil(MANY);
        let thinned = (step > 1).then(|| (step, Graph::new(&locations.thinned(step))));
        Self { all: Graph::new(locations), thinned }
    }
}

/// The best of several numbers of domains.
struct Chosen {
    run: Run,
    criterion: Vec<(usize, f64)>,
}

fn choose<'a>(graphs: &'a Graphs, x: Vec<f64>, p: usize, numbers: &[usize]) -> Result<(Problem<'a>, Chosen)> {
    let problem = Problem::new(graphs, x, p);
    let best = |&d: &usize| problem.best(d);
    let mut runs: Vec<Run> = numbers.par_iter().with_max_len(1).map(best).collect::<Result<_>>()?;
    let penalty = if runs.len() > 1 { problem.penalty(&runs)? } else { 0.0 };
    let criterion: Vec<(usize, f64)> =
        runs.iter().map(|run| (run.d, run.objective - penalty * run.d as f64)).collect();
    // The first of equal ones.
    let best = (1..runs.len()).fold(0, |best, i| if criterion[i].1 > criterion[best].1 { i } else { best });
    let run = runs.swap_remove(best);
    Ok((problem, Chosen { run, criterion }))
}

struct Problem<'a> {
    graph: &'a Graph,
    around: Around,
    /// Rows are locations.
    x: Vec<f64>,
    /// What starts are found from.
    views: Vec<Vec<f64>>,
    n: usize,
    p: usize,
    /// The least variance within domains.
    least: f64,
    /// Every so many-th location, from whose domains all start.
    thinned: Option<(usize, Box<Problem<'a>>)>,
}

/// A state of the mixture.
#[derive(Clone)]
struct Run {
    /// Probabilities, a row for each location.
    r: Vec<f64>,
    d: usize,
    beta: f64,
    objective: f64,
    /// How much each location counts: outliers less.
    weights: Vec<f64>,
    means: Vec<f64>,
}

impl Run {
    /// How far location i is from the mean of its domain, times the root of its weight.
    fn error(&self, x: &[f64], means: &[f64], i: usize, out: &mut [f64]) {
        let (p, root) = (out.len(), self.weights[i].sqrt());
        out.copy_from_slice(&x[i * p..(i + 1) * p]);
        for (r, mean) in self.r[i * self.d..(i + 1) * self.d].iter().zip(means.chunks_exact(p)) {
            out.iter_mut().zip(mean).for_each(|(o, m)| *o -= r * m);
        }
        out.iter_mut().for_each(|o| *o *= root);
    }
}

impl<'a> Problem<'a> {
    fn new(graphs: &'a Graphs, x: Vec<f64>, p: usize) -> Self {
        let thinned = graphs.thinned.as_ref().map(|(step, graph)| {
            let x = x.chunks_exact(p).step_by(*step).flatten().copied().collect();
            (*step, Box::new(Self::of(graph, x, p, None)))
        });
        Self::of(&graphs.all, x, p, thinned)
    }

    fn of(graph: &'a Graph, x: Vec<f64>, p: usize, thinned: Option<(usize, Box<Self>)>) -> Self {
        let n = x.len() / p;
        let variance = |k: usize| {
            let mean = (0..n).map(|i| x[i * p + k]).sum::<f64>() / n as f64;
            (0..n).map(|i| (x[i * p + k] - mean) * (x[i * p + k] - mean)).sum::<f64>() / n as f64
        };
        let mean = (0..p).map(variance).sum::<f64>() / p as f64;
        // Without any variance every unit is as good as another.
        let least = if mean > 0.0 { LEAST * mean } else { 1.0 };
        let views = if thinned.is_none() { starts::views(graph, &x, p) } else { Vec::new() };
        Self { graph, around: Around::new(graph, n), x, views, n, p, least, thinned }
    }

    /// What each domain costs.
    fn penalty(&self, runs: &[Run]) -> Result<f64> {
        let parameters = 0.5 * self.p as f64 * (self.n as f64).ln();
        if self.n < FIRST {
            return Ok(parameters);
        }
        let objective = |d: usize| match runs.iter().find(|run| run.d == d) {
            Some(run) => Ok(run.objective),
            None => self.best(d).map(|run| run.objective),
        };
        let gain = (objective(FIRST)? - objective(1)?) / (FIRST - 1) as f64;
        Ok(parameters.max(LEAST_GAIN * gain))
    }

    /// The best from starts in the metric of the values, then in that of the covariance found, as long as that is better:
    /// the leading axes need not be those that differ between domains.
    fn best(&self, d: usize) -> Result<Run> {
        if let Some((step, thinned)) = &self.thinned {
            let start = thinned.best(d)?;
            let labels = most_likely(&start.r, d);
            let labels: Vec<usize> = (0..self.n).map(|i| labels[i / step]).collect();
            interrupt::check()?;
            return Ok(self.ascend(self.begin(&labels, d), LONG));
        }
        // There is one start.
        let (seeds, rounds) = if d == 1 { (1, 0) } else { (SEEDS, ROUNDS) };
        let mut best = self.best_start(&self.views, d, seeds)?;
        for _ in 0..rounds {
            let factor = self.fit(&mut best.clone());
            let views: Vec<Vec<f64>> = self.views.iter().map(|x| whitened(x, &factor, self.p)).collect();
            let next = self.best_start(&views, d, seeds)?;
            if next.objective <= best.objective {
                break;
            }
            best = next;
        }
        Ok(best)
    }

    /// From starts in all views a short way, to the end from the best, the first of equal ones.
    fn best_start(&self, views: &[Vec<f64>], d: usize, seeds: u64) -> Result<Run> {
        let runs: Vec<Run> = starts::all(views, self.p, d, seeds)
            .into_par_iter()
            .with_max_len(1)
            .map(|labels| {
                interrupt::check()?;
                Ok(self.ascend(self.begin(&labels, d), SHORT))
            })
            .collect::<Result<_>>()?;
        let best = runs.into_iter().reduce(|a, b| if b.objective > a.objective { b } else { a });
        let best = best.ok_or(Error::Shape { what: "starts", expected: 1, got: 0 })?;
        interrupt::check()?;
        Ok(self.ascend(best, LONG))
    }

    fn begin(&self, labels: &[usize], d: usize) -> Run {
        let soft = 0.1 / d as f64;
        let mut r = vec![soft; self.n * d];
        labels.iter().enumerate().for_each(|(i, &k)| r[i * d + k] += 0.9);
        Run {
            r,
            d,
            beta: 0.5,
            objective: f64::NEG_INFINITY,
            weights: vec![1.0; self.n],
            means: vec![0.0; d * self.p],
        }
    }

    fn ascend(&self, mut run: Run, iterations: usize) -> Run {
        let (n, p, d) = (self.n, self.p, run.d);
        let mut density = vec![0.0; n * d];
        let mut votes = vec![0.0; n * d];
        for _ in 0..iterations {
            if interrupt::requested() {
                break;
            }
            let factor = self.fit(&mut run);
            let log_det: f64 = (0..p).map(|k| 2.0 * factor[k * p + k].ln()).sum();
            let (x, means) = (whitened(&self.x, &factor, p), whitened(&run.means, &factor, p));
            let mut errors = vec![0.0; n * p];
            if run.objective == f64::NEG_INFINITY {
                // Before those near outliers are told of their errors.
                for i in 0..n {
                    let error = &mut errors[i * p..(i + 1) * p];
                    run.error(&x, &means, i, error);
                    let square: f64 = error.iter().map(|e| e * e).sum();
                    run.weights[i] = weight_of(square, p);
                }
            }
            (0..n).for_each(|i| run.error(&x, &means, i, &mut errors[i * p..(i + 1) * p]));
            let mut own = vec![0.0; p];
            let (mut weights, mut next) = (vec![0.0; d], vec![0.0; d]);
            let mut change = 0.0_f64;
            for _ in 0..SWEEPS {
                self.vote(&run, &mut votes);
                for i in 0..n {
                    self.around.expect(&errors, p, i, &mut own);
                    own.iter_mut().zip(&x[i * p..(i + 1) * p]).for_each(|(o, x)| *o = x - *o);
                    let range = i * d..(i + 1) * d;
                    for ((density, weight), mean) in
                        density[range.clone()].iter_mut().zip(&mut weights).zip(means.chunks_exact(p))
                    {
                        let square: f64 = own.iter().zip(mean).map(|(x, m)| (x - m) * (x - m)).sum();
                        *density = -0.5 * (FREEDOM + p as f64) * (square / FREEDOM).ln_1p() - 0.5 * log_det;
                        *weight = weight_of(square, p);
                    }
                    next.iter_mut()
                        .zip(&density[range.clone()])
                        .zip(&votes[range.clone()])
                        .for_each(|((n, a), v)| *n = a + run.beta * v);
                    soften(&mut next);
                    run.weights[i] = next.iter().zip(&weights).map(|(r, w)| r * w).sum();
                    for (r, next) in run.r[range].iter_mut().zip(&next) {
                        change = change.max((*r - next).abs());
                        *r = *next;
                    }
                    run.error(&x, &means, i, &mut errors[i * p..(i + 1) * p]);
                }
            }
            self.vote(&run, &mut votes);
            run.beta = SHRINK * self.strength(&run, &votes);
            run.objective = self.objective(&run, &density, &votes);
            if change < TOLERANCE {
                break;
            }
        }
        run
    }

    /// Means by generalised least squares, and the lower Cholesky factor of the shared covariance.
    fn fit(&self, run: &mut Run) -> Vec<f64> {
        let (n, p, d) = (self.n, self.p, run.d);
        let weighted = |x: &[f64], p: usize| {
            let mut x = x.to_vec();
            x.chunks_exact_mut(p)
                .zip(&run.weights)
                .for_each(|(x, w)| x.iter_mut().for_each(|x| *x *= w.sqrt()));
            x
        };
        let (x, r) = (weighted(&self.x, p), weighted(&run.r, d));
        // R'QR and R'QX, Q the precision.
        let mut gram = vec![0.0; d * d];
        let mut right = vec![0.0; d * p];
        let (mut r_expected, mut x_expected) = (vec![0.0; n * d], vec![0.0; n * p]);
        let mut size = vec![1e-6; d];
        for (i, (r_around, x_around)) in
            r_expected.chunks_exact_mut(d).zip(x_expected.chunks_exact_mut(p)).enumerate()
        {
            self.around.expect(&r, d, i, r_around);
            self.around.expect(&x, p, i, x_around);
            let root = run.weights[i].sqrt();
            for k in 0..d {
                let r_ik = r[i * d + k];
                size[k] += root * r_ik;
                (0..d).for_each(|l| gram[k * d + l] -= r_ik * r_around[l]);
                (0..p).for_each(|j| right[k * p + j] += r_ik * (x[i * p + j] - x_around[j]));
            }
        }
        (0..d).for_each(|k| gram[k * d + k] += size[k]);
        cholesky(&mut gram, d);
        for j in 0..p {
            let mut mean: Vec<f64> = (0..d).map(|k| right[k * p + j]).collect();
            forward(&gram, &mut mean);
            backward(&gram, &mut mean);
            (0..d).for_each(|k| run.means[k * p + j] = mean[k]);
        }
        // The errors', and how far apart the means of domains are that a location may belong to.
        let mut covariance = vec![0.0; p * p];
        let (mut error, mut mean) = (vec![0.0; p], vec![0.0; p]);
        for (i, (r_around, around)) in
            r_expected.chunks_exact(d).zip(x_expected.chunks_exact_mut(p)).enumerate()
        {
            run.error(&self.x, &run.means, i, &mut error);
            let x = &x[i * p..(i + 1) * p];
            mean.iter_mut().zip(x).zip(&error).for_each(|((m, x), e)| *m = x - e);
            for (r, mean) in r_around.iter().zip(run.means.chunks_exact(p)) {
                around.iter_mut().zip(mean).for_each(|(a, m)| *a -= r * m);
            }
            for a in 0..p {
                for b in 0..=a {
                    covariance[a * p + b] += error[a] * error[b]
                        - 0.5 * (error[a] * around[b] + error[b] * around[a])
                        - mean[a] * mean[b];
                }
            }
        }
        for (&size, mean) in size.iter().zip(run.means.chunks_exact(p)) {
            for a in 0..p {
                for b in 0..=a {
                    covariance[a * p + b] += size * mean[a] * mean[b];
                }
            }
        }
        let equal = EQUAL * (FEW / n as f64).min(1.0).powi(2);
        let weight = n as f64 + equal;
        let mean = (0..p).map(|a| covariance[a * p + a]).sum::<f64>() / (n * p) as f64;
        covariance.iter_mut().for_each(|c| *c /= weight);
        (0..p).for_each(|a| covariance[a * p + a] += equal / weight * mean + self.least);
        cholesky(&mut covariance, p);
        covariance
    }

    /// The neighbours' probabilities, summed.
    fn vote(&self, run: &Run, votes: &mut [f64]) {
        let d = run.d;
        for i in 0..self.n {
            let out = &mut votes[i * d..(i + 1) * d];
            out.fill(0.0);
            for &j in self.graph.neighbours(i) {
                let j = j as usize;
                out.iter_mut().zip(&run.r[j * d..(j + 1) * d]).for_each(|(v, r)| *v += r);
            }
        }
    }

    /// The beta with the highest pseudo-likelihood of the labels, which is concave in it, by Newton's method.
    fn strength(&self, run: &Run, votes: &[f64]) -> f64 {
        let d = run.d;
        let mut beta = run.beta / SHRINK;
        for _ in 0..4 {
            let (mut slope, mut curvature) = (0.0, 1e-9);
            for i in 0..self.n {
                let votes = &votes[i * d..(i + 1) * d];
                let mut expected: Vec<f64> = votes.iter().map(|v| beta * v).collect();
                soften(&mut expected);
                let mean: f64 = expected.iter().zip(votes).map(|(p, v)| p * v).sum();
                let square: f64 = expected.iter().zip(votes).map(|(p, v)| p * v * v).sum();
                let seen: f64 = run.r[i * d..(i + 1) * d].iter().zip(votes).map(|(r, v)| r * v).sum();
                slope += seen - mean;
                curvature += square - mean * mean;
            }
            beta = (beta + (slope / curvature).clamp(-0.5, 0.5)).clamp(0.0, MOST_BETA);
        }
        beta
    }

    /// The bound of the density of the factors and the pseudo-likelihood of the labels.
    fn objective(&self, run: &Run, density: &[f64], votes: &[f64]) -> f64 {
        let d = run.d;
        (0..self.n)
            .map(|i| {
                let range = i * d..(i + 1) * d;
                let field: Vec<f64> = votes[range.clone()].iter().map(|v| run.beta * v).collect();
                let top = field.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let normal = top + field.iter().map(|f| (f - top).exp()).sum::<f64>().ln();
                let each = run.r[range.clone()].iter().zip(&density[range]).zip(&field);
                each.map(|((&r, a), f)| if r > 0.0 { r * (a + f - normal - r.ln()) } else { 0.0 })
                    .sum::<f64>()
            })
            .sum()
    }

    /// Domains in order of their size; `order` has the row of each location.
    fn finish(&self, chosen: Chosen, order: &[usize], share: f64) -> Domains {
        let Chosen { run, criterion } = chosen;
        let (n, d) = (self.n, run.d);
        let mut r = vec![0.0; n * d];
        for (from, &i) in run.r.chunks_exact(d).zip(order) {
            let row = &mut r[i * d..(i + 1) * d];
            row.iter_mut().zip(from).for_each(|(r, p)| *r = p.powf(TEMPER));
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|r| *r /= sum);
        }
        let labels = most_likely(&r, d);
        let mut sizes = vec![0_usize; d];
        labels.iter().for_each(|&k| sizes[k] += 1);
        let mut by_size: Vec<usize> = (0..d).collect();
        by_size.sort_by_key(|&k| (n - sizes[k], labels.iter().position(|&l| l == k)));
        let mut place = vec![0; d];
        by_size.iter().enumerate().for_each(|(new, &old)| place[old] = new);
        Domains {
            labels: labels.iter().map(|&k| place[k]).collect(),
            probabilities: Mat::from_fn(n, d, |i, k| r[i * d + by_size[k]]),
            beta: run.beta,
            share,
            criterion,
        }
    }
}

/// The domain of d that each location most likely belongs to, the first of equal ones.
fn most_likely(probabilities: &[f64], d: usize) -> Vec<usize> {
    let label = |r: &[f64]| (1..d).fold(0, |best, k| if r[k] > r[best] { k } else { best });
    probabilities.chunks_exact(d).map(label).collect()
}

/// Rows of p values in the metric of a covariance with this Cholesky factor.
fn whitened(x: &[f64], factor: &[f64], p: usize) -> Vec<f64> {
    let mut x = x.to_vec();
    x.chunks_exact_mut(p).for_each(|x| {
        forward(factor, x);
    });
    x
}

/// How much a location counts whose t-distributed error of p values has this squared norm.
fn weight_of(square: f64, p: usize) -> f64 {
    (FREEDOM + p as f64) / (FREEDOM + square)
}

/// exp(x) / Σ exp(x), in place.
fn soften(x: &mut [f64]) {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - top).exp();
        sum += *x;
    }
    x.iter_mut().for_each(|x| *x /= sum);
}
