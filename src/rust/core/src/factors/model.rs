//! Factor analysis with smooth factors, fitted by expectation and maximisation.
//!
//! Standardised genes are `Y = F L' + E`, with gene-wise noise psi. Factor k is smooth up to what each location has
//! of its own: `f_k ~ N(0, w K + (1 - w) I)`, K a squared exponential kernel. Given the others, a factor is seen as
//! `x_k = (Y psi⁻¹ l_k - Σ_j≠k f_j l_j' psi⁻¹ l_k) / d_k` with noise of variance `1 / d_k`, `d_k = l_k' psi⁻¹ l_k`: a single
//! field, whatever the number of genes. Kernel and w are those that predict left-out locations best.
//!
//! Loadings are uncertain too: `l_gk ~ N(0, psi_g / a_k)`, with a_k by automatic relevance determination (Bishop 1999,
//! doi:10.1049/cp:19991160). Without it, where genes are many and locations few, each factor would find genes whose noise
//! agrees with it.

use super::genes::Genes;
use super::small::{add, dot, eigen_decreasing, gram, inverse, orthonormalise, times, weighted_gram};
use super::smoother::{Choice, Posterior, Smoother};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::SplitMix64;
use faer::prelude::*;

/// Iterations at which kernels are chosen.
const CHOOSING: [usize; 8] = [0, 1, 2, 4, 7, 11, 16, 23];
/// A fit has converged when no factor changes by more than this share of its standard deviation.
const TOLERANCE: f64 = 2e-3;
/// The least noise of a gene.
const LEAST_NOISE: f64 = 1e-3;
/// The most that relevance shrinks loadings, in numbers of locations.
const MOST_RELEVANCE: f64 = 1e6;
/// Rounds of subspace iteration at the start, and columns beside those asked for.
const ROUNDS: usize = 5;
const SPARE: usize = 6;

/// A fit; factors have variance 1.
pub(crate) struct Fit {
    pub loadings: Loadings,
    pub choices: Vec<Option<Choice>>,
    pub precision: Vec<f64>,
    /// x_k: locations × factors.
    pub seen: Mat<f64>,
    /// Locations × factors: E f, E of the smooth part, its variance.
    pub total: Mat<f64>,
    pub smooth: Mat<f64>,
    pub smooth_variance: Mat<f64>,
    pub iterations: usize,
}

/// What is known of the genes.
#[derive(Clone)]
pub(crate) struct Loadings {
    /// Posterior means: genes × factors.
    pub mean: Mat<f64>,
    /// Their covariance, for a gene of noise 1.
    pub covariance: Mat<f64>,
    /// Variance left to each gene.
    pub noise: Vec<f64>,
}

/// Fits so many factors that start smooth, and so many that start from what is left.
pub(crate) fn fit(
    genes: &Genes<'_>,
    smoother: &mut Smoother,
    smooth: usize,
    other: usize,
    iterations: usize,
) -> Result<Fit> {
    let mut total = start(genes, smoother, smooth, other)?;
    let (n, k) = total.shape();
    let mut variance = vec![0.0; k];
    let mut relevance = vec![0.0; k];
    let mut loadings = maximise(genes, &mut total, &variance, &mut relevance)?;
    let mut choices = vec![None; k];
    let mut state = 0;
    for iteration in 0..iterations {
        interrupt::check()?;
        let before = total.clone();
        let choose = CHOOSING.contains(&iteration);
        let step = expect(genes, smoother, &loadings, &mut total, &mut choices, choose)?;
        variance.copy_from_slice(&step.total_variance);
        loadings = maximise(genes, &mut total, &variance, &mut relevance)?;
        let change = (0..k).map(|j| {
            let difference: f64 =
                total.col_as_slice(j).iter().zip(before.col_as_slice(j)).map(|(a, b)| (a - b).powi(2)).sum();
            (difference / n as f64).sqrt()
        });
        let change = change.fold(0.0, f64::max);
        state = iteration + 1;
        if change < TOLERANCE && iteration > 5 {
            break;
        }
    }
    finish(genes, smoother, loadings, total, choices, state)
}

/// The posteriors that belong to given loadings, from a start; kernels of factors from `chosen` on stay as they are.
pub(crate) fn finish(
    genes: &Genes<'_>,
    smoother: &mut Smoother,
    loadings: Loadings,
    mut total: Mat<f64>,
    mut choices: Vec<Option<Choice>>,
    iterations: usize,
) -> Result<Fit> {
    let mut step = expect(genes, smoother, &loadings, &mut total, &mut choices, true)?;
    for _ in 0..2 {
        step = expect(genes, smoother, &loadings, &mut total, &mut choices, true)?;
    }
    Ok(Fit {
        loadings,
        choices,
        precision: step.precision,
        seen: step.seen,
        total,
        smooth: step.smooth,
        smooth_variance: step.smooth_variance,
        iterations,
    })
}

/// What one round over the factors finds.
struct Step {
    precision: Vec<f64>,
    total_variance: Vec<f64>,
    seen: Mat<f64>,
    smooth: Mat<f64>,
    smooth_variance: Mat<f64>,
}

