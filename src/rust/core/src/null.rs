//! Calibrated p-values: how surprising a gene is when its values are permuted over the locations.
//!
//! For each kernel the test looks at quadratic forms y'Ay: the score at no signal and the profile likelihood's
//! form at some finite noise ratios delta. Their mean, variance and third central moment over all permutations
//! of y (within samples) are exact (`moments`), from invariants of A that depend on the geometry alone
//! (`invariants` from eigenpairs, `score` from a product with K); a tail matched to them gives a p-value (`tails`), and
//! the p-values of all forms are combined by the Cauchy combination, with weights that count correlated kernels once.
//! Nothing is random, and all p-values are logarithms throughout. Forms that a sparse gene's few values hardly ever
//! touch do not count for it.
//!
//! Engines say what a kernel's forms are ([`KernelForms`]) and what they are for a gene; nothing here knows how.

mod combine;
mod cubes;
mod forms;
pub(crate) mod invariants;
mod moments;
mod ratio_tail;
mod roots;
pub(crate) mod score;
mod spread;
mod tails;
mod weights;

use crate::error::{Error, Result};
use crate::locations::Locations;
use crate::moment_fit::Excess;
use forms::Form;
use moments::Sums;
use serde::{Deserialize, Serialize};
use std::f64::consts::LOG10_E;
use std::ops::Range;

pub use combine::{combine, combine_with};
pub use forms::{KernelForms, SampleForm};
pub use invariants::dense_forms;
pub use moments::{Invariants, MIN_LOCATIONS};
pub use weights::score_rows;

/// The noise ratios of a kernel's forms: the score form (infinite) and a finite one. On simulated tissues
/// (examples/power.rs) two finite ones find no more.
pub const DELTAS: [f64; 2] = [f64::INFINITY, 3.0];

/// Genes with more kurtosis than this are sparse for the score forms: as much as n/20 equal spikes have.
const SPARSE_SCORE: f64 = 20.0;

/// The same for the forms at finite delta, which see single spots more.
const SPARSE_FINITE: f64 = 6.0;

/// Genes whose values are carried by fewer spots than this, n / kurtosis, are sparse as well, however few spots there
/// are: their forms under permutation go beyond the bound that those of normal values have.
const CARRIERS: f64 = 5.0;

/// Lower tails count from this number of locations on. Below, three values in a row are nearly the bound of a narrow
/// form, and too frequent under permutation for any tail here.
const LOWER_LOCATIONS: usize = 20;

/// What the lower tails of narrow kernels' scores weigh together, beside all forms, whose weights have a sum of 1. Genes
/// whose neighbours differ, in stripes, like a checkerboard or because their cells repel each other, have scores far
/// below their mean. On simulated tissues (examples/kernels.rs) more weight finds no more.
const LOWER_SHARE: f64 = 0.05;

/// The forms of all kernels, ready to test genes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NullForms {
    samples: Vec<Range<usize>>,
    deltas: Vec<f64>,
    /// Kernel by kernel, for each of the noise ratios.
    forms: Vec<Form>,
    /// Weight of each form in the combination; their sum is 1.
    weights: Vec<f64>,
    /// The score forms whose lower tail counts too, with its weight.
    lower: Vec<(usize, f64)>,
}

/// What the null distribution needs of one gene.
#[derive(Debug, Clone)]
pub struct GeneMoments {
    /// Number of locations.
    n: f64,
    /// n / Σ y².
    scale: f64,
    /// Σ y² of each sample, scaled to a sum of n over all samples.
    squares: Vec<f64>,
    sums: Vec<Sums>,
    /// Σ y⁴ / n of the scaled values, over all samples: 3 for normal values, n/k for k equal spikes.
    kurtosis: f64,
}

