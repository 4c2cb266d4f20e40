//! The likelihoods of many genes over one spectrum: sums over eigenvalues.

use crate::likelihood::{Candidate, Evaluation, Maximum, Terms, log_delta_grid, refine};
use crate::spectrum::Spectrum;
use faer::{Mat, MatMut, MatRef};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// One sample's share of a spectrum, with what the likelihood needs of its mean.
#[derive(Debug, Clone)]
struct SampleShare {
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
    parts: Vec<SampleShare>,
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
            let n = block.n();
            let range = ones.len()..ones.len() + block.rank();
            ones.extend(block.sums());
            let spanned: f64 = ones[range.clone()].iter().map(|b| b * b).sum();
            let along: f64 = range.clone().map(|i| values[i] * ones[i] * ones[i]).sum();
            trace += range.clone().map(|i| values[i]).sum::<f64>() - along / n as f64;
            parts.push(SampleShare { range, n, rest_ones: (n as f64 - spanned).max(0.0) });
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
            gower: (trace / (n - parts.len()) as f64).max(0.0),
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

    /// The eigenvalues.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    /// `b = Uᵀ 1`.
    pub(super) fn ones(&self) -> &[f64] {
        &self.ones
    }

    /// Each sample's places among the eigenvalues, and its number of locations.
    pub(super) fn samples(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        self.parts.iter().map(|part| (part.range.clone(), part.n))
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
    /// smaller it is, the larger the likelihood; [`candidates`](crate::likelihood::candidates) takes the few logarithms that are needed.
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
    fn rest(&self, part: &SampleShare, z: impl Iterator<Item = f64>, square: f64) -> (f64, f64) {
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
    pulp::Arch::new().dispatch(EigenSums { values, z, b, delta })
}

/// The sums of [`weighted_sums`], in vector instructions, always in the same order.
struct EigenSums<'a> {
    values: &'a [f64],
    z: &'a [f64],
    b: &'a [f64],
    delta: f64,
}

impl WithSimd for EigenSums<'_> {
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