fn expect(
    genes: &Genes<'_>,
    smoother: &mut Smoother,
    loadings: &Loadings,
    total: &mut Mat<f64>,
    choices: &mut [Option<Choice>],
    choose: bool,
) -> Result<Step> {
    let (n, k) = total.shape();
    let (scores, d) = evidence(genes, loadings);
    let empty = || Mat::zeros(n, k);
    let mut step = Step {
        precision: Vec::with_capacity(k),
        total_variance: Vec::with_capacity(k),
        seen: empty(),
        smooth: empty(),
        smooth_variance: empty(),
    };
    for j in 0..k {
        let precision = d[(j, j)].max(1e-9);
        let mut x = scores.col_as_slice(j).to_vec();
        for other in (0..k).filter(|&other| other != j) {
            add(&mut x, -d[(other, j)], total.col_as_slice(other));
        }
        x.iter_mut().for_each(|x| *x /= precision);
        if choose {
            choices[j] = smoother.choose(&x, precision);
            smoother.prepare(&choices[j..=j])?;
        }
        let Posterior { total: mean, total_variance, smooth, smooth_variance } =
            smoother.posterior(&x, precision, choices[j]);
        total.col_as_slice_mut(j).copy_from_slice(&mean);
        step.precision.push(precision);
        step.total_variance.push(total_variance);
        step.seen.col_as_slice_mut(j).copy_from_slice(&x);
        step.smooth.col_as_slice_mut(j).copy_from_slice(&smooth);
        step.smooth_variance.col_as_slice_mut(j).copy_from_slice(&smooth_variance);
    }
    Ok(step)
}

/// Y psi⁻¹ L, and the mean of L' psi⁻¹ L.
fn evidence(genes: &Genes<'_>, loadings: &Loadings) -> (Mat<f64>, Mat<f64>) {
    let weights: Vec<f64> = loadings.noise.iter().map(|v| 1.0 / v).collect();
    let mean = &loadings.mean;
    let weighted = Mat::from_fn(mean.nrows(), mean.ncols(), |g, j| mean[(g, j)] * weights[g]);
    (genes.times(weighted.as_ref()), second_moment(loadings))
}

/// E L' psi⁻¹ L.
pub(crate) fn second_moment(loadings: &Loadings) -> Mat<f64> {
    let weights: Vec<f64> = loadings.noise.iter().map(|v| 1.0 / v).collect();
    let mean = loadings.mean.as_ref();
    let mut d = weighted_gram(mean, &weights, mean);
    let count = mean.nrows() as f64;
    for i in 0..d.nrows() {
        (0..d.ncols()).for_each(|j| d[(i, j)] += count * loadings.covariance[(i, j)]);
    }
    d
}

/// Loadings, noise and relevance; scales the factors to variance 1.
fn maximise(
    genes: &Genes<'_>,
    total: &mut Mat<f64>,
    variance: &[f64],
    relevance: &mut [f64],
) -> Result<Loadings> {
    let (n, k) = (genes.n() as f64, total.ncols());
    for (j, &variance) in variance.iter().enumerate().take(k) {
        let column = total.col_as_slice_mut(j);
        let square = dot(column, column) + variance;
        let scale = if square > 0.0 { (n / square).sqrt() } else { 0.0 };
        column.iter_mut().for_each(|x| *x *= scale);
    }
    let mut second = gram(total);
    for j in 0..k {
        // What is not of the mean is variance.
        second[(j, j)] = n + relevance[j];
    }
    let products = genes.transpose_times(total.as_ref());
    let covariance = inverse(second.as_ref()).ok_or_else(no_convergence)?;
    let mean = times(products.as_ref(), covariance.as_ref());
    let noise = (0..genes.len())
        .map(|g| {
            let explained: f64 = (0..k).map(|j| mean[(g, j)] * products[(g, j)]).sum();
            ((n - explained) / n).max(LEAST_NOISE)
        })
        .collect();
    let loadings = Loadings { mean, covariance, noise };
    let moment = second_moment(&loadings);
    for j in 0..k {
        relevance[j] = (genes.len() as f64 / moment[(j, j)]).min(MOST_RELEVANCE * n);
    }
    Ok(loadings)
}

/// Factors to start from: the leading ones of the genes smoothed over a few spots (spatial principal components), then
/// principal components of what those leave.
fn start(genes: &Genes<'_>, smoother: &mut Smoother, smooth: usize, other: usize) -> Result<Mat<f64>> {
    let n = genes.n();
    let first = leading(genes, smooth, None, &mut |q| smoother.rough(q))?;
    let rest = leading(genes, other, Some(&first), &mut |q| Ok(q.clone()))?;
    let scale = (n as f64).sqrt();
    Ok(Mat::from_fn(n, smooth + other, |i, j| {
        scale * if j < smooth { first[(i, j)] } else { rest[(i, j - smooth)] }
    }))
}

/// The leading left singular vectors of S Y, beside others, by subspace iteration (Halko, Martinsson, Tropp 2011,
/// doi:10.1137/090771806).
fn leading(
    genes: &Genes<'_>,
    count: usize,
    beside: Option<&Mat<f64>>,
    smooth: &mut dyn FnMut(&Mat<f64>) -> Result<Mat<f64>>,
) -> Result<Mat<f64>> {
    let width = (count + SPARE).min(genes.len()).min(genes.n());
    let mut random = SplitMix64::new(1, &[width as u64]);
    let start = Mat::from_fn(genes.len(), width, |_, _| random.normal());
    let mut q = smooth(&genes.times(genes.arrange(&start).as_ref()))?;
    orthonormalise(&mut q, beside);
    for _ in 0..ROUNDS {
        interrupt::check()?;
        let back = genes.transpose_times(smooth(&q)?.as_ref());
        q = smooth(&genes.times(back.as_ref()))?;
        orthonormalise(&mut q, beside);
    }
    let back = genes.transpose_times(smooth(&q)?.as_ref());
    let (_, vectors) = eigen_decreasing(gram(&back).as_ref()).ok_or_else(no_convergence)?;
    let kept = count.min(width);
    let out = times(q.as_ref(), vectors.subcols(0, kept));
    Ok(Mat::from_fn(out.nrows(), count, |i, j| if j < kept { out[(i, j)] } else { 0.0 }))
}

fn no_convergence() -> Error {
    Error::NoConvergence("factors'".to_string())
}
