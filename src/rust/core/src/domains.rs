//! Domains: parts of a tissue in which its factors have the same values, up to noise.
//!
//! A mixture over locations whose labels z follow a Potts model, `p(z) ∝ exp(beta · pairs of neighbours in one domain)`.
//! Given its domain, a location's factors are t-distributed around the domain's mean with a covariance that all domains
//! share, so that single odd spots make no domain (Zhao et al. 2021, doi:10.1038/s41587-021-00935-2, have the same errors).
//! The covariance is held near what the factors' own kernels say of what is not smooth. Labels are inferred by mean
//! field, beta by pseudo-likelihood (Besag 1975, doi:10.2307/2987782), from several starts; the best pseudo-likelihood wins.

mod starts;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::interrupt;
use crate::locations::Locations;
use faer::prelude::*;
use rayon::prelude::*;

/// Degrees of freedom of the errors.
const FREEDOM: f64 = 5.0;
/// The weight of the factors' own variances in the covariance, as a share of the locations.
const PRIOR: f64 = 0.2;
/// Beta is shrunk: labels that were smoothed by it make it look larger than it is.
const SHRINK: f64 = 0.5;
const MOST_BETA: f64 = 3.0;
/// Iterations: of every start, of the best ones, and sweeps of the labels in each.
const SHORT: usize = 15;
const LONG: usize = 100;
const SWEEPS: usize = 2;
/// Starts that are followed to the end.
const FINALISTS: usize = 4;
/// No probability changes by more than this at the end.
const TOLERANCE: f64 = 1e-3;

/// Domains of one number.
#[derive(Debug, Clone)]
pub struct Domains {
    /// Each location's domain, counted from 0; domain 0 has the most locations.
    pub labels: Vec<usize>,
    /// Locations × domains, rows sum to 1.
    pub probabilities: Mat<f64>,
    /// Domains × factors.
    pub means: Mat<f64>,
    /// The strength of the neighbours' influence, from 0.
    pub beta: f64,
    /// The numbers tried, with the criterion of each; the highest was chosen.
    pub criterion: Vec<(usize, f64)>,
}

/// Finds domains; of several numbers the one with the best criterion. The result does not depend on the size of the
/// current rayon pool.
///
/// `values` is locations × factors; `own` is the variance of each factor within a domain, as far as it is known. The
/// criterion is the log pseudo-likelihood less half of log n for each parameter of a mean.
///
/// # Errors
/// Sizes that disagree, values that are not finite, or a number of domains that is not from 1 to that of locations.
pub fn find_domains(
    locations: &Locations,
    values: MatRef<'_, f64>,
    own: &[f64],
    numbers: &[usize],
) -> Result<Domains> {
    let (n, p) = values.shape();
    let shapes = [("rows of the factors", locations.len(), n), ("variances of the factors", p, own.len())];
    for (what, expected, got) in shapes {
        if expected != got {
            return Err(Error::Shape { what, expected, got });
        }
    }
    if numbers.is_empty() || p == 0 {
        return Err(Error::Shape { what: "factors and numbers of domains", expected: 1, got: 0 });
    }
    if let Some(&d) = numbers.iter().find(|&&d| d < 1 || d > n) {
        let must_be = "from 1 to the number of locations";
        return Err(Error::Parameter { name: "n_domains", value: d as f64, must_be });
    }
    for (k, &own) in own.iter().enumerate().take(p) {
        if values.col(k).iter().any(|x| !x.is_finite()) || !(own > 0.0 && own.is_finite()) {
            let must_be = "finite, with a positive variance";
            return Err(Error::Parameter { name: "factor", value: (k + 1) as f64, must_be });
        }
    }
    let graph = Graph::new(locations);
    let problem = Problem::new(&graph, values, own);
    let mut best: Option<(f64, Run)> = None;
    let mut criterion = Vec::new();
    for &d in numbers {
        let run = problem.best(d)?;
        let score = run.objective - 0.5 * (d * p) as f64 * (n as f64).ln();
        criterion.push((d, score));
        if best.as_ref().is_none_or(|b| score > b.0) {
            best = Some((score, run));
        }
    }
    let (_, run) = best.ok_or(Error::Shape { what: "runs", expected: 1, got: 0 })?;
    Ok(problem.finish(run, criterion))
}

struct Problem<'a> {
    graph: &'a Graph,
    /// Rows are locations; factors in units of their own standard deviation.
    x: Vec<f64>,
    n: usize,
    p: usize,
    unit: Vec<f64>,
}

/// A state of the mixture.
#[derive(Clone)]
struct Run {
    /// Probabilities, a row for each location.
    r: Vec<f64>,
    d: usize,
    beta: f64,
    objective: f64,
    /// How much each location counts for the mean of each domain: outliers less.
    u: Vec<f64>,
    means: Vec<f64>,
}

impl<'a> Problem<'a> {
    fn new(graph: &'a Graph, values: MatRef<'_, f64>, own: &[f64]) -> Self {
        let (n, p) = values.shape();
        let unit: Vec<f64> = own.iter().map(|v| v.sqrt()).collect();
        let x = (0..n * p).map(|i| values[(i / p, i % p)] / unit[i % p]).collect();
        Self { graph, x, n, p, unit }
    }

