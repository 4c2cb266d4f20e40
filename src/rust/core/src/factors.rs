//! Spatial factors: smooth programs of a tissue, of which every gene is a mixture.
//!
//! Factor analysis with a Gaussian process for each factor, between spatial principal components (Shang & Zhou 2022,
//! doi:10.1038/s41467-022-34879-1), whose one scale serves all components, and MEFISTO (Velten et al. 2022,
//! doi:10.1038/s41592-021-01343-9). Each factor has its own lengthscale, and a share that is smooth: factors that turn out
//! not to be smooth at all take up what spots differ in without regard to their place, and are not reported. How many
//! are reported is decided by what they predict at left-out locations. At last loadings are turned to simple structure.

pub(crate) mod anchors;
pub(crate) mod frame;
mod genes;
pub(crate) mod kriging;
mod model;
mod rotation;
mod sample_means;
pub(crate) mod small;
mod smoother;

use crate::error::{Error, Result, check_size};
use crate::locations::Locations;
use crate::random::SplitMix64;
use faer::prelude::*;
use frame::Frame;
use genes::Genes;
use model::{Fit, Loadings, finish, fit};
use rayon::prelude::*;
use sample_means::sample_means;
use small::{dot, eigen_decreasing, function, gram, inverse, times, weighted_gram};
use smoother::{Smoother, default_lengthscales};

/// Factors beside those asked for, for what is not spatial.
const OTHERS: usize = 5;
/// Locations that are left out, at least, if there are as many: in folds of a quarter, or of a tenth where that is enough.
const LEFT_OUT: usize = 2000;
const QUARTERS: usize = 4;
const TENTHS: usize = 10;
/// Axes that domains know, at most: more than are worth a picture.
const AXES: usize = 10;
/// [`HeldOut::z`] of the best number, at least, for factors to be supported: above what it is by chance, since folds in
/// turn hold each pair of locations twice.
const SUPPORTED: f64 = 4.0;
/// Fewer locations are not divided.
const DIVISIBLE: usize = 30;

/// How to find factors.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The number of factors; `None` chooses up to `most`.
    pub n_factors: Option<usize>,
    /// The largest number to choose, at least 1.
    pub most: usize,
    /// Lengthscales to choose from, positive; empty for a grid by the distances.
    pub lengthscales: Vec<f64>,
    /// Iterations at most, at least 1.
    pub max_iterations: usize,
    /// How many leading columns of the genes factors are fitted to; `None` are all.
    pub genes: Option<usize>,
    /// The genes that each of [`folds`] uses, taken without a look at what it leaves out; if empty, those above.
    pub fold_genes: Vec<Vec<usize>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_factors: None,
            most: 15,
            lengthscales: Vec::new(),
            max_iterations: 40,
            genes: None,
            fold_genes: Vec::new(),
        }
    }
}

/// A factor's kernel and what it explains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Lengthscale of the kernel; NaN for a factor that is not smooth.
    pub lengthscale: f64,
    /// The share of the factor's variance that is smooth, from 0 to 1.
    pub smooth: f64,
    /// The share of the genes' variance that its smooth part explains.
    pub variance: f64,
    /// Variance of what is not smooth about the factor, its noise included, over that of what is; NaN as above.
    pub delta: f64,
    /// The prior variance of its smooth part, in the unit of [`Factors::values`].
    pub prior: f64,
}

/// What so many factors predict at left-out locations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// The number of factors; 0 are the genes' means.
    pub n_factors: usize,
    /// The share of the left-out locations' variance, over all genes, that they predict.
    pub r_squared: f64,
    /// The standard error, over those locations, of its difference from the best number's of at least 1.
    pub se: f64,
    /// The mean product of left-out locations' values with their predictions, in its standard errors.
    pub z: f64,
}

/// Factors, in order of the variance that they explain.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The smooth parts, each of variance 1 over the locations before the samples' means are added: locations × factors.
    pub values: Mat<f64>,
    /// The factors' means in each sample, which are in `values` and `totals`: samples × factors.
    pub sample_means: Mat<f64>,
    /// Their posterior standard deviations.
    pub std_errors: Mat<f64>,
    /// The factors with what each location has of its own, in the same unit.
    pub totals: Mat<f64>,
    /// In standard deviations of a gene, for a standard deviation of the factor: genes × factors. Each factor's largest is positive.
    pub loadings: Mat<f64>,
    /// The variance left to each gene, of 1.
    pub noise: Vec<f64>,
    /// One for each factor.
    pub summaries: Vec<Summary>,
    /// What predictions elsewhere start from: locations × factors.
    pub seen: Mat<f64>,
    /// What domains are found by.
    pub tissue: Tissue,
    /// For each number of factors, from 0; empty if it was given.
    pub held_out: Vec<HeldOut>,
    /// Whether factors predict left-out locations better than none; `None` if none were left out. One factor is reported
    /// where they do not.
    pub supported: Option<bool>,
    /// Iterations of the last fit.
    pub iterations: usize,
}

