//! Prediction of a noisy field from what is near: nearest-neighbour Gaussian processes.
//!
//! `x = f + e` with `f ~ N(0, K)`, `e ~ N(0, delta I)`. Each location is predicted from its nearest
//! [`NEIGHBOURS`] anchors (Vecchia 1988, doi:10.1111/j.2517-6161.1988.tb01729.x; Datta et al. 2016,
//! doi:10.1080/01621459.2015.1044091), never from itself, so that the error of the prediction, `x - m`, and its
//! variance, `s2`, judge the kernel: they are what leaving the location out gives. What its own value adds is one step
//! of a Kalman filter: the posterior of f has mean `x - delta (x - m) / s2` and variance `delta (1 - delta / s2)`.
//! With all other locations as anchors both are exact.

use super::anchors::{Anchors, CELL, point, squared};
use crate::error::Result;
use crate::interrupt;
use crate::kd_tree::Point;
use crate::locations::Locations;
use crate::simd::{exp_negative, vectorized};
use rayon::prelude::*;

/// Anchors that a location is predicted from.
pub(crate) const NEIGHBOURS: usize = 32;
/// Locations that one task takes.
const CHUNK: usize = 256;
/// No anchor.
const NONE: u32 = u32::MAX;

/// Anchors for one lengthscale.
pub(crate) struct Level {
    pub lengthscale: f64,
    pub anchors: Anchors,
    /// The sample of each location.
    sample: Vec<u32>,
    /// Whether a cell's mean is that of the field over its members; if not, it is the field at their centre.
    averaged: bool,
}

/// How some locations are predicted at one lengthscale and delta.
pub(crate) struct Weights {
    neighbours: Vec<u32>,
    weights: Vec<f32>,
    /// The variance of the prediction's error, noise included: s2.
    pub variance: Vec<f64>,
    /// The sum of its logarithms.
    pub log_variance: f64,
}

/// Room for one prediction.
struct Scratch {
    near: Vec<(f64, usize)>,
    ids: Vec<usize>,
    places: Vec<Point>,
    spreads: Vec<Point>,
    counts: Vec<f64>,
    k: Vec<f64>,
    factor: Vec<f64>,
    target: Vec<f64>,
    solution: Vec<f64>,
}

impl Scratch {
    fn new() -> Self {
        let empty = Vec::new;
        Self {
            near: Vec::new(),
            ids: Vec::new(),
            places: Vec::new(),
            spreads: Vec::new(),
            counts: empty(),
            k: empty(),
            factor: empty(),
            target: empty(),
            solution: empty(),
        }
    }
}

impl Level {
    pub fn new(locations: &Locations, lengthscale: f64, spacing: f64) -> Self {
        Self::with_cells(locations, lengthscale, spacing, CELL, false)
    }

    /// Cells of another side, in lengthscales.
    pub fn with_cells(
        locations: &Locations,
        lengthscale: f64,
        spacing: f64,
        cell: f64,
        averaged: bool,
    ) -> Self {
        let mut sample = vec![0; locations.len()];
        for (s, rows) in locations.samples().iter().enumerate() {
            sample[rows.clone()].fill(s as u32);
        }
        Self { lengthscale, anchors: Anchors::new(locations, cell * lengthscale, spacing), sample, averaged }
    }

    /// The kernel between two means over places that scatter round their centres, as if normally, with some variance in all.
    fn between(&self, a: &Point, b: &Point, spread: impl Fn(usize) -> f64) -> f64 {
        let square = self.lengthscale * self.lengthscale;
        let (mut d2, mut shrink) = (0.0, 1.0);
        for k in 0..3 {
            let wider = square + spread(k);
            d2 += (a[k] - b[k]) * (a[k] - b[k]) / wider;
            shrink *= square / wider;
        }
        shrink.sqrt() * (-0.5 * d2).exp()
    }

