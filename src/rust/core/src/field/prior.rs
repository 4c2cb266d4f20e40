//! Draws of fields with a squared exponential kernel, the same ones on every run.
//!
//! On a mesh a draw is white noise times the root of the kernel's spectrum; between its cells it is band-limited, and read
//! off by the mesh's window. Points that are few have the root of their kernel. Meshes that would be too large, of kernels
//! far below the spacing or along curves in space, give way to sums of random waves (Rahimi & Recht 2007).

use crate::factors::anchors::squared;
use crate::factors::kriging::cholesky;
use crate::factors::small::dot;
use crate::grid::fourier::{Table, Workspace};
use crate::grid::mesh::{self, Mesh, bounds};
use crate::grid::pieces::split;
use crate::grid::plan::{FEW, GENE_WIDTH};
use crate::kd_tree::Point;
use crate::kernel::Radial;
use crate::random::SplitMix64;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;

/// Cells of a mesh for a lengthscale, and how far, in lengthscales, its box reaches beyond the points'. No simple
/// fraction, so that the number of cells does not depend on rounding.
const CELLS: f64 = 2.0173;
const REACH: f64 = 5.519;
/// Points with wider gaps, in lengthscales, are independent.
const GAP: f64 = 5.0;
/// Most cells of a mesh: so many, and so many for each point.
const MOST_CELLS: f64 = 1e6;
const CELLS_EACH: f64 = 32.0;
/// Waves of a draw.
const WAVES: usize = 512;
/// Points that one task takes.
const ROWS: usize = 256;

/// The fields of one sample.
pub(super) struct Prior {
    coords: Mat<f64>,
    lengthscale: f64,
    /// The sample, for its random numbers.
    sample: u64,
    pieces: Vec<(Vec<u32>, How)>,
}

enum How {
    /// The lower factor of the kernel, by rows.
    Few(Vec<f64>),
    Mesh(Box<(Mesh<f64>, Table)>),
    Waves,
}

impl Prior {
    pub fn new(
        points: impl Iterator<Item = Point> + Clone,
        dim: usize,
        lengthscale: f64,
        sample: usize,
    ) -> Self {
        let count = points.clone().count();
        let mut coords = Mat::zeros(count, dim);
        points.enumerate().for_each(|(i, point)| (0..dim).for_each(|k| coords[(i, k)] = point[k]));
        let pieces = split(coords.as_ref(), (0..count as u32).collect(), GAP * lengthscale)
            .into_iter()
            .map(|rows| {
                let how = how(coords.as_ref(), &rows, lengthscale);
                (rows, how)
            })
            .collect();
        Self { coords, lengthscale, sample: sample as u64, pieces }
    }

    /// Some draws: points × draws.
    pub fn draws(&self, first: usize, count: usize) -> Mat<f64> {
        let mut out = Mat::zeros(self.coords.nrows(), count);
        for (piece, (rows, how)) in self.pieces.iter().enumerate() {
            let random = |draw: usize| self.random(piece, first + draw);
            match how {
                How::Few(factor) => {
                    let m = rows.len();
                    for draw in 0..count {
                        let mut random = random(draw);
                        let white: Vec<f64> = (0..m).map(|_| random.normal()).collect();
                        for (i, &row) in rows.iter().enumerate() {
                            out[(row as usize, draw)] = dot(&factor[i * m..=i * m + i], &white[..=i]);
                        }
                    }
                }
                How::Mesh(mesh) => {
                    let (mesh, weights) = &**mesh;
                    out.as_mut().par_col_chunks_mut(1).enumerate().for_each_init(
                        Workspace::default,
                        |work, (draw, mut column)| {
                            let mut random = random(draw);
                            mesh.filter_noise(work, weights, || random.normal());
                            for &row in rows {
                                column[(row as usize, 0)] =
                                    mesh.interpolate(self.coords.as_ref(), row as usize, work);
                            }
                        },
                    );
                }
                How::Waves => self.waves(rows, piece, first, out.as_mut()),
            }
        }
        out
    }

    /// The random numbers of a draw in a piece.
    fn random(&self, piece: usize, draw: usize) -> SplitMix64 {
        SplitMix64::new(4, &[self.sample, piece as u64, draw as u64])
    }