/// Where each location is among the others, by all that was found smooth, reported or not: at most 10 coordinates, whose
/// distances are those of the genes' smooth parts, each gene in standard deviations of its noise. Which turn of the factors
/// has the simplest loadings makes no difference to it.
#[derive(Debug, Clone)]
pub struct Tissue {
    /// The smooth parts: locations × coordinates.
    pub values: Mat<f64>,
    /// With what each location has of its own.
    pub totals: Mat<f64>,
    /// The fields of which coordinates are sums, for [`predict`]: locations × fields.
    pub seen: Mat<f64>,
    /// Their means in each sample, which are in `values` and `totals`: samples × fields.
    pub sample_means: Mat<f64>,
    /// One for each field.
    pub kernels: Vec<Kernel>,
    /// Fields × coordinates.
    pub turn: Mat<f64>,
}

/// Finds factors; the result does not depend on the size of the current rayon pool.
///
/// `y` is expression, locations × genes, centred within samples, every column finite and not constant. `means` are what
/// was subtracted, samples × genes, from which factors have their means in each sample; without them these are 0, as of
/// one sample.
///
/// # Errors
/// A setting outside its range, a column that is constant or not finite, means that are not finite, or sizes that disagree.
pub fn find_factors(
    locations: &Locations,
    y: MatRef<'_, f64>,
    means: Option<MatRef<'_, f64>>,
    settings: &Settings,
) -> Result<Factors> {
    check_size("rows of y", locations.len(), y.nrows())?;
    if let Some(means) = means {
        check_size("rows of the means", locations.samples().len(), means.nrows())?;
        check_size("columns of the means", y.ncols(), means.ncols())?;
        if let Some(&value) = means.col_iter().flat_map(|column| column.iter()).find(|m| !m.is_finite()) {
            return Err(Error::Parameter { name: "means", value, must_be: "finite" });
        }
    }
    let count = settings.genes.unwrap_or(y.ncols());
    if count > y.ncols() || settings.fold_genes.iter().flatten().any(|&g| g >= y.ncols()) {
        return Err(Error::Shape { what: "columns of y", expected: count, got: y.ncols() });
    }
    let (all, y) = (y, y.subcols(0, count));
    let limit = y.ncols().min(locations.len() - 1);
    let wrong = |name, value, must_be| Err(Error::Parameter { name, value, must_be });
    let most = settings.n_factors.unwrap_or(settings.most.min(limit));
    if most < 1 || most > limit {
        return wrong(
            "n_factors",
            most as f64,
            "from 1 to the number of genes, and below the number of locations",
        );
    }
    if let Some(&l) = settings.lengthscales.iter().find(|l| !(l.is_finite() && **l > 0.0)) {
        return wrong("lengthscale", l, "positive and finite");
    }
    if settings.max_iterations < 1 {
        return wrong("max_iterations", 0.0, "at least 1");
    }
    let frame = Frame::new(locations);
    let locations = &frame.locations(locations)?;
    let lengthscales = if settings.lengthscales.is_empty() {
        default_lengthscales(locations)
    } else {
        settings.lengthscales.iter().map(|l| l / frame.unit()).collect()
    };
    let others = OTHERS.min(limit - most);
    let sizes = [most, others, settings.max_iterations];
    let held_out = match settings.n_factors {
        Some(_) => Vec::new(),
        None => {
            let every = || (0..count).collect();
            let fold = |(i, rows)| (rows, settings.fold_genes.get(i).cloned().unwrap_or_else(every));
            let folds: Vec<Fold> = folds(locations).into_iter().enumerate().map(fold).collect();
            hold_out(locations, all, &folds, &lengthscales, sizes)?
        }
    };
    let supported = supported(&held_out);
    let genes = Genes::new(y)?;
    let mut smoother = Smoother::new(locations, &lengthscales)?;
    let whole = fit(&genes, &mut smoother, most, others, settings.max_iterations)?;
    let axes = Axes::of(&whole)?;
    let count = match (settings.n_factors, supported) {
        (Some(number), _) => number,
        (None, Some(false)) => 1,
        (None, _) => {
            // A loading's squared standard error is a location's share of the gene's noise.
            let noise = genes.len() as f64 / genes.n() as f64;
            best(&held_out, &axes.explained, noise).unwrap_or(most)
        }
    };
    let samples = Samples::new(locations, &genes, means);
    let tissue = tissue(&smoother, &whole, &axes, &samples)?;
    let simple = simplify(&genes, &mut smoother, whole, &axes, count)?;
    let mut found = report(&smoother, simple, count, tissue, (held_out, supported), &samples)?;
    let kernels = found.summaries.iter_mut().map(|s| &mut s.lengthscale);
    let kernels = kernels.chain(found.tissue.kernels.iter_mut().map(|kernel| &mut kernel.lengthscale));
    kernels.for_each(|lengthscale| *lengthscale *= frame.unit());
    Ok(found)
}

