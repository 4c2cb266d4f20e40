//! Calibrated p-values: how surprising a gene is when its values are permuted over the locations.
//!
//! For each kernel the test looks at quadratic forms y'Ay: the score at no signal and the profile likelihood's
//! form at some finite noise ratios delta. Their mean, variance and third central moment over all permutations
//! of y (within samples) are exact (`moments`), from invariants of A that depend on the geometry alone
//! (`invariants`); a tail matched to them gives a p-value (`tails`), and the p-values of all forms are combined
//! by the Cauchy combination, with weights that count correlated kernels once. Nothing is random, and all
//! p-values are logarithms throughout. Forms that a sparse gene's few values hardly ever touch do not count for it.

mod invariants;
mod moments;
mod roots;
mod score;
mod tails;

use crate::error::{Error, Result};
use crate::krylov::Krylov;
use crate::locations::Locations;
use crate::spectrum::Spectrum;
use faer::Mat;
use invariants::SampleSpectrum;
use moments::{Cumulants, Invariants, Sums};
use rayon::prelude::*;
use score::ScoreSample;
use serde::{Deserialize, Serialize};
use std::f64::consts::LOG10_E;
use std::ops::Range;
use tails::RatioTail;

pub use moments::MIN_LOCATIONS;

/// The noise ratios of a kernel's forms: the score form (infinite) and a finite one. On simulated tissues
/// (examples/power.rs) two finite ones find no more.
pub const DELTAS: [f64; 2] = [f64::INFINITY, 3.0];

/// Numbers of A's entries that the weights of the kernels are computed from.
const WEIGHT_ENTRIES: usize = 1 << 20;

/// A kernel has half its weight where a gene without noise, nothing but a draw of it, is expected to have a score so
/// many standard deviations above the mean. That few can hardly have a small p-value, and forms of kernels that are
/// nearly the identity take weight from others.
const HALF_WEIGHT: f64 = 5.0;

/// What a kernel's forms are made from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A spectrum: all forms.
    Spectrum(&'a Spectrum),
    /// A sparse kernel: the score form only.
    Sparse(&'a Krylov),
}

/// The forms of all kernels, ready to test genes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NullForms {
    samples: Vec<Range<usize>>,
    deltas: Vec<f64>,
    kernels: Vec<KernelForms>,
    /// Weight of each form in the combination, kernel by kernel; their sum is 1.
    weights: Vec<f64>,
}

/// The forms of one kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KernelForms {
    /// Columns of z that belong to each sample.
    blocks: Vec<Range<usize>>,
    forms: Vec<Form>,
}

/// One form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Form {
    /// Weights of z².
    squares: Vec<f64>,
    /// Weights of z in the square that the mean's estimate adds; empty for the score form.
    cross: Vec<f64>,
    /// Mean per unit of y'y, and cumulants, for each sample.
    shifts: Vec<f64>,
    cumulants: Vec<Cumulants>,
    /// The tail of score forms.
    ratio: Option<RatioTail>,
    /// Whether the form is constant over permutations, up to rounding.
    constant: bool,
    support: Support,
}

/// How many pairs of locations, and how many locations, carry a form.
///
/// If few do, a sparse gene's form is a lottery: nearly always the same, now and then large. Three moments say
/// nothing of its tail.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Support {
    /// Σ aᵢⱼ² and Σ aᵢⱼ³ over i ≠ j.
    squares: f64,
    cubes: f64,
    /// tr A² and Σ (A²)ᵢᵢ².
    total: f64,
    row_squares: f64,
}

impl Support {
    fn add(&mut self, a: &Invariants) {
        self.squares += a.t2 - a.s2;
        self.cubes += a.u - a.s3;
        self.total += a.t2;
        self.row_squares += a.squares;
    }

    /// The number of pairs of locations, (i, j) and (j, i) counted apart: of k equal entries it is k. Where positive
    /// and negative entries balance it is large.
    fn pairs(&self) -> f64 {
        self.squares.powi(3) / (self.cubes * self.cubes)
    }