impl GeneMoments {
    /// Whether the values are spread over enough spots for the tail that normal values have.
    fn is_rich(&self, most_kurtosis: f64) -> bool {
        self.kurtosis <= most_kurtosis.min(self.n / CARRIERS)
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
    /// The forms of some kernels over locations, at these noise ratios: each positive or infinite (the score form).
    ///
    /// # Errors
    /// Fails where a sample has fewer than [`MIN_LOCATIONS`] locations, or no form varies under permutation.
    pub fn new(kernels: &[KernelForms], locations: &Locations, deltas: &[f64]) -> Result<Self> {
        let weights = weights::weights(kernels);
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::ConstantKernels);
        }
        let forms: Vec<Form> = kernels.iter().flat_map(|kernel| kernel.forms.iter().cloned()).collect();
        let narrow = |k: &usize| deltas[k % deltas.len()].is_infinite() && forms[*k].lower.is_some();
        let few = locations.len() < LOWER_LOCATIONS;
        let narrow: Vec<usize> = (0..forms.len()).filter(|k| !few && narrow(k)).collect();
        let total: f64 = narrow.iter().map(|&k| weights[k]).sum();
        let lower = narrow.into_iter().map(|k| (k, LOWER_SHARE * weights[k] / total)).collect();
        Ok(Self { samples: locations.samples().to_vec(), deltas: deltas.to_vec(), forms, weights, lower })
    }

    /// Whether forms at these noise ratios can be had over these locations: to know before they are computed.
    ///
    /// # Errors
    /// [`Error::TooFewLocations`] in a sample, or a noise ratio that is not positive.
    pub fn check(locations: &Locations, deltas: &[f64]) -> Result<()> {
        if let Some(rows) = locations.samples().iter().find(|rows| rows.len() < MIN_LOCATIONS) {
            return Err(Error::TooFewLocations { n: rows.len(), needed: MIN_LOCATIONS });
        }
        if let Some(&value) = deltas.iter().find(|delta| delta.is_nan() || **delta <= 0.0) {
            return Err(Error::Parameter { name: "delta", value, must_be: "positive" });
        }
        Ok(())
    }

    /// The noise ratios of each kernel's forms.
    pub fn deltas(&self) -> &[f64] {
        &self.deltas
    }

    /// Number of forms.
    pub fn len(&self) -> usize {
        self.forms.len()
    }

    /// Whether there are no forms.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Weight of each form in the combination, kernel by kernel; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// A gene's part in the moments from its power sums in each sample: Σ y², Σ y³, Σ y⁴ and Σ y⁶ of values centred
    /// there.
    pub fn gene_from_powers(&self, powers: &[[f64; 4]]) -> GeneMoments {
        let sums =
            powers.iter().zip(&self.samples).map(|(p, rows)| Sums::from_powers(rows.len(), *p)).collect();
        self.moments(sums, powers.iter().map(|p| p[0]).collect())
    }

    /// The score form of a kernel for a gene: what it exceeds its mean under permutation by. The first of the noise ratios
    /// must be infinite.
    pub fn excess(&self, kernel: usize, q: f64, gene: &GeneMoments) -> Excess {
        let form = &self.forms[kernel * self.deltas.len()];
        let mean: f64 = form.shifts.iter().zip(&gene.squares).map(|(shift, square)| shift * square).sum();
        let own = form.shifts.iter().zip(&self.samples);
        let (trace, rows) = own.fold((0.0, 0.0), |(trace, rows), (shift, sample)| {
            let dimensions = sample.len() as f64 - 1.0;
            (trace + shift * dimensions, rows + dimensions)
        });
        let norm = if form.constant { 0.0 } else { form.total() };
        Excess { excess: q * gene.scale - mean, norm, gower: trace / rows }
    }

    /// A gene's part in the moments; `y` holds its n values, centred within their samples.
    pub fn gene(&self, y: &[f64]) -> GeneMoments {
        let (sums, squares): (Vec<_>, Vec<_>) =
            self.samples.iter().map(|rows| Sums::new(&y[rows.clone()])).unzip();
        self.moments(sums, squares)
    }

    fn moments(&self, sums: Vec<Sums>, squares: Vec<f64>) -> GeneMoments {
        let n = self.samples.iter().map(Range::len).sum::<usize>() as f64;
        let scale = n / squares.iter().sum::<f64>();
        let squares: Vec<f64> = squares.iter().map(|square| square * scale).collect();
        let fourth = |((sums, square), rows): ((&Sums, &f64), &Range<usize>)| {
            // Σ y⁴ = Σ (y² - 1)² + n for values scaled to Σ y² = n.
            let size = rows.len() as f64;
            (sums.s2 + size) * (square / size) * (square / size)
        };
        let kurtosis = sums.iter().zip(&squares).zip(&self.samples).map(fourth).sum::<f64>() / n;
        GeneMoments { n, scale, squares, sums, kurtosis }
    }

    /// Standardised form and skewness under permutation. `None` where the form does not vary.
    #[inline]
    fn standard_score(&self, form: &Form, q: f64, gene: &GeneMoments) -> Option<(f64, f64)> {
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
            self.standard_score(form, *q, gene)
                .map_or(f64::NAN, |(z, skewness)| tails::log_pearson3(z, skewness))
        };
        q.iter().zip(&self.forms).map(form).collect()
    }

    /// Natural log of each form's p-value, kernel by kernel; NaN where a form does not vary, or too few locations
    /// carry it for a gene as sparse as this one. Where all forms are such, those that most pairs carry count.
    pub fn log_p_values(&self, q: &[f64], gene: &GeneMoments) -> Vec<f64> {
        let varying = || self.forms.iter().filter(|form| !form.constant);
        let most = if varying().any(|form| form.support.carries(gene.kurtosis)) {
            f64::INFINITY
        } else {
            varying().map(|form| form.support.pairs()).fold(0.0, f64::max)
        };
        let one = |((q, form), delta): ((&f64, &Form), &f64)| {
            let counts = form.support.carries(gene.kurtosis) || form.support.pairs() >= most;
            let standard = self.standard_score(form, *q, gene).filter(|_| counts);
            let score = delta.is_infinite();
            let rich = gene.is_rich(if score { SPARSE_SCORE } else { SPARSE_FINITE });
            standard.map_or(f64::NAN, |(z, skewness)| log_tail(form, score, z, skewness, rich))
        };
        q.iter().zip(&self.forms).zip(self.deltas.iter().cycle()).map(one).collect()
    }

    /// Natural log of the p-value of a form's lower tail; NaN where too few locations carry it for a gene as sparse as
    /// this one. The moments of -A are exact, too. Its skewness is negative, and counts as none for sparse genes: the lower
    /// tail of narrow kernels' forms is short, and a normal one conservative.
    pub fn log_lower_p_value(&self, form: usize, q: f64, gene: &GeneMoments) -> f64 {
        let form = &self.forms[form];
        let standard = self.standard_score(form, q, gene).filter(|_| form.support.carries(gene.kurtosis));
        standard.map_or(f64::NAN, |(z, skewness)| {
            let ratio = form.lower.as_ref().filter(|_| gene.is_rich(SPARSE_SCORE));
            let correction = ratio.map_or(0.0, |ratio| ratio.log_correction(-z));
            (tails::log_pearson3(-z, -skewness) + correction).min(0.0)
        })
    }

    /// The combined p-value of a gene from all its forms, kernel by kernel. NaN where none varies.
    pub fn p_value(&self, q: &[f64], gene: &GeneMoments) -> LogP {
        let lower = |&(form, weight): &(usize, f64)| (self.log_lower_p_value(form, q[form], gene), weight);
        let lower: Vec<(f64, f64)> = self.lower.iter().map(lower).collect();
        LogP::from_log(combine_with(&self.log_p_values(q, gene), &self.weights, &lower))
    }
}