/// What is known of how samples differ.
struct Samples<'a> {
    locations: &'a Locations,
    sizes: Vec<usize>,
    /// Genes × samples; `None` if they are all the same.
    differences: Option<Mat<f64>>,
}

impl<'a> Samples<'a> {
    fn new(locations: &'a Locations, genes: &Genes<'_>, means: Option<MatRef<'_, f64>>) -> Self {
        let sizes: Vec<usize> = locations.samples().iter().map(|rows| rows.len()).collect();
        let means = means.filter(|_| sizes.len() > 1);
        let differences = means.map(|means| genes.differences(means, &sizes));
        Self { locations, sizes, differences }
    }

    /// Means of a fit's factors: samples × factors.
    fn means(&self, fit: &Fit) -> Result<Mat<f64>> {
        match &self.differences {
            Some(differences) => {
                sample_means(differences, &fit.loadings, moments(&fit.total).as_ref(), &self.sizes)
            }
            None => Ok(Mat::zeros(self.sizes.len(), fit.total.ncols())),
        }
    }

    /// Adds means to what is 0 in the mean of each sample.
    fn add(&self, means: &Mat<f64>, to: &mut Mat<f64>) {
        if self.differences.is_some() {
            for (s, rows) in self.locations.samples().iter().enumerate() {
                for j in 0..to.ncols() {
                    to.col_as_slice_mut(j)[rows.clone()].iter_mut().for_each(|x| *x += means[(s, j)]);
                }
            }
        }
    }
}

/// A basis of the smooth factors in which the first ones explain most of the genes, weighted by their precision: the
/// principal axes of what is smooth. One program may be the sum of several processes (a wide one and a narrow one),
/// which share its loadings; it is one axis all the same.
struct Axes {
    /// The factors that are smooth.
    smooth: Vec<usize>,
    /// Those that are not.
    others: Vec<usize>,
    /// What each explains.
    explained: Vec<f64>,
    /// What turns loadings, and factors, of the smooth ones.
    loadings: Mat<f64>,
    factors: Mat<f64>,
}

/// Axes that explain less than this share of what the first explains are none.
const LEAST_AXIS: f64 = 1e-8;
/// Numbers of factors predict as well as the best one if they are worse by at most so many standard errors.
const WORSE: f64 = 2.0;
/// The least share of what is smooth in the genes that a factor explains, unless fewer factors predict worse.
const LEAST_SHARE: f64 = 0.003;
/// For factors that are taken beyond the number that predicts best: the least root mean square of the loadings, in their
/// standard errors, and what the genes tell of the factor at one location, its variance over that of their noise.
const LEAST_LOADING: f64 = 0.5;
const LEAST_EVIDENCE: f64 = 0.2;

impl Axes {
    fn of(fit: &Fit) -> Result<Self> {
        let n = fit.smooth.nrows() as f64;
        let square = |k: usize| {
            let column = fit.smooth.col_as_slice(k);
            dot(column, column) / n
        };
        let (smooth, others): (Vec<usize>, Vec<usize>) =
            (0..fit.smooth.ncols()).partition(|&k| square(k) > LEAST_AXIS);
        if smooth.is_empty() {
            let empty = || Mat::zeros(0, 0);
            return Ok(Self { smooth, others, explained: Vec::new(), loadings: empty(), factors: empty() });
        }
        let no_convergence = || Error::NoConvergence("factors'".to_string());
        let inner = moments(&columns(&fit.smooth, &smooth));
        let weights: Vec<f64> = fit.loadings.noise.iter().map(|v| 1.0 / v).collect();
        let loadings = columns(&fit.loadings.mean, &smooth);
        let outer = weighted_gram(loadings.as_ref(), &weights, loadings.as_ref());
        let root = root(inner.as_ref()).ok_or_else(no_convergence)?;
        let unroot = inverse(root.as_ref()).ok_or_else(no_convergence)?;
        let both = times(times(root.as_ref(), outer.as_ref()).as_ref(), root.as_ref());
        let (explained, vectors) = eigen_decreasing(both.as_ref()).ok_or_else(no_convergence)?;
        Ok(Self {
            smooth,
            others,
            explained,
            loadings: times(root.as_ref(), vectors.as_ref()),
            factors: times(unroot.as_ref(), vectors.as_ref()),
        })
    }

