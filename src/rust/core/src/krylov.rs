//! SE kernels with short lengthscales over many locations: a sparse K and Lanczos quadrature.
//!
//! With H the centring (within samples) of a gene, the projection P of the likelihood is the inverse of
//! H V H on centred vectors, so `yᵀ P y = yᵀ (HKH + delta)⁻¹ y`: no mean has to be estimated. k steps of Lanczos on HKH
//! started at y give a quadrature of it; with a node at 0 (Gauss-Radau) it is never below, without (Gauss) never
//! above the true value. Where both agree a gene has converged; where not, it says so.
//!
//! The log determinant, the same for all genes, comes from quadratures started at random signs on locations of one
//! colour, where locations of the same colour are far apart (probing): the terms between them, which
//! would make an error, are then negligible.

use crate::error::{Error, Result};
use crate::interrupt;
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, Evaluation, Maximum, Terms, log_delta_grid, loglik, refine};
use crate::locations::Locations;
use crate::log_det::LogDet;
use crate::tree::Tree;
use faer::MatRef;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Kernel values below this are left out of the sparse matrix.
const CUTOFF: f64 = 1e-8;

/// Most stored kernel values of all samples (8 bytes each).
const ENTRY_LIMIT: f64 = 1.5e8;

/// Most products that may be spent on tr K³; above it comes from the probes, as the log determinant does.
const TRIANGLE_LIMIT: f64 = 1e10;

/// Vectors that Lanczos works on together.
const LANES: usize = 16;

/// After so many steps the genes that have converged leave; the last three are for narrow kernels.
const GENE_STEPS: [usize; 8] = [5, 9, 16, 28, 45, 80, 140, 240];
const WIDE_ROUNDS: usize = 5;

/// Steps of the log determinant's probes: the least, and the most for wide and for narrow kernels.
const PROBE_STEPS: usize = 12;
const MOST_PROBE_STEPS: (usize, usize) = (40, 400);

/// Same-coloured locations are so many lengthscales apart (wide kernels, narrow kernels), and two spacings more.
const APART: (f64, f64) = (4.0, 6.0);

/// Up to so many spacings a kernel is narrow, if steps are cheap enough (entries times colours) to go on until
/// everything is known at any delta.
const NARROW: f64 = 1.25;
const NARROW_WORK: f64 = 3e8;

/// Largest difference of Gauss and Radau quadrature, in units of the log likelihood, for the log determinant and for a
/// gene, and the share of the gene's LLR that comes on top.
const LOG_DET_GAP: f64 = 0.02;
const GENE_GAP: f64 = 0.01;
const GENE_RELATIVE_GAP: f64 = 5e-5;

/// What the quadratures may put into a log likelihood ratio, beside a share of 5e-5 of it.
pub(crate) const TOLERANCE: f64 = LOG_DET_GAP + GENE_GAP;

/// The log determinant of wide kernels should be known from this log delta on.
const WANTED_LOG_DELTA: f64 = -1.0;

/// Steps of Lanczos for V⁻¹1, which the means need.
const MEAN_STEPS: usize = 40;

/// A quadrature: nodes and weights.
type Quadrature = Vec<(f64, f64)>;

/// An SE kernel ready for the likelihoods of many genes, without its eigenpairs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Krylov {
    kernel: Kernel,
    n: usize,
    /// See [`Krylov::is_narrow`].
    narrow: bool,
    parts: Vec<Part>,
    grid: Vec<f64>,
    /// Over all samples, and on the grid.
    determinant: LogDet,
    log_det: Vec<f64>,
    /// Where the grid starts to be reliable.
    reliable: usize,
    gower: f64,
}

/// One sample.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    /// The row of each place; places are what vectors and matrix are indexed by.
    rows: Vec<usize>,
    matrix: Sparse,
    /// Of `tr f(K)`.
    spectrum: Quadrature,
    /// K1.
    row_sums: Vec<f64>,
    /// Lanczos vectors started at 1, place by place, and their tridiagonal matrix.
    basis: Vec<f64>,
    tridiagonal: Tridiagonal,
}

/// K without its diagonal of ones, row by row.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sparse {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// A symmetric tridiagonal matrix, and the entry that would come next to its diagonal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tridiagonal {
    diagonal: Vec<f64>,
    off: Vec<f64>,
}

/// Sums over the entries of K in one sample, by place.
pub(crate) struct EntrySums {
    /// K1.
    pub rows: Vec<f64>,
    /// Σ kᵢⱼ² over j ≠ i.
    pub squares: Vec<f64>,
    /// Σ kᵢⱼ³ over i ≠ j.
    pub cubes: f64,
    /// tr (K - I)³.
    pub triangles: f64,
}

