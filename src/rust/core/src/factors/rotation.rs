//! Rotations to simple structure: loadings of which most are near zero.

use super::small::{function, gram, inverse, orthonormalise, times};
use crate::eigen::eigen;
use crate::random::SplitMix64;
use faer::prelude::*;
use rayon::prelude::*;

/// Iterations of varimax at most, and the change that ends it.
const ITERATIONS: usize = 500;
const TOLERANCE: f64 = 1e-8;
/// The power of promax.
const POWER: i32 = 4;
/// Steps of quartimin at most, and halvings of one; the slope that ends it.
const STEPS: usize = 300;
const HALVINGS: usize = 20;
const SLOPE: f64 = 1e-6;
/// Starts beside promax and varimax.
const SEEDS: u64 = 14;
/// Factors must stay apart: the least eigenvalue of their correlations.
const LEAST_APART: f64 = 0.02;

/// Loadings of less than so many standard errors count by their squares.
const NEAR_ZERO: f64 = 4.0;

/// A matrix T with which loadings L (genes × factors) become L T, in which each gene has few large ones; factors become
/// F T⁻ᵀ, of variance 1 if F is orthonormal. `noise` is the variance of what is uncertain about each loading of L.
///
/// Programs that lie beside each other in the tissue are correlated, so that their loadings are uncertain along what they
/// share; taken for structure, this would turn factors away from them. The turn with the least sum of absolute loadings
/// (Jennrich 2006, doi:10.1007/s11336-003-1136-B), rounded off near zero, of several starts is near the programs but not
/// exact; from there on it is quartimin (Carroll 1953, doi:10.1007/BF02289025) of the loadings without their noise.
///
/// `None` if a decomposition does not converge.
pub(crate) fn simple_structure(loadings: MatRef<'_, f64>, noise: f64) -> Option<Mat<f64>> {
    let (genes, k) = loadings.shape();
    let plain = promax(loadings)?;
    let square = (0..k).map(|j| loadings.col(j).iter().map(|l| l * l).sum::<f64>()).sum::<f64>();
    if k < 2 || square == 0.0 {
        return Some(plain);
    }
    let unit = square / genes as f64;
    let a = Mat::from_fn(genes, k, |g, j| loadings[(g, j)] / unit.sqrt());
    let problem = Problem { a: a.as_ref(), noise: noise / unit };
    let mut starts = vec![unit_columns(inverse_transpose(plain.as_ref())?), varimax(loadings)?];
    starts.extend((0..SEEDS).map(|seed| random_turn(k, seed)));
    let absolute = |factors: MatRef<'_, f64>| problem.absolute(factors);
    let complexity = |factors: MatRef<'_, f64>| problem.complexity(factors);
    let ends: Vec<End> = starts.into_par_iter().filter_map(|start| descend(start, &absolute)).collect();
    let ends = ends.into_iter().filter(|end| end.state.value.is_finite());
    // The first of equal ones.
    let Some(best) = ends.reduce(|a, b| if b.state.value < a.state.value { b } else { a }) else {
        return Some(plain);
    };
    // Where factors come to depend on each other their loadings are nothing but noise, and there is no end.
    let end = descend(best.factors.clone(), &complexity).unwrap_or(best);
    inverse_transpose(end.factors.as_ref())
}

/// Whether factors, as columns in an orthonormal basis, are far enough from depending on each other.
fn apart(factors: MatRef<'_, f64>) -> bool {
    eigen(times(factors.transpose(), factors).as_ref()).is_some_and(|(values, _)| values[0] >= LEAST_APART)
}

/// An orthogonal matrix by chance.
fn random_turn(k: usize, seed: u64) -> Mat<f64> {
    let mut random = SplitMix64::new(1, &[k as u64, seed]);
    let mut turn = Mat::from_fn(k, k, |_, _| random.normal());
    orthonormalise(&mut turn, None);
    turn
}

/// How far loadings are from simple, per gene, and its slope in the factors' directions.
struct Complexity {
    value: f64,
    slope: Mat<f64>,
}

/// Loadings of orthonormal factors, and the variance of their noise.
struct Problem<'a> {
    a: MatRef<'a, f64>,
    noise: f64,
}