    /// Both turns for all factors, those that are not smooth last.
    fn whole(&self) -> (Vec<usize>, Mat<f64>, Mat<f64>) {
        let order = [self.smooth.as_slice(), &self.others].concat();
        let all = order.len();
        let (loadings, factors) = (widened(&self.loadings, all), widened(&self.factors, all));
        (order, loadings, factors)
    }
}

/// A turn of the first of so many factors, which leaves the others as they are.
fn widened(turn: &Mat<f64>, all: usize) -> Mat<f64> {
    let count = turn.nrows();
    Mat::from_fn(
        all,
        all,
        |i, j| {
            if i < count && j < count { turn[(i, j)] } else { f64::from(u8::from(i == j)) }
        },
    )
}

/// Means of products of columns.
fn moments(m: &Mat<f64>) -> Mat<f64> {
    let inner = gram(m);
    let n = m.nrows() as f64;
    Mat::from_fn(m.ncols(), m.ncols(), |i, j| inner[(i, j)] / n)
}

/// The root of a positive semidefinite matrix, with eigenvalues of a least size.
fn root(a: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let largest = (0..a.nrows()).map(|i| a[(i, i)]).fold(0.0, f64::max);
    let floor = (LEAST_AXIS * largest).max(f64::MIN_POSITIVE);
    function(a, |x| x.max(floor).sqrt())
}

fn columns(m: &Mat<f64>, which: &[usize]) -> Mat<f64> {
    Mat::from_fn(m.nrows(), which.len(), |i, j| m[(i, which[j])])
}

