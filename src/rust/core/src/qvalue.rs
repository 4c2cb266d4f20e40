//! Storey and Tibshirani's q-values (2003, doi:10.1073/pnas.1530509100).

use crate::error::{Error, Result};

/// Fewer p-values than this do not allow an estimate of pi0: it is taken as 1.
pub const LEAST_FOR_PI0: usize = 100;

/// q-values in the order of the p-values; NaN p-values stay NaN and do not count.
///
/// `pi0` is the share of true null hypotheses, (0, 1]; without it, it is estimated by [`estimate_pi0`].
///
/// # Errors
/// A p-value outside [0, 1], or a `pi0` outside (0, 1].
pub fn qvalues(p: &[f64], pi0: Option<f64>) -> Result<Vec<f64>> {
    if let Some(&value) = p.iter().find(|p| !p.is_nan() && !(0.0..=1.0).contains(*p)) {
        return Err(Error::Parameter { name: "p", value, must_be: "between 0 and 1" });
    }
    if let Some(value) = pi0.filter(|pi0| !(*pi0 > 0.0 && *pi0 <= 1.0)) {
        return Err(Error::Parameter { name: "pi0", value, must_be: "above 0 and at most 1" });
    }
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let m = order.len() as f64;
    let pi0 = pi0.unwrap_or_else(|| estimate_pi0(p));
    let mut q = vec![f64::NAN; p.len()];
    let mut least = f64::INFINITY;
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(pi0 * m * p[i] / (rank + 1) as f64).min(1.0);
        q[i] = least;
    }
    Ok(q)
}

/// The share of true null hypotheses: the share of p-values above lambda, divided by 1 - lambda, at lambda = 0.89.
///
/// SpatialDE draws an interpolating cubic spline through the values at lambda = 0, 0.01, ..., 0.89 and reads it at the
/// last of them, where a spline that interpolates equals its last point: the others do not matter. 1 for fewer than
/// [`LEAST_FOR_PI0`] p-values; never above 1, and never 0 (as if at least one p-value were above lambda). NaN do not count.
pub fn estimate_pi0(p: &[f64]) -> f64 {
    const LAMBDA: f64 = 0.89;
    let m = p.iter().filter(|p| !p.is_nan()).count();
    if m < LEAST_FOR_PI0 {
        return 1.0;
    }
    let above = p.iter().filter(|&&p| p > LAMBDA).count().max(1);
    (above as f64 / (m as f64 * (1.0 - LAMBDA))).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_p_values_give_benjamini_hochberg() {
        let q = qvalues(&[0.01, 0.04, f64::NAN, 0.03, 0.5], None).unwrap();
        let expected = [0.04, 0.16 / 3.0, f64::NAN, 0.16 / 3.0, 0.5];
        for (q, expected) in q.iter().zip(expected) {
            assert!((q - expected).abs() < 1e-15 || (q.is_nan() && expected.is_nan()));
        }
    }

    #[test]
    fn pi0_is_the_share_of_large_p_values() {
        let p: Vec<f64> = (0..1000).map(|i| i as f64 / 1000.0).collect();
        assert_eq!(estimate_pi0(&p), 109.0 / (1000.0 * (1.0 - 0.89)));
        let half: Vec<f64> = p.iter().map(|p| if p > &0.5 { p - 0.5 } else { *p }).collect();
        assert!(estimate_pi0(&half) < 0.01 && estimate_pi0(&half) > 0.0);
        assert_eq!(qvalues(&p, Some(1.0)).unwrap()[999], 0.999);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(qvalues(&[0.5, 1.5], None).is_err());
        assert!(qvalues(&[0.5], Some(0.0)).is_err());
        assert_eq!(qvalues(&[], None).unwrap(), Vec::<f64>::new());
    }
}