    /// From all starts: a short way each, to the end for the best.
    fn best(&self, d: usize) -> Result<Run> {
        let starts = starts::all(self.graph, &self.x, self.p, d);
        let mut runs: Vec<Run> = starts
            .into_par_iter()
            .with_max_len(1)
            .map(|labels| {
                interrupt::check()?;
                Ok(self.ascend(self.begin(&labels, d), SHORT))
            })
            .collect::<Result<_>>()?;
        // Stable: the first of equal ones stays first.
        runs.sort_by(|a, b| b.objective.total_cmp(&a.objective));
        runs.dedup_by(|a, b| (a.objective - b.objective).abs() < 1e-9 * b.objective.abs());
        runs.truncate(FINALISTS);
        let ended: Vec<Run> = runs
            .into_par_iter()
            .with_max_len(1)
            .map(|run| {
                interrupt::check()?;
                Ok(self.ascend(run, LONG))
            })
            .collect::<Result<_>>()?;
        let best = ended.into_iter().reduce(|a, b| if b.objective > a.objective { b } else { a });
        best.ok_or(Error::Shape { what: "starts", expected: 1, got: 0 })
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
            u: vec![1.0; self.n * d],
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
            // Distances from the means, in the metric of the covariance.
            let mut centred = vec![0.0; p];
            for i in 0..n {
                let x = &self.x[i * p..(i + 1) * p];
                for k in 0..d {
                    let mean = &run.means[k * p..(k + 1) * p];
                    centred.iter_mut().zip(x).zip(mean).for_each(|((c, x), m)| *c = x - m);
                    let square = crate::factors::kriging::forward(&factor, &mut centred);
                    density[i * d + k] =
                        -0.5 * (FREEDOM + p as f64) * (square / FREEDOM).ln_1p() - 0.5 * log_det;
                    run.u[i * d + k] = (FREEDOM + p as f64) / (FREEDOM + square);
                }
            }
            let mut change = 0.0_f64;
            for _ in 0..SWEEPS {
                self.vote(&run, &mut votes);
                for i in 0..n {
                    let range = i * d..(i + 1) * d;
                    let mut next: Vec<f64> = density[range.clone()]
                        .iter()
                        .zip(&votes[range.clone()])
                        .map(|(a, v)| a + run.beta * v)
                        .collect();
                    soften(&mut next);
                    for (r, next) in run.r[range].iter_mut().zip(next) {
                        change = change.max((*r - next).abs());
                        *r = next;
                    }
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

    /// Means, and the lower Cholesky factor of the shared covariance.
    fn fit(&self, run: &mut Run) -> Vec<f64> {
        let (n, p, d) = (self.n, self.p, run.d);
        let mut size = vec![1e-6; d];
        run.means.fill(0.0);
        for i in 0..n {
            for (k, size) in size.iter_mut().enumerate() {
                let w = run.r[i * d + k] * run.u[i * d + k];
                *size += w;
                for j in 0..p {
                    run.means[k * p + j] += w * self.x[i * p + j];
                }
            }
        }
        for (k, &size) in size.iter().enumerate() {
            (0..p).for_each(|j| run.means[k * p + j] /= size);
        }
        let prior = PRIOR * n as f64;
        let mut covariance = vec![0.0; p * p];
        for i in 0..n {
            let w: f64 = (0..d).map(|k| run.r[i * d + k] * run.u[i * d + k]).sum();
            let x = &self.x[i * p..(i + 1) * p];
            for a in 0..p {
                for b in 0..=a {
                    covariance[a * p + b] += w * x[a] * x[b];
                }
            }
        }
        for (k, &size) in size.iter().enumerate() {
            let mean = &run.means[k * p..(k + 1) * p];
            for a in 0..p {
                for b in 0..=a {
                    covariance[a * p + b] -= size * mean[a] * mean[b];
                }
            }
        }
        for a in 0..p {
            // The unit of x is the factor's own standard deviation.
            covariance[a * p + a] += prior;
        }
        covariance.iter_mut().for_each(|c| *c /= n as f64 + prior);
        crate::factors::kriging::cholesky(&mut covariance, p);
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

    /// Domains in order of their size, in the factors' own units.
    fn finish(&self, run: Run, criterion: Vec<(usize, f64)>) -> Domains {
        let (n, p, d) = (self.n, self.p, run.d);
        let label = |i: usize| {
            (1..d).fold(0, |best, k| if run.r[i * d + k] > run.r[i * d + best] { k } else { best })
        };
        let labels: Vec<usize> = (0..n).map(label).collect();
        let mut sizes = vec![0_usize; d];
        labels.iter().for_each(|&k| sizes[k] += 1);
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by_key(|&k| (n - sizes[k], labels.iter().position(|&l| l == k)));
        let mut place = vec![0; d];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
        Domains {
            labels: labels.iter().map(|&k| place[k]).collect(),
            probabilities: Mat::from_fn(n, d, |i, k| run.r[i * d + order[k]]),
            means: Mat::from_fn(d, p, |k, j| run.means[order[k] * p + j] * self.unit[j]),
            beta: run.beta,
            criterion,
        }
    }
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
