//! The spectrum of a matrix by probing: quadratures started at random signs on locations of one colour, where locations
//! of the same colour are far apart. The terms between them, which would make an error, are then negligible.

use super::lanczos::{LANES, Lanczos, Product};
use super::quadrature::{Quadrature, Tridiagonal, scaled};
use crate::engine::LOG_DET_GAP;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kd_tree::KdTree;
use crate::random::sign;
use rayon::prelude::*;

/// Steps of Lanczos: the least, and the most for wide and for narrow kernels.
const LEAST_STEPS: usize = 12;
const MOST_STEPS: (usize, usize) = (40, 400);

/// The log determinant of wide kernels should be known from this log delta on: below it there is little noise, which a
/// wide kernel's genes hardly ever have.
const WANTED_LOG_DELTA: f64 = -1.0;

/// What probes have found of a matrix.
pub struct Probed {
    /// A quadrature of `tr f(K)`.
    pub spectrum: Quadrature,
    /// How far Gauss and Radau quadrature of half the log determinant are apart on the grid of log delta.
    pub gaps: Vec<f64>,
}

/// Probes a matrix whose places are those of a tree; the same colour comes again at this distance. In the current rayon
/// pool.
pub fn probe(matrix: &impl Product, tree: &KdTree, apart: f64, narrow: bool, grid: &[f64]) -> Result<Probed> {
    let colours = colour(tree, apart * apart);
    let count = colours.iter().max().map_or(0, |c| *c as usize + 1);
    let groups = count.div_ceil(LANES);
    let found: Vec<Option<Probed>> = (0..groups)
        .into_par_iter()
        .with_max_len(1)
        .map(|group| {
            Signs { rows: tree.rows(), colours: &colours, first: group * LANES }
                .run(matrix, groups, narrow, grid)
        })
        .collect();
    let mut all = Probed { spectrum: Vec::new(), gaps: vec![0.0; grid.len()] };
    for one in found {
        let one = one.ok_or_else(|| Error::NoConvergence("sparse".to_string()))?;
        all.spectrum.extend(one.spectrum);
        all.gaps.iter_mut().zip(one.gaps).for_each(|(sum, gap)| *sum += gap);
    }
    Ok(all)
}

/// The random signs of [`LANES`] colours.
struct Signs<'a> {
    rows: &'a [usize],
    colours: &'a [u32],
    first: usize,
}

impl Signs<'_> {
    /// Quadratures of `zᵀ f(K) z`; `None` where the eigenvalues of one do not converge.
    fn run(&self, matrix: &impl Product, groups: usize, narrow: bool, grid: &[f64]) -> Option<Probed> {
        let mut counts = [0.0; LANES];
        let mut state = Lanczos::new(matrix.n(), (0..LANES).collect());
        for ((point, &colour), &row) in state.current.iter_mut().zip(self.colours).zip(self.rows) {
            let lane = (colour as usize).wrapping_sub(self.first);
            if lane < LANES {
                point[lane] = sign(row as u64);
                counts[lane] += 1.0;
            }
        }
        state.normalise();
        let enough = LOG_DET_GAP / groups as f64;
        let wanted = grid.iter().position(|&x| x >= WANTED_LOG_DELTA).filter(|_| !narrow).unwrap_or(0);
        let most = if narrow { MOST_STEPS.1 } else { MOST_STEPS.0 };
        loop {
            let steps = if state.steps == 0 { LEAST_STEPS } else { state.steps + 4.max(state.steps / 5) };
            while state.steps < steps {
                matrix.multiply(&state.current, &mut state.next);
                state.step();
            }
            let (mut spectrum, mut gaps) = (Quadrature::new(), vec![0.0; grid.len()]);
            for (lane, &count) in state.lanes.iter().zip(&counts).filter(|(_, count)| **count > 0.0) {
                let (gauss, radau) = (scaled(lane.gauss()?, count), scaled(lane.radau()?, count));
                let log_det = |nodes: &Quadrature, x: f64| -> f64 {
                    nodes.iter().map(|(node, weight)| weight * (node + x.exp()).ln()).sum()
                };
                for (gap, &x) in gaps.iter_mut().zip(grid) {
                    *gap += 0.5 * (log_det(&gauss, x) - log_det(&radau, x)).abs();
                }
                // The truth is between the two.
                spectrum.extend(gauss.into_iter().chain(radau).map(|(node, weight)| (node, 0.5 * weight)));
            }
            if gaps[0] <= enough || gaps[wanted] <= enough || state.steps >= most || interrupt::requested() {
                return Some(Probed { spectrum, gaps });
            }
        }
    }
}

/// Lanczos vectors started at 1, place by place, and their tridiagonal matrix.
pub fn basis(matrix: &impl Product, steps: usize) -> (Vec<f64>, Tridiagonal) {
    let n = matrix.n();
    let mut state = Lanczos::new(n, vec![0]);
    state.current.iter_mut().for_each(|point| point[0] = 1.0);
    state.normalise();
    let mut vectors = Vec::new();
    while state.steps < steps.min(n) && !state.lanes[0].exhausted() {
        vectors.push(state.current.iter().map(|point| point[0]).collect::<Vec<f64>>());
        matrix.multiply(&state.current, &mut state.next);
        state.step();
    }
    let count = vectors.len();
    let mut basis = vec![0.0; n * count];
    for (k, vector) in vectors.iter().enumerate() {
        vector.iter().enumerate().for_each(|(i, v)| basis[i * count + k] = *v);
    }
    (basis, std::mem::take(&mut state.lanes[0]))
}

/// Colours, from 0, so that places within a squared distance have different ones.
fn colour(tree: &KdTree, apart2: f64) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let n = tree.rows().len();
    let mut colours = vec![NONE; n];
    // The last place that found a colour taken.
    let mut taken: Vec<usize> = Vec::new();
    for place in 0..n {
        tree.within(place, apart2, |other, _| {
            if colours[other] != NONE {
                taken[colours[other] as usize] = place;
            }
        });
        let free = taken.iter().position(|&by| by != place).unwrap_or(taken.len());
        if free == taken.len() {
            taken.push(place);
        }
        colours[place] = free as u32;
    }
    colours
}
