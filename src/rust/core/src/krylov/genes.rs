//! Quadratures of genes, in rounds: after each the genes leave whose likelihood's maximum is known.

use super::lanczos::{LANES, Lanczos};
use super::prepared::Krylov;
use super::quadrature::{Quadrature, Tridiagonal, inverse, scaled};
use crate::engine::{GENE_GAP, GENE_RELATIVE_GAP, SCREENED_GOWER, SCREENED_LOCATIONS};
use crate::interrupt;
use crate::likelihood::{Candidate, Evaluation, Maximum, Terms, constant_loglik, loglik, refine};
use faer::MatRef;
use rayon::prelude::*;

/// After so many steps the genes that have converged leave, each time three quarters more; the last three are for narrow
/// kernels.
const GENE_STEPS: [usize; 8] = [5, 9, 16, 28, 45, 80, 140, 240];
const WIDE_ROUNDS: usize = 5;

/// Beyond the lower end of the reliable grid a likelihood may go on to rise by so many times its last step.
const BEYOND: f64 = 4.0;

/// One gene's quadrature of `yᵀ f(HKH) y`.
#[derive(Debug, Clone)]
pub struct GeneQuadrature {
    /// Gauss-Radau nodes and weights.
    nodes: Quadrature,
    /// What the likelihood may still reach where its maximum is not known to the tolerance; otherwise minus infinity.
    pub ceiling: f64,
    /// `yᵀ K y`.
    pub score: f64,
}

impl Krylov {
    /// Runs Lanczos for genes, the columns of `y` (n × genes) centred within samples with a mean square of 1,
    /// as far as each one needs it. `None` for those left out by `wanted`, or at an interrupt.
    pub fn quadratures(&self, y: MatRef<'_, f64>, wanted: &[bool]) -> Vec<Option<GeneQuadrature>> {
        let mut out: Vec<Option<GeneQuadrature>> = vec![None; wanted.len()];
        let genes: Vec<usize> = (0..wanted.len()).filter(|&g| wanted[g]).collect();
        let mut states: Vec<Lanczos> = genes.chunks(LANES).map(|genes| self.start(y, genes)).collect();
        let rounds = if self.narrow { GENE_STEPS.len() } else { WIDE_ROUNDS };
        for (round, &steps) in GENE_STEPS[..rounds].iter().enumerate() {
            let last = round + 1 == rounds;
            let ends: Vec<Vec<Option<GeneQuadrature>>> = states
                .par_iter_mut()
                .with_max_len(1)
                .map(|state| {
                    if interrupt::requested() {
                        return Vec::new();
                    }
                    if round == 0 {
                        // The score screen: no larger than expected without a signal means that there is none.
                        self.advance(state, 1);
                        let signal = (0..state.genes.len()).any(|lane| !self.screened(&state.lanes[lane]));
                        if signal {
                            self.advance(state, steps);
                        }
                    } else {
                        self.advance(state, steps);
                    }
                    (0..state.genes.len()).map(|lane| self.finish(&state.lanes[lane], last)).collect()
                })
                .collect();
            let mut left = Vec::new();
            for (s, ends) in ends.into_iter().enumerate() {
                for (lane, end) in ends.into_iter().enumerate() {
                    match end {
                        Some(end) => out[states[s].genes[lane]] = Some(end),
                        None => left.push((s, lane)),
                    }
                }
            }
            if left.is_empty() {
                break;
            }
            states = left.chunks(LANES).map(|lanes| Lanczos::regroup(&states, lanes)).collect();
        }
        out
    }

    /// Whether a gene's score alone says that there is no signal.
    fn screened(&self, lane: &Tridiagonal) -> bool {
        self.n >= SCREENED_LOCATIONS && self.gower >= SCREENED_GOWER && lane.diagonal[0] <= 1.0
    }