/// One gene's quadrature of `yᵀ f(HKH) y`.
#[derive(Debug, Clone)]
pub struct GeneQuadrature {
    /// Gauss-Radau nodes and weights.
    nodes: Quadrature,
    /// Whether the likelihood's maximum is known to the tolerance.
    pub converged: bool,
    /// If not, what the likelihood may still reach.
    pub ceiling: f64,
    /// `yᵀ K y`.
    pub score: f64,
}

impl Krylov {
    /// Whether the matrix of an SE kernel would have few enough entries.
    pub(crate) fn affordable(lengthscale: f64, locations: &Locations) -> bool {
        has_few_entries(lengthscale, &trees(locations))
    }

    /// Whether an SE kernel is narrow; `spacing` is that of the locations.
    pub(crate) fn is_narrow(lengthscale: f64, spacing: f64, locations: &Locations) -> bool {
        is_narrow(lengthscale, spacing, &trees(locations))
    }

    /// Prepares an SE kernel, in the current rayon pool. `None` if its matrix would have too many entries.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other kernels.
    pub fn new(kernel: Kernel, locations: &Locations) -> Result<Option<Self>> {
        let Kernel::SquaredExponential { lengthscale } = kernel else {
            return Err(Error::Unsupported { kernel, n: locations.len() });
        };
        let grid = log_delta_grid();
        let trees = trees(locations);
        if !has_few_entries(lengthscale, &trees) {
            return Ok(None);
        }
        let spacing = locations.spacing();
        let narrow = is_narrow(lengthscale, spacing, &trees);
        let apart = apart(lengthscale, spacing, narrow);
        let mut parts = Vec::new();
        for tree in &trees {
            parts.push(Part::new(tree, lengthscale, apart, narrow, &grid));
            interrupt::check()?;
        }
        let n = locations.len();
        let gaps = |i: usize| parts.iter().map(|(_, gaps)| gaps[i]).sum::<f64>();
        let first_bad = (0..grid.len()).rev().find(|&i| gaps(i) > LOG_DET_GAP);
        let reliable = first_bad.map_or(0, |i| i + 1);
        let parts: Vec<Part> = parts.into_iter().map(|(part, _)| part).collect();
        let within: f64 = parts.iter().map(|p| p.row_sums.iter().sum::<f64>() / p.rows.len() as f64).sum();
        let eigenvalues: Vec<(f64, f64)> = parts.iter().flat_map(|p| p.spectrum.iter().copied()).collect();
        let determinant = LogDet::new(&eigenvalues);
        Ok(Some(Self {
            kernel,
            n,
            narrow,
            gower: (n as f64 - within) / (n - parts.len()) as f64,
            parts,
            log_det: grid.iter().map(|&x| determinant.at(x)[0]).collect(),
            determinant,
            grid,
            reliable,
        }))
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Gower's factor.
    pub fn gower(&self) -> f64 {
        self.gower
    }

    /// The grid of log delta, as far as likelihoods are reliable.
    pub fn grid(&self) -> &[f64] {
        &self.grid[self.reliable..]
    }

    /// The row of each of a sample's places.
    pub(crate) fn places(&self, sample: usize) -> &[usize] {
        &self.parts[sample].rows
    }

    /// About K's eigenvalues in one sample, with multiplicities.
    pub(crate) fn eigenvalues(&self, sample: usize) -> &[(f64, f64)] {
        &self.parts[sample].spectrum
    }

    /// Sums over K's entries in one sample.
    pub(crate) fn sums(&self, sample: usize) -> EntrySums {
        let part = &self.parts[sample];
        let power = |i: usize, p: i32| -> f64 {
            part.matrix.values[part.matrix.row(i)].iter().map(|&v| f64::from(v).powi(p)).sum()
        };
        let n = part.rows.len();
        EntrySums {
            rows: part.row_sums.clone(),
            squares: (0..n).map(|i| power(i, 2)).collect(),
            cubes: (0..n).map(|i| power(i, 3)).sum(),
            triangles: part.matrix.triangles().unwrap_or_else(|| {
                part.spectrum.iter().map(|(node, weight)| weight * (node - 1.0).powi(3)).sum()
            }),
        }
    }

    /// K x in one sample, by place.
    pub(crate) fn product(&self, sample: usize, x: &[f64]) -> Vec<f64> {
        let matrix = &self.parts[sample].matrix;
        (0..x.len())
            .map(|i| {
                let row = matrix.row(i);
                let entries = matrix.columns[row.clone()].iter().zip(&matrix.values[row]);
                x[i] + entries.map(|(&j, &v)| f64::from(v) * x[j as usize]).sum::<f64>()
            })
            .collect()
    }

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
                        let signal = (0..state.genes.len()).any(|lane| state.lanes[lane].diagonal[0] > 1.0);
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

    /// A gene's quadrature if it has converged, or if there is no more to come.
    fn finish(&self, lane: &Tridiagonal, last: bool) -> Option<GeneQuadrature> {
        let n = self.n as f64;
        let score = lane.diagonal[0] * n;
        if lane.diagonal[0] <= 1.0 {
            let nodes = scaled(lane.first().radau(), n);
            return Some(GeneQuadrature { nodes, converged: true, ceiling: f64::NEG_INFINITY, score });
        }
        let (gauss, radau) = (scaled(lane.gauss(), n), scaled(lane.radau(), n));
        let at =
            |i: usize, nodes: &Quadrature| loglik(n, inverse(nodes, self.grid[i].exp()), self.log_det[i]);
        let (best, value) = (self.reliable..self.grid.len())
            .map(|i| (i, at(i, &radau)))
            .fold((self.reliable, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
        let llr = (value - crate::likelihood::constant_loglik(self.n)).max(0.0);
        let tolerance = GENE_GAP + GENE_RELATIVE_GAP * llr;
        let from = best.saturating_sub(1).max(self.reliable);
        let gap = (from..(best + 2).min(self.grid.len()))
            .map(|i| at(i, &gauss) - at(i, &radau))
            .fold(0.0, f64::max);
        // At the reliable grid's lower end the maximum may lie beyond it.
        let inside = self.reliable == 0 || best > self.reliable;
        let known = gap <= tolerance;
        let ceiling = match (known && inside, inside) {
            (true, _) => f64::NEG_INFINITY,
            (false, true) => value + gap,
            (false, false) => value + gap + 4.0 * (value - at(best + 1, &radau)).max(0.0),
        };
        (known || last).then_some(GeneQuadrature { nodes: radau, converged: known && inside, ceiling, score })
    }

    /// One gene's likelihood on [`Krylov::grid`], as [`Profile::scan`](crate::likelihood::Profile::scan) gives it.
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
        let means = self.parts.iter().map(|part| part.mean(y, delta)).collect();
        (means, inverse(&gene.nodes, delta) / self.n as f64)
    }

    /// Genes side by side, place by place; unused lanes are zero.
    fn start(&self, y: MatRef<'_, f64>, genes: &[usize]) -> Lanczos {
        let mut state = Lanczos::new(self.n, genes.to_vec());
        let mut from = 0;
        for part in &self.parts {
            let places = state.current[from..].iter_mut().zip(&part.rows);
            for (point, &row) in places {
                for (value, &g) in point.iter_mut().zip(genes) {
                    *value = y[(row, g)];
                }
            }
            from += part.rows.len();
        }
        state.normalise();
        state
    }

    /// Lanczos on HKH up to so many steps.
    fn advance(&self, state: &mut Lanczos, steps: usize) {
        while state.steps < steps {
            let mut from = 0;
            for part in &self.parts {
                let range = from..from + part.rows.len();
                from = range.end;
                part.matrix.multiply(&state.current[range.clone()], &mut state.next[range.clone()]);
                centre(&mut state.next[range]);
            }
            state.step();
        }
    }
}

impl Part {
    /// Also returns the difference of Gauss and Radau quadrature of log det V on the grid, in units of the log likelihood.
    fn new(tree: &Tree, lengthscale: f64, apart: f64, narrow: bool, grid: &[f64]) -> (Self, Vec<f64>) {
        let matrix = Sparse::new(tree, lengthscale);
        let n = tree.rows().len();
        let mut row_sums = vec![1.0; n];
        for (i, sum) in row_sums.iter_mut().enumerate() {
            *sum += matrix.values[matrix.row(i)].iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        let colours = colour(tree, apart * apart);
        let count = colours.iter().max().map_or(0, |c| *c as usize + 1);
        let groups = count.div_ceil(LANES);
        let probe = |group| matrix.probe(tree.rows(), &colours, group * LANES, grid, groups, narrow);
        let probes = || (0..groups).into_par_iter().with_max_len(1).map(probe).collect();
        let ((basis, tridiagonal), tails): (_, Vec<(Quadrature, Vec<f64>)>) =
            rayon::join(|| matrix.basis(MEAN_STEPS), probes);
        let mut gaps = vec![0.0; grid.len()];
        let mut spectrum = Vec::new();
        for (nodes, gap) in tails {
            spectrum.extend(nodes);
            gaps.iter_mut().zip(gap).for_each(|(sum, gap)| *sum += gap);
        }
        (Self { rows: tree.rows().to_vec(), matrix, spectrum, row_sums, basis, tridiagonal }, gaps)
    }

    /// `1ᵀ V⁻¹ y / 1ᵀ V⁻¹ 1`: with Lanczos vectors Q started at 1, `V⁻¹ 1 = √n Q (T + delta)⁻¹ e₁`.
    fn mean(&self, y: &[f64], delta: f64) -> f64 {
        let root = (self.rows.len() as f64).sqrt();
        let weights = self.tridiagonal.solve_first(delta);
        let steps = weights.len();
        let mut cross = vec![0.0; steps];
        for (vector, &row) in self.basis.chunks_exact(steps).zip(&self.rows) {
            cross.iter_mut().zip(vector).for_each(|(sum, q)| *sum += q * y[row]);
        }
        let along: f64 = cross.iter().zip(&weights).map(|(c, w)| c * w).sum();
        along / (root * weights[0])
    }
}

impl Sparse {
    /// The squared distance where an SE kernel falls below the cutoff.
    fn reach(lengthscale: f64) -> f64 {
        -2.0 * lengthscale * lengthscale * CUTOFF.ln()
    }

    fn new(tree: &Tree, lengthscale: f64) -> Self {
        const ROWS: usize = 512;
        let n = tree.rows().len();
        let factor = -0.5 / (lengthscale * lengthscale);
        let pieces: Vec<(Vec<usize>, Vec<u32>, Vec<f32>)> = (0..n.div_ceil(ROWS))
            .into_par_iter()
            .map(|piece| {
                let (mut ends, mut columns, mut values) = (Vec::with_capacity(ROWS), Vec::new(), Vec::new());
                for place in piece * ROWS..((piece + 1) * ROWS).min(n) {
                    tree.within(place, Self::reach(lengthscale), |other, d2| {
                        if other != place {
                            columns.push(other as u32);
                            values.push((factor * d2).exp() as f32);
                        }
                    });
                    ends.push(columns.len());
                }
                (ends, columns, values)
            })
            .collect();
        let entries = pieces.iter().map(|p| p.1.len()).sum();
        let mut sparse = Self {
            starts: Vec::with_capacity(n + 1),
            columns: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
        };
        sparse.starts.push(0);
        for (ends, columns, values) in pieces {
            let from = sparse.columns.len();
            sparse.starts.extend(ends.into_iter().map(|end| from + end));
            sparse.columns.extend(columns);
            sparse.values.extend(values);
        }
        sparse
    }

    fn n(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i + 1]
    }

    /// `tr (K - I)³`, if that does not take too long.
    fn triangles(&self) -> Option<f64> {
        let n = self.n();
        let work: f64 = (0..n).map(|i| (self.row(i).len() as f64).powi(2)).sum();
        if work > TRIANGLE_LIMIT {
            return None;
        }
        const ROWS: usize = 1024;
        let sums: Vec<f64> = (0..n.div_ceil(ROWS))
            .into_par_iter()
            .map(|piece| {
                let mut own = vec![0.0; n];
                let mut sum = 0.0;
                for i in piece * ROWS..((piece + 1) * ROWS).min(n) {
                    for e in self.row(i) {
                        own[self.columns[e] as usize] = f64::from(self.values[e]);
                    }
                    for e in self.row(i) {
                        let other = self.row(self.columns[e] as usize);
                        let common: f64 = self.columns[other.clone()]
                            .iter()
                            .zip(&self.values[other])
                            .map(|(&m, &v)| f64::from(v) * own[m as usize])
                            .sum();
                        sum += f64::from(self.values[e]) * common;
                    }
                    self.row(i).for_each(|e| own[self.columns[e] as usize] = 0.0);
                }
                sum
            })
            .collect();
        Some(sums.iter().sum())
    }

    /// `out = K x`.
    fn multiply(&self, x: &[Point], out: &mut [Point]) {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (i, out) in out.iter_mut().enumerate() {
                    let range = self.row(i);
                    let mut sum = x[i];
                    for (&j, &v) in self.columns[range.clone()].iter().zip(&self.values[range]) {
                        let (v, x) = (f64::from(v), &x[j as usize]);
                        for lane in 0..LANES {
                            sum[lane] += v * x[lane];
                        }
                    }
                    *out = sum;
                }
            },
        );
    }