    /// The number of locations.
    fn locations(&self) -> f64 {
        self.total * self.total / self.row_squares
    }

    /// Whether a gene with this kurtosis, that of spikes in a share 1/kurtosis of all locations, can be expected to
    /// meet at least one of these pairs, and one of these locations.
    fn carries(&self, kurtosis: f64) -> bool {
        self.pairs() >= kurtosis * kurtosis && self.locations() >= kurtosis
    }
}

/// What the null distribution needs of one gene.
#[derive(Debug, Clone)]
pub struct GeneMoments {
    /// n / Σ y².
    scale: f64,
    /// Σ y² of each sample, scaled to a sum of n over all samples.
    squares: Vec<f64>,
    sums: Vec<Sums>,
    /// Σ y⁴ / n of the scaled values, over all samples: 3 for normal values, n/k for k equal spikes.
    kurtosis: f64,
}

impl GeneMoments {
    /// Σ y⁴ n / (Σ y²)².
    pub fn kurtosis(&self) -> f64 {
        self.kurtosis
    }
}

/// A p-value and its logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogP {
    /// log10 of the p-value.
    pub log10_pval: f64,
    /// The p-value; the smallest positive double where it would underflow.
    pub pval: f64,
}

impl LogP {
    /// From a natural logarithm.
    fn from_log(log_p: f64) -> Self {
        if log_p.is_nan() {
            return Self { log10_pval: f64::NAN, pval: f64::NAN };
        }
        let log_p = log_p.min(0.0);
        Self { log10_pval: log_p * LOG10_E, pval: log_p.exp().max(f64::MIN_POSITIVE) }
    }
}

impl NullForms {
    /// The forms with the default [`DELTAS`] for these spectra, side by side in the current rayon pool.
    ///
    /// Fails where a sample has fewer than [`MIN_LOCATIONS`] locations, or no form varies under permutation.
    pub fn new(spectra: &[Spectrum], locations: &Locations) -> Result<Self> {
        Self::with_deltas(spectra, locations, &DELTAS)
    }

    /// The forms at these noise ratios, each positive or infinite (the score form).
    pub fn with_deltas(spectra: &[Spectrum], locations: &Locations, deltas: &[f64]) -> Result<Self> {
        let sources: Vec<Source<'_>> = spectra.iter().map(Source::Spectrum).collect();
        Self::from_sources(&sources, locations, deltas)
    }