/// Positions of the largest first; the first of equal ones.
fn decreasing(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

/// Turns the factors that are to be reported to simple structure; they come first.
fn simplify(
    genes: &Genes<'_>,
    smoother: &mut Smoother,
    whole: Fit,
    axes: &Axes,
    count: usize,
) -> Result<Fit> {
    let (order, to_loadings, to_factors) = axes.whole();
    let mut loadings = times(columns(&whole.loadings.mean, &order).as_ref(), to_loadings.as_ref());
    let mut total = times(columns(&whole.total, &order).as_ref(), to_factors.as_ref());
    let old = &whole.loadings.covariance;
    let covariance = Mat::from_fn(order.len(), order.len(), |i, j| old[(order[i], order[j])]);
    let mut covariance =
        times(times(to_loadings.transpose(), covariance.as_ref()).as_ref(), to_loadings.as_ref());
    let choices = order.iter().map(|&k| whole.choices[k]).collect();
    // In a basis in which the factors as a whole are orthonormal (their smooth parts may nearly depend on each other):
    // there a loading is uncertain by a location's share of the gene's noise.
    let n = total.nrows() as f64;
    let turned = root(moments(&total.subcols(0, count).to_owned()).as_ref()).and_then(|root| {
        let mut simple = times(loadings.subcols(0, count), root.as_ref());
        for j in 0..count {
            let column = simple.col_as_slice_mut(j);
            column.iter_mut().zip(&whole.loadings.noise).for_each(|(l, v)| *l /= v.sqrt());
        }
        let turn = rotation::simple_structure(simple.as_ref(), 1.0 / n)?;
        let turn = times(root.as_ref(), turn.as_ref());
        Some((rotation::inverse_transpose(turn.as_ref())?, turn))
    });
    let (back, turn) = turned.ok_or_else(|| Error::NoConvergence("factors'".to_string()))?;
    let new_loadings = times(loadings.subcols(0, count), turn.as_ref());
    let new_total = times(total.subcols(0, count), back.as_ref());
    // C becomes T' C T, with T the identity beside the turned ones.
    let all = order.len();
    let wide = widened(&turn, all);
    covariance = times(times(wide.transpose(), covariance.as_ref()).as_ref(), wide.as_ref());
    total.subcols_mut(0, count).copy_from(new_total.as_ref());
    loadings.subcols_mut(0, count).copy_from(new_loadings.as_ref());
    for k in 0..all {
        // Variance 1 again.
        let column = total.col_as_slice_mut(k);
        let sd = (dot(column, column) / column.len() as f64).sqrt().max(f64::MIN_POSITIVE);
        column.iter_mut().for_each(|x| *x /= sd);
        loadings.col_as_slice_mut(k).iter_mut().for_each(|l| *l *= sd);
        for j in 0..all {
            covariance[(k, j)] *= sd;
            covariance[(j, k)] *= sd;
        }
    }
    let loadings = Loadings { mean: loadings, covariance, noise: whole.loadings.noise };
    finish(genes, smoother, loadings, total, choices, whole.iterations)
}

/// The leading axes, in the metric in which genes' noise is 1.
fn tissue(smoother: &Smoother, fit: &Fit, axes: &Axes, samples: &Samples<'_>) -> Result<Tissue> {
    let smooth = &axes.smooth;
    // Where nothing is smooth, all places are alike.
    let count = smooth.len().clamp(1, AXES);
    let scale = |i: usize, j: usize| axes.factors[(i, j)] * axes.explained[j].max(0.0).sqrt();
    let turn = Mat::from_fn(smooth.len(), count, scale);
    let turned = |m: &Mat<f64>| times(columns(m, smooth).as_ref(), turn.as_ref());
    let kernel = |k: usize| kernel(smoother, fit, k);
    let means = samples.means(fit)?;
    let (mut values, mut totals, moved) = (turned(&fit.smooth), turned(&fit.total), turned(&means));
    samples.add(&moved, &mut values);
    samples.add(&moved, &mut totals);
    Ok(Tissue {
        values,
        totals,
        seen: columns(&fit.seen, smooth),
        sample_means: columns(&means, smooth),
        kernels: smooth.iter().map(|&k| kernel(k)).collect(),
        turn,
    })
}

/// The kernel of a factor's smooth part.
fn kernel(smoother: &Smoother, fit: &Fit, k: usize) -> Kernel {
    let choice = fit.choices[k];
    Kernel {
        lengthscale: choice.map_or(f64::NAN, |c| smoother.levels[c.level].lengthscale),
        delta: choice.map_or(f64::NAN, |c| smoother.deltas[c.delta]),
        variance: smoother.share(choice, fit.precision[k]),
    }
}

fn report(
    smoother: &Smoother,
    fit: Fit,
    count: usize,
    tissue: Tissue,
    (held_out, supported): (Vec<HeldOut>, Option<bool>),
    samples: &Samples<'_>,
) -> Result<Factors> {
    let n = fit.smooth.nrows() as f64;
    let genes = fit.loadings.mean.nrows() as f64;
    let summary = |k: usize| {
        let column = fit.smooth.col_as_slice(k);
        let mean = column.iter().sum::<f64>() / n;
        let variance = (dot(column, column) / n - mean * mean).max(0.0);
        let loading = fit.loadings.mean.col_as_slice(k);
        let Kernel { lengthscale, delta, variance: prior } = kernel(smoother, &fit, k);
        let explained = variance * dot(loading, loading) / genes;
        (variance, Summary { lengthscale, smooth: prior, variance: explained, delta, prior })
    };
    let found: Vec<(f64, Summary)> = (0..count).map(summary).collect();
    let order = decreasing(&found.iter().map(|f| f.1.variance).collect::<Vec<_>>());
    // A factor without a smooth part keeps its own unit.
    let scale = |k: usize| {
        let loading = fit.loadings.mean.col_as_slice(k);
        let largest = loading.iter().fold(0.0_f64, |a, &x| if x.abs() > a.abs() { x } else { a });
        let sd = found[k].0.sqrt();
        largest.signum() * if sd > 1e-6 { sd } else { 1.0 }
    };
    let scales: Vec<f64> = order.iter().map(|&k| scale(k)).collect();
    let pick = |m: &Mat<f64>, f: &dyn Fn(f64, f64) -> f64| {
        Mat::from_fn(m.nrows(), count, |i, j| f(m[(i, order[j])], scales[j]))
    };
    let mut sample_means = pick(&samples.means(&fit)?, &|x, s| x / s);
    // A factor without a smooth part has no place in a sample.
    for (j, &k) in order.iter().enumerate() {
        if fit.choices[k].is_none() {
            sample_means.col_as_slice_mut(j).fill(0.0);
        }
    }
    let mut found = Factors {
        values: pick(&fit.smooth, &|x, s| x / s),
        sample_means,
        std_errors: pick(&fit.smooth_variance, &|x, s| (x / (s * s)).sqrt()),
        totals: pick(&fit.total, &|x, s| x / s),
        loadings: pick(&fit.loadings.mean, &|x, s| x * s),
        seen: pick(&fit.seen, &|x, s| x / s),
        noise: fit.loadings.noise,
        summaries: order
            .iter()
            .zip(&scales)
            .map(|(&k, s)| Summary { prior: found[k].1.prior / (s * s), ..found[k].1 })
            .collect(),
        tissue,
        supported,
        held_out,
        iterations: fit.iterations,
    };
    samples.add(&found.sample_means, &mut found.values);
    samples.add(&found.sample_means, &mut found.totals);
    Ok(found)
}

/// The number of factors, from 1, that predicts left-out locations best, the first of equal ones; `None` if none were left
/// out.
fn best_predicting(held_out: &[HeldOut]) -> Option<&HeldOut> {
    held_out.get(1..)?.iter().reduce(|a, b| if b.r_squared > a.r_squared { b } else { a })
}

/// Whether it predicts them better than their means do, and beyond chance.
fn supported(held_out: &[HeldOut]) -> Option<bool> {
    held_out.get(1..)?;
    Some(best_predicting(held_out).is_some_and(|best| best.r_squared > 0.0 && best.z > SUPPORTED))
}

/// The number that predicts best, less its last factors if they hardly explain anything and are not needed to predict as
/// well; or the largest number that predicts as well and whose loadings are more than noise. One too few merges two
/// programs, one too many costs each of them little. `explained` is what each factor explains, decreasing, `noise` what
/// one would if its loadings were nothing but their errors. `None` if no locations could be left out.
fn best(held_out: &[HeldOut], explained: &[f64], noise: f64) -> Option<usize> {
    let top = best_predicting(held_out)?;
    let as_good = |h: &&HeldOut| h.r_squared >= top.r_squared - WORSE * h.se;
    let tried = &held_out[1..];
    let (least, most) = (tried.iter().find(as_good)?, tried.iter().rfind(as_good)?);
    let number = |least: f64| explained.iter().filter(|v| **v >= least).count();
    let small = number(LEAST_SHARE * explained.iter().sum::<f64>());
    let above_noise = number((LEAST_LOADING * LEAST_LOADING * noise).max(LEAST_EVIDENCE));
    Some(least.n_factors.max(top.n_factors.min(small)).max(most.n_factors.min(above_noise)))
}

/// Locations that are left out, and genes.
type Fold = (Vec<usize>, Vec<usize>);

/// What 0, 1, 2, ... factors leave of each left-out location: the sum of squares over genes.
type Left = Vec<Vec<f64>>;
/// The products of what they predict with what is there.
type Along = Vec<Vec<f64>>;

/// Predicts left-out locations by 0, 1, 2, ... factors.
fn hold_out(
    locations: &Locations,
    y: MatRef<'_, f64>,
    folds: &[Fold],
    lengthscales: &[f64],
    sizes: [usize; 3],
) -> Result<Vec<HeldOut>> {
    let genes = Genes::new(y)?;
    let most = sizes[0];
    let folds: Vec<Option<(Left, Along)>> = folds
        .par_iter()
        .map(|fold| leave_out(locations, y, &genes, fold, lengthscales, sizes))
        .collect::<Result<_>>()?;
    let mut left: Left = vec![Vec::new(); most + 1];
    let mut along: Along = vec![Vec::new(); most + 1];
    for (fold_left, fold_along) in folds.iter().flatten() {
        left.iter_mut().zip(fold_left).for_each(|(all, fold)| all.extend(fold));
        along.iter_mut().zip(fold_along).for_each(|(all, fold)| all.extend(fold));
    }
    let sum = |x: &[f64]| x.iter().sum::<f64>();
    let whole = sum(&left[0]);
    if whole == 0.0 {
        return Ok(Vec::new());
    }
    let top = (2..=most).fold(1, |best, j| if sum(&left[j]) < sum(&left[best]) { j } else { best });
    let error = |x: &[f64]| {
        let n = x.len() as f64;
        let mean = sum(x) / n;
        (n * x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
    };
    let one = |(n_factors, mine): (usize, &Vec<f64>)| {
        let difference: Vec<f64> = mine.iter().zip(&left[top]).map(|(a, b)| a - b).collect();
        let (agreement, chance) = (sum(&along[n_factors]), error(&along[n_factors]));
        HeldOut {
            n_factors,
            r_squared: 1.0 - sum(mine) / whole,
            se: error(&difference) / whole,
            z: if chance > 0.0 { agreement / chance } else { 0.0 },
        }
    };
    Ok(left.iter().enumerate().map(one).collect())
}

/// Predicts the left-out locations of one fold by 0, 1, 2, ... factors of the others; `None` if no gene varies there.
fn leave_out(
    locations: &Locations,
    y: MatRef<'_, f64>,
    genes: &Genes<'_>,
    (left_out, columns_used): &Fold,
    lengthscales: &[f64],
    [most, others, iterations]: [usize; 3],
) -> Result<Option<(Left, Along)>> {
    let n = locations.len();
    let mut out = vec![false; n];
    left_out.iter().for_each(|&row| out[row] = true);
    let kept: Vec<usize> = (0..n).filter(|&row| !out[row]).collect();
    let sizes: Vec<usize> =
        locations.samples().iter().map(|rows| rows.clone().filter(|&row| !out[row]).count()).collect();
    let coords = Mat::from_fn(kept.len(), locations.dim(), |i, j| locations.coords()[(kept[i], j)]);
    let part = Locations::with_samples(coords.as_ref(), &sizes)?;
    // A gene may be constant there.
    let varies = |g: &usize| kept.iter().any(|&row| y[(row, *g)] != y[(kept[0], *g)]);
    let varying: Vec<usize> = columns_used.iter().copied().filter(varies).collect();
    if varying.is_empty() {
        return Ok(None);
    }
    let training = Mat::from_fn(kept.len(), varying.len(), |i, g| y[(kept[i], varying[g])]);
    let Ok(fold_genes) = Genes::new(training.as_ref()) else { return Ok(None) };
    let mut smoother = Smoother::new(&part, lengthscales)?;
    let limit = varying.len().min(kept.len() - 1);
    let fit =
        fit(&fold_genes, &mut smoother, most.min(limit), others.min(limit - most.min(limit)), iterations)?;
    let axes = Axes::of(&fit)?;
    let sample = |row: usize| locations.samples().iter().position(|r| r.contains(&row)).unwrap_or(0);
    let points: Vec<_> = left_out.iter().map(|&row| (anchors::point(locations, row), sample(row))).collect();
    let mut fields = Mat::zeros(points.len(), axes.smooth.len());
    for (j, &k) in axes.smooth.iter().enumerate() {
        if let Some(choice) = fit.choices[k] {
            let level = &smoother.levels[choice.level];
            let field = level.predict(&points, smoother.deltas[choice.delta], fit.seen.col_as_slice(k))?;
            fields.col_as_slice_mut(j).iter_mut().zip(field).for_each(|(x, f)| *x = f.0);
        }
    }
    let fields = times(fields.as_ref(), axes.factors.as_ref());
    let loadings = columns(&fit.loadings.mean, &axes.smooth);
    let loadings = times(loadings.as_ref(), axes.loadings.as_ref());
    // The residuals' sum of squares falls with each axis' prediction.
    let mut residual = Mat::from_fn(left_out.len(), varying.len(), |i, g| genes.at(left_out[i], varying[g]));
    let truth = residual.clone();
    let products = |a: &Mat<f64>, b: &Mat<f64>| {
        let mut sums = vec![0.0; a.nrows()];
        for g in 0..a.ncols() {
            let both = a.col_as_slice(g).iter().zip(b.col_as_slice(g));
            sums.iter_mut().zip(both).for_each(|(sum, (a, b))| *sum += a * b);
        }
        sums
    };
    let whole = products(&truth, &truth);
    let mut left = vec![whole.clone()];
    let mut along = vec![vec![0.0; left_out.len()]];
    for j in 0..most {
        if j < axes.smooth.len() {
            for g in 0..varying.len() {
                let loading = loadings[(g, j)];
                let column = residual.col_as_slice_mut(g);
                column.iter_mut().zip(fields.col_as_slice(j)).for_each(|(r, f)| *r -= loading * f);
            }
        }
        left.push(products(&residual, &residual));
        along.push(whole.iter().zip(products(&truth, &residual)).map(|(all, rest)| all - rest).collect());
    }
    Ok(Some((left, along)))
}

/// Rows to leave out, in turn: a fold of each sample, by chance but always the same.
pub fn folds(locations: &Locations) -> Vec<Vec<usize>> {
    let n = locations.len();
    if n < DIVISIBLE {
        return Vec::new();
    }
    let parts = if n < TENTHS * LEFT_OUT { QUARTERS } else { TENTHS };
    let used = (parts * LEFT_OUT).div_ceil(n).min(parts);
    let mut random = SplitMix64::new(1, &[n as u64]);
    let mut folds = vec![Vec::new(); used];
    for rows in locations.samples() {
        let mut shuffled: Vec<usize> = rows.clone().collect();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, random.below(i + 1));
        }
        // The last location of a sample stays.
        for (i, &row) in shuffled.iter().enumerate().skip(1) {
            if let Some(fold) = folds.get_mut(i % parts) {
                fold.push(row);
            }
        }
    }
    folds.iter_mut().for_each(|fold| fold.sort_unstable());
    folds.into_iter().filter(|fold| !fold.is_empty()).collect()
}