    /// Lanczos vectors started at 1, place by place.
    fn basis(&self, steps: usize) -> (Vec<f64>, Tridiagonal) {
        let mut state = Lanczos::new(self.n(), vec![0]);
        state.current.iter_mut().for_each(|point| point[0] = 1.0);
        state.normalise();
        let mut vectors = Vec::new();
        while state.steps < steps.min(self.n()) && !state.lanes[0].exhausted() {
            vectors.push(state.current.iter().map(|point| point[0]).collect::<Vec<f64>>());
            self.multiply(&state.current, &mut state.next);
            state.step();
        }
        let count = vectors.len();
        let mut basis = vec![0.0; self.n() * count];
        for (k, vector) in vectors.iter().enumerate() {
            vector.iter().enumerate().for_each(|(i, v)| basis[i * count + k] = *v);
        }
        (basis, std::mem::take(&mut state.lanes[0]))
    }

    /// Quadratures of `zᵀ f(K) z` for the random signs of [`LANES`] colours; and the difference of Gauss and Radau
    /// quadrature of half the log determinant on the grid.
    fn probe(
        &self,
        rows: &[usize],
        colours: &[u32],
        first: usize,
        grid: &[f64],
        groups: usize,
        narrow: bool,
    ) -> (Quadrature, Vec<f64>) {
        let mut counts = [0.0; LANES];
        let mut state = Lanczos::new(self.n(), (0..LANES).collect());
        for ((point, &colour), &row) in state.current.iter_mut().zip(colours).zip(rows) {
            let lane = (colour as usize).wrapping_sub(first);
            if lane < LANES {
                point[lane] = sign(row as u64);
                counts[lane] += 1.0;
            }
        }
        state.normalise();
        loop {
            let steps = if state.steps == 0 { PROBE_STEPS } else { state.steps + 4.max(state.steps / 5) };
            while state.steps < steps {
                self.multiply(&state.current, &mut state.next);
                state.step();
            }
            let (mut nodes, mut gaps) = (Quadrature::new(), vec![0.0; grid.len()]);
            for (lane, &count) in state.lanes.iter().zip(&counts).filter(|(_, count)| **count > 0.0) {
                let (gauss, radau) = (scaled(lane.gauss(), count), scaled(lane.radau(), count));
                let log_det = |nodes: &Quadrature, x: f64| -> f64 {
                    nodes.iter().map(|(node, weight)| weight * (node + x.exp()).ln()).sum()
                };
                for (gap, &x) in gaps.iter_mut().zip(grid) {
                    *gap += 0.5 * (log_det(&gauss, x) - log_det(&radau, x)).abs();
                }
                // The truth is between the two.
                nodes.extend(gauss.into_iter().chain(radau).map(|(node, weight)| (node, 0.5 * weight)));
            }
            let enough = LOG_DET_GAP / groups as f64;
            let wanted = grid.iter().position(|&x| x >= WANTED_LOG_DELTA).filter(|_| !narrow).unwrap_or(0);
            let most = if narrow { MOST_PROBE_STEPS.1 } else { MOST_PROBE_STEPS.0 };
            if gaps[0] <= enough || gaps[wanted] <= enough || state.steps >= most || interrupt::requested() {
                return (nodes, gaps);
            }
        }
    }
}