/// Natural log of a form's p-value.
///
/// For rich genes it is Pearson III with the correction of the Gaussian ratio. Sparse genes' forms have no bound
/// within reach and, at finite delta, more kurtosis than Pearson III has.
fn log_tail(form: &Form, score: bool, z: f64, skewness: f64, rich: bool) -> f64 {
    if rich {
        let correction = form.ratio.as_ref().map_or(0.0, |ratio| ratio.log_correction(z));
        (tails::log_pearson3(z, skewness) + correction).min(0.0)
    } else if score {
        tails::log_pearson3(z, skewness)
    } else {
        tails::log_inverse_gaussian(z, skewness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;
    use crate::fixtures::{cosine, se};
    use crate::model::{Block, Model};
    use crate::spectral::Spectral;
    use crate::spectrum::Spectrum;
    use faer::Mat;

    /// Points without symmetry in `dim` dimensions, in samples of these sizes.
    fn points(sizes: &[usize], dim: usize) -> Locations {
        let n: usize = sizes.iter().sum();
        let coords =
            Mat::from_fn(n, dim, |i, k| ((i * i + 3 * i * (k + 1)) as f64 * 0.618).sin() + 0.1 * i as f64);
        Locations::with_samples(coords.as_ref(), sizes).unwrap()
    }

    fn models(kernels: &[Kernel], locations: &Locations) -> Vec<Spectral> {
        Spectrum::dense_all(kernels, locations).unwrap().into_iter().map(Spectral::from).collect()
    }

    /// SE kernels of these lengthscales, a cosine and the linear one.
    fn several(locations: &Locations, scales: &[f64]) -> Vec<Spectral> {
        let mut kernels: Vec<Kernel> = scales.iter().map(|&lengthscale| se(lengthscale)).collect();
        kernels.extend([cosine(2.0), Kernel::linear()]);
        models(&kernels, locations)
    }

    fn null_forms(models: &[Spectral], locations: &Locations) -> Result<NullForms> {
        NullForms::check(locations, &DELTAS)?;
        let kernels: Vec<KernelForms> = models.iter().map(|model| model.forms(locations, &DELTAS)).collect();
        NullForms::new(&kernels, locations, &DELTAS)
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

    fn forms_of(models: &[Spectral], locations: &Locations, y: &Mat<f64>) -> Vec<f64> {
        let block = Block::new(y.clone(), locations, vec![true], &DELTAS);
        let mut q = vec![0.0; DELTAS.len() * models.len()];
        for (model, q) in models.iter().zip(q.chunks_mut(DELTAS.len())) {
            model.view(&block).unwrap().forms(0, q);
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
    fn a_narrow_kernels_lower_tail_is_that_of_all_permutations() {
        // A line of seven, the second, fourth and sixth value apart from the others: no order has more unlike neighbours.
        let coords = Mat::from_fn(7, 1, |i, _| i as f64);
        let locations = Locations::new(coords.as_ref()).unwrap();
        let models = models(&[se(0.5), se(0.8)], &locations);
        let forms = null_forms(&models, &locations).unwrap();
        let lower = [0, DELTAS.len()];
        assert!(lower.iter().all(|&form| forms.forms[form].lower.is_some()), "the score forms");
        assert_eq!(forms.lower, [], "too few locations for it to count");

        let y = values(&locations, |i| f64::from(i as u32 % 2) + 0.1 * (i as f64).sin());
        let gene = forms.gene(y.col_as_slice(0));
        let q = forms_of(&models, &locations, &y);
        let orders = permutations(&(0..7).collect::<Vec<_>>());
        let mut all = vec![Vec::new(); forms.len()];
        for order in &orders {
            let permuted = Mat::from_fn(7, 1, |i, _| y[(order[i], 0)]);
            all.iter_mut().zip(forms_of(&models, &locations, &permuted)).for_each(|(all, q)| all.push(-q));
        }
        for form in lower {
            // Moments of -A by brute force.
            let count = all[form].len() as f64;
            let mean = all[form].iter().sum::<f64>() / count;
            let central = |p| all[form].iter().map(|v| (v - mean).powi(p)).sum::<f64>() / count;
            let (z, skewness) = forms.standard_score(&forms.forms[form], q[form], &gene).unwrap();
            assert!((-z - (-q[form] - mean) / central(2).sqrt()).abs() < 1e-10);
            assert!((-skewness - central(3) / central(2).powf(1.5)).abs() < 1e-10);
            let exact = all[form].iter().filter(|v| **v >= -q[form] - 1e-12).count() as f64 / count;
            let p = forms.log_lower_p_value(form, q[form], &gene).exp();
            println!("{p} {exact}");
            assert!(p < 0.06 && exact < 0.06 && p > 0.2 * exact);
        }
    }

    #[test]
    fn lower_tails_are_those_of_narrow_kernels() {
        let side = 16;
        let coords =
            Mat::from_fn(side * side, 2, |i, k| if k == 0 { (i % side) as f64 } else { (i / side) as f64 });
        let locations = Locations::new(coords.as_ref()).unwrap();
        let kernels: Vec<Kernel> = crate::scales::lengthscales(&locations).into_iter().map(se).collect();
        let forms = null_forms(&models(&kernels, &locations), &locations).unwrap();
        let narrow: Vec<usize> = forms.lower.iter().map(|(form, _)| form / DELTAS.len()).collect();
        assert_eq!(narrow, [0, 1]);
        assert!((forms.lower.iter().map(|(_, weight)| weight).sum::<f64>() - LOWER_SHARE).abs() < 1e-12);
    }

    #[test]
    fn p_values_of_few_locations_are_those_of_all_permutations() {
        // A line, and a line with three locations apart from the others.
        for apart in [0.0, 20.0] {
            let place = |i: usize| i as f64 + if i < 3 { -apart } else { 0.0 };
            let locations = Locations::new(Mat::from_fn(8, 1, |i, _| place(i)).as_ref()).unwrap();
            let kernels: Vec<Kernel> = crate::scales::lengthscales(&locations).into_iter().map(se).collect();
            let models = models(&kernels, &locations);
            let forms = null_forms(&models, &locations).unwrap();
            // Three in a row that hardly any others are like, a gradient, and one that is high.
            for gene in [
                [0.0, 0.1, -1.0, 2.1, -1.2, 0.0, -0.1, 0.2],
                [0.1, 1.2, 1.9, 3.0, 4.2, 5.1, 5.8, 7.0],
                [0.0, 0.1, 0.2, 0.1, 3.0, 0.0, 0.3, 0.1],
            ] {
                let orders = permutations(&(0..8).collect::<Vec<_>>());
                let y =
                    Mat::from_fn(8, orders.len(), |i, k| gene[orders[k][i]] - gene.iter().sum::<f64>() / 8.0);
                let block = Block::new(y.clone(), &locations, vec![true; orders.len()], &DELTAS);
                let views: Vec<_> = models.iter().map(|model| model.view(&block).unwrap()).collect();
                let mut q = vec![0.0; DELTAS.len() * models.len()];
                let mut counts = [0_usize; 3];
                for k in 0..orders.len() {
                    views.iter().zip(q.chunks_mut(DELTAS.len())).for_each(|(view, q)| view.forms(k, q));
                    let p = forms.p_value(&q, &forms.gene(y.col_as_slice(k))).pval;
                    assert!(p > 1e-5, "{p}");
                    [0.05, 0.01, 0.001].iter().zip(&mut counts).for_each(|(a, n)| *n += usize::from(p <= *a));
                }
                let shares = counts.map(|count| count as f64 / orders.len() as f64);
                println!("{apart} {shares:?}");
                assert!(shares[0] < 0.08 && shares[1] < 0.015 && shares[2] < 0.002, "{shares:?}");
            }
        }
    }

    #[test]
    fn neighbours_that_differ_have_small_p_values() {
        let side = 16;
        let coords =
            Mat::from_fn(side * side, 2, |i, k| if k == 0 { (i % side) as f64 } else { (i / side) as f64 });
        let locations = Locations::new(coords.as_ref()).unwrap();
        let models = models(&[0.5, 0.8, 1.3, 2.0, 3.3, 5.2].map(se), &locations);
        let forms = null_forms(&models, &locations).unwrap();
        let narrow: Vec<usize> = forms.lower.iter().map(|(form, _)| form / DELTAS.len()).collect();
        assert_eq!(narrow, [0, 1]);
        let mut normal = crate::fixtures::normal(3);
        let noise: Vec<f64> = (0..side * side).map(|_| normal()).collect();
        let p_value = |pattern: &dyn Fn(usize, usize) -> bool| {
            let y = values(&locations, |i| f64::from(u8::from(pattern(i % side, i / side))) + 0.4 * noise[i]);
            let q = forms_of(&models, &locations, &y);
            let gene = forms.gene(y.col_as_slice(0));
            let upper = combine(&forms.log_p_values(&q, &gene), &forms.weights).exp();
            (upper, forms.p_value(&q, &gene).pval)
        };
        let (upper, checkerboard) = p_value(&|x, y| (x + y) % 2 == 0);
        assert!(upper > 0.9 && checkerboard < 1e-12, "{upper} {checkerboard}");
        let (upper, stripes) = p_value(&|x, _| x % 2 == 0);
        assert!(upper > 0.9 && stripes < 1e-3, "{upper} {stripes}");
        // A smooth pattern's p-value stays what it is.
        let (upper, smooth) = p_value(&|x, _| x < 8);
        assert!(upper < 1e-10 && (smooth / upper - 1.0).abs() < 1e-12);
    }

    #[test]
    fn standardised_forms_agree_with_all_permutations_within_samples() {
        // Two samples of seven: the cumulants of each from its own 7! permutations, the other's values fixed.
        for sizes in [&[8][..], &[7, 7]] {
            let locations = points(sizes, 2);
            let models = several(&locations, &[0.3, 1.5]);
            let forms = null_forms(&models, &locations).unwrap();
            let y = values(&locations, |i| ((i * 7) as f64).cos() + if i == 3 { 4.0 } else { 0.0 });
            let gene = forms.gene(y.col_as_slice(0));
            let q = forms_of(&models, &locations, &y);
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
                    let q = forms_of(&models, &locations, &permuted);
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
            for ((form, q), [mean, variance, third]) in forms.forms.iter().zip(&q).zip(&cumulants) {
                let (z, skewness) = forms.standard_score(form, *q, &gene).unwrap();
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
        let models = several(&locations, &[0.2, 1.0, 5.0]);
        let forms = null_forms(&models, &locations).unwrap();
        let y = values(&locations, |i| locations.coords()[(i, 0)]);
        let p = forms.p_value(&forms_of(&models, &locations, &y), &forms.gene(y.col_as_slice(0)));
        let scaled = Mat::from_fn(40, 1, |i, _| y[(i, 0)] * 1e-6);
        let q = forms_of(&models, &locations, &scaled);
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
        let kernels = [se(300.0)];
        let models = models(&kernels, &locations);
        let forms = null_forms(&models, &locations).unwrap();
        let y = values(&locations, |i| i as f64 + 0.2 * ((i * i) as f64).sin());
        let p = forms.p_value(&forms_of(&models, &locations, &y), &forms.gene(y.col_as_slice(0)));
        assert!(p.log10_pval < -400.0 && p.log10_pval.is_finite(), "{p:?}");
        assert!(p.pval > 0.0);
    }

    #[test]
    fn few_locations_and_constant_forms_are_told() {
        let locations = points(&[6], 2);
        let error = null_forms(&several(&locations, &[1.0]), &locations).unwrap_err();
        assert_eq!(error, Error::TooFewLocations { n: 6, needed: 7 });
        // A kernel that is the identity says nothing, and does not disturb the others.
        let locations = points(&[30], 1);
        let models = several(&locations, &[1e-9, 1.0]);
        let forms = null_forms(&models, &locations).unwrap();
        assert_eq!(&forms.weights()[..2], &[0.0; 2]);
        assert!((forms.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let y = values(&locations, |i| (i as f64).sin());
        let p = forms.p_value(&forms_of(&models, &locations, &y), &forms.gene(y.col_as_slice(0)));
        assert!(p.pval > 0.0 && p.pval <= 1.0);
        let alone = null_forms(&models[..1], &locations).unwrap_err();
        assert_eq!(alone, Error::ConstantKernels);
    }

    #[test]
    fn weights_count_correlated_kernels_once() {
        let locations = points(&[50], 2);
        let n = 50;
        let kernels = [0.5, 0.5, 3.0].map(se);
        let models = models(&kernels, &locations);
        let weights = null_forms(&models, &locations).unwrap().weights().to_vec();
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

    #[test]
    fn tails_are_those_for_the_genes_kurtosis() {
        let locations = points(&[200], 2);
        let forms = null_forms(&models(&[se(1.5)], &locations), &locations).unwrap();
        let (score, finite) = (&forms.forms[0], &forms.forms[1]);
        let gene =
            |kurtosis, n| GeneMoments { n, kurtosis, scale: 1.0, squares: Vec::new(), sums: Vec::new() };
        let (z, skewness) = (3.0, 0.8);
        let plain = tails::log_pearson3(z, skewness);
        let corrected = |form: &Form| plain + form.ratio.as_ref().unwrap().log_correction(z);
        let wide = tails::log_inverse_gaussian(z, skewness);
        assert!((corrected(score) - plain).abs() > 1e-3 && (corrected(finite) - wide).abs() > 1e-3);
        // As much kurtosis as n/20 spikes have is sparse for a score form, as much as n/6 for another; and as much as
        // five spikes have.
        for (kurtosis, score_tail, finite_tail) in [
            (5.9, corrected(score), corrected(finite)),
            (6.1, corrected(score), wide),
            (19.9, corrected(score), wide),
            (20.1, plain, wide),
        ] {
            let rich = |most| gene(kurtosis, 200.0).is_rich(most);
            assert_eq!(log_tail(score, true, z, skewness, rich(SPARSE_SCORE)), score_tail, "{kurtosis}");
            assert_eq!(log_tail(finite, false, z, skewness, rich(SPARSE_FINITE)), finite_tail, "{kurtosis}");
        }
        assert!(gene(4.9, 25.0).is_rich(SPARSE_SCORE) && !gene(5.1, 25.0).is_rich(SPARSE_SCORE));
    }

    #[test]
    fn lower_tails_are_those_for_the_genes_kurtosis() {
        let locations = crate::fixtures::grid_with_gaps(26);
        let forms = null_forms(&models(&[se(0.8)], &locations), &locations).unwrap();
        let form = &forms.forms[0];
        assert!(form.support.carries(25.0), "of all genes here");
        let y = values(&locations, |i| if i % 23 == 0 { 1.0 } else { 0.0 });
        let gene = |kurtosis| GeneMoments { kurtosis, ..forms.gene(y.col_as_slice(0)) };
        let shift = form.shifts[0] * locations.len() as f64 / gene(3.0).scale;
        let (_, skewness) = forms.standard_score(form, shift, &gene(3.0)).unwrap();
        assert!(skewness.abs() > 0.05, "{skewness}");
        let sd = shift / {
            let (z, _) = forms.standard_score(form, 0.0, &gene(3.0)).unwrap();
            -z
        };
        for z in [-1.0, -2.5, -4.0] {
            let q = shift + z * sd;
            // The moments of -A: what is skewed to the right is short on the left.
            let plain = tails::log_pearson3(-z, -skewness);
            let rich = plain + form.lower.as_ref().unwrap().log_correction(-z);
            assert!((rich - plain).abs() > 1e-4);
            for (kurtosis, expected) in [(3.0, rich), (19.9, rich), (20.1, plain), (24.0, plain)] {
                let got = forms.log_lower_p_value(0, q, &gene(kurtosis));
                assert!((got - expected.min(0.0)).abs() < 1e-9, "{z} {kurtosis}: {got} {expected}");
            }
        }
        // Of genes that hardly ever touch the form nothing is said.
        assert!(forms.log_lower_p_value(0, shift, &gene(1e4)).is_nan());
    }

    #[test]
    fn sparse_genes_scores_are_small_and_large_no_more_often_than_p_values_say() {
        // Some 25 spikes among some 600 spots: the score of a narrow kernel, on either side.
        let locations = crate::fixtures::grid_with_gaps(26);
        let models = models(&[se(0.8)], &locations);
        let forms = null_forms(&models, &locations).unwrap();
        let mut uniform = crate::fixtures::uniform(12);
        let (genes, n) = (3000, locations.len());
        let mut y = Mat::<f64>::zeros(n, genes);
        for g in 0..genes {
            for _ in 0..[21, 24, 27][g % 3] {
                y[((n as f64 * uniform()) as usize, g)] = 1.0 + 0.1 * uniform();
            }
            let mean = y.col(g).iter().sum::<f64>() / n as f64;
            y.col_mut(g).iter_mut().for_each(|v| *v -= mean);
        }
        let block = Block::new(y.clone(), &locations, vec![true; genes], &DELTAS);
        let view = models[0].view(&block).unwrap();
        let (mut counts, mut sparse) = ([[0_usize; 3]; 2], 0);
        for g in 0..genes {
            let mut q = [0.0; DELTAS.len()];
            view.forms(g, &mut q);
            let gene = forms.gene(y.col_as_slice(g));
            sparse += usize::from(gene.kurtosis > SPARSE_SCORE);
            for (counts, p) in counts
                .iter_mut()
                .zip([forms.log_p_values(&q, &gene)[0], forms.log_lower_p_value(0, q[0], &gene)])
            {
                assert!(p <= 0.0, "{p}");
                [0.05, 0.01, 0.001]
                    .iter()
                    .zip(counts)
                    .for_each(|(a, count)| *count += usize::from(p.exp() <= *a));
            }
        }
        println!("{counts:?}");
        assert!(sparse > genes / 2, "{sparse}");
        for [often, seldom, rarely] in counts {
            assert!(often <= 180 && seldom <= 45 && rarely <= 10, "{counts:?}");
        }
    }

    #[test]
    fn a_gene_that_no_form_is_carried_for_has_the_p_value_of_the_widest() {
        let locations = crate::fixtures::grid_with_gaps(12);
        let models = models(&[se(0.4), se(0.6)], &locations);
        let forms = null_forms(&models, &locations).unwrap();
        let y = values(&locations, |i| if i == 7 { 1.0 } else { 0.0 });
        let gene = forms.gene(y.col_as_slice(0));
        let pairs: Vec<f64> = forms.forms.iter().map(|form| form.support.pairs()).collect();
        assert!(forms.forms.iter().all(|form| !form.support.carries(gene.kurtosis)), "{pairs:?}");
        let most = pairs.iter().fold(0.0_f64, |most, own| most.max(*own));
        let log_p = forms.log_p_values(&forms_of(&models, &locations, &y), &gene);
        for (p, pairs) in log_p.iter().zip(&pairs) {
            assert_eq!(p.is_nan(), *pairs < most, "{log_p:?} {pairs:?}");
        }
    }
}
