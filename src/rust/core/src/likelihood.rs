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
//! and `tr V⁻²`. Nothing here knows how a spectrum was computed.

use crate::spectrum::Spectrum;
use faer::{Mat, MatMut, MatRef};
use pulp::{Simd, WithSimd};
use std::f64::consts::PI;
use std::ops::Range;

/// The interval over which log delta is maximised.
pub const LOG_DELTA: (f64, f64) = (-10.0, 20.0);

/// A maximum is refined until log delta moves by less than this.
const LOG_DELTA_TOLERANCE: f64 = 1e-9;

/// Grid steps in log delta, below and above `GRID_BEND`: a signal that is stronger than the noise makes
/// the likelihood sharper.
const GRID_STEPS: (f64, f64) = (0.5, 1.0);
const GRID_BEND: f64 = 5.0;

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
    pub hope: f64,
}

/// The local maxima of a likelihood on the grid, from [`Profile::scan`]'s column of a gene, each with the most that
/// refinement may add: twice the gain of the parabola through it and its neighbours. At the upper end, where delta is
/// so large that the likelihood is monotone, there is nothing to add.
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
            ((top - value(1)) / 4.0, 0.01)
        } else {
            let (left, right) = (top - value(index - 1), top - value(index + 1));
            let bend = left + right;
            (if bend > 0.0 { (left - right).powi(2) / (8.0 * bend) } else { 0.0 }, 0.01)
        };
        found(Candidate { index, value: top, hope: top + 2.0 * gain + margin });
    }
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

/// One sample's share of a spectrum, with what the likelihood needs of its mean.
#[derive(Debug, Clone)]
struct Part {
    /// Its eigenvalues' places.
    range: Range<usize>,
    /// Number of its locations.
    n: usize,
    /// `‖1‖² - ‖b‖²`: what the eigenvectors do not span of the constant.
    rest_ones: f64,
}

/// A spectrum made ready for the likelihoods of many genes: everything that does not depend on the gene.
#[derive(Debug, Clone)]
pub struct Profile {
    values: Vec<f64>,
    /// `b = Uᵀ 1`.
    ones: Vec<f64>,
    parts: Vec<Part>,
    n: usize,
    gower: f64,
    grid: Vec<f64>,
    /// `1 / delta` and `(det V)^(1/n)` on the grid.
    inverse_delta: Vec<f64>,
    root_det: Vec<f64>,
    /// `1 / (S + delta)`, grid × r, and the same times b.
    weights: Mat<f64>,
    weights_ones: Mat<f64>,
    /// `1ᵀ V⁻¹ 1`, grid × parts.
    ones_quadratic: Mat<f64>,
}

impl Profile {
    /// Prepares a spectrum; the model has one mean for each of the spectrum's samples.
    pub fn new(spectrum: &Spectrum) -> Self {
        let values = spectrum.values().to_vec();
        let mut ones = Vec::with_capacity(values.len());
        let mut parts = Vec::with_capacity(spectrum.blocks().len());
        let mut trace = 0.0;
        for block in spectrum.blocks() {
            let (n, rank) = block.vectors().shape();
            let range = ones.len()..ones.len() + rank;
            ones.extend((0..rank).map(|j| block.vectors().col(j).iter().sum::<f64>()));
            let spanned: f64 = ones[range.clone()].iter().map(|b| b * b).sum();
            let along: f64 = range.clone().map(|i| values[i] * ones[i] * ones[i]).sum();
            trace += range.clone().map(|i| values[i]).sum::<f64>() - along / n as f64;
            parts.push(Part { range, n, rest_ones: (n as f64 - spanned).max(0.0) });
        }
        let n = spectrum.n();
        let grid = log_delta_grid();
        let weights = Mat::from_fn(grid.len(), values.len(), |g, i| 1.0 / (values[i] + grid[g].exp()));
        let weights_ones = Mat::from_fn(grid.len(), values.len(), |g, i| weights[(g, i)] * ones[i]);
        let ones_quadratic = Mat::from_fn(grid.len(), parts.len(), |g, p| {
            let part = &parts[p];
            let spanned: f64 = part.range.clone().map(|i| weights_ones[(g, i)] * ones[i]).sum();
            spanned + part.rest_ones / grid[g].exp()
        });
        let mut profile = Self {
            gower: trace / (n - parts.len()) as f64,
            inverse_delta: grid.iter().map(|x| (-x).exp()).collect(),
            root_det: Vec::new(),
            values,
            ones,
            parts,
            n,
            grid,
            weights,
            weights_ones,
            ones_quadratic,
        };
        profile.root_det = profile.grid.iter().map(|x| (profile.log_det(x.exp()) / n as f64).exp()).collect();
        profile
    }