/// One location's values in all lanes.
type Point = [f64; LANES];

/// Lanczos recurrences side by side.
struct Lanczos {
    genes: Vec<usize>,
    lanes: Vec<Tridiagonal>,
    steps: usize,
    previous: Vec<Point>,
    current: Vec<Point>,
    next: Vec<Point>,
}

impl Lanczos {
    fn new(n: usize, genes: Vec<usize>) -> Self {
        Self {
            lanes: vec![Tridiagonal::default(); genes.len()],
            genes,
            steps: 0,
            previous: vec![[0.0; LANES]; n],
            current: vec![[0.0; LANES]; n],
            next: vec![[0.0; LANES]; n],
        }
    }

    /// Scales the starting vectors to length 1.
    fn normalise(&mut self) {
        let mut factors = [0.0; LANES];
        for point in &self.current {
            (0..LANES).for_each(|lane| factors[lane] += point[lane] * point[lane]);
        }
        factors.iter_mut().for_each(|v| *v = if *v > 0.0 { 1.0 / v.sqrt() } else { 0.0 });
        for point in &mut self.current {
            (0..LANES).for_each(|lane| point[lane] *= factors[lane]);
        }
    }

    /// One step, where `next` holds the matrix times `current`.
    fn step(&mut self) {
        let mut alpha = [0.0; LANES];
        let mut beta = [0.0; LANES];
        for (lane, t) in self.lanes.iter().enumerate() {
            beta[lane] = t.off.last().copied().unwrap_or(0.0);
        }
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (x, y) in self.current.iter().zip(&self.next) {
                    for lane in 0..LANES {
                        alpha[lane] += x[lane] * y[lane];
                    }
                }
                let mut norms = [0.0; LANES];
                for ((y, x), w) in self.next.iter_mut().zip(&self.current).zip(&self.previous) {
                    for lane in 0..LANES {
                        y[lane] -= alpha[lane] * x[lane] + beta[lane] * w[lane];
                        norms[lane] += y[lane] * y[lane];
                    }
                }
                for lane in 0..LANES {
                    let norm = norms[lane].sqrt();
                    // An exhausted space: nothing but rounding errors is left.
                    let left = norm > 1e-10 * (alpha[lane].abs() + beta[lane]);
                    beta[lane] = if left { norm } else { 0.0 };
                    norms[lane] = if left { 1.0 / norm } else { 0.0 };
                }
                for y in &mut self.next {
                    for lane in 0..LANES {
                        y[lane] *= norms[lane];
                    }
                }
            },
        );
        for (lane, t) in self.lanes.iter_mut().enumerate() {
            if !t.exhausted() {
                t.diagonal.push(alpha[lane]);
                t.off.push(beta[lane]);
            }
        }
        self.steps += 1;
        std::mem::swap(&mut self.previous, &mut self.current);
        std::mem::swap(&mut self.current, &mut self.next);
    }

    /// A state of some lanes of others, all after the same number of steps.
    fn regroup(states: &[Self], lanes: &[(usize, usize)]) -> Self {
        let n = states[0].current.len();
        let mut new = Self::new(n, lanes.iter().map(|&(s, lane)| states[s].genes[lane]).collect());
        // Lanes that had no signal and stopped early are not among them.
        new.steps = lanes.iter().map(|&(s, _)| states[s].steps).max().unwrap_or(0);
        for (to, &(s, lane)) in lanes.iter().enumerate() {
            new.lanes[to] = states[s].lanes[lane].clone();
            for i in 0..n {
                new.previous[i][to] = states[s].previous[i][lane];
                new.current[i][to] = states[s].current[i][lane];
            }
        }
        new
    }
}