    /// Finds the anchors of a point; `own` is a location that must have no part in them.
    fn gather(&self, at: &Point, sample: usize, own: Option<usize>, s: &mut Scratch) {
        self.anchors.near(sample, at, NEIGHBOURS + 1, &mut s.near);
        s.ids.clear();
        s.places.clear();
        s.spreads.clear();
        s.counts.clear();
        for &(_, id) in &s.near {
            let (mut place, mut count) = (self.anchors.centre[id], self.anchors.count[id]);
            if own.is_some_and(|row| self.anchors.of[row] as usize == id) {
                if count < 1.5 {
                    continue;
                }
                place = std::array::from_fn(|k| (place[k] * count - at[k]) / (count - 1.0));
                count -= 1.0;
            }
            if s.ids.len() == NEIGHBOURS {
                break;
            }
            s.ids.push(id);
            s.places.push(place);
            s.spreads.push(self.anchors.spread[id]);
            s.counts.push(count);
        }
        let m = s.ids.len();
        s.k.clear();
        s.k.resize(m * m, 0.0);
        s.target.clear();
        s.target.resize(m, 0.0);
        if !self.averaged {
            self.kernels(at, s);
            return;
        }
        for i in 0..m {
            for j in 0..=i {
                s.k[i * m + j] =
                    self.between(&s.places[i], &s.places[j], |k| s.spreads[i][k] + s.spreads[j][k]);
            }
            s.target[i] = self.between(&s.places[i], at, |k| s.spreads[i][k]);
        }
    }

    /// The kernel between places (the lower triangle), and between them and a point.
    fn kernels(&self, at: &Point, s: &mut Scratch) {
        let m = s.places.len();
        let factor = -0.5 / (self.lengthscale * self.lengthscale);
        let Scratch { places, k, target, .. } = s;
        vectorized!({
            for i in 0..=m {
                let (from, row) = match places.get(i) {
                    Some(place) => (place, &mut k[i * m..=i * m + i]),
                    None => (at, target.as_mut_slice()),
                };
                for (value, place) in row.iter_mut().zip(places.iter()) {
                    *value = factor * squared(from, place);
                }
                for value in row {
                    *value = exp_negative::<13>(*value);
                }
            }
        });
    }

    /// Solves for the weights at one delta; returns k' (K + delta)^-1 k.
    fn solve(s: &mut Scratch, delta: f64) -> f64 {
        let m = s.ids.len();
        s.factor.clear();
        s.factor.extend_from_slice(&s.k);
        for i in 0..m {
            s.factor[i * m + i] += delta / s.counts[i];
        }
        cholesky(&mut s.factor, m);
        s.solution.clear();
        s.solution.extend_from_slice(&s.target);
        let explained = forward(&s.factor, &mut s.solution);
        backward(&s.factor, &mut s.solution);
        explained
    }

    /// The weights of some locations, for each delta.
    pub fn weights(&self, locations: &Locations, rows: &[usize], deltas: &[f64]) -> Result<Vec<Weights>> {
        let chunks: Vec<Vec<Weights>> = rows
            .par_chunks(CHUNK)
            .map(|rows| {
                interrupt::check()?;
                let mut scratch = Scratch::new();
                let mut out: Vec<Weights> =
                    deltas.iter().map(|_| Weights::with_capacity(rows.len())).collect();
                for &row in rows {
                    let at = point(locations, row);
                    self.gather(&at, self.sample[row] as usize, Some(row), &mut scratch);
                    for (out, &delta) in out.iter_mut().zip(deltas) {
                        let explained = Self::solve(&mut scratch, delta);
                        out.push(&scratch, 1.0 + delta - explained);
                    }
                }
                Ok(out)
            })
            .collect::<Result<_>>()?;
        let mut whole: Vec<Weights> = deltas.iter().map(|_| Weights::with_capacity(rows.len())).collect();
        for chunk in chunks {
            for (whole, part) in whole.iter_mut().zip(chunk) {
                whole.append(part);
            }
        }
        Ok(whole)
    }

    /// x minus its prediction, for the rows of the weights, rows × weights; `sums` are x's over the anchors. All weights
    /// are for the same rows, and so have the same neighbours.
    pub fn errors(&self, weights: &[&Weights], rows: &[usize], x: &[f64], sums: &[f64]) -> Vec<f64> {
        let count = weights.len();
        let mut out = vec![0.0; rows.len() * count];
        out.par_chunks_mut(CHUNK * count).enumerate().for_each(|(chunk, out)| {
            let mut means = [0.0; NEIGHBOURS];
            for (i, out) in out.chunks_exact_mut(count).enumerate() {
                let at = chunk * CHUNK + i;
                let row = rows[at];
                let own = self.anchors.of[row];
                let range = at * NEIGHBOURS..(at + 1) * NEIGHBOURS;
                for (mean, &id) in means.iter_mut().zip(&weights[0].neighbours[range.clone()]) {
                    // What stands for no neighbour has the weight 0.
                    *mean = match id {
                        NONE => 0.0,
                        _ if id == own => {
                            (sums[id as usize] - x[row]) / (self.anchors.count[id as usize] - 1.0)
                        }
                        _ => sums[id as usize] / self.anchors.count[id as usize],
                    };
                }
                for (out, weights) in out.iter_mut().zip(weights) {
                    *out = x[row] - weighted(&weights.weights[range.clone()], &means);
                }
            }
        });
        out
    }

