//! Rotations to simple structure: loadings of which most are near zero.

use super::small::{function, inverse, times};
use faer::prelude::*;

/// Iterations of varimax at most, and the change that ends it.
const ITERATIONS: usize = 500;
const TOLERANCE: f64 = 1e-8;
/// The power of promax.
const POWER: i32 = 4;

/// A matrix T with which loadings L (genes × factors) become L T, by promax: varimax, then obliquely towards powers of
/// its loadings (Hendrickson & White 1964, doi:10.1111/j.2044-8317.1964.tb00244.x; Kaiser 1958). Factors become F T⁻ᵀ.
/// Genes count as their loadings are large, without Kaiser's normalisation: those that follow no program, often most of
/// them, have loadings of noise in all directions.
///
/// `None` if a decomposition does not converge.
pub(crate) fn promax(loadings: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let (genes, k) = loadings.shape();
    if k < 2 {
        return Some(Mat::identity(k, k));
    }
    let turn = varimax(loadings)?;
    let simple = times(loadings, turn.as_ref());
    let target = Mat::from_fn(genes, k, |g, j| simple[(g, j)] * simple[(g, j)].abs().powi(POWER - 1));
    let inner = inverse(times(simple.transpose(), simple.as_ref()).as_ref())?;
    let slant = times(inner.as_ref(), times(simple.transpose(), target.as_ref()).as_ref());
    // The factors' variances stay 1.
    let variances = inverse(times(slant.transpose(), slant.as_ref()).as_ref())?;
    let slant = Mat::from_fn(k, k, |i, j| slant[(i, j)] * variances[(j, j)].sqrt());
    Some(times(turn.as_ref(), slant.as_ref()))
}

/// The orthogonal T that makes the columns' squared entries of L T vary most.
fn varimax(loadings: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let (genes, k) = loadings.shape();
    let mut turn = Mat::<f64>::identity(k, k);
    for _ in 0..ITERATIONS {
        let b = times(loadings, turn.as_ref());
        let mean: Vec<f64> =
            (0..k).map(|j| (0..genes).map(|g| b[(g, j)].powi(2)).sum::<f64>() / genes as f64).collect();
        let step = Mat::from_fn(genes, k, |g, j| b[(g, j)] * (b[(g, j)].powi(2) - mean[j]));
        let gradient = times(loadings.transpose(), step.as_ref());
        // The nearest orthogonal matrix.
        let square = times(gradient.transpose(), gradient.as_ref());
        let largest = (0..k).map(|j| square[(j, j)]).fold(f64::MIN_POSITIVE, f64::max);
        let root = function(square.as_ref(), |x| 1.0 / x.max(1e-14 * largest).sqrt())?;
        let next = times(gradient.as_ref(), root.as_ref());
        let change =
            (0..k * k).map(|i| (next[(i % k, i / k)] - turn[(i % k, i / k)]).abs()).fold(0.0, f64::max);
        turn = next;
        if change < TOLERANCE {
            break;
        }
    }
    Some(turn)
}

/// T⁻ᵀ.
pub(crate) fn inverse_transpose(turn: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let inner = inverse(times(turn.transpose(), turn).as_ref())?;
    Some(times(turn, inner.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::normal;

    #[test]
    fn finds_simple_structure_again() {
        let mut normal = normal(3);
        let simple = Mat::from_fn(90, 3, |g, j| if g % 3 == j { 1.0 + 0.1 * normal() } else { 0.0 });
        let (s, c) = (0.6_f64.sin(), 0.6_f64.cos());
        let mixed = &simple * Mat::from_fn(3, 3, |i, j| [[c, s, 0.3], [-s, c, 0.2], [0.1, -0.4, 1.0]][i][j]);
        let turn = promax(mixed.as_ref()).unwrap();
        let back = &mixed * &turn;
        for g in 0..90 {
            let mut row: Vec<f64> = (0..3).map(|j| back[(g, j)].abs()).collect();
            row.sort_by(f64::total_cmp);
            assert!(row[1] < 0.02 * row[2], "{row:?}");
        }
        // (L T)(F T⁻ᵀ)' = L F'.
        let unit = inverse_transpose(turn.as_ref()).unwrap().transpose() * &turn;
        for i in 0..3 {
            for j in 0..3 {
                assert!((unit[(i, j)] - f64::from(u8::from(i == j))).abs() < 1e-10);
            }
        }
    }
}
