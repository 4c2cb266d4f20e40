//! Expression as factor analysis sees it: standardised genes, and products with them.

use crate::error::{Error, Result};
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Locations, or genes, that one task takes: the same for any number of threads, so that results are too.
const ROWS: usize = 512;
const GENES: usize = 64;
/// Its multiples have fractions that are spread evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Genes of mean 0 and variance 1 (denominator n), without a copy.
pub(crate) struct Genes<'a> {
    y: MatRef<'a, f64>,
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// Places of the genes in an order that only their values decide.
    rank: Vec<usize>,
}

impl<'a> Genes<'a> {
    /// `y` is locations × genes.
    pub fn new(y: MatRef<'a, f64>) -> Result<Self> {
        let n = y.nrows() as f64;
        let moments: Vec<[f64; 3]> = (0..y.ncols())
            .into_par_iter()
            .map(|g| {
                let column = y.col(g);
                let mean = column.iter().sum::<f64>() / n;
                let sd = (column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
                let largest = column.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
                // Also false for NaN.
                if sd > 1e-12 * largest && sd.is_finite() {
                    let weighted = |(i, x): (usize, &f64)| (x - mean) / sd * (i as f64 * GOLDEN).fract();
                    return Ok([mean, sd, column.iter().enumerate().map(weighted).sum()]);
                }
                let must_be = "a column that is finite and not constant";
                Err(Error::Parameter { name: "gene", value: (g + 1) as f64, must_be })
            })
            .collect::<Result<_>>()?;
        let mut order: Vec<usize> = (0..y.ncols()).collect();
        order.sort_by(|&a, &b| moments[a][2].total_cmp(&moments[b][2]));
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &g)| rank[g] = place);
        Ok(Self {
            y,
            mean: moments.iter().map(|m| m[0]).collect(),
            scale: moments.iter().map(|m| m[1].recip()).collect(),
            rank,
        })
    }

    /// Rows for the genes, given one after the other: the same gene gets the same row in whatever order genes are.
    pub fn arrange(&self, rows: &Mat<f64>) -> Mat<f64> {
        Mat::from_fn(rows.nrows(), rows.ncols(), |g, k| rows[(self.rank[g], k)])
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

    /// What means of samples (samples × genes) differ by from the mean over all locations, as [`Genes::at`] gives
    /// values: genes × samples. `sizes` are numbers of locations.
    pub fn differences(&self, means: MatRef<'_, f64>, sizes: &[usize]) -> Mat<f64> {
        let all = |g: usize| means.col(g).iter().zip(sizes).map(|(m, &n)| m * n as f64).sum::<f64>();
        let whole: Vec<f64> = (0..self.len()).map(|g| all(g) / self.n() as f64).collect();
        Mat::from_fn(self.len(), sizes.len(), |g, s| (means[(s, g)] - whole[g]) * self.scale[g])
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
