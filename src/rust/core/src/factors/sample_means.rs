//! Where samples lie among each other.
//!
//! Factors are fitted to expression that is centred within samples: each is 0 in the mean of every sample. Two sections of
//! which one has twice as much of a layer would come out as if they had as much. How samples differ is in the genes' means
//! `d_s`, with what is no program (batches): `d_s = L m_s + e_s`, `e_sg ~ N(0, t_s psi_g)`, and `m_s` are the means of the factors,
//! of mean 0 and the covariance that factors have over locations. `t_s`, how far a sample's genes differ by what is no
//! program, is its most likely value.

use super::model::{Loadings, second_moment};
use super::root;
use super::small::{eigen_decreasing, times};
use crate::error::{Error, Result};
use faer::prelude::*;

/// The variance that is no program has converged when it changes by less than this share.
const TOLERANCE: f64 = 1e-8;
const ITERATIONS: usize = 200;

/// The means of factors in each sample, of mean 0 over all locations: samples × factors.
///
/// `differences` are what each gene's mean in a sample is above its mean over all locations, in standard deviations of the
/// gene: genes × samples. `covariance` is that of the factors over locations, `sizes` are numbers of locations.
pub(crate) fn sample_means(
    differences: &Mat<f64>,
    loadings: &Loadings,
    covariance: MatRef<'_, f64>,
    sizes: &[usize],
) -> Result<Mat<f64>> {
    let (samples, factors) = (differences.ncols(), covariance.nrows());
    if samples < 2 {
        return Ok(Mat::zeros(samples, factors));
    }
    let no_convergence = || Error::NoConvergence("factors'".to_string());
    // A basis in which the factors' covariance is the identity and evidence for them is a diagonal.
    let root = root(covariance).ok_or_else(no_convergence)?;
    let evidence = times(times(root.as_ref(), second_moment(loadings).as_ref()).as_ref(), root.as_ref());
    let (evidence, vectors) = eigen_decreasing(evidence.as_ref()).ok_or_else(no_convergence)?;
    let basis = times(root.as_ref(), vectors.as_ref());
    let weighted = Mat::from_fn(differences.nrows(), samples, |g, s| differences[(g, s)] / loadings.noise[g]);
    let along = times(basis.transpose(), times(loadings.mean.transpose(), weighted.as_ref()).as_ref());
    let mut means = Mat::zeros(samples, factors);
    for s in 0..samples {
        let square = (0..differences.nrows()).map(|g| differences[(g, s)] * weighted[(g, s)]).sum();
        let along = along.col_as_slice(s);
        let other = other_variance(along, &evidence, square, differences.nrows());
        (0..factors).for_each(|j| means[(s, j)] = along[j] / (other + evidence[j]));
    }
    let mut means = times(means.as_ref(), basis.transpose());
    let all = sizes.iter().sum::<usize>() as f64;
    for j in 0..factors {
        let mean = (0..samples).map(|s| means[(s, j)] * sizes[s] as f64).sum::<f64>() / all;
        means.col_as_slice_mut(j).iter_mut().for_each(|m| *m -= mean);
    }
    Ok(means)
}

