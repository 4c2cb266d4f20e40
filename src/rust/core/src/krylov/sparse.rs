//! A sparse K: the entries that are not negligible.

use super::lanczos::{LANES, Point, Product};
use crate::kd_tree::KdTree;
use crate::kernel::Radial;
use crate::simd::vectorized;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Most products that may be spent on tr K³: a minute of one core.
const TRIANGLE_LIMIT: f64 = 1e10;

/// K without its diagonal of ones, row by row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sparse {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    /// The kernel's entries within a squared distance.
    pub fn new(tree: &KdTree, kernel: Radial, reach2: f64) -> Self {
        const ROWS: usize = 512;
        let n = tree.rows().len();
        let pieces: Vec<(Vec<usize>, Vec<u32>, Vec<f32>)> = (0..n.div_ceil(ROWS))
            .into_par_iter()
            .map(|piece| {
                let (mut ends, mut columns, mut values) = (Vec::with_capacity(ROWS), Vec::new(), Vec::new());
                for place in piece * ROWS..((piece + 1) * ROWS).min(n) {
                    tree.within(place, reach2, |other, d2| {
                        if other != place {
                            columns.push(other as u32);
                            values.push(kernel.value(d2) as f32);
                        }
                    });
                    ends.push(columns.len());
                }
                (ends, columns, values)
            })
            .collect();
        let entries = pieces.iter().map(|p| p.1.len()).sum();
        let mut sparse = Self {
            starts: Vec::with_capacity(n + 1),
            columns: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
        };
        sparse.starts.push(0);
        for (ends, columns, values) in pieces {
            let from = sparse.columns.len();
            sparse.starts.extend(ends.into_iter().map(|end| from + end));
            sparse.columns.extend(columns);
            sparse.values.extend(values);
        }
        sparse
    }

    /// The places of a row's entries.
    fn row(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i + 1]
    }

    /// `tr (K - I)³`, if that does not take too long.
    pub fn triangles(&self) -> Option<f64> {
        let n = self.rows();
        let work: f64 = (0..n).map(|i| (self.row(i).len() as f64).powi(2)).sum();
        if work > TRIANGLE_LIMIT {
            return None;
        }
        const ROWS: usize = 1024;
        let sums: Vec<f64> = (0..n.div_ceil(ROWS))
            .into_par_iter()
            .map(|piece| {
                let mut own = vec![0.0; n];
                let mut sum = 0.0;
                for i in piece * ROWS..((piece + 1) * ROWS).min(n) {
                    for e in self.row(i) {
                        own[self.columns[e] as usize] = f64::from(self.values[e]);
                    }
                    for e in self.row(i) {
                        let other = self.row(self.columns[e] as usize);
                        let common: f64 = self.columns[other.clone()]
                            .iter()
                            .zip(&self.values[other])
                            .map(|(&m, &v)| f64::from(v) * own[m as usize])
                            .sum();
                        sum += f64::from(self.values[e]) * common;
                    }
                    self.row(i).for_each(|e| own[self.columns[e] as usize] = 0.0);
                }
                sum
            })
            .collect();
        Some(sums.iter().sum())
    }

    /// Number of rows.
    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// K1.
    pub fn row_sums(&self) -> Vec<f64> {
        let mut sums = vec![1.0; self.rows()];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += self.values[self.row(i)].iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        sums
    }

    /// Σ kᵢⱼᵖ over j ≠ i for each i.
    pub fn power_sums(&self, p: i32) -> Vec<f64> {
        let sum = |i: usize| self.values[self.row(i)].iter().map(|&v| f64::from(v).powi(p)).sum();
        (0..self.rows()).map(sum).collect()
    }

    /// K x.
    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..x.len())
            .map(|i| {
                let row = self.row(i);
                let entries = self.columns[row.clone()].iter().zip(&self.values[row]);
                x[i] + entries.map(|(&j, &v)| f64::from(v) * x[j as usize]).sum::<f64>()
            })
            .collect()
    }
}

impl Product for Sparse {
    fn n(&self) -> usize {
        self.rows()
    }

    fn multiply(&self, x: &[Point], out: &mut [Point]) {
        vectorized!({
            for (i, out) in out.iter_mut().enumerate() {
                let range = self.row(i);
                let mut sum = x[i];
                for (&j, &v) in self.columns[range.clone()].iter().zip(&self.values[range]) {
                    let (v, x) = (f64::from(v), &x[j as usize]);
                    for lane in 0..LANES {
                        sum[lane] += v * x[lane];
                    }
                }
                *out = sum;
            }
        });
    }
}