    /// Number of eigenpairs.
    pub fn rank(&self) -> usize {
        self.values.len()
    }

    /// Gower's factor: the mean variance that K gives to data centred within samples, `tr(PKP) / (n - samples)`.
    pub fn gower(&self) -> f64 {
        self.gower
    }

    /// The grid of log delta.
    pub fn grid(&self) -> &[f64] {
        &self.grid
    }

    /// The likelihoods of a block of genes on the whole grid: `yᵀ P y (det V)^(1/n)`, grid × genes, into `out`. The
    /// smaller it is, the larger the likelihood; [`candidates`] takes the few logarithms that are needed.
    ///
    /// `z` is r × genes, the projections of genes centred within samples; `squares` (genes × samples) are their sums of
    /// squares within samples; `scratch` is r × genes, its content is lost.
    pub fn scan(
        &self,
        z: MatRef<'_, f64>,
        squares: MatRef<'_, f64>,
        mut scratch: MatMut<'_, f64>,
        mut out: MatMut<'_, f64>,
    ) {
        let genes = z.ncols();
        let mut cross = Mat::<f64>::zeros(self.grid.len(), genes);
        for (p, part) in self.parts.iter().enumerate() {
            let (start, len) = (part.range.start, part.range.len());
            let accum = if p == 0 { faer::Accum::Replace } else { faer::Accum::Add };
            let z = z.subrows(start, len);
            let mut square = scratch.as_mut().subrows_mut(start, len);
            for g in 0..genes {
                let target = square.as_mut().col_mut(g);
                for (to, from) in target.iter_mut().zip(z.col(g).iter()) {
                    *to = from * from;
                }
            }
            let weights = self.weights.as_ref().subcols(start, len);
            let weights_ones = self.weights_ones.as_ref().subcols(start, len);
            multiply(out.as_mut(), accum, weights, square.as_ref());
            multiply(cross.as_mut(), faer::Accum::Replace, weights_ones, z);
            for g in 0..genes {
                let (rest, rest_cross) = self.rest(part, z.col(g).iter().copied(), squares[(g, p)]);
                for d in 0..self.grid.len() {
                    let inverse = self.inverse_delta[d];
                    let cross = cross[(d, g)] + rest_cross * inverse;
                    out[(d, g)] += rest * inverse - cross * cross / self.ones_quadratic[(d, p)];
                }
            }
        }
        for g in 0..genes {
            for (value, root) in out.as_mut().col_mut(g).iter_mut().zip(&self.root_det) {
                *value *= root;
            }
        }
    }

    /// What the eigenvectors do not span of one gene: `‖y‖² - ‖z‖²` and `1ᵀy - bᵀz` of one sample.
    fn rest(&self, part: &Part, z: impl Iterator<Item = f64>, square: f64) -> (f64, f64) {
        if part.range.len() == part.n {
            return (0.0, 0.0);
        }
        let (mut spanned, mut cross) = (0.0, 0.0);
        for (z, b) in z.zip(&self.ones[part.range.clone()]) {
            spanned += z * z;
            cross += z * b;
        }
        ((square - spanned).max(0.0), -cross)
    }