    /// A gene's quadrature if it has converged, or if there is no more to come.
    fn finish(&self, lane: &Tridiagonal, last: bool) -> Option<GeneQuadrature> {
        let n = self.n as f64;
        let score = lane.diagonal[0] * n;
        if self.screened(lane) {
            // One step: an eigenvalue of a matrix of two rows.
            let nodes = scaled(lane.first().radau()?, n);
            return Some(GeneQuadrature { nodes, ceiling: f64::NEG_INFINITY, score });
        }
        let (Some(gauss), Some(radau)) = (lane.gauss(), lane.radau()) else {
            // Nothing is known but that the gene is there.
            let nodes = scaled(lane.first().radau()?, n);
            return last.then_some(GeneQuadrature { nodes, ceiling: f64::INFINITY, score });
        };
        let (gauss, radau) = (scaled(gauss, n), scaled(radau, n));
        let at =
            |i: usize, nodes: &Quadrature| loglik(n, inverse(nodes, self.grid[i].exp()), self.log_det[i]);
        let lower: Vec<f64> = (self.reliable..self.grid.len()).map(|i| at(i, &radau)).collect();
        let upper: Vec<f64> = (0..self.grid.len())
            .map(|i| {
                let most = at(i, &gauss);
                // Where the log determinant is not reliable neither is a bound: the mean is what is expected.
                if i >= self.reliable { most } else { 0.5 * (most + at(i, &radau)) }
            })
            .collect();
        let (best, value) = lower
            .iter()
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (i, &value)| if value > best.1 { (i, value) } else { best });
        let llr = (value - constant_loglik(self.n)).max(0.0);
        let tolerance = GENE_GAP + GENE_RELATIVE_GAP * llr;
        // A likelihood may have two maxima: where it is not known it must not reach the largest that is, however far away.
        let settled = |(i, &upper): (usize, &f64)| match i.checked_sub(self.reliable) {
            None => upper < value,
            Some(own) => upper - lower[own] <= tolerance || (upper < value && own.abs_diff(best) > 1),
        };
        // At the reliable grid's lower end the maximum may lie beyond it.
        let inside = self.reliable == 0 || best > 0;
        let known = inside && upper.iter().enumerate().all(settled);
        let ceiling = if known {
            f64::NEG_INFINITY
        } else {
            let beyond = if inside { 0.0 } else { BEYOND * (value - lower[1]).max(0.0) };
            upper.iter().copied().fold(value + beyond, f64::max)
        };
        (known || last).then_some(GeneQuadrature { nodes: radau, ceiling, score })
    }

    /// One gene's likelihood on [`Krylov::grid`], as [`candidates`](crate::likelihood::candidates) takes it.
    pub fn scan(&self, gene: &GeneQuadrature) -> Vec<f64> {
        (self.reliable..self.grid.len())
            .map(|i| inverse(&gene.nodes, self.grid[i].exp()) * (self.log_det[i] / self.n as f64).exp())
            .collect()
    }

    /// One gene's log likelihood, with its derivatives in log delta.
    pub fn evaluate(&self, gene: &GeneQuadrature, log_delta: f64) -> Evaluation {
        let delta = log_delta.exp();
        let [log_det, slope, curvature] = self.determinant.at(log_delta);
        let mut terms = Terms {
            log_det,
            trace: slope / delta,
            trace2: (slope - curvature) / (delta * delta),
            ..Terms::default()
        };
        for (node, weight) in &gene.nodes {
            let h = 1.0 / (node + delta);
            terms.quadratic += weight * h;
            terms.quadratic2 += weight * h * h;
            terms.quadratic3 += weight * h * h * h;
        }
        terms.evaluate(self.n, delta)
    }

    /// Refines a candidate on [`Krylov::grid`].
    pub fn refine(&self, gene: &GeneQuadrature, candidate: Candidate) -> Maximum {
        refine(candidate, self.grid(), |x| self.evaluate(gene, x), |x| self.evaluate(gene, x).value)
    }

    /// The generalised least squares means of the samples of a centred gene, and `s2 = yᵀ P y / n`.
    pub fn mean_and_scale(&self, gene: &GeneQuadrature, y: &[f64], log_delta: f64) -> (Vec<f64>, f64) {
        let delta = log_delta.exp();
        let means = self.samples.iter().map(|sample| sample.mean(y, delta)).collect();
        (means, inverse(&gene.nodes, delta) / self.n as f64)
    }

    /// Genes side by side, place by place; unused lanes are zero.
    fn start(&self, y: MatRef<'_, f64>, genes: &[usize]) -> Lanczos {
        let mut state = Lanczos::new(self.n, genes.to_vec());
        let mut from = 0;
        for sample in &self.samples {
            sample.load(&mut state, from, y, genes);
            from += sample.len();
        }
        state.normalise();
        state
    }

    /// Lanczos on HKH up to so many steps.
    fn advance(&self, state: &mut Lanczos, steps: usize) {
        while state.steps < steps {
            let mut from = 0;
            for sample in &self.samples {
                let range = from..from + sample.len();
                from = range.end;
                sample.multiply_centred(state, range);
            }
            state.step();
        }
    }
}
