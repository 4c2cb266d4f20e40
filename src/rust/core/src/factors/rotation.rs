//! Rotations to simple structure: loadings of which most are near zero.

use super::small::{function, inverse, times};
use crate::eigen::eigen;
use faer::prelude::*;

/// Iterations of varimax at most, and the change that ends it.
const ITERATIONS: usize = 500;
const TOLERANCE: f64 = 1e-8;
/// The power of promax.
const POWER: i32 = 4;
/// Iterations of quartimin at most, halvings of a step, and the slope that ends it.
const STEPS: usize = 300;
const HALVINGS: usize = 20;
const SLOPE: f64 = 1e-6;
/// Factors must stay apart: the least eigenvalue of their correlations.
const LEAST_APART: f64 = 0.02;

/// A matrix T with which loadings L (genes × factors) become L T, in which each gene has few large ones; factors become
/// F T⁻ᵀ, of variance 1 if F is orthonormal. Quartimin (Carroll 1953, doi:10.1007/BF02289025) from where promax ends:
/// of the rotations compared on simulated tissues it finds programs again best.
///
/// `None` if a decomposition does not converge.
pub(crate) fn simple_structure(loadings: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let start = promax(loadings)?;
    // Loadings of fewer dimensions than factors may have no such end.
    let turn = quartimin(loadings, start.as_ref()).filter(|turn| apart(turn.as_ref()));
    Some(turn.unwrap_or(start))
}

/// Whether the factors are far enough from depending on each other.
fn apart(turn: MatRef<'_, f64>) -> bool {
    // The columns of T⁻ᵀ are the factors in an orthonormal basis.
    inverse_transpose(turn)
        .and_then(|factors| eigen(times(factors.transpose(), factors.as_ref()).as_ref()))
        .is_some_and(|(values, _)| values.first().is_none_or(|least| *least >= LEAST_APART))
}

/// The sum over genes of products of two factors' squared loadings, per gene, and its slope in the factors' directions.
struct Complexity {
    value: f64,
    slope: Mat<f64>,
}

impl Complexity {
    fn of(loadings: MatRef<'_, f64>, factors: MatRef<'_, f64>) -> Option<Self> {
        let turn = inverse_transpose(factors)?;
        let b = times(loadings, turn.as_ref());
        let (genes, k) = b.shape();
        let squares: Vec<f64> = (0..genes).map(|g| (0..k).map(|j| b[(g, j)].powi(2)).sum()).collect();
        let others = |g: usize, j: usize| squares[g] - b[(g, j)].powi(2);
        let mut value = 0.0;
        for g in 0..genes {
            value += (0..k).map(|j| b[(g, j)].powi(2) * others(g, j)).sum::<f64>();
        }
        let step = Mat::from_fn(genes, k, |g, j| b[(g, j)] * others(g, j));
        let inner = times(step.transpose(), b.as_ref());
        let slope = times(turn.as_ref(), inner.as_ref());
        let slope = Mat::from_fn(k, k, |i, j| -slope[(i, j)] / genes as f64);
        Some(Self { value: 0.25 * value / genes as f64, slope })
    }
}

/// By gradient projection (Jennrich 2002, doi:10.1007/BF02294706).
fn quartimin(loadings: MatRef<'_, f64>, start: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let (genes, k) = loadings.shape();
    let square: f64 =
        (0..k).map(|j| (0..genes).map(|g| loadings[(g, j)].powi(2)).sum::<f64>()).sum::<f64>() / genes as f64;
    if k < 2 || square == 0.0 {
        return Some(start.to_owned());
    }
    let a = Mat::from_fn(genes, k, |g, j| loadings[(g, j)] / square.sqrt());
    let mut factors = unit_columns(inverse_transpose(start)?);
    let mut state = Complexity::of(a.as_ref(), factors.as_ref())?;
    let mut step = 1.0;
    for _ in 0..STEPS {
        let along: Vec<f64> =
            (0..k).map(|j| (0..k).map(|i| factors[(i, j)] * state.slope[(i, j)]).sum()).collect();
        let down = Mat::from_fn(k, k, |i, j| state.slope[(i, j)] - factors[(i, j)] * along[j]);
        let norm: f64 = (0..k).map(|j| (0..k).map(|i| down[(i, j)].powi(2)).sum::<f64>()).sum();
        if norm.sqrt() < SLOPE {
            break;
        }
        step *= 2.0;
        let mut moved = false;
        for _ in 0..HALVINGS {
            let next = unit_columns(Mat::from_fn(k, k, |i, j| factors[(i, j)] - step * down[(i, j)]));
            let reached = Complexity::of(a.as_ref(), next.as_ref())?;
            if reached.value < state.value - 0.5 * norm * step {
                (factors, state, moved) = (next, reached, true);
                break;
            }
            step /= 2.0;
        }
        if !moved {
            break;
        }
    }
    inverse_transpose(factors.as_ref())
}