impl Tridiagonal {
    fn exhausted(&self) -> bool {
        self.off.last() == Some(&0.0)
    }

    /// The matrix after one step.
    fn first(&self) -> Self {
        Self { diagonal: vec![self.diagonal[0]], off: vec![self.off[0]] }
    }

    /// Gauss quadrature, for a starting vector of length 1.
    fn gauss(&self) -> Quadrature {
        quadrature(self.diagonal.clone(), self.off[..self.off.len() - 1].to_vec())
    }

    /// Gauss-Radau quadrature with a node at 0.
    fn radau(&self) -> Quadrature {
        if self.exhausted() {
            return self.gauss();
        }
        // The last entry of T⁻¹ e, by elimination from the top, makes T's extension singular.
        let mut pivot = self.diagonal[0];
        for k in 1..self.diagonal.len() {
            pivot = self.diagonal[k] - self.off[k - 1] * self.off[k - 1] / pivot;
        }
        let last = self.off[self.off.len() - 1];
        let mut diagonal = self.diagonal.clone();
        diagonal.push(last * last / pivot);
        let mut nodes = quadrature(diagonal, self.off.clone());
        // One node is 0 but for rounding.
        nodes.iter_mut().for_each(|(node, _)| *node = node.max(0.0));
        nodes
    }