/// Where a descent is: the factors as columns in the basis of the loadings.
struct End {
    factors: Mat<f64>,
    state: Complexity,
}

/// How complex loadings are, by the factors in an orthonormal basis.
type Measure<'a> = dyn Fn(MatRef<'_, f64>) -> Option<Complexity> + 'a;

impl Problem<'_> {
    /// The sum of absolute loadings, rounded off near zero.
    fn absolute(&self, factors: MatRef<'_, f64>) -> Option<Complexity> {
        let turn = inverse_transpose(factors)?;
        let b = times(self.a, turn.as_ref());
        let (genes, k) = b.shape();
        let round = NEAR_ZERO * NEAR_ZERO * self.noise + f64::EPSILON;
        let size = Mat::from_fn(genes, k, |g, j| (b[(g, j)].powi(2) + round).sqrt());
        let value = (0..k).map(|j| size.col_as_slice(j).iter().sum::<f64>()).sum::<f64>();
        let by_b = Mat::from_fn(genes, k, |g, j| b[(g, j)] / size[(g, j)]);
        let slope = times(turn.as_ref(), times(by_b.transpose(), b.as_ref()).as_ref());
        let count = genes as f64;
        let slope = Mat::from_fn(k, k, |i, j| -slope[(i, j)] / count);
        Some(Complexity { value: value / count, slope })
    }

    /// The sum of products of two squared loadings of a gene, as expected without their noise.
    ///
    /// With b = l + e, e of covariance S, `b_j² b_k² - s_jj b_k² - s_kk b_j² - 4 s_jk b_j b_k + s_jj s_kk + 2 s_jk²` has the mean
    /// `l_j² l_k²`.
    fn complexity(&self, factors: MatRef<'_, f64>) -> Option<Complexity> {
        let turn = inverse_transpose(factors)?;
        let b = times(self.a, turn.as_ref());
        let (genes, k) = b.shape();
        let count = genes as f64;
        let s = gram(&turn);
        let s = Mat::from_fn(k, k, |i, j| self.noise * s[(i, j)]);
        let trace: f64 = (0..k).map(|j| s[(j, j)]).sum();
        let squares: Vec<f64> = (0..genes).map(|g| (0..k).map(|j| b[(g, j)].powi(2)).sum()).collect();
        let moments = gram(&b);
        let whole: f64 = (0..k).map(|j| moments[(j, j)]).sum();
        let off = |m: &Mat<f64>, i: usize, j: usize| if i == j { 0.0 } else { m[(i, j)] };

        let mut value = 0.0;
        for (g, square) in squares.iter().enumerate() {
            value += (0..k).map(|j| b[(g, j)].powi(2) * (square - b[(g, j)].powi(2))).sum::<f64>();
        }
        for j in 0..k {
            let others = trace - s[(j, j)];
            value += (count * s[(j, j)] - 2.0 * moments[(j, j)]) * others;
            for i in (0..k).filter(|&i| i != j) {
                value += s[(i, j)] * (2.0 * count * s[(i, j)] - 4.0 * moments[(i, j)]);
            }
        }
        // Derivatives by b, and by s, which is the noise's variance times T' T.
        let shared = Mat::from_fn(k, k, |i, j| off(&s, i, j));
        let crossed = times(b.as_ref(), shared.as_ref());
        let by_b = Mat::from_fn(genes, k, |g, j| {
            let own = b[(g, j)];
            own * (squares[g] - own * own) - own * (trace - s[(j, j)]) - 2.0 * crossed[(g, j)]
        });
        let by_s = Mat::from_fn(k, k, |i, j| {
            if i == j {
                0.5 * (count * (trace - s[(j, j)]) - (whole - moments[(j, j)]))
            } else {
                count * s[(i, j)] - moments[(i, j)]
            }
        });
        let inner = times(by_b.transpose(), b.as_ref());
        let noise_inner = times(by_s.as_ref(), s.as_ref());
        let inner = Mat::from_fn(k, k, |i, j| inner[(i, j)] + 2.0 * noise_inner[(i, j)]);
        let slope = times(turn.as_ref(), inner.as_ref());
        let slope = Mat::from_fn(k, k, |i, j| -slope[(i, j)] / count);
        Some(Complexity { value: 0.25 * value / count, slope })
    }
}