/// A factor's posterior at a new location.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The mean: new locations × factors.
    pub means: Mat<f64>,
    /// The standard deviation.
    pub std_errors: Mat<f64>,
}

/// The smooth parts of factors at new locations, from [`Factors::seen`] at the old ones.
///
/// `new` has a row for each new location, `sample` says to which sample it belongs (counted from 0).
///
/// # Errors
/// Sizes that disagree, or a new location that is not finite.
pub fn predict(
    locations: &Locations,
    seen: MatRef<'_, f64>,
    kernels: &[Kernel],
    new: MatRef<'_, f64>,
    sample: &[usize],
) -> Result<Prediction> {
    check_size("rows of the factors", locations.len(), seen.nrows())?;
    check_size("kernels of the factors", seen.ncols(), kernels.len())?;
    locations.check_new(new, sample)?;
    let frame = Frame::new(locations);
    let points: Vec<_> =
        (0..new.nrows()).map(|i| (frame.point(new.row(i).iter(), sample[i]), sample[i])).collect();
    let locations = &frame.locations(locations)?;
    let spacing = locations.spacing();
    let mut out = Prediction {
        means: Mat::zeros(new.nrows(), kernels.len()),
        std_errors: Mat::zeros(new.nrows(), kernels.len()),
    };
    for (k, kernel) in kernels.iter().enumerate() {
        if !kernel.lengthscale.is_finite() {
            continue;
        }
        let level = kriging::Level::new(locations, kernel.lengthscale / frame.unit(), spacing);
        let x: Vec<f64> = seen.col(k).iter().copied().collect();
        for (i, (mean, left)) in level.predict(&points, kernel.delta, &x)?.into_iter().enumerate() {
            out.means[(i, k)] = mean;
            out.std_errors[(i, k)] = (left * kernel.variance).sqrt();
        }
    }
    Ok(out)
}

