//! Which family of kernels a gene follows: the best kernel of each family, compared by the Bayesian information
//! criterion.
//!
//! The families are the groups of a [`SpatialTest`](crate::SpatialTest).

use crate::spatial_test::{GeneFit, KernelFit};

/// The comparison of one gene's families.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The fit with the smallest criterion; the first of equals.
    pub best: KernelFit,
    /// The families' probabilities under a flat prior, adding up to 1: `exp(-bic / 2)`, the standard approximation of
    /// the marginal likelihood, normalised.
    pub probabilities: Vec<f64>,
}

/// Compares the families of a gene; `None` if it was not fitted.
pub fn compare(fit: &GeneFit) -> Option<Comparison> {
    let best = *fit.best.iter().min_by(|a, b| a.bic.total_cmp(&b.bic))?;
    let weights: Vec<f64> = fit.best.iter().map(|fit| (0.5 * (best.bic - fit.bic)).exp()).collect();
    let total: f64 = weights.iter().sum();
    Some(Comparison { best, probabilities: weights.iter().map(|w| w / total).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spatial_test::{FittedBy, Status};

    fn fit(bic: &[f64]) -> GeneFit {
        let best = |(kernel, &bic): (usize, &f64)| KernelFit {
            kernel,
            log_delta: 0.0,
            loglik: 0.0,
            llr: 0.0,
            bic,
            fsv: 0.5,
            fsv_se: None,
            fsv_interval: (f64::NAN, f64::NAN),
            mean: 0.0,
            var_spatial: 1.0,
            var_noise: 1.0,
        };
        let best = bic.iter().enumerate().map(best).collect();
        GeneFit { status: Status::Ok, loglik_null: 0.0, by: FittedBy::Likelihood, best, calibrated: None }
    }

    #[test]
    fn probabilities_are_odds_of_the_criterion() {
        let gene = fit(&[1004.0, 1000.0, 1000.0 + 2.0 * 3f64.ln()]);
        let comparison = compare(&gene).unwrap();
        assert_eq!(comparison.best.kernel, 1);
        let [a, b, c] = comparison.probabilities[..] else { panic!("three families") };
        assert!((b / c - 3.0).abs() < 1e-12 && (b / a - 2f64.exp()).abs() < 1e-12);
        assert!((a + b + c - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_gene_without_fits_has_no_comparison() {
        assert_eq!(compare(&fit(&[])), None);
    }
}
