//! Variances, lengthscale and fsv of a gene from its score forms, without a likelihood.
//!
//! Haseman-Elston regression over kernels. For y ~ N(mean, s2 (K + delta I)) the excess of the score form over its mean
//! without a signal, `d = Σ (y'HKHy - τ y'Hy)` over samples, `τ = tr HK/(n - 1)`, has the mean `s2 t2`, where t2 is the
//! squared norm of HKH's traceless part. All forms together, weighted by their covariance without a signal,
//! say of each kernel's variance no more than its own does: s2 = d/t2. The kernel that explains most of the excesses, by
//! the same weights, is that with the largest d²/t2, d > 0.

use crate::likelihood::LOG_DELTA;

/// A kernel's score form for one gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// d, for a gene scaled to Σ y² = n.
    pub excess: f64,
    /// t2.
    pub norm: f64,
    /// Gower's factor.
    pub gower: f64,
}

/// A gene's moment fit, for a gene scaled to Σ y² = n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MomentFit {
    /// The kernel, by its place.
    pub kernel: usize,
    /// Fraction of the variance that is spatial, 0 to 1.
    pub fsv: f64,
    /// Log of the ratio of noise to signal variance, within [`LOG_DELTA`].
    pub log_delta: f64,
    /// Variances of the spatial part and of the noise.
    pub variances: [f64; 2],
}

/// The best kernel of some, given with their places; `total` is the variance, `Σ y² / (n - samples)`. `None` without
/// kernels.
pub fn moment_fit(kernels: impl Iterator<Item = (usize, Excess)>, total: f64) -> Option<MomentFit> {
    let strength = |e: &Excess| if e.norm > 0.0 { e.excess / e.norm.sqrt() } else { f64::NEG_INFINITY };
    let mut best: Option<(usize, Excess)> = None;
    for (kernel, excess) in kernels {
        if best.is_none_or(|(_, known)| strength(&excess) > strength(&known)) {
            best = Some((kernel, excess));
        }
    }
    let (kernel, Excess { excess, norm, gower }) = best?;
    let spatial = if norm > 0.0 { (excess / norm * gower).clamp(0.0, total) } else { 0.0 };
    let noise = total - spatial;
    let log_delta = if spatial > 0.0 { (noise / spatial * gower).ln() } else { f64::INFINITY };
    Some(MomentFit {
        kernel,
        fsv: spatial / total,
        log_delta: log_delta.clamp(LOG_DELTA.0, LOG_DELTA.1),
        variances: [spatial, noise],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_with_the_largest_standardised_excess_wins() {
        let of = |excess, norm| Excess { excess, norm, gower: 0.5 };
        let kernels = [of(1.0, 4.0), of(2.0, 9.0), of(-5.0, 1.0)];
        let fit = moment_fit(kernels.into_iter().enumerate(), 1.25).unwrap();
        assert_eq!(fit.kernel, 1);
        assert!((fit.fsv - 2.0 / 9.0 * 0.5 / 1.25).abs() < 1e-12);
        assert!((fit.variances[0] + fit.variances[1] - 1.25).abs() < 1e-12);
        assert!((fit.log_delta.exp() - fit.variances[1] / (2.0 / 9.0)).abs() < 1e-12);
        let none = moment_fit([(3, of(-1.0, 2.0))].into_iter(), 1.0).unwrap();
        assert_eq!((none.kernel, none.fsv, none.log_delta), (3, 0.0, LOG_DELTA.1));
        assert!(moment_fit(std::iter::empty(), 1.0).is_none());
    }
}