/// A smooth field's kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kernel {
    /// Lengthscale of the squared exponential, in units of the coordinates; not finite if there is no smooth part.
    pub lengthscale: f64,
    /// Variance of the noise over that of the field.
    pub delta: f64,
    /// The field's prior variance.
    pub variance: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number by predictions at left-out locations: r² and its standard error for 1, 2, ... factors.
    fn number(predicted: &[(f64, f64)], explained: &[f64], noise: f64) -> Option<usize> {
        let none = HeldOut { n_factors: 0, r_squared: 0.0, se: 0.1, z: 0.0 };
        let tried = predicted.iter().zip(1..);
        let held_out =
            tried.map(|(&(r_squared, se), n_factors)| HeldOut { n_factors, r_squared, se, z: 9.0 });
        best(&[vec![none], held_out.collect()].concat(), explained, noise)
    }

    #[test]
    fn factors_that_predict_as_well_are_taken_if_they_are_more_than_noise() {
        let predicted = [(0.2, 0.01), (0.5, 0.0), (0.49, 0.01), (0.485, 0.01), (0.48, 0.009)];
        assert_eq!(number(&predicted, &[9.0, 5.0, 2.0, 1.0, 1.0], 1.0), Some(4));
        // Their loadings are half a standard error in the mean.
        assert_eq!(number(&predicted, &[9.0, 5.0, 2.0, 1.01, 1.0], 4.04), Some(4));
        assert_eq!(number(&predicted, &[9.0, 5.0, 2.0, 1.0, 1.0], 4.04), Some(3));
        // Genes tell little of them at a location.
        assert_eq!(number(&predicted, &[9.0, 5.0, 0.2, 0.19, 0.19], 0.01), Some(3));
    }

    #[test]
    fn factors_that_predict_best_are_taken_if_they_are_needed_or_explain_something() {
        let predicted = [(0.2, 0.1), (0.48, 0.01), (0.49, 0.01), (0.5, 0.0), (0.4, 0.01)];
        // Each more than .3 % of what is smooth, though it may be noise.
        assert_eq!(number(&predicted, &[9.0, 5.0, 0.1, 0.1], 100.0), Some(4));
        assert_eq!(number(&predicted, &[9.0, 5.0, 0.1, 0.01], 100.0), Some(3));
        assert_eq!(number(&predicted, &[9.0, 0.01, 0.01, 0.01], 100.0), Some(2));
        let all_needed = [(0.1, 0.01), (0.2, 0.01), (0.5, 0.0)];
        assert_eq!(number(&all_needed, &[9.0, 0.01, 0.01], 100.0), Some(3));
        assert_eq!(number(&[], &[9.0], 1.0), None);
        assert_eq!(best(&[], &[9.0], 1.0), None);
    }
}
