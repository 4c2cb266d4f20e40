//! Expression as factor analysis sees it: standardised genes, and products with them.

use crate::error::{Error, Result};
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Locations, or genes, that one task takes: the same for any number of threads, so that results are too.
const ROWS: usize = 512;
const GENES: usize = 64;

/// Genes of mean 0 and variance 1 (denominator n), without a copy.
pub(crate) struct Genes<'a> {
    y: MatRef<'a, f64>,
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl<'a> Genes<'a> {
    /// `y` is locations × genes.
    pub fn new(y: MatRef<'a, f64>) -> Result<Self> {
        let n = y.nrows() as f64;
        let moments: Vec<(f64, f64)> = (0..y.ncols())
            .into_par_iter()
            .map(|g| {
                let column = y.col(g);
                let mean = column.iter().sum::<f64>() / n;
                let sd = (column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
                let largest = column.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
                // Also false for NaN.
                if sd > 1e-12 * largest && sd.is_finite() {
                    return Ok((mean, sd));
                }
                let must_be = "a column that is finite and not constant";
                Err(Error::Parameter { name: "gene", value: (g + 1) as f64, must_be })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            y,
            mean: moments.iter().map(|m| m.0).collect(),
            scale: moments.iter().map(|m| m.1.recip()).collect(),
        })
    }

    pub fn n(&self) -> usize {
        self.y.nrows()
    }

    pub fn len(&self) -> usize {
        self.y.ncols()
    }

    /// The value of a gene at a location.
    pub fn at(&self, row: usize, gene: usize) -> f64 {
        (self.y[(row, gene)] - self.mean[gene]) * self.scale[gene]
    }

    /// Y b: locations × columns.
    pub fn times(&self, b: MatRef<'_, f64>) -> Mat<f64> {
        let b = Mat::from_fn(b.nrows(), b.ncols(), |g, k| b[(g, k)] * self.scale[g]);
        let shift: Vec<f64> =
            (0..b.ncols()).map(|k| b.col(k).iter().zip(&self.mean).map(|(b, m)| b * m).sum()).collect();
        let mut out = Mat::zeros(self.n(), b.ncols());
        out.as_mut().par_row_chunks_mut(ROWS).enumerate().for_each(|(chunk, mut out)| {
            let y = self.y.subrows(chunk * ROWS, out.nrows());
            matmul(out.as_mut(), Accum::Replace, y, b.as_ref(), 1.0, Par::Seq);
            for (k, shift) in shift.iter().enumerate() {
                out.as_mut().col_mut(k).iter_mut().for_each(|x| *x -= shift);
            }
        });
        out
    }

    /// Y' m: genes × columns.
    pub fn transpose_times(&self, m: MatRef<'_, f64>) -> Mat<f64> {
        let sums: Vec<f64> = (0..m.ncols()).map(|k| m.col(k).iter().sum()).collect();
        let mut out = Mat::zeros(self.len(), m.ncols());
        out.as_mut().par_row_chunks_mut(GENES).enumerate().for_each(|(chunk, mut out)| {
            let first = chunk * GENES;
            let y = self.y.subcols(first, out.nrows()).transpose();
            matmul(out.as_mut(), Accum::Replace, y, m, 1.0, Par::Seq);
            for i in 0..out.nrows() {
                let (mean, scale) = (self.mean[first + i], self.scale[first + i]);
                for (k, sum) in sums.iter().enumerate() {
                    out[(i, k)] = (out[(i, k)] - mean * sum) * scale;
                }
            }
        });
        out
    }
}
