//! What is computed once for each kernel: row sums, invariants of the score form, and products of vectors.

use super::eigenvalues::{Eigenvalues, MESH_VALUES, NEAR_VALUES, WHOLE, from_probes, from_waves};
use super::fourier::Workspace;
use super::mesh::{Mesh, bounds};
use super::pieces::split;
use super::plan::{FEW, FINE_CELLS, FINE_REACH, FINE_WIDTH, GENE_CELLS, GENE_WIDTH};
use super::strips::{LANES, REACH, Strips};
use crate::kernel::Radial;
use crate::null::score::EntrySums;
use faer::MatRef;
use std::ops::Range;

/// Near pairs of a point, each once, above which products are no faster than by Fourier transforms: in three dimensions.
const MANY_PAIRS: f64 = 500.0;

/// What the score form of one kernel is computed from, in one sample.
pub struct Parts {
    /// Sums over K's entries, by row.
    pub sums: EntrySums,
    /// K K1.
    pub twice: Vec<f64>,
    /// About the eigenvalues of H K H.
    pub eigenvalues: Eigenvalues,
}

/// Meshes over the pieces of a sample for kernels from `lengthscale / √3` to `lengthscale`.
pub struct Meshes<'a> {
    coords: MatRef<'a, f64>,
    rows: Range<usize>,
    lengthscale: f64,
    pieces: Vec<(Vec<u32>, Option<Mesh<f64>>)>,
}

impl<'a> Meshes<'a> {
    /// Over the rows of a sample.
    pub fn new(coords: MatRef<'a, f64>, rows: Range<usize>, lengthscale: f64) -> Self {
        Self::of(coords, rows, lengthscale, (FINE_CELLS, FINE_REACH, FINE_WIDTH))
    }

    /// The same as coarse as for genes, for products alone: an order of magnitude faster in three dimensions.
    fn coarse(&self) -> Self {
        Self::of(self.coords, self.rows.clone(), self.lengthscale, (GENE_CELLS, REACH, GENE_WIDTH))
    }

    fn of(
        coords: MatRef<'a, f64>,
        rows: Range<usize>,
        lengthscale: f64,
        (cells, reach, width): (f64, f64, usize),
    ) -> Self {
        let reach = reach * lengthscale;
        let pieces = split(coords, rows.clone().map(|row| row as u32).collect(), reach)
            .into_iter()
            .map(|piece| {
                let mesh = (piece.len() > FEW).then(|| {
                    let (low, high) = bounds(coords, piece.iter().map(|&row| row as usize));
                    Mesh::new(low, high, coords.ncols(), lengthscale / cells, reach, width)
                });
                (piece, mesh)
            })
            .collect();
        Self { coords, rows, lengthscale, pieces }
    }

    /// The kernel between two rows of a piece.
    fn kernel(&self, i: u32, j: u32, lengthscale: f64) -> f64 {
        let d2: f64 = (0..self.coords.ncols())
            .map(|k| (self.coords[(i as usize, k)] - self.coords[(j as usize, k)]).powi(2))
            .sum();
        Radial::squared_exponential(lengthscale).value(d2)
    }

    /// 1'K1.
    pub fn total(&self) -> f64 {
        let mut work = Workspace::default();
        let mut total = 0.0;
        for (rows, mesh) in &self.pieces {
            match mesh {
                Some(mesh) => {
                    mesh.clear(&mut work);
                    mesh.spread(self.coords, rows.iter().map(|&row| (row as usize, 1.0)), &mut work);
                    mesh.forward(&mut work);
                    total += mesh.total(&work, &mesh.weights(self.lengthscale));
                }
                None => {
                    let pairs = rows.iter().flat_map(|&i| rows.iter().map(move |&j| (i, j)));
                    total += pairs.map(|(i, j)| self.kernel(i, j, self.lengthscale)).sum::<f64>();
                }
            }
        }
        total
    }

    /// K x, both by row.
    pub fn product(&self, x: &[f64], work: &mut Workspace<f64>) -> Vec<f64> {
        let start = self.rows.start;
        let mut out = vec![0.0; x.len()];
        for (rows, mesh) in &self.pieces {
            match mesh {
                Some(mesh) => {
                    mesh.clear(work);
                    mesh.spread(
                        self.coords,
                        rows.iter().map(|&row| (row as usize, x[row as usize - start])),
                        work,
                    );
                    mesh.forward(work);
                    mesh.convolve(work, &mesh.weights(self.lengthscale));
                    for &row in rows {
                        out[row as usize - start] = mesh.interpolate(self.coords, row as usize, work);
                    }
                }
                None => {
                    for &i in rows {
                        out[i as usize - start] = rows
                            .iter()
                            .map(|&j| self.kernel(i, j, self.lengthscale) * x[j as usize - start])
                            .sum();
                    }
                }
            }
        }
        out
    }