    /// The same for kernels with and without a spectrum. The latter have no forms at finite noise ratios:
    /// those count as constant, and do not enter the p-value.
    pub fn from_sources(sources: &[Source<'_>], locations: &Locations, deltas: &[f64]) -> Result<Self> {
        if let Some(rows) = locations.samples().iter().find(|rows| rows.len() < MIN_LOCATIONS) {
            return Err(Error::TooFewLocations { n: rows.len(), needed: MIN_LOCATIONS });
        }
        if let Some(&value) = deltas.iter().find(|delta| delta.is_nan() || **delta <= 0.0) {
            return Err(Error::Parameter { name: "delta", value, must_be: "positive" });
        }
        let made: Vec<(KernelForms, Vec<Mat<f64>>)> = sources
            .par_iter()
            .with_max_len(1)
            .map(|source| match source {
                Source::Spectrum(spectrum) => KernelForms::new(spectrum, locations, deltas),
                Source::Sparse(krylov) => KernelForms::sparse(krylov, locations, deltas),
            })
            .collect();
        let (kernels, rows): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let weights = weights(&kernels, &rows);
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::IdenticalLocations);
        }
        Ok(Self { samples: locations.samples().to_vec(), deltas: deltas.to_vec(), kernels, weights })
    }

    /// Number of forms of each kernel.
    pub fn forms_per_kernel(&self) -> usize {
        self.deltas.len()
    }

    /// Number of forms.
    pub fn len(&self) -> usize {
        self.kernels.len() * self.deltas.len()
    }

    /// Whether there are no forms.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Weight of each form in the combination, kernel by kernel; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The forms y'Ay of one kernel, one for each delta, from `z = Uᵀy` of values that are centred within
    /// their samples (any scale); `z` is as long as the kernel's spectrum, `out` as `forms_per_kernel`.
    #[inline]
    pub fn quadratic_forms(&self, kernel: usize, z: &[f64], out: &mut [f64]) {
        let KernelForms { blocks, forms } = &self.kernels[kernel];
        for (form, q) in forms.iter().zip(out) {
            *q = weighted_squares(&form.squares, z);
            if !form.cross.is_empty() {
                for block in blocks {
                    let mean = dot(&form.cross[block.clone()], &z[block.clone()]);
                    *q += mean * mean;
                }
            }
        }
    }

    /// A gene's part in the moments; `y` holds its n values, centred within their samples.
    pub fn gene(&self, y: &[f64]) -> GeneMoments {
        let (sums, squares): (Vec<_>, Vec<_>) =
            self.samples.iter().map(|rows| Sums::new(&y[rows.clone()])).unzip();
        let n = y.len() as f64;
        let scale = n / squares.iter().sum::<f64>();
        let squares: Vec<f64> = squares.iter().map(|square| square * scale).collect();
        let fourth = |((sums, square), rows): ((&Sums, &f64), &Range<usize>)| {
            // Σ y⁴ = Σ (y² - 1)² + n for values scaled to Σ y² = n.
            let size = rows.len() as f64;
            (sums.s2 + size) * (square / size) * (square / size)
        };
        let kurtosis = sums.iter().zip(&squares).zip(&self.samples).map(fourth).sum::<f64>() / n;
        GeneMoments { scale, squares, sums, kurtosis }
    }

    /// Standardised form and skewness under permutation. `None` where the form does not vary.
    #[inline]
    fn standardise(&self, form: &Form, q: f64, gene: &GeneMoments) -> Option<(f64, f64)> {
        if form.constant {
            return None;
        }
        let (mut centred, mut variance, mut third) = (q * gene.scale, 0.0, 0.0);
        for (k, rows) in self.samples.iter().enumerate() {
            let share = gene.squares[k] / rows.len() as f64;
            centred -= form.shifts[k] * gene.squares[k];
            variance += form.cumulants[k].variance(&gene.sums[k]) * share * share;
            third += form.cumulants[k].third(&gene.sums[k]) * share * share * share;
        }
        if variance > 0.0 {
            let sd = variance.sqrt();
            Some((centred / sd, third / (variance * sd)))
        } else {
            None
        }
    }

    /// Natural log of each form's plain Pearson III p-value, kernel by kernel; NaN where a form does not vary.
    pub fn pearson3(&self, q: &[f64], gene: &GeneMoments) -> Vec<f64> {
        let form = |(q, form): (&f64, &Form)| {
            self.standardise(form, *q, gene)
                .map_or(f64::NAN, |(z, skewness)| tails::log_pearson3(z, skewness))
        };
        q.iter().zip(self.kernels.iter().flat_map(|kernel| &kernel.forms)).map(form).collect()
    }

    /// Natural log of each form's p-value, kernel by kernel; NaN where a form does not vary, or too few locations
    /// carry it for a gene as sparse as this one. Where all forms are such, those that most pairs carry count.
    pub fn log_p_values(&self, q: &[f64], gene: &GeneMoments) -> Vec<f64> {
        let forms = || self.kernels.iter().flat_map(|kernel| &kernel.forms);
        let varying = || forms().filter(|form| !form.constant);
        let most = if varying().any(|form| form.support.carries(gene.kurtosis)) {
            f64::INFINITY
        } else {
            varying().map(|form| form.support.pairs()).fold(0.0, f64::max)
        };
        let one = |(q, form): (&f64, &Form)| {
            let counts = form.support.carries(gene.kurtosis) || form.support.pairs() >= most;
            let standard = self.standardise(form, *q, gene).filter(|_| counts);
            standard.map_or(f64::NAN, |(z, skewness)| log_tail(form, z, skewness, gene))
        };
        q.iter().zip(forms()).map(one).collect()
    }

    /// The combined p-value of a gene from all its forms, kernel by kernel. NaN where none varies.
    pub fn p_value(&self, q: &[f64], gene: &GeneMoments) -> LogP {
        LogP::from_log(combine(&self.log_p_values(q, gene), &self.weights))
    }
}