    /// `log det V`.
    pub fn log_det(&self, delta: f64) -> f64 {
        let rest = (self.n - self.values.len()) as f64 * delta.ln();
        // Products of 16 stay within the range of a double.
        rest + self
            .values
            .chunks(16)
            .map(|chunk| chunk.iter().map(|s| s + delta).product::<f64>().ln())
            .sum::<f64>()
    }

    /// One gene's likelihood, from its projection (r, centred within samples) and its sums of squares within samples.
    pub fn gene<'a>(&'a self, z: &'a [f64], squares: impl Fn(usize) -> f64) -> GeneProfile<'a> {
        let rest = self
            .parts
            .iter()
            .enumerate()
            .map(|(p, part)| self.rest(part, z[part.range.clone()].iter().copied(), squares(p)))
            .collect();
        GeneProfile { profile: self, z, rest }
    }
}

fn multiply(out: MatMut<'_, f64>, accum: faer::Accum, lhs: MatRef<'_, f64>, rhs: MatRef<'_, f64>) {
    faer::linalg::matmul::matmul(out, accum, lhs, rhs, 1.0, faer::Par::Seq);
}

/// One gene's likelihood over one spectrum, as a function of delta.
pub struct GeneProfile<'a> {
    profile: &'a Profile,
    z: &'a [f64],
    rest: Vec<(f64, f64)>,
}

impl GeneProfile<'_> {
    /// The likelihood's terms at some delta, without `log det V`, and the mean of each sample to `mean`.
    fn terms(&self, delta: f64, mut mean: impl FnMut(usize, f64)) -> Terms {
        let mut terms = Terms::default();
        let h0 = 1.0 / delta;
        for (p, part) in self.profile.parts.iter().enumerate() {
            let range = part.range.clone();
            let mut sums = weighted_sums(
                &self.profile.values[range.clone()],
                &self.z[range.clone()],
                &self.profile.ones[range.clone()],
                delta,
            );
            let (square, cross) = self.rest[p];
            let unspanned = (part.n - range.len()) as f64;
            let mut power = 1.0;
            for k in 0..3 {
                power *= h0;
                sums.square[k] += power * square;
                sums.cross[k] += power * cross;
                sums.ones[k] += power * part.rest_ones;
                if k < 2 {
                    sums.count[k] += power * unspanned;
                }
            }
            let mu = sums.cross[0] / sums.ones[0];
            mean(p, mu);
            let residual = |k: usize| sums.square[k] - 2.0 * mu * sums.cross[k] + mu * mu * sums.ones[k];
            let along = sums.cross[1] - mu * sums.ones[1];
            terms.quadratic += sums.square[0] - mu * sums.cross[0];
            terms.quadratic2 += residual(1);
            terms.quadratic3 += residual(2) - along * along / sums.ones[0];
            terms.trace += sums.count[0];
            terms.trace2 += sums.count[1];
        }
        terms
    }

    /// The likelihood and its derivatives in log delta.
    pub fn evaluate(&self, log_delta: f64) -> Evaluation {
        let delta = log_delta.exp();
        let mut terms = self.terms(delta, |_, _| ());
        terms.log_det = self.profile.log_det(delta);
        terms.evaluate(self.profile.n, delta)
    }

    /// Refines a candidate of [`Profile::scan`].
    pub fn refine(&self, candidate: Candidate) -> Maximum {
        refine(
            candidate,
            &self.profile.grid,
            |x| self.terms(x.exp(), |_, _| ()).evaluate(self.profile.n, x.exp()),
            |x| self.evaluate(x).value,
        )
    }

    /// The generalised least squares means of the samples, and `s2 = yᵀ P y / n`.
    pub fn mean_and_scale(&self, log_delta: f64) -> (Vec<f64>, f64) {
        let mut means = vec![0.0; self.profile.parts.len()];
        let terms = self.terms(log_delta.exp(), |p, mu| means[p] = mu);
        (means, terms.quadratic / self.profile.n as f64)
    }
}