    /// How new points are predicted; `variance` is what is left of the variance 1 of f, without noise.
    pub fn weights_at(&self, points: &[(Point, usize)], delta: f64) -> Result<Weights> {
        let chunks: Vec<Weights> = points
            .par_chunks(CHUNK)
            .map(|points| {
                interrupt::check()?;
                let mut s = Scratch::new();
                let mut out = Weights::with_capacity(points.len());
                for (at, sample) in points {
                    self.gather(at, *sample, None, &mut s);
                    let explained = Self::solve(&mut s, delta);
                    out.push(&s, (1.0 - explained).max(0.0));
                }
                Ok(out)
            })
            .collect::<Result<_>>()?;
        let mut whole = Weights::with_capacity(points.len());
        chunks.into_iter().for_each(|part| whole.append(part));
        Ok(whole)
    }

    /// Predictions at new points, from sums over the anchors.
    pub fn means(&self, weights: &Weights, count: usize, sums: &[f64]) -> Vec<f64> {
        let one = |at: usize| {
            let range = at * NEIGHBOURS..(at + 1) * NEIGHBOURS;
            let pairs = weights.neighbours[range.clone()].iter().zip(&weights.weights[range]);
            pairs
                .take_while(|(id, _)| **id != NONE)
                .map(|(&id, &w)| f64::from(w) * sums[id as usize] / self.anchors.count[id as usize])
                .sum()
        };
        (0..count).into_par_iter().with_min_len(CHUNK).map(one).collect()
    }

    /// The mean of f at new points given x, in units of its own variance, and what is left of the variance 1.
    pub fn predict(&self, points: &[(Point, usize)], delta: f64, x: &[f64]) -> Result<Vec<(f64, f64)>> {
        let sums = self.anchors.sums(x);
        let chunks: Vec<Vec<(f64, f64)>> = points
            .par_chunks(CHUNK)
            .map(|points| {
                interrupt::check()?;
                let mut s = Scratch::new();
                let one = |&(at, sample): &(Point, usize)| {
                    self.gather(&at, sample, None, &mut s);
                    let explained = Self::solve(&mut s, delta);
                    let mean =
                        s.ids.iter().zip(&s.solution).map(|(&id, w)| w * sums[id] / self.anchors.count[id]);
                    (mean.sum(), (1.0 - explained).max(0.0))
                };
                Ok(points.iter().map(one).collect())
            })
            .collect::<Result<_>>()?;
        Ok(chunks.concat())
    }
}

/// The sum of w x, in eight interleaved sums.
fn weighted(w: &[f32], x: &[f64; NEIGHBOURS]) -> f64 {
    let mut sums = [0.0; 8];
    for (w, x) in w.chunks_exact(8).zip(x.chunks_exact(8)) {
        sums.iter_mut().zip(w.iter().zip(x)).for_each(|(sum, (&w, x))| *sum += f64::from(w) * x);
    }
    sums.iter().sum()
}

impl Weights {
    fn with_capacity(rows: usize) -> Self {
        Self {
            neighbours: Vec::with_capacity(rows * NEIGHBOURS),
            weights: Vec::with_capacity(rows * NEIGHBOURS),
            variance: Vec::with_capacity(rows),
            log_variance: 0.0,
        }
    }

    fn push(&mut self, s: &Scratch, variance: f64) {
        let full = self.variance.len() * NEIGHBOURS + NEIGHBOURS;
        self.neighbours.extend(s.ids.iter().map(|&id| id as u32));
        self.neighbours.resize(full, NONE);
        self.weights.extend(s.solution.iter().map(|&w| w as f32));
        self.weights.resize(full, 0.0);
        self.variance.push(variance);
        self.log_variance += variance.ln();
    }

    fn append(&mut self, mut other: Self) {
        self.neighbours.append(&mut other.neighbours);
        self.weights.append(&mut other.weights);
        self.variance.append(&mut other.variance);
        self.log_variance += other.log_variance;
    }
}

