//! Lanczos' method for several vectors side by side.

use super::quadrature::Tridiagonal;
use crate::simd::vectorized;

/// Vectors that are worked on together.
pub const LANES: usize = 16;

/// A symmetric matrix, as far as Lanczos' method knows it.
pub trait Product: Sync {
    /// Number of rows.
    fn n(&self) -> usize;

    /// `out = K x`.
    fn multiply(&self, x: &[Point], out: &mut [Point]);
}

/// One location's values in all lanes.
pub type Point = [f64; LANES];

/// Lanczos recurrences side by side.
pub struct Lanczos {
    /// What is in each lane.
    pub genes: Vec<usize>,
    /// Their tridiagonal matrices.
    pub lanes: Vec<Tridiagonal>,
    /// Steps done.
    pub steps: usize,
    previous: Vec<Point>,
    /// The vectors of this step.
    pub current: Vec<Point>,
    /// For the matrix times these.
    pub next: Vec<Point>,
}

impl Lanczos {
    /// With zeros for vectors of length n.
    pub fn new(n: usize, genes: Vec<usize>) -> Self {
        Self {
            lanes: vec![Tridiagonal::default(); genes.len()],
            genes,
            steps: 0,
            previous: vec![[0.0; LANES]; n],
            current: vec![[0.0; LANES]; n],
            next: vec![[0.0; LANES]; n],
        }
    }

    /// Scales the starting vectors to length 1.
    pub fn normalise(&mut self) {
        let mut factors = [0.0; LANES];
        for point in &self.current {
            (0..LANES).for_each(|lane| factors[lane] += point[lane] * point[lane]);
        }
        factors.iter_mut().for_each(|v| *v = if *v > 0.0 { 1.0 / v.sqrt() } else { 0.0 });
        for point in &mut self.current {
            (0..LANES).for_each(|lane| point[lane] *= factors[lane]);
        }
    }

    /// One step, where `next` holds the matrix times `current`.
    pub fn step(&mut self) {
        let mut alpha = [0.0; LANES];
        let mut beta = [0.0; LANES];
        for (lane, t) in self.lanes.iter().enumerate() {
            beta[lane] = t.off.last().copied().unwrap_or(0.0);
        }
        vectorized!({
            for (x, y) in self.current.iter().zip(&self.next) {
                for lane in 0..LANES {
                    alpha[lane] += x[lane] * y[lane];
                }
            }
            let mut norms = [0.0; LANES];
            for ((y, x), w) in self.next.iter_mut().zip(&self.current).zip(&self.previous) {
                for lane in 0..LANES {
                    y[lane] -= alpha[lane] * x[lane] + beta[lane] * w[lane];
                    norms[lane] += y[lane] * y[lane];
                }
            }
            for lane in 0..LANES {
                let norm = norms[lane].sqrt();
                // An exhausted space: nothing but rounding errors is left.
                let left = norm > 1e-10 * (alpha[lane].abs() + beta[lane]);
                beta[lane] = if left { norm } else { 0.0 };
                norms[lane] = if left { 1.0 / norm } else { 0.0 };
            }
            for y in &mut self.next {
                for lane in 0..LANES {
                    y[lane] *= norms[lane];
                }
            }
        });
        for (lane, t) in self.lanes.iter_mut().enumerate() {
            if !t.exhausted() {
                t.diagonal.push(alpha[lane]);
                t.off.push(beta[lane]);
            }
        }
        self.steps += 1;
        std::mem::swap(&mut self.previous, &mut self.current);
        std::mem::swap(&mut self.current, &mut self.next);
    }

    /// A state of some lanes of others, all after the same number of steps.
    pub fn regroup(states: &[Self], lanes: &[(usize, usize)]) -> Self {
        let n = states[0].current.len();
        let mut new = Self::new(n, lanes.iter().map(|&(s, lane)| states[s].genes[lane]).collect());
        // Lanes that had no signal and stopped early are not among them.
        new.steps = lanes.iter().map(|&(s, _)| states[s].steps).max().unwrap_or(0);
        for (to, &(s, lane)) in lanes.iter().enumerate() {
            new.lanes[to] = states[s].lanes[lane].clone();
            for i in 0..n {
                new.previous[i][to] = states[s].previous[i][lane];
                new.current[i][to] = states[s].current[i][lane];
            }
        }
        new
    }
}

/// Takes the mean of each lane off.
pub fn centre(x: &mut [Point]) {
    let mut sums = [0.0; LANES];
    for point in x.iter() {
        (0..LANES).for_each(|lane| sums[lane] += point[lane]);
    }
    sums.iter_mut().for_each(|sum| *sum /= x.len() as f64);
    for point in x {
        (0..LANES).for_each(|lane| point[lane] -= sums[lane]);
    }
}