/// The Cauchy combination (Liu & Xie 2020) of p-values, as natural logs; NaN do not count, and the weights of the
/// others are scaled to a sum of 1. NaN if none has a weight.
///
/// For correlated forms the combination is exact in the tail only (their Theorem 1): with these forms and weights,
/// P(p <= a) is about 1.1 a for a of .001 and more, over simulated locations and values of many kinds. The result is
/// larger by as much there, and by less and less beyond.
pub fn combine(log_p: &[f64], weights: &[f64]) -> f64 {
    /// The share by which the combination is too small, and the p-value where half of it is taken off.
    const EXCESS: (f64, f64) = (0.1, 1e-3);
    let counts = || log_p.iter().zip(weights).filter(|(p, _)| !p.is_nan());
    let total: f64 = counts().map(|(_, weight)| weight).sum();
    if total > 0.0 {
        let (log_p, weights): (Vec<f64>, Vec<f64>) = counts().map(|(p, weight)| (p, weight / total)).unzip();
        let combined = tails::log_cauchy(&log_p, &weights);
        let p = combined.exp();
        combined + (EXCESS.0 * (1.0 - p) * p / (p + EXCESS.1)).ln_1p()
    } else {
        f64::NAN
    }
}

/// Genes with more kurtosis than this are sparse for the score forms: as much as n/20 equal spikes have.
const SPARSE_SCORE: f64 = 20.0;

/// The same for the forms at finite delta, which see single spots more.
const SPARSE_FINITE: f64 = 6.0;

/// Natural log of a form's p-value.
///
/// For most genes it is Pearson III with the correction of the Gaussian ratio. Sparse genes' forms have no bound
/// within reach and, at finite delta, more kurtosis than Pearson III has.
fn log_tail(form: &Form, z: f64, skewness: f64, gene: &GeneMoments) -> f64 {
    let score = form.cross.is_empty();
    if gene.kurtosis <= if score { SPARSE_SCORE } else { SPARSE_FINITE } {
        let correction = form.ratio.as_ref().map_or(0.0, |ratio| ratio.log_correction(z));
        (tails::log_pearson3(z, skewness) + correction).min(0.0)
    } else if score {
        tails::log_pearson3(z, skewness)
    } else {
        tails::log_inverse_gaussian(z, skewness)
    }
}

impl KernelForms {
    /// The standardised score that a draw of the kernel itself is expected to have.
    fn strength(&self) -> f64 {
        self.forms.iter().find(|form| !form.constant).map_or(0.0, |score| {
            let shift = score.shifts.iter().sum::<f64>() / score.shifts.len() as f64;
            (0.5 * score.support.total).sqrt() / shift
        })
    }