/// The lower Cholesky factor of a small matrix, row by row, in place. Its diagonal has noise added, so it exists.
pub(crate) fn cholesky(a: &mut [f64], m: usize) {
    for i in 0..m {
        for j in 0..=i {
            let dot: f64 = a[i * m..i * m + j].iter().zip(&a[j * m..j * m + j]).map(|(x, y)| x * y).sum();
            let left = a[i * m + j] - dot;
            a[i * m + j] = if i == j { left.max(1e-12).sqrt() } else { left / a[j * m + j] };
        }
    }
}

/// L b = b in place; returns the solution's squared norm.
pub(crate) fn forward(factor: &[f64], b: &mut [f64]) -> f64 {
    let m = b.len();
    let mut norm = 0.0;
    for i in 0..m {
        let dot: f64 = factor[i * m..i * m + i].iter().zip(&b[..i]).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - dot) / factor[i * m + i];
        norm += b[i] * b[i];
    }
    norm
}

/// L' b = b in place.
pub(crate) fn backward(factor: &[f64], b: &mut [f64]) {
    let m = b.len();
    for i in (0..m).rev() {
        b[i] /= factor[i * m + i];
        let x = b[i];
        b[..i].iter_mut().zip(&factor[i * m..i * m + i]).for_each(|(b, l)| *b -= l * x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::irregular;
    use crate::random::SplitMix64;
    use faer::Mat;
    use faer::Side;
    use faer::linalg::solvers::DenseSolveCore;

    /// (K + delta)⁻¹ of all locations.
    fn precision(locations: &Locations, lengthscale: f64, delta: f64) -> Mat<f64> {
        let n = locations.len();
        let k = Mat::from_fn(n, n, |i, j| {
            let d2 = locations.squared_distance(i, j);
            (-0.5 * d2 / (lengthscale * lengthscale)).exp() + if i == j { delta } else { 0.0 }
        });
        k.partial_piv_lu().inverse()
    }

    /// How far predictions of left-out locations are from the exact ones, for a field of the model: the mean of their
    /// squared difference, and the largest excess of the variance, both as shares of the exact variance.
    fn left_out(n: usize, lengthscale: f64, delta: f64) -> (f64, f64) {
        let locations = irregular(n, 2, 4);
        let level = Level::new(&locations, lengthscale, locations.spacing());
        let rows: Vec<usize> = (0..n).collect();
        let weights = &level.weights(&locations, &rows, &[delta]).unwrap()[0];
        let inverse = precision(&locations, lengthscale, delta);
        let covariance = inverse.partial_piv_lu().inverse();
        let factor = covariance.llt(Side::Lower).unwrap();
        let mut random = SplitMix64::new(2, &[]);
        let white = Mat::from_fn(n, 1, |_, _| random.normal());
        let field = factor.L() * &white;
        let x = field.col_as_slice(0);
        let errors = level.errors(&[weights], &rows, x, &level.anchors.sums(x));
        let (mut error, mut variance) = (0.0_f64, 0.0_f64);
        for i in 0..n {
            // What leaving one out gives: [P x]_i / P_ii, with variance 1 / P_ii.
            let exact = (0..n).map(|j| inverse[(i, j)] * x[j]).sum::<f64>() / inverse[(i, i)];
            error += (errors[i] - exact).powi(2) * inverse[(i, i)] / n as f64;
            variance = variance.max((weights.variance[i] * inverse[(i, i)] - 1.0).abs());
        }
        (error, variance)
    }

    #[test]
    fn exact_where_all_locations_are_anchors() {
        let (error, variance) = left_out(NEIGHBOURS, 0.5, 0.3);
        assert!(error < 1e-10 && variance < 1e-6, "{error} {variance}");
    }

    /// A prediction from fewer values is a projection of that from all: the mean square of their difference is
    /// what it loses in variance.
    #[test]
    fn loses_little_variance_where_they_are_not() {
        let spacing = irregular(300, 2, 4).spacing();
        for scale in [1.0, 2.4, 3.0, 8.0] {
            for delta in [0.2, 1.0, 5.0] {
                let (error, variance) = left_out(300, scale * spacing, delta);
                println!("{scale} {delta}: {error} {variance}");
                assert!(error < 0.02 && variance < 0.05, "{scale}: {error} {variance}");
            }
        }
    }
}