fn unit_columns(mut m: Mat<f64>) -> Mat<f64> {
    for j in 0..m.ncols() {
        let column = m.col_as_slice_mut(j);
        let norm = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        column.iter_mut().for_each(|x| *x /= norm);
    }
    m
}

/// A matrix T with which loadings L (genes × factors) become L T, by promax: varimax, then obliquely towards powers of
/// its loadings (Hendrickson & White 1964, doi:10.1111/j.2044-8317.1964.tb00244.x; Kaiser 1958). Factors become F T⁻ᵀ.
/// Genes count as their loadings are large, without Kaiser's normalisation: those that follow no program, often most of
/// them, have loadings of noise in all directions.
///
/// `None` if a decomposition does not converge.
fn promax(loadings: MatRef<'_, f64>) -> Option<Mat<f64>> {
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
        let turn = simple_structure(mixed.as_ref()).unwrap();
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

    /// No direction of a factor alone makes loadings simpler, and the slope is that of the value.
    #[test]
    fn ends_where_no_small_turn_is_simpler() {
        let mut normal = normal(5);
        let loadings =
            Mat::from_fn(60, 4, |g, j| (if g % 4 == j || g % 7 == j { 1.0 } else { 0.0 }) + 0.2 * normal());
        let start = promax(loadings.as_ref()).unwrap();
        let turn = quartimin(loadings.as_ref(), start.as_ref()).unwrap();
        let value = |turn: &Mat<f64>| {
            let factors = inverse_transpose(turn.as_ref()).unwrap();
            (Complexity::of(loadings.as_ref(), factors.as_ref()).unwrap(), factors)
        };
        let (end, factors) = value(&turn);
        assert!(end.value < value(&start).0.value);
        for i in 0..4 {
            for j in 0..4 {
                let moved = |by: f64| {
                    let mut factors = factors.clone();
                    factors[(i, j)] += by;
                    factors
                };
                let at =
                    |factors: Mat<f64>| Complexity::of(loadings.as_ref(), factors.as_ref()).unwrap().value;
                let slope = (at(moved(1e-5)) - at(moved(-1e-5))) / 2e-5;
                assert!((slope - end.slope[(i, j)]).abs() < 1e-6);
                assert!(at(unit_columns(moved(1e-3))) > end.value - 1e-9);
                assert!(at(unit_columns(moved(-1e-3))) > end.value - 1e-9);
            }
        }
    }

    #[test]
    fn loadings_of_fewer_dimensions_are_turned_all_the_same() {
        let mut normal = normal(5);
        let one: Vec<f64> = (0..40).map(|_| normal()).collect();
        for loadings in [
            Mat::from_fn(40, 3, |g, j| if j == 2 { 0.0 } else { one[(g + 7 * j) % 40] }),
            Mat::from_fn(40, 2, |g, j| one[g] * (1.0 + j as f64)),
            Mat::zeros(40, 2),
        ] {
            if let Some(turn) = simple_structure(loadings.as_ref()) {
                let (_, k) = loadings.shape();
                assert!((0..k * k).all(|i| turn[(i % k, i / k)].is_finite()));
            }
        }
    }
}