    /// The score form of a kernel without a spectrum; its other forms count as constant.
    fn sparse(krylov: &Krylov, locations: &Locations, deltas: &[f64]) -> (Self, Vec<Mat<f64>>) {
        let mut score = Form::empty();
        let (mut rows, mut eigenvalues) = (Vec::new(), Vec::new());
        for (k, range) in locations.samples().iter().enumerate() {
            let sample = ScoreSample::new(krylov, k);
            score.push(sample.shift, &sample.invariants);
            let count = (WEIGHT_ENTRIES / range.len()).max(16);
            rows.push(sample.rows(krylov, locations, k, &invariants::spread_rows(range.len(), count)));
            eigenvalues.extend(sample.eigenvalues);
        }
        // Quadrature has the sum of the eigenvalues only nearly right.
        let total: f64 = eigenvalues.iter().map(|(_, m)| m).sum();
        let mean = eigenvalues.iter().map(|(v, m)| v * m).sum::<f64>() / total;
        eigenvalues.iter_mut().for_each(|(value, _)| *value -= mean);
        score.ratio = RatioTail::new(&eigenvalues);
        let constant = Form { constant: true, ..Form::empty() };
        let form = |delta: &f64| if delta.is_infinite() { score.clone() } else { constant.clone() };
        (Self { blocks: Vec::new(), forms: deltas.iter().map(form).collect() }, rows)
    }

    /// A kernel's forms, and some rows of its score form in each sample for the weights.
    fn new(spectrum: &Spectrum, locations: &Locations, deltas: &[f64]) -> (Self, Vec<Mat<f64>>) {
        let samples = locations.samples();
        let kernel = spectrum.kernel();
        let kernel = kernel.at(locations);
        let mut blocks = Vec::with_capacity(samples.len());
        let mut rows = Vec::with_capacity(samples.len());
        let mut forms: Vec<Form> = deltas.iter().map(|_| Form::empty()).collect();
        let mut eigenvalues = vec![Vec::new(); deltas.len()];
        let mut scales = vec![[0.0; 2]; deltas.len()];
        let mut start = 0;
        for (block, range) in spectrum.blocks().iter().zip(samples) {
            let rank = block.vectors().ncols();
            let sample = SampleSpectrum::new(&spectrum.values()[start..start + rank], block.vectors())
                .with_kernel(&kernel, range.clone());
            blocks.push(start..start + rank);
            start += rank;

            let score = sample.form(f64::INFINITY);
            for (k, (form, &delta)) in forms.iter_mut().zip(deltas).enumerate() {
                let (squares, cross) = sample.weights(delta);
                form.squares.extend(squares);
                form.cross.extend(cross);
                let own = if delta.is_infinite() { score } else { sample.form(delta) };
                form.push(own.shift, &own.invariants);
                scales[k][0] += own.invariants.t2;
                scales[k][1] += own.invariants.n * own.shift * own.shift;
                eigenvalues[k].extend(sample.eigenvalues(delta).0);
            }
            let count = (WEIGHT_ENTRIES / range.len()).max(16);
            rows.push(sample.score_rows(&invariants::spread_rows(range.len(), count), score.shift));
        }
        for ((form, eigenvalues), [varying, constant]) in forms.iter_mut().zip(&eigenvalues).zip(scales) {
            form.constant = varying <= 1e-13 * (varying + constant);
            if !form.constant {
                form.ratio = RatioTail::new(eigenvalues);
            }
        }
        (Self { blocks, forms }, rows)
    }
}

impl Form {
    fn empty() -> Self {
        Self {
            squares: Vec::new(),
            cross: Vec::new(),
            shifts: Vec::new(),
            cumulants: Vec::new(),
            ratio: None,
            constant: false,
            support: Support::default(),
        }
    }

    /// Adds a sample's share.
    fn push(&mut self, shift: f64, invariants: &Invariants) {
        self.shifts.push(shift);
        self.cumulants.push(Cumulants::new(invariants));
        self.support.add(invariants);
    }
}