/// The most likely variance of what is no program, by expectation and maximisation. `square` is `d' psi⁻¹ d`.
fn other_variance(along: &[f64], evidence: &[f64], square: f64, genes: usize) -> f64 {
    let mut variance = 1.0;
    for _ in 0..ITERATIONS {
        let left = along.iter().zip(evidence).fold(square, |left, (z, e)| {
            let mean = z / (variance + e);
            left - 2.0 * z * mean + e * (mean * mean + variance / (variance + e))
        });
        let before = variance;
        variance = (left / genes as f64).max(f64::MIN_POSITIVE);
        if (variance - before).abs() < TOLERANCE * before {
            break;
        }
    }
    variance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::small::inverse;
    use crate::random::SplitMix64;

    const GENES: usize = 60;

    /// Loadings of two factors that are known for certain.
    fn loadings(random: &mut SplitMix64) -> Loadings {
        Loadings {
            mean: Mat::from_fn(GENES, 2, |_, _| 0.3 * random.normal()),
            covariance: Mat::zeros(2, 2),
            noise: (0..GENES).map(|_| 0.5 + 0.4 * random.uniform()).collect(),
        }
    }

    fn assert_near(found: &Mat<f64>, expected: &Mat<f64>, tolerance: f64) {
        assert_eq!(found.shape(), expected.shape());
        for (found, expected) in found.col_iter().zip(expected.col_iter()) {
            for (a, b) in found.iter().zip(expected.iter()) {
                assert!((a - b).abs() < tolerance, "{a} is not {b}");
            }
        }
    }

    fn covariance() -> Mat<f64> {
        Mat::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 0.3 })
    }

    /// Of 10, 20 and 30 locations: their sum is 0.
    const SIZES: [usize; 3] = [10, 20, 30];

    fn truth() -> Mat<f64> {
        Mat::from_fn(3, 2, |s, j| [[1.2, -0.6], [-0.9, 0.3], [0.2, 0.0]][s][j])
    }

    #[test]
    fn means_that_genes_have_from_programs_alone_are_found() {
        let loadings = loadings(&mut SplitMix64::new(1, &[]));
        let differences = times(loadings.mean.as_ref(), truth().transpose());
        let found = sample_means(&differences, &loadings, covariance().as_ref(), &SIZES).unwrap();
        assert_near(&found, &truth(), 1e-6);
    }

    /// The posterior mean by the formula, with the variance that has the highest likelihood of 200.
    #[test]
    fn means_are_those_of_the_most_likely_model() {
        let mut random = SplitMix64::new(2, &[]);
        let loadings = loadings(&mut random);
        let programs = times(loadings.mean.as_ref(), truth().transpose());
        let differences = Mat::from_fn(GENES, 3, |g, s| {
            programs[(g, s)] + 0.4 * loadings.noise[g].sqrt() * random.normal()
        });
        let found = sample_means(&differences, &loadings, covariance().as_ref(), &SIZES).unwrap();
        let scaled = |s: usize| Mat::from_fn(GENES, 1, |g, _| differences[(g, s)] / loadings.noise[g].sqrt());
        let l = Mat::from_fn(GENES, 2, |g, j| loadings.mean[(g, j)] / loadings.noise[g].sqrt());
        let signal = times(times(l.as_ref(), covariance().as_ref()).as_ref(), l.transpose());
        let expected: Vec<Mat<f64>> = (0..3)
            .map(|s| {
                let tried = (0..200).map(|i| {
                    let variance = 0.01 * 1.04_f64.powi(i);
                    let whole = Mat::from_fn(GENES, GENES, |i, j| {
                        signal[(i, j)] + if i == j { variance } else { 0.0 }
                    });
                    let (values, vectors) = eigen_decreasing(whole.as_ref()).unwrap();
                    let turned = times(vectors.transpose(), scaled(s).as_ref());
                    let score = |k: usize| values[k].ln() + turned[(k, 0)].powi(2) / values[k];
                    ((0..GENES).map(score).sum::<f64>(), whole)
                });
                let best = tried.reduce(|a, b| if b.0 < a.0 { b } else { a }).unwrap();
                let inverse = inverse(best.1.as_ref()).unwrap();
                let weights = times(inverse.as_ref(), scaled(s).as_ref());
                times(times(covariance().as_ref(), l.transpose()).as_ref(), weights.as_ref())
            })
            .collect();
        let mean = |j: usize| (0..3).map(|s| expected[s][(j, 0)] * SIZES[s] as f64).sum::<f64>() / 60.0;
        let expected = Mat::from_fn(3, 2, |s, j| expected[s][(j, 0)] - mean(j));
        assert_near(&found, &expected, 2e-3);
    }

    /// Which turn of the factors is taken makes no difference.
    #[test]
    fn means_turn_with_the_factors() {
        let mut random = SplitMix64::new(3, &[]);
        let loadings = loadings(&mut random);
        let differences = Mat::from_fn(GENES, 3, |_, _| random.normal());
        let turn = Mat::from_fn(2, 2, |i, j| [[2.0, 0.5], [-0.3, 1.0]][i][j]);
        let back = Mat::from_fn(2, 2, |i, j| [[1.0, -0.5], [0.3, 2.0]][i][j] / 2.15);
        let turned = Loadings { mean: times(loadings.mean.as_ref(), turn.as_ref()), ..loadings.clone() };
        let moved = times(times(back.as_ref(), covariance().as_ref()).as_ref(), back.transpose());
        let one = sample_means(&differences, &loadings, covariance().as_ref(), &SIZES).unwrap();
        let other = sample_means(&differences, &turned, moved.as_ref(), &SIZES).unwrap();
        assert_near(&times(one.as_ref(), back.transpose()), &other, 1e-6);
    }

    #[test]
    fn genes_that_differ_by_no_program_move_no_sample() {
        let mut random = SplitMix64::new(4, &[]);
        let loadings = loadings(&mut random);
        let differences = Mat::from_fn(GENES, 3, |g, _| 5.0 * loadings.noise[g].sqrt() * random.normal());
        let found = sample_means(&differences, &loadings, covariance().as_ref(), &SIZES).unwrap();
        // What least squares would give has standard deviations of 2 and more.
        assert!(found.col_iter().all(|column| column.iter().all(|m| m.abs() < 1.0)), "{found:?}");
        let one = sample_means(&Mat::zeros(GENES, 1), &loadings, covariance().as_ref(), &[60]).unwrap();
        assert_near(&one, &Mat::zeros(1, 2), f64::MIN_POSITIVE);
    }
}