    /// `(T + delta)⁻¹ e₁`.
    fn solve_first(&self, delta: f64) -> Vec<f64> {
        let k = self.diagonal.len();
        // Elimination from the bottom.
        let mut pivots = vec![0.0; k];
        pivots[k - 1] = self.diagonal[k - 1] + delta;
        for i in (0..k - 1).rev() {
            pivots[i] = self.diagonal[i] + delta - self.off[i] * self.off[i] / pivots[i + 1];
        }
        let mut solution = vec![1.0 / pivots[0]];
        for i in 1..k {
            solution.push(-self.off[i - 1] * solution[i - 1] / pivots[i]);
        }
        solution
    }
}

/// `Σ w / (node + delta)`.
fn inverse(nodes: &Quadrature, delta: f64) -> f64 {
    nodes.iter().map(|(node, weight)| weight / (node + delta)).sum()
}

fn scaled(mut nodes: Quadrature, by: f64) -> Quadrature {
    nodes.iter_mut().for_each(|(_, weight)| *weight *= by);
    nodes
}

/// Takes the mean of each lane off.
fn centre(x: &mut [Point]) {
    let mut sums = [0.0; LANES];
    for point in x.iter() {
        (0..LANES).for_each(|lane| sums[lane] += point[lane]);
    }
    sums.iter_mut().for_each(|sum| *sum /= x.len() as f64);
    for point in x {
        (0..LANES).for_each(|lane| point[lane] -= sums[lane]);
    }
}