    /// Sums over the kernel's entries, and its eigenvalues.
    pub fn parts(&self, seed: u64) -> Parts {
        let mut work = Workspace::default();
        let (start, l) = (self.rows.start, self.lengthscale);
        let n = self.rows.len();
        let (mut rows_sums, mut squares) = (vec![0.0; n], vec![0.0; n]);
        let (mut cubes, mut cube) = (0.0, 0.0);
        let mut eigenvalues = None;
        for (rows, mesh) in &self.pieces {
            let Some(mesh) = mesh else {
                for &i in rows {
                    for &j in rows {
                        let k = self.kernel(i, j, l);
                        rows_sums[i as usize - start] += k;
                        if i != j {
                            squares[i as usize - start] += k * k;
                            cubes += k * k * k;
                        }
                        cube += rows
                            .iter()
                            .map(|&m| k * self.kernel(j, m, l) * self.kernel(m, i, l))
                            .sum::<f64>();
                    }
                }
                continue;
            };
            mesh.clear(&mut work);
            mesh.spread(self.coords, rows.iter().map(|&row| (row as usize, 1.0)), &mut work);
            mesh.forward(&mut work);
            let ones = work.spectrum.clone();
            if self.pieces.len() == 1 {
                eigenvalues = from_waves(mesh, &ones, n, l);
            }
            cubes += mesh.total(&work, &mesh.weights(l / 3f64.sqrt())) - rows.len() as f64;
            let by_row = |lengthscale: f64, out: &mut [f64], less: f64, work: &mut Workspace<f64>| {
                work.spectrum.clone_from(&ones);
                mesh.convolve(work, &mesh.weights(lengthscale));
                for &row in rows {
                    out[row as usize - start] = mesh.interpolate(self.coords, row as usize, work) - less;
                }
            };
            by_row(l, &mut rows_sums, 0.0, &mut work);
            by_row(l / 2f64.sqrt(), &mut squares, 1.0, &mut work);
            work.spectrum.clone_from(&ones);
            cube += mesh.trace_of_cube(&mut work, l);
        }
        let twice = self.product(&rows_sums, &mut work);
        let triangles = cube - 3.0 * squares.iter().sum::<f64>() - n as f64;
        let probed = || {
            // The distribution of the eigenvalues need not be known better.
            let coarse = (n > WHOLE).then(|| self.coarse());
            let meshes = coarse.as_ref().unwrap_or(self);
            let products = |x: &[Vec<f64>]| -> Vec<Vec<f64>> {
                let mut work = Workspace::default();
                x.iter().map(|x| meshes.product(x, &mut work)).collect()
            };
            from_probes(n, seed, MESH_VALUES, products)
        };
        let eigenvalues = eigenvalues.unwrap_or_else(probed);
        let sums = EntrySums { rows: rows_sums, squares, cubes, triangles: Some(triangles), diagonal: None };
        Parts { sums, twice, eigenvalues }
    }
}

/// The same by sums over near pairs.
pub fn near_parts(strips: &Strips, lengthscale: f64, seed: u64) -> Parts {
    let sums = strips.power_sums(lengthscale);
    let rows: Vec<f64> = sums.first.iter().map(|r| r + 1.0).collect();
    let twice = strips.product_one(lengthscale, &rows);
    let cube = strips.trace_of_cube(lengthscale);
    let triangles = cube - 3.0 * sums.second.iter().sum::<f64>() - rows.len() as f64;
    let products = |x: &[Vec<f64>]| -> Vec<Vec<f64>> {
        if let [x] = x {
            return vec![strips.product_one(lengthscale, x)];
        }
        let lanes: Vec<[f64; LANES]> =
            (0..strips.count()).map(|i| std::array::from_fn(|k| x.get(k).map_or(0.0, |x| x[i]))).collect();
        let product = strips.product(lengthscale, &lanes);
        (0..x.len()).map(|k| product.iter().map(|lanes| lanes[k]).collect()).collect()
    };
    let many = strips.pairs(lengthscale) > MANY_PAIRS * rows.len() as f64;
    let values = if many { MESH_VALUES } else { NEAR_VALUES };
    let eigenvalues = from_probes(rows.len(), seed, values, products);
    let sums = EntrySums {
        rows: strips.by_row(&rows),
        squares: strips.by_row(&sums.second),
        cubes: sums.third,
        triangles: Some(triangles),
        diagonal: None,
    };
    Parts { sums, twice: strips.by_row(&twice), eigenvalues }
}