    /// Sums of waves of the same frequencies for all draws, at the points of a piece.
    fn waves(&self, rows: &[u32], piece: usize, first: usize, mut out: MatMut<'_, f64>) {
        let dim = self.coords.ncols();
        let mut random = SplitMix64::new(5, &[self.sample, piece as u64]);
        let frequencies = Mat::from_fn(dim, WAVES, |_, _| random.normal() / self.lengthscale);
        let scale = (WAVES as f64).sqrt().recip();
        let mut weights = Mat::zeros(2 * WAVES, out.ncols());
        for draw in 0..out.ncols() {
            let mut random = self.random(piece, first + draw);
            weights.col_mut(draw).iter_mut().for_each(|weight| *weight = scale * random.normal());
        }
        let values: Vec<Mat<f64>> = rows
            .par_chunks(ROWS)
            .map(|rows| {
                let mut features = Mat::zeros(rows.len(), 2 * WAVES);
                for (i, &row) in rows.iter().enumerate() {
                    for wave in 0..WAVES {
                        let turn = |k: usize| frequencies[(k, wave)] * self.coords[(row as usize, k)];
                        let (sin, cos) = (0..dim).map(turn).sum::<f64>().sin_cos();
                        (features[(i, wave)], features[(i, WAVES + wave)]) = (cos, sin);
                    }
                }
                let mut values = Mat::zeros(rows.len(), weights.ncols());
                matmul(values.as_mut(), Accum::Replace, features.as_ref(), weights.as_ref(), 1.0, Par::Seq);
                values
            })
            .collect();
        for (rows, values) in rows.chunks(ROWS).zip(&values) {
            rows.iter().zip(values.row_iter()).for_each(|(&row, values)| {
                out.as_mut().row_mut(row as usize).copy_from(values);
            });
        }
    }
}

fn how(coords: MatRef<'_, f64>, rows: &[u32], lengthscale: f64) -> How {
    let dim = coords.ncols();
    let m = rows.len();
    if m <= FEW {
        let at = |i: usize| -> Point {
            std::array::from_fn(|k| if k < dim { coords[(rows[i] as usize, k)] } else { 0.0 })
        };
        let kernel = Radial::squared_exponential(lengthscale);
        let mut factor = vec![0.0; m * m];
        for i in 0..m {
            (0..=i).for_each(|j| factor[i * m + j] = kernel.value(squared(&at(i), &at(j))));
        }
        cholesky(&mut factor, m);
        return How::Few(factor);
    }
    let (low, high) = bounds(coords, rows.iter().map(|&row| row as usize));
    let (step, reach) = (lengthscale / CELLS, REACH * lengthscale);
    let cells = mesh::shape(&low, &high, dim, step, reach, GENE_WIDTH).iter().product::<f64>();
    if cells > MOST_CELLS + CELLS_EACH * m as f64 {
        return How::Waves;
    }
    let mesh = Mesh::new(low, high, dim, step, reach, GENE_WIDTH);
    // The noise of each frequency has as its variance the number of cells.
    let scale = (mesh.cells() as f64).sqrt().recip();
    let weights = mesh.root_spectrum(lengthscale, f64::INFINITY, 1).scaled(scale);
    How::Mesh(Box::new((mesh, weights)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::anchors::point;
    use crate::fixtures::{irregular, scattered};
    use crate::locations::Locations;

    /// The largest difference of covariances over many draws from the kernel, in standard errors.
    fn difference(locations: &Locations, lengthscale: f64) -> f64 {
        let n = locations.len();
        let points: Vec<Point> = (0..n).map(|i| point(locations, i)).collect();
        let prior = Prior::new(points.iter().copied(), locations.dim(), lengthscale, 0);
        let count = 4000;
        let draws = prior.draws(0, count);
        let mut worst = 0.0_f64;
        for i in 0..n {
            for j in 0..=i {
                let sum: f64 = (0..count).map(|k| draws[(i, k)] * draws[(j, k)]).sum();
                let k = (-0.5 * locations.squared_distance(i, j) / (lengthscale * lengthscale)).exp();
                worst = worst.max((sum / count as f64 - k).abs() / ((1.0 + k * k) / count as f64).sqrt());
            }
        }
        worst
    }

    #[test]
    fn draws_have_the_kernel_as_covariance() {
        for (locations, lengthscale) in [
            (irregular(60, 2, 1), 1.0),
            (irregular(60, 2, 1), 4.0),
            (scattered(60, 1, 2), 3.0),
            (irregular(60, 3, 3), 1.5),
            (irregular(30, 2, 3), 1.5),
        ] {
            // The largest of 1,830 normal numbers.
            let worst = difference(&locations, lengthscale);
            assert!(worst < 4.5, "{lengthscale}: {worst}");
        }
    }
}