/// To the end of the slope by gradient projection (Jennrich 2002, doi:10.1007/BF02294706); `None` if factors do not stay
/// apart.
fn descend(start: Mat<f64>, complexity: &Measure) -> Option<End> {
    let k = start.ncols();
    let state = complexity(start.as_ref())?;
    let mut end = End { factors: start, state };
    let mut step = 1.0;
    for _ in 0..STEPS {
        let (factors, slope) = (&end.factors, &end.state.slope);
        let along: Vec<f64> = (0..k).map(|j| (0..k).map(|i| factors[(i, j)] * slope[(i, j)]).sum()).collect();
        let down = Mat::from_fn(k, k, |i, j| slope[(i, j)] - factors[(i, j)] * along[j]);
        let norm: f64 = (0..k).map(|j| (0..k).map(|i| down[(i, j)].powi(2)).sum::<f64>()).sum();
        if norm.sqrt() < SLOPE {
            break;
        }
        step *= 2.0;
        let mut moved = false;
        for _ in 0..HALVINGS {
            let next = unit_columns(Mat::from_fn(k, k, |i, j| end.factors[(i, j)] - step * down[(i, j)]));
            let reached = complexity(next.as_ref())?;
            if reached.value < end.state.value - 0.5 * norm * step {
                (end.factors, end.state, moved) = (next, reached, true);
                break;
            }
            step /= 2.0;
        }
        if !moved {
            break;
        }
        if !apart(end.factors.as_ref()) {
            return None;
        }
    }
    Some(end)
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
        let turn = simple_structure(mixed.as_ref(), 0.0).unwrap();
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
        let problem = Problem { a: loadings.as_ref(), noise: 0.01 };
        let quartimin = |factors: MatRef<'_, f64>| problem.complexity(factors);
        let absolute = |factors: MatRef<'_, f64>| problem.absolute(factors);
        let both: [&Measure; 2] = [&quartimin, &absolute];
        for complexity in both {
            let start = varimax(loadings.as_ref()).unwrap();
            let first = complexity(start.as_ref()).unwrap().value;
            let End { factors, state: end } = descend(start, complexity).unwrap();
            assert!(end.value < first);
            for i in 0..4 {
                for j in 0..4 {
                    let moved = |by: f64| {
                        let mut factors = factors.clone();
                        factors[(i, j)] += by;
                        factors
                    };
                    let at = |factors: Mat<f64>| complexity(factors.as_ref()).unwrap().value;
                    let slope = (at(moved(1e-5)) - at(moved(-1e-5))) / 2e-5;
                    assert!((slope - end.slope[(i, j)]).abs() < 1e-6);
                    assert!(at(unit_columns(moved(1e-3))) > end.value - 1e-9);
                    assert!(at(unit_columns(moved(-1e-3))) > end.value - 1e-9);
                }
            }
        }
    }

    /// Noise of which all moments up to the fourth are a Gaussian's changes nothing, though turned loadings share it.
    #[test]
    fn complexity_is_that_of_loadings_without_noise() {
        let points = [-1.0, 0.0, 0.0, 0.0, 0.0, 1.0].map(|x| 0.4 * x * 3.0_f64.sqrt());
        let genes = 3 * 6 * 6 * 6;
        let simple = Mat::from_fn(genes, 3, |g, j| if g % 3 == j { 1.0 } else { 0.3 });
        let noisy = Mat::from_fn(genes, 3, |g, j| simple[(g, j)] + points[g / [3, 18, 108][j] % 6]);
        let value = |a: &Mat<f64>, noise: f64| {
            let factors = unit_columns(Mat::from_fn(3, 3, |i, j| if i == j { 1.0 } else { 0.1 }));
            Problem { a: a.as_ref(), noise }.complexity(factors.as_ref()).unwrap().value
        };
        let truth = value(&simple, 0.0);
        assert!((value(&noisy, 0.16) - truth).abs() < 1e-9 * truth);
        assert!(value(&noisy, 0.0) > 1.5 * truth);
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
            let (_, k) = loadings.shape();
            if let Some(turn) = simple_structure(loadings.as_ref(), 0.01) {
                assert!((0..k * k).all(|i| turn[(i % k, i / k)].is_finite()));
            }
        }
    }
}
