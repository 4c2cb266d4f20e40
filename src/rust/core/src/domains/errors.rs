//! Errors of locations near each other are alike: a conditional autoregression (Besag 1974).
//!
//! Values vary smoothly within domains too. Were errors taken for independent, any smooth field would look like several
//! domains: each location would be evidence of its own that the field is high here and low there. So errors e of n
//! locations have the precision I - rho S, for each column in the metric of the shared covariance. S joins each location
//! with those up to two steps away in the graph: of one step alone, the values' own smoothing makes borders into domains.
//! Given all others, the error of a location has the mean rho S e and variance 1.

use crate::graph::Graph;
use rayon::prelude::*;

/// How alike they are. In 35 simulated tissues of nine kinds the adjusted Rand index is .753 at 0, .791 at .5, .803 at .7
/// and .797 at .8 (`bench/domains.R`).
pub(super) const RHO: f64 = 0.7;

/// S, normalised to rows of about 1: its eigenvalues are at most 1.
pub(super) struct Around {
    starts: Vec<usize>,
    ends: Vec<u32>,
    /// One over the root of the number of locations around.
    scale: Vec<f64>,
}

impl Around {
    pub fn new(graph: &Graph, n: usize) -> Self {
        let around = |i: usize| {
            let near = graph.neighbours(i);
            let mut all: Vec<u32> =
                near.iter().flat_map(|&j| graph.neighbours(j as usize)).chain(near).copied().collect();
            all.sort_unstable();
            all.dedup();
            all.retain(|&j| j as usize != i);
            all
        };
        let lists: Vec<Vec<u32>> = (0..n).into_par_iter().with_min_len(64).map(around).collect();
        let mut starts = Vec::with_capacity(n + 1);
        starts.push(0);
        starts.extend(lists.iter().scan(0, |sum, list| {
            *sum += list.len();
            Some(*sum)
        }));
        let scale = lists.iter().map(|list| 1.0 / (list.len().max(1) as f64).sqrt()).collect();
        Self { starts, ends: lists.concat(), scale }
    }

    /// Row i of rho S x, where x has a row of p values for each location.
    pub fn expect(&self, x: &[f64], p: usize, i: usize, out: &mut [f64]) {
        out.fill(0.0);
        for &j in &self.ends[self.starts[i]..self.starts[i + 1]] {
            let j = j as usize;
            let weight = RHO * self.scale[i] * self.scale[j];
            out.iter_mut().zip(&x[j * p..(j + 1) * p]).for_each(|(o, x)| *o += weight * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::irregular;
    use faer::{Mat, Side};

    #[test]
    fn the_precision_is_symmetric_and_positive() {
        let locations = irregular(60, 2, 3);
        let n = locations.len();
        let around = Around::new(&Graph::new(&locations), n);
        let mut precision = Mat::<f64>::identity(n, n);
        for j in 0..n {
            let unit: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == j))).collect();
            for i in 0..n {
                let mut out = [0.0];
                around.expect(&unit, 1, i, &mut out);
                precision[(i, j)] -= out[0];
            }
        }
        for i in 0..n {
            assert!((0..n).all(|j| (precision[(i, j)] - precision[(j, i)]).abs() < 1e-15));
        }
        let least = precision.self_adjoint_eigenvalues(Side::Lower).unwrap()[0];
        assert!(least > 1.0 - RHO - 1e-12, "{least}");
    }
}