/// Each kernel's weight is 1 / Σ ρ⁸ over all kernels, ρ the correlation of score forms for a uniform direction,
/// shared equally by its forms: kernels that say the same count once. Kernels that cannot say much count less
/// ([`HALF_WEIGHT`]). The power is examples/power.rs's choice: lower ones give the longest lengthscales too much.
fn weights(kernels: &[KernelForms], rows: &[Vec<Mat<f64>>]) -> Vec<f64> {
    let product = |a: usize, b: usize| -> f64 {
        rows[a].iter().zip(&rows[b]).map(|(x, y)| invariants::dot(x.as_ref(), y.as_ref())).sum()
    };
    let varies = |k: usize| kernels[k].forms.iter().any(|form| !form.constant);
    let own: Vec<f64> = (0..kernels.len()).map(|k| product(k, k)).collect();
    let mut weights = vec![0.0; kernels.len()];
    weights.par_iter_mut().enumerate().for_each(|(k, weight)| {
        if varies(k) {
            let others = (0..kernels.len()).filter(|&l| l != k && varies(l));
            let alike: f64 = others.map(|l| (product(k, l).powi(2) / (own[k] * own[l])).powi(4)).sum();
            *weight = 1.0 / (1.0 + alike) / (1.0 + (HALF_WEIGHT / kernels[k].strength()).powi(2));
        }
    });
    let per_form = |k: usize| {
        let count = kernels[k].forms.iter().filter(|form| !form.constant).count().max(1) as f64;
        let share = weights[k] / count;
        kernels[k].forms.iter().map(move |form| if form.constant { 0.0 } else { share })
    };
    let shares: Vec<f64> = (0..kernels.len()).flat_map(per_form).collect();
    let total: f64 = shares.iter().sum();
    if total > 0.0 { shares.iter().map(|share| share / total).collect() } else { shares }
}

/// Lanes of the sums below, which fix their order whatever the hardware.
const LANES: usize = 8;