/// Eigenvalues of a symmetric tridiagonal matrix with the squares of its eigenvectors' first entries, by the implicit
/// QL method (Golub & Welsch 1969).
fn quadrature(mut d: Vec<f64>, mut e: Vec<f64>) -> Quadrature {
    let n = d.len();
    e.push(0.0);
    let mut z = vec![0.0; n];
    z[0] = 1.0;
    for l in 0..n {
        for _ in 0..60 {
            let m = (l..n - 1)
                .find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()))
                .unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                let f = z[i + 1];
                z[i + 1] = s * z[i] + c * f;
                z[i] = c * z[i] - s * f;
            }
            d[l] -= p;
            e[l] = g;
            e[m] = 0.0;
        }
    }
    d.into_iter().zip(z.into_iter().map(|z| z * z)).collect()
}

/// A reproducible random sign.
pub(crate) fn sign(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    if (x ^ (x >> 31)) & 1 == 0 { 1.0 } else { -1.0 }
}

/// A tree for each sample.
fn trees(locations: &Locations) -> Vec<Tree> {
    locations.samples().iter().map(|rows| Tree::new(locations, rows.clone())).collect()
}

/// Whether a kernel's matrix would have few enough entries.
fn has_few_entries(lengthscale: f64, trees: &[Tree]) -> bool {
    let entries = |tree: &Tree| expected_pairs(tree, Sparse::reach(lengthscale));
    trees.iter().map(entries).sum::<f64>() <= ENTRY_LIMIT
}

/// See [`NARROW`].
fn is_narrow(lengthscale: f64, spacing: f64, trees: &[Tree]) -> bool {
    let apart = apart(lengthscale, spacing, true);
    let work = |tree: &Tree| {
        let colours = expected_pairs(tree, apart * apart) / tree.rows().len() as f64;
        expected_pairs(tree, Sparse::reach(lengthscale)) * colours
    };
    lengthscale <= NARROW * spacing && trees.iter().map(work).sum::<f64>() <= NARROW_WORK
}

/// How far apart locations of the same colour are.
fn apart(lengthscale: f64, spacing: f64, narrow: bool) -> f64 {
    let lengthscales = if narrow { APART.1 } else { APART.0 };
    lengthscales * lengthscale + 2.0 * spacing
}

/// About the number of pairs of places within a squared distance, (i, j) and (j, i) counted apart, from some places.
fn expected_pairs(tree: &Tree, distance2: f64) -> f64 {
    let n = tree.rows().len();
    let every = (n / 500).max(1);
    let mut count = 0.0;
    let sampled = (0..n).step_by(every);
    let rows = sampled.len() as f64;
    sampled.for_each(|place| tree.within(place, distance2, |_, _| count += 1.0));
    count / rows * n as f64
}