/// `Σ hᵏ z²`, `Σ hᵏ b z`, `Σ hᵏ b²` for k = 1, 2, 3, and `Σ hᵏ` for k = 1, 2, with `h = 1 / (S + delta)`.
#[derive(Default)]
struct WeightedSums {
    square: [f64; 3],
    cross: [f64; 3],
    ones: [f64; 3],
    count: [f64; 2],
}

fn weighted_sums(values: &[f64], z: &[f64], b: &[f64], delta: f64) -> WeightedSums {
    pulp::Arch::new().dispatch(Sums { values, z, b, delta })
}

/// The sums of [`weighted_sums`], in vector instructions, always in the same order.
struct Sums<'a> {
    values: &'a [f64],
    z: &'a [f64],
    b: &'a [f64],
    delta: f64,
}

impl WithSimd for Sums<'_> {
    type Output = WeightedSums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> WeightedSums {
        let (one, delta) = (simd.splat_f64s(1.0), simd.splat_f64s(self.delta));
        let mut totals = [simd.splat_f64s(0.0); 11];
        let (values, values_tail) = S::as_simd_f64s(self.values);
        let (z, z_tail) = S::as_simd_f64s(self.z);
        let (b, b_tail) = S::as_simd_f64s(self.b);
        for ((&s, &z), &b) in values.iter().zip(z).zip(b) {
            totals = add_weighted(simd, totals, simd.div_f64s(one, simd.add_f64s(s, delta)), z, b);
        }
        if !values_tail.is_empty() {
            // Lanes without an eigenvalue have weight zero.
            let lanes = size_of::<S::f64s>() / size_of::<f64>();
            let mut inverse = [0.0; MAX_LANES];
            for (h, s) in inverse.iter_mut().zip(values_tail) {
                *h = 1.0 / (s + self.delta);
            }
            let h = simd.partial_load_f64s(&inverse[..lanes]);
            let (z, b) = (simd.partial_load_f64s(z_tail), simd.partial_load_f64s(b_tail));
            totals = add_weighted(simd, totals, h, z, b);
        }
        let [s1, s2, s3, c1, c2, c3, o1, o2, o3, t1, t2] = totals.map(|total| simd.reduce_sum_f64s(total));
        WeightedSums { square: [s1, s2, s3], cross: [c1, c2, c3], ones: [o1, o2, o3], count: [t1, t2] }
    }
}

/// Adds the terms of one vector of eigenvalues. Not a closure: that would not be compiled for the vector instructions.
#[inline(always)]
fn add_weighted<S: Simd>(
    simd: S,
    totals: [S::f64s; 11],
    h: S::f64s,
    z: S::f64s,
    b: S::f64s,
) -> [S::f64s; 11] {
    let (zz, bz, bb) = (simd.mul_f64s(z, z), simd.mul_f64s(b, z), simd.mul_f64s(b, b));
    let h2 = simd.mul_f64s(h, h);
    let h3 = simd.mul_f64s(h2, h);
    let [s1, s2, s3, c1, c2, c3, o1, o2, o3, t1, t2] = totals;
    [
        simd.mul_add_e_f64s(h, zz, s1),
        simd.mul_add_e_f64s(h2, zz, s2),
        simd.mul_add_e_f64s(h3, zz, s3),
        simd.mul_add_e_f64s(h, bz, c1),
        simd.mul_add_e_f64s(h2, bz, c2),
        simd.mul_add_e_f64s(h3, bz, c3),
        simd.mul_add_e_f64s(h, bb, o1),
        simd.mul_add_e_f64s(h2, bb, o2),
        simd.mul_add_e_f64s(h3, bb, o3),
        simd.add_f64s(h, t1),
        simd.add_f64s(h2, t2),
    ]
}

/// More doubles than any vector register holds.
const MAX_LANES: usize = 16;