/// Σ w z².
#[inline]
fn weighted_squares(w: &[f64], z: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (w_chunks, z_chunks) = (w.chunks_exact(LANES), z.chunks_exact(LANES));
    let rest = w_chunks.remainder().iter().zip(z_chunks.remainder());
    let rest: f64 = rest.map(|(w, z)| w * z * z).sum();
    for (w, z) in w_chunks.zip(z_chunks) {
        for lane in 0..LANES {
            lanes[lane] += w[lane] * z[lane] * z[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Σ c z.
#[inline]
fn dot(c: &[f64], z: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (c_chunks, z_chunks) = (c.chunks_exact(LANES), z.chunks_exact(LANES));
    let rest: f64 = c_chunks.remainder().iter().zip(z_chunks.remainder()).map(|(c, z)| c * z).sum();
    for (c, z) in c_chunks.zip(z_chunks) {
        for lane in 0..LANES {
            lanes[lane] += c[lane] * z[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;

    /// Points without symmetry in `dim` dimensions, in samples of these sizes.
    fn points(sizes: &[usize], dim: usize) -> Locations {
        let n: usize = sizes.iter().sum();
        let coords =
            Mat::from_fn(n, dim, |i, k| ((i * i + 3 * i * (k + 1)) as f64 * 0.618).sin() + 0.1 * i as f64);
        Locations::with_samples(coords.as_ref(), sizes).unwrap()
    }

    fn spectra(locations: &Locations, scales: &[f64]) -> Vec<Spectrum> {
        let mut kernels: Vec<Kernel> =
            scales.iter().map(|&lengthscale| Kernel::SquaredExponential { lengthscale }).collect();
        kernels.extend([Kernel::Cosine { period: 2.0 }, Kernel::Linear]);
        Spectrum::dense_all(&kernels, locations).unwrap()
    }

    /// Values centred within samples.
    fn values(locations: &Locations, f: impl Fn(usize) -> f64) -> Mat<f64> {
        let mut y = Mat::from_fn(locations.len(), 1, |i, _| f(i));
        for rows in locations.samples() {
            let mean = rows.clone().map(|i| y[(i, 0)]).sum::<f64>() / rows.len() as f64;
            rows.clone().for_each(|i| y[(i, 0)] -= mean);
        }
        y
    }

    fn forms_of(forms: &NullForms, spectra: &[Spectrum], y: &Mat<f64>) -> Vec<f64> {
        let each = forms.forms_per_kernel();
        let mut q = vec![0.0; forms.len()];
        for (k, spectrum) in spectra.iter().enumerate() {
            let mut z = Mat::zeros(spectrum.rank(), 1);
            spectrum.project(y.as_ref(), z.as_mut());
            forms.quadratic_forms(k, z.col_as_slice(0), &mut q[each * k..each * (k + 1)]);
        }
        q
    }

    fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
        if items.len() < 2 {
            return vec![items.to_vec()];
        }
        let mut all = Vec::new();
        for (k, &first) in items.iter().enumerate() {
            let rest: Vec<usize> =
                items.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, &v)| v).collect();
            all.extend(permutations(&rest).into_iter().map(|tail| [vec![first], tail].concat()));
        }
        all
    }

    #[test]
    fn standardised_forms_agree_with_all_permutations_within_samples() {
        // Two samples of seven: the cumulants of each from its own 7! permutations, the other's values fixed.
        for sizes in [&[8][..], &[7, 7]] {
            let locations = points(sizes, 2);
            let spectra = spectra(&locations, &[0.3, 1.5]);
            let forms = NullForms::new(&spectra, &locations).unwrap();
            let y = values(&locations, |i| ((i * 7) as f64).cos() + if i == 3 { 4.0 } else { 0.0 });
            let gene = forms.gene(y.col_as_slice(0));
            let q = forms_of(&forms, &spectra, &y);
            let mut cumulants = vec![[0.0; 3]; forms.len()];
            for rows in locations.samples() {
                // y'Ay restricted to one sample: zero elsewhere.
                let own =
                    Mat::from_fn(locations.len(), 1, |i, _| if rows.contains(&i) { y[(i, 0)] } else { 0.0 });
                let orders = permutations(&rows.clone().collect::<Vec<_>>());
                let mut all = vec![Vec::new(); forms.len()];
                for order in &orders {
                    let mut permuted = own.clone();
                    order.iter().zip(rows.clone()).for_each(|(&from, to)| permuted[(to, 0)] = own[(from, 0)]);
                    let q = forms_of(&forms, &spectra, &permuted);
                    all.iter_mut().zip(q).for_each(|(values, q)| values.push(q));
                }
                for (sum, values) in cumulants.iter_mut().zip(&all) {
                    let count = values.len() as f64;
                    let mean = values.iter().sum::<f64>() / count;
                    sum[0] += mean;
                    sum[1] += values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                    sum[2] += values.iter().map(|v| (v - mean).powi(3)).sum::<f64>() / count;
                }
            }
            let all_forms = forms.kernels.iter().flat_map(|kernel| &kernel.forms);
            for ((form, q), [mean, variance, third]) in all_forms.zip(&q).zip(&cumulants) {
                let (z, skewness) = forms.standardise(form, *q, &gene).unwrap();
                assert!(
                    (z - (q - mean) / variance.sqrt()).abs() < 1e-10,
                    "{z} {}",
                    (q - mean) / variance.sqrt()
                );
                let expected = third / variance.powf(1.5);
                assert!((skewness - expected).abs() < 1e-10, "{skewness} {expected}");
            }
        }
    }

    #[test]
    fn p_values_do_not_depend_on_the_scale_of_a_gene() {
        let locations = points(&[40], 3);
        let spectra = spectra(&locations, &[0.2, 1.0, 5.0]);
        let forms = NullForms::new(&spectra, &locations).unwrap();
        let y = values(&locations, |i| locations.coords()[(i, 0)]);
        let p = forms.p_value(&forms_of(&forms, &spectra, &y), &forms.gene(y.col_as_slice(0)));
        let scaled = Mat::from_fn(40, 1, |i, _| y[(i, 0)] * 1e-6);
        let q = forms_of(&forms, &spectra, &scaled);
        let again = forms.p_value(&q, &forms.gene(scaled.col_as_slice(0)));
        assert!((p.log10_pval - again.log10_pval).abs() < 1e-9);
        assert!(p.pval > 0.0 && p.pval < 0.01);
    }

    #[test]
    fn strong_signals_have_p_values_beyond_doubles() {
        // A smooth gradient over a long line.
        let n = 900;
        let coords = Mat::from_fn(n, 1, |i, _| i as f64);
        let locations = Locations::new(coords.as_ref()).unwrap();
        let kernels = [Kernel::SquaredExponential { lengthscale: 300.0 }];
        let spectra = Spectrum::dense_all(&kernels, &locations).unwrap();
        let forms = NullForms::new(&spectra, &locations).unwrap();
        let y = values(&locations, |i| i as f64 + 0.2 * ((i * i) as f64).sin());
        let p = forms.p_value(&forms_of(&forms, &spectra, &y), &forms.gene(y.col_as_slice(0)));
        assert!(p.log10_pval < -400.0 && p.log10_pval.is_finite(), "{p:?}");
        assert!(p.pval > 0.0);
    }

    #[test]
    fn few_locations_and_constant_forms_are_told() {
        let locations = points(&[6], 2);
        let error = NullForms::new(&spectra(&locations, &[1.0]), &locations).unwrap_err();
        assert_eq!(error, Error::TooFewLocations { n: 6, needed: 7 });
        // A kernel that is the identity says nothing, and does not disturb the others.
        let locations = points(&[30], 1);
        let spectra = spectra(&locations, &[1e-9, 1.0]);
        let forms = NullForms::new(&spectra, &locations).unwrap();
        assert_eq!(&forms.weights()[..2], &[0.0; 2]);
        assert!((forms.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let y = values(&locations, |i| (i as f64).sin());
        let p = forms.p_value(&forms_of(&forms, &spectra, &y), &forms.gene(y.col_as_slice(0)));
        assert!(p.pval > 0.0 && p.pval <= 1.0);
        let alone = NullForms::new(&spectra[..1], &locations).unwrap_err();
        assert_eq!(alone, Error::IdenticalLocations);
    }

    #[test]
    fn weights_count_correlated_kernels_once() {
        let locations = points(&[50], 2);
        let n = 50;
        let kernels = [0.5, 0.5, 3.0].map(|lengthscale| Kernel::SquaredExponential { lengthscale });
        let spectra = Spectrum::dense_all(&kernels, &locations).unwrap();
        let weights = NullForms::new(&spectra, &locations).unwrap().weights().to_vec();
        // Correlations from HKH.
        let h = Mat::from_fn(n, n, |i, j| f64::from(i == j) - 1.0 / n as f64);
        let centred = kernels.map(|kernel| &h * kernel.at(&locations).block(0..n) * &h);
        let trace = |a: &Mat<f64>| (0..n).map(|i| a[(i, i)]).sum::<f64>();
        let covariance =
            |a: &Mat<f64>, b: &Mat<f64>| (n as f64 - 1.0) * trace(&(a * b)) - trace(a) * trace(b);
        // What y'Ay is expected to exceed its mean by for y from the kernel itself, in standard deviations for noise.
        let strength = |k: usize| {
            let (t, t2) = (trace(&centred[k]), trace(&(&centred[k] * &centred[k])));
            let d = n as f64 - 1.0;
            (t2 - t * t / d) / (t / d) / (2.0 * (t2 - t * t / d)).sqrt()
        };
        let raw: Vec<f64> = (0..3)
            .map(|k| {
                let rho2 = |l: usize| {
                    covariance(&centred[k], &centred[l]).powi(2)
                        / (covariance(&centred[k], &centred[k]) * covariance(&centred[l], &centred[l]))
                };
                1.0 / (0..3).map(|l| rho2(l).powi(4)).sum::<f64>() / (1.0 + (5.0 / strength(k)).powi(2))
            })
            .collect();
        let total: f64 = raw.iter().sum();
        for (weight, k) in weights.iter().zip([0, 0, 1, 1, 2, 2]) {
            assert!((weight - raw[k] / total / 2.0).abs() < 1e-10, "{weights:?} {raw:?}");
        }
    }
}