/// Colours, from 0, so that places within a squared distance have different ones.
fn colour(tree: &Tree, apart2: f64) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let n = tree.rows().len();
    let mut colours = vec![NONE; n];
    // The last place that found a colour taken.
    let mut taken: Vec<usize> = Vec::new();
    for place in 0..n {
        tree.within(place, apart2, |other, _| {
            if colours[other] != NONE {
                taken[colours[other] as usize] = place;
            }
        });
        let free = taken.iter().position(|&by| by != place).unwrap_or(taken.len());
        if free == taken.len() {
            taken.push(place);
        }
        colours[place] = free as u32;
    }
    colours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::{Profile, candidates};
    use crate::spectrum::Spectrum;
    use crate::testing::{grid_with_gaps, irregular, normal, two_samples};
    use faer::Mat;

    /// Genes centred within samples and scaled: noise, draws from the kernel of lengthscale 2 at several noise ratios.
    fn genes(locations: &Locations, noise: &[f64]) -> Mat<f64> {
        let kernel = Kernel::SquaredExponential { lengthscale: 2.0 };
        let spectrum = Spectrum::dense(kernel, locations).unwrap();
        let mut normal = normal(11);
        let n = locations.len();
        let mut y = Mat::zeros(n, noise.len());
        for (g, noise) in noise.iter().enumerate() {
            let mut from = 0;
            for block in spectrum.blocks() {
                let (len, rank) = block.vectors().shape();
                let draws: Vec<f64> =
                    (0..rank).map(|k| spectrum.values()[from + k].sqrt() * normal()).collect();
                for i in 0..len {
                    let field: f64 = if noise.is_finite() {
                        (0..rank).map(|k| block.vectors()[(i, k)] * draws[k]).sum()
                    } else {
                        0.0
                    };
                    y[(block.start() + i, g)] = field + noise.sqrt().min(1.0) * normal();
                }
                from += rank;
            }
            for rows in locations.samples() {
                let mean = rows.clone().map(|i| y[(i, g)]).sum::<f64>() / rows.len() as f64;
                rows.clone().for_each(|i| y[(i, g)] -= mean);
            }
            let scale = (y.col(g).iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
            y.col_mut(g).iter_mut().for_each(|v| *v /= scale);
        }
        y
    }

    #[test]
    fn agrees_with_the_dense_spectrum() {
        let noise = [f64::INFINITY, f64::INFINITY, f64::INFINITY, 30.0, 10.0, 3.0, 1.0, 0.3];
        for locations in [
            irregular(900, 2, 1),
            grid_with_gaps(30),
            two_samples(500),
            irregular(400, 1, 2),
            irregular(700, 3, 3),
        ] {
            let y = genes(&locations, &noise);
            let squares = |g: usize, p: usize| -> f64 {
                locations.samples()[p].clone().map(|i| y[(i, g)] * y[(i, g)]).sum()
            };
            for lengthscale in [0.05, 0.5, 0.95, 1.8, 2.9] {
                let kernel = Kernel::SquaredExponential { lengthscale };
                let dense = Spectrum::dense(kernel, &locations).unwrap();
                let profile = Profile::new(&dense);
                let krylov = Krylov::new(kernel, &locations).unwrap().unwrap();
                assert!((krylov.gower() - profile.gower()).abs() < 1e-6);
                let reliable = krylov.grid()[0];
                let mut worst = (0.0_f64, f64::NAN);
                for (i, &x) in krylov.grid().iter().enumerate() {
                    let error = 0.5 * (krylov.log_det[krylov.reliable + i] - profile.log_det(x.exp()));
                    if error.abs() > worst.0.abs() {
                        worst = (error, x);
                    }
                }
                println!(
                    "n {} l {lengthscale}: reliable {reliable}, half log det off by {:.2e} at {}",
                    krylov.n(),
                    worst.0,
                    worst.1
                );

                let found = krylov.quadratures(y.as_ref(), &vec![true; y.ncols()]);
                let mut z = Mat::zeros(dense.rank(), y.ncols());
                dense.project(y.as_ref(), z.as_mut());
                for (g, quadrature) in found.iter().enumerate() {
                    let quadrature = quadrature.as_ref().unwrap();
                    let best = |scanned: &[f64], refined: &dyn Fn(Candidate) -> Maximum| {
                        let mut best: Option<Maximum> = None;
                        candidates(scanned, krylov.n(), |c| {
                            let maximum = refined(c);
                            if best.is_none_or(|b| maximum.value > b.value) {
                                best = Some(maximum);
                            }
                        });
                        best.unwrap()
                    };
                    let exact = profile.gene(z.col_as_slice(g), |p| squares(g, p));
                    let n = krylov.n() as f64;
                    let null = crate::likelihood::constant_loglik(krylov.n());
                    let scanned: Vec<f64> = profile
                        .grid()
                        .iter()
                        .map(|&x| n * (-2.0 / n * (exact.evaluate(x).value - null)).exp())
                        .collect();
                    let truth = best(&scanned, &|c| exact.refine(c));
                    let own = best(&krylov.scan(quadrature), &|c| krylov.refine(quadrature, c));
                    let llr = truth.value - null;
                    let error = own.value - truth.value;
                    println!(
                        "  gene {g}: LLR {llr:.3} at {:.2}, error {error:.1e}, converged {}",
                        truth.log_delta, quadrature.converged
                    );
                    if quadrature.converged {
                        assert!(error.abs() < 0.02 + 1e-4 * llr);
                        let (means, s2) = krylov.mean_and_scale(quadrature, y.col_as_slice(g), own.log_delta);
                        let (exact_means, exact_s2) = exact.mean_and_scale(own.log_delta);
                        assert!((s2 / exact_s2 - 1.0).abs() < 1e-3);
                        for (a, b) in means.iter().zip(&exact_means) {
                            assert!((a - b).abs() < 1e-3, "{a} {b}");
                        }
                    } else {
                        assert!(truth.log_delta < 0.0, "only strong signals may not converge");
                    }
                }
            }
        }
    }
}
