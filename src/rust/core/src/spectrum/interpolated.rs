//! Smooth kernels over very many locations, interpolated from the nodes of a lattice: K ≈ W K_nodes Wᵀ (structured
//! kernel interpolation, Wilson & Nickisch 2015). A row of W has the Lagrange weights of a location among the nodes
//! round it, six in every direction. It is the kernel of a model of its own, whose eigenpairs are had from matrices of
//! the size of the lattice. Short kernels have a lattice in each tile of the tissue, and tiles are independent.

use super::rayleigh_ritz::inner;
use crate::grid::mesh::bounds;
use crate::interrupt;
use crate::kernel::Kernel;
use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Nodes that a location has in every direction, and how many of them lie before it, but for the nearest.
const ORDER: usize = 6;
const BEFORE: i64 = 2;

/// Columns of a matrix of nodes that are worked on together.
const COLUMNS: usize = 64;

/// A cell of the lattice, and the locations in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    /// The first nodes of the runs of [`ORDER`] consecutive ones that its locations are interpolated from.
    runs: Vec<u32>,
    /// Places in the order of cells.
    places: Range<usize>,
}

/// Locations of a sample on a lattice: W.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Interpolation {
    /// The nodes that have locations near them, a row for each.
    #[serde(with = "crate::serde_matrix")]
    nodes: Mat<f64>,
    cells: Vec<Cell>,
    /// The locations, counted from the sample's first, in the order of cells.
    order: Vec<u32>,
    /// Where they lie in their cells, in steps, a row for each in that order.
    #[serde(with = "crate::serde_matrix")]
    offsets: Mat<f64>,
}

/// A lattice, anchored at the least coordinates of some locations.
struct Lattice<'a> {
    coords: MatRef<'a, f64>,
    low: [f64; 3],
    step: f64,
}

impl<'a> Lattice<'a> {
    fn new(coords: MatRef<'a, f64>, rows: &[u32], step: f64) -> Self {
        Self { coords, low: bounds(coords, rows.iter().map(|&row| row as usize)).0, step }
    }

    /// A location's coordinate in steps.
    fn at(&self, row: usize, axis: usize) -> f64 {
        (self.coords[(row, axis)] - self.low[axis]) / self.step
    }

    /// The cell of a location.
    fn cell(&self, row: usize) -> [i64; 3] {
        let mut cell = [0; 3];
        for (k, cell) in cell.iter_mut().take(self.coords.ncols()).enumerate() {
            *cell = self.at(row, k).floor() as i64;
        }
        cell
    }
}

/// The cells of the runs round a cell: where each begins.
fn run_starts(cell: [i64; 3], dim: usize) -> impl Iterator<Item = [i64; 3]> {
    let count = move |axis: usize| if axis + 1 < dim { ORDER as i64 } else { 1 };
    (0..count(0)).flat_map(move |a| {
        (0..count(1)).map(move |b| {
            let mut start = cell;
            for (axis, shift) in [a, b].into_iter().enumerate() {
                if axis + 1 < dim {
                    start[axis] += shift - BEFORE;
                }
            }
            start[dim - 1] -= BEFORE;
            start
        })
    })
}

/// The nodes of some cells, in ascending order.
fn nodes_of(cells: &[[i64; 3]], dim: usize) -> Vec<[i64; 3]> {
    let mut nodes = Vec::new();
    for start in cells.iter().flat_map(|&cell| run_starts(cell, dim)) {
        for along in 0..ORDER as i64 {
            let mut node = start;
            node[dim - 1] += along;
            nodes.push(node);
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// How many nodes a lattice serves a kernel over some locations with; `None` if they are better off without one: the
/// kernel is rough, or there are more nodes than locations, or than `most`.
pub fn nodes_if_fewer(
    kernel: Kernel,
    coords: MatRef<'_, f64>,
    rows: &[u32],
    step: f64,
    most: usize,
) -> Option<usize> {
    if kernel.is_smooth() { count_nodes(coords, rows, step, most.min(rows.len())) } else { None }
}

/// How many nodes a lattice of this step has near some locations; `None` if there are more than `limit`.
fn count_nodes(coords: MatRef<'_, f64>, rows: &[u32], step: f64, limit: usize) -> Option<usize> {
    let lattice = Lattice::new(coords, rows, step);
    let mut cells = Vec::with_capacity(rows.len().min(2 * limit));
    for &row in rows {
        cells.push(lattice.cell(row as usize));
        if cells.len() == 2 * limit {
            cells.sort_unstable();
            cells.dedup();
            if cells.len() > limit {
                return None;
            }
        }
    }
    cells.sort_unstable();
    cells.dedup();
    if cells.len() > limit {
        return None;
    }
    Some(nodes_of(&cells, coords.ncols()).len()).filter(|&nodes| nodes <= limit)
}

/// Splits rows into tiles of about this side, the rows of each in ascending order.
pub fn tiles(coords: MatRef<'_, f64>, rows: Range<usize>, side: f64) -> Vec<Vec<u32>> {
    let (low, high) = bounds(coords, rows.clone());
    let sides: [f64; 3] =
        std::array::from_fn(|k| (high[k] - low[k]) / ((high[k] - low[k]) / side).ceil().max(1.0));
    let mut tiles: BTreeMap<[i64; 3], Vec<u32>> = BTreeMap::new();
    for row in rows {
        let mut tile = [0; 3];
        for k in (0..coords.ncols()).filter(|&k| sides[k] > 0.0) {
            // The last location of all lies in the last tile, not beyond it.
            let last = ((high[k] - low[k]) / sides[k]).round() - 1.0;
            tile[k] = ((coords[(row, k)] - low[k]) / sides[k]).floor().min(last) as i64;
        }
        tiles.entry(tile).or_default().push(row as u32);
    }
    tiles.into_values().collect()
}

/// Lagrange's weights of the nodes at -2, -1, 0, 1, 2, 3 for a place between 0 and 1.
#[inline]
fn lagrange(t: f64) -> [f64; ORDER] {
    let [a, b, c, d, e, f] = [t + 2.0, t + 1.0, t, t - 1.0, t - 2.0, t - 3.0];
    [
        b * c * d * e * f / -120.0,
        a * c * d * e * f / 24.0,
        a * b * d * e * f / -12.0,
        a * b * c * e * f / 12.0,
        a * b * c * d * f / -24.0,
        a * b * c * d * e / 120.0,
    ]
}

impl Interpolation {
    /// The lattice of this step under the locations of some rows, counted from `start` on where values are meant.
    pub fn new(coords: MatRef<'_, f64>, rows: &[u32], start: usize, step: f64) -> Self {
        let dim = coords.ncols();
        let lattice = Lattice::new(coords, rows, step);
        let mut keyed: Vec<([i64; 3], u32)> =
            rows.iter().map(|&row| (lattice.cell(row as usize), row - start as u32)).collect();
        keyed.par_sort_unstable();
        let mut distinct: Vec<[i64; 3]> = keyed.iter().map(|(cell, _)| *cell).collect();
        distinct.dedup();
        let nodes = nodes_of(&distinct, dim);
        let mut from = 0;
        let cells = distinct
            .iter()
            .map(|&cell| {
                let len = keyed[from..].partition_point(|(other, _)| *other <= cell);
                let places = from..from + len;
                from += len;
                let place = |start: [i64; 3]| nodes.partition_point(|node| *node < start) as u32;
                Cell { runs: run_starts(cell, dim).map(place).collect(), places }
            })
            .collect();
        let order: Vec<u32> = keyed.iter().map(|(_, place)| *place).collect();
        let offsets = Mat::from_fn(order.len(), dim, |i, k| {
            lattice.at(start + order[i] as usize, k) - keyed[i].0[k] as f64
        });
        let nodes = Mat::from_fn(nodes.len(), dim, |i, k| lattice.low[k] + nodes[i][k] as f64 * step);
        Self { nodes, cells, order, offsets }
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.order.len()
    }

    /// The nodes, a row for each.
    pub fn nodes(&self) -> MatRef<'_, f64> {
        self.nodes.as_ref()
    }

    /// A location's weights within its cell, by its place in the order of cells: of the runs, and within each.
    #[inline]
    fn weights(&self, place: usize) -> ([f64; ORDER * ORDER], [f64; ORDER]) {
        let at = |k: usize| lagrange(self.offsets[(place, k)]);
        let mut runs = [1.0; ORDER * ORDER];
        match self.offsets.ncols() {
            1 => {}
            2 => runs[..ORDER].copy_from_slice(&at(0)),
            _ => {
                let (first, second) = (at(0), at(1));
                for (run, weight) in runs.iter_mut().enumerate() {
                    *weight = first[run / ORDER] * second[run % ORDER];
                }
            }
        }
        (runs, at(self.offsets.ncols() - 1))
    }

    /// Wᵀ y of values of the sample's locations.
    pub fn gather(&self, y: ColRef<'_, f64>, mut out: ColMut<'_, f64>) {
        out.fill(0.0);
        let mut sums = [[0.0; ORDER]; ORDER * ORDER];
        for cell in &self.cells {
            let sums = &mut sums[..cell.runs.len()];
            sums.iter_mut().for_each(|run| run.fill(0.0));
            for place in cell.places.clone() {
                let value = y[self.order[place] as usize];
                let (runs, along) = self.weights(place);
                for (sums, weight) in sums.iter_mut().zip(runs) {
                    let value = value * weight;
                    sums.iter_mut().zip(along).for_each(|(sum, w)| *sum += value * w);
                }
            }
            for (&start, sums) in cell.runs.iter().zip(&*sums) {
                sums.iter().enumerate().for_each(|(k, sum)| out[start as usize + k] += sum);
            }
        }
    }

    /// `out = W a`: what values of the nodes, columns of `a`, say of the locations; others' rows stay as they are.
    pub fn spread(&self, a: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        out.as_mut().par_col_chunks_mut(COLUMNS).enumerate().for_each(|(tile, mut out)| {
            let a = a.subcols(tile * COLUMNS, out.ncols());
            for cell in &self.cells {
                for place in cell.places.clone() {
                    let (runs, along) = self.weights(place);
                    let row = self.order[place] as usize;
                    for j in 0..a.ncols() {
                        let column = a.col(j);
                        let mut sum = 0.0;
                        for (&start, run) in cell.runs.iter().zip(runs) {
                            let own = along.iter().enumerate();
                            sum += run * own.map(|(k, w)| w * column[start as usize + k]).sum::<f64>();
                        }
                        out[(row, j)] = sum;
                    }
                }
            }
        });
    }

    /// `Wᵀ W a`.
    fn times_gram(&self, a: MatRef<'_, f64>) -> Mat<f64> {
        let grams: Vec<Mat<f64>> = self.cells.par_iter().map(|cell| self.cell_gram(cell)).collect();
        let mut out = Mat::<f64>::zeros(a.nrows(), a.ncols());
        out.as_mut().par_col_chunks_mut(COLUMNS).enumerate().for_each(|(tile, mut out)| {
            let a = a.subcols(tile * COLUMNS, out.ncols());
            for (cell, gram) in self.cells.iter().zip(&grams) {
                if interrupt::requested() {
                    return;
                }
                let node = |k: usize| cell.runs[k / ORDER] as usize + k % ORDER;
                let own = Mat::from_fn(gram.ncols(), a.ncols(), |k, j| a[(node(k), j)]);
                let mut product = Mat::zeros(gram.nrows(), a.ncols());
                matmul(product.as_mut(), Accum::Replace, gram.as_ref(), own.as_ref(), 1.0, Par::Seq);
                for j in 0..a.ncols() {
                    let mut column = out.as_mut().col_mut(j);
                    product.col(j).iter().enumerate().for_each(|(k, value)| column[node(k)] += value);
                }
            }
        });
        out
    }

    /// What a cell's locations add to Wᵀ W, over the nodes of its runs.
    fn cell_gram(&self, cell: &Cell) -> Mat<f64> {
        let size = cell.runs.len() * ORDER;
        let rows = Mat::from_fn(cell.places.len(), 1, |i, _| self.weights(cell.places.start + i));
        let weights = Mat::from_fn(cell.places.len(), size, |i, k| {
            let (runs, along) = &rows[(i, 0)];
            runs[k / ORDER] * along[k % ORDER]
        });
        let mut gram = Mat::zeros(size, size);
        matmul(gram.as_mut(), Accum::Replace, weights.transpose(), weights.as_ref(), 1.0, Par::Seq);
        gram
    }

    /// `aᵀ Wᵀ W a`, in the current rayon pool.
    pub fn gram(&self, a: MatRef<'_, f64>) -> Mat<f64> {
        inner(a, self.times_gram(a).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpatialTest;
    use crate::eigen::eigen;
    use crate::fixtures::{cosine, grid_with_gaps, irregular, normal, se};
    use crate::locations::Locations;
    use crate::prepare::AnyModel;
    use crate::spectrum::Spectrum;

    /// Places of many kinds: in one to three dimensions, on a lattice, on top of each other, and some far away.
    fn places() -> Vec<Locations> {
        let mut junk = irregular(300, 2, 3).coords().to_owned();
        for (i, far) in [(5, 1e3), (100, -4e4), (101, 1e7)] {
            junk[(i, 0)] = far;
        }
        vec![
            irregular(200, 1, 1),
            irregular(400, 2, 2),
            Locations::new(junk.as_ref()).unwrap(),
            grid_with_gaps(18),
            irregular(250, 3, 4),
        ]
    }

    fn all(locations: &Locations) -> Vec<u32> {
        (0..locations.len() as u32).collect()
    }

    fn lattice(locations: &Locations, step: f64) -> Interpolation {
        Interpolation::new(locations.coords(), &all(locations), 0, step)
    }

    fn spread(lattice: &Interpolation, a: MatRef<'_, f64>) -> Mat<f64> {
        let mut out = Mat::zeros(lattice.n(), a.ncols());
        lattice.spread(a, out.as_mut());
        out
    }

    fn dense_weights(lattice: &Interpolation) -> Mat<f64> {
        spread(lattice, Mat::<f64>::identity(lattice.nodes().nrows(), lattice.nodes().nrows()).as_ref())
    }

    #[test]
    fn polynomials_up_to_the_fifth_degree_are_exact() {
        for locations in places() {
            let lattice = lattice(&locations, 1.7);
            let size = locations.dim() as f64 * 20.0;
            let value = |x: RowRef<'_, f64>| {
                let sum: f64 = x.iter().enumerate().map(|(k, v)| v * (1.0 + k as f64)).sum();
                (1.0 + sum / size).powi(5)
            };
            let at_nodes = Mat::from_fn(lattice.nodes().nrows(), 1, |i, _| value(lattice.nodes().row(i)));
            let found = spread(&lattice, at_nodes.as_ref());
            for i in 0..locations.len() {
                let expected = value(locations.coords().row(i));
                assert!((found[(i, 0)] - expected).abs() < 1e-11 * (1.0 + expected.abs()), "{i}");
            }
        }
    }

    #[test]
    fn gathering_is_the_transpose_of_spreading() {
        for locations in places() {
            let lattice = lattice(&locations, 0.8);
            let w = dense_weights(&lattice);
            let mut normal = normal(7);
            let y = Col::from_fn(lattice.n(), |_| normal());
            let mut found = Col::zeros(w.ncols());
            lattice.gather(y.as_ref(), found.as_mut());
            assert!((&found - w.transpose() * &y).norm_max() < 1e-12);
            let a = Mat::from_fn(w.ncols(), 70, |_, _| normal());
            let wa = &w * &a;
            assert!((lattice.gram(a.as_ref()) - wa.transpose() * &wa).norm_max() < 1e-9);
            let count = count_nodes(locations.coords(), &all(&locations), 0.8, 100_000).unwrap();
            assert_eq!(count, w.ncols());
            assert!(count_nodes(locations.coords(), &all(&locations), 0.8, count - 1).is_none());
        }
    }

    /// W K_nodes Wᵀ without its negative part.
    fn model(kernel: Kernel, locations: &Locations, step: f64) -> Mat<f64> {
        let lattice = lattice(locations, step);
        let w = dense_weights(&lattice);
        let nodes = Locations::new(lattice.nodes()).unwrap();
        // No more locations than nodes are decomposed densely.
        let k = if nodes.len() > locations.len() {
            kernel.at(locations).block(0..locations.len())
        } else {
            &w * kernel.at(&nodes).block(0..nodes.len()) * w.transpose()
        };
        let (values, vectors) = eigen(k.as_ref()).unwrap();
        let scaled = Mat::from_fn(k.nrows(), k.ncols(), |i, j| vectors[(i, j)] * values[j].max(0.0));
        scaled * vectors.transpose()
    }

    #[test]
    fn eigenpairs_are_those_of_the_interpolated_kernel() {
        for locations in places() {
            let n = locations.len();
            for (kernel, step) in [(se(2.5), 1.0), (se(9.0), 3.6), (cosine(20.0), 2.0)] {
                let spectrum =
                    Spectrum::interpolated(kernel, &locations, step, f64::INFINITY).unwrap().unwrap();
                let block = &spectrum.blocks()[0];
                let u = block.vectors();
                let orthogonality = u.transpose() * &*u - Mat::<f64>::identity(u.ncols(), u.ncols());
                assert!(orthogonality.norm_max() < 1e-4, "{n} {kernel:?}: {:e}", orthogonality.norm_max());
                let scaled = Mat::from_fn(n, u.ncols(), |i, j| u[(i, j)] * spectrum.values()[j]);
                let error = (&scaled * u.transpose() - model(kernel, &locations, step)).norm_max();
                // Where K_nodes has negative eigenvalues, functions that are left out as rounding errors matter by
                // the root of what they are.
                let rounding = if kernel.is_psd() { 1e-11 } else { 1e-7 };
                let bound = 2.0 * spectrum.dropped_trace() + rounding * spectrum.values()[0];
                assert!(error < bound, "{n} {kernel:?}: {error:e} {bound:e}");
                assert_eq!((block.n(), block.rank()), (n, spectrum.rank()));
                let mut normal = normal(3);
                let y = Mat::from_fn(n, 2, |_, j| if j == 0 { 1.0 } else { normal() });
                let mut z = Mat::zeros(u.ncols(), 2);
                spectrum.project(y.as_ref(), z.as_mut());
                assert!((&z - u.transpose() * &y).norm_max() < 1e-9);
                let sums = block.sums();
                assert!(sums.iter().zip(z.col(0).iter()).all(|(a, b)| (a - b).abs() < 1e-9));
            }
        }
    }

    #[test]
    fn tiles_are_independent_and_nobody_is_lost() {
        for locations in places() {
            let n = locations.len();
            let tiles = tiles(locations.coords(), 0..n, 6.0);
            let mut rows = tiles.concat();
            rows.sort_unstable();
            assert_eq!(rows, all(&locations));
            let mut tile_of = vec![0; n];
            for (tile, rows) in tiles.iter().enumerate() {
                rows.iter().for_each(|&row| tile_of[row as usize] = tile);
                for k in 0..locations.dim() {
                    let x = || rows.iter().map(|&row| locations.coords()[(row as usize, k)]);
                    assert!(x().fold(f64::NEG_INFINITY, f64::max) - x().fold(f64::INFINITY, f64::min) <= 6.0);
                }
            }
            // With steps as short as these all tiles are dense.
            let kernel = se(2.0);
            let spectrum = Spectrum::interpolated(kernel, &locations, 0.01, 6.0).unwrap().unwrap();
            let u = spectrum.blocks()[0].vectors();
            let scaled = Mat::from_fn(n, u.ncols(), |i, j| u[(i, j)] * spectrum.values()[j]);
            let error = scaled * u.transpose()
                - Mat::from_fn(n, n, |i, j| {
                    if tile_of[i] == tile_of[j] { kernel.at(&locations).value(i, j) } else { 0.0 }
                });
            assert!(error.norm_max() < 1e-8, "{:e}", error.norm_max());
            let y = Mat::from_fn(n, 1, |i, _| (i as f64).sin());
            let mut z = Mat::zeros(u.ncols(), 1);
            spectrum.project(y.as_ref(), z.as_mut());
            assert!((&z - u.transpose() * &y).norm_max() < 1e-12);
        }
    }

    #[test]
    fn the_kernel_is_missed_by_little_where_steps_are_short() {
        for (locations, most) in places().iter().zip([5e-4, 5e-4, 5e-4, 5e-4, 1.6e-3]) {
            for (kernel, step) in [(se(2.5), 1.0), (se(9.0), 3.6), (cosine(20.0), 2.0)] {
                let lattice = lattice(locations, step);
                let nodes = Locations::new(lattice.nodes()).unwrap();
                let w = dense_weights(&lattice);
                let interpolated = &w * kernel.at(&nodes).block(0..nodes.len()) * w.transpose();
                let n = locations.len();
                let error = interpolated - kernel.at(locations).block(0..n);
                let mean = error.squared_norm_l2() / kernel.at(locations).block(0..n).squared_norm_l2();
                assert!(mean.sqrt() < most, "{n} {kernel:?}: {:e}", mean.sqrt());
            }
        }
    }

    #[test]
    fn likelihoods_are_close_to_the_exact_ones_and_tiles_miss_little() {
        let locations = irregular(1600, 2, 11);
        let (kernel, n) = (se(3.0), locations.len());
        let exact = Spectrum::dense(kernel, &locations).unwrap();
        let vectors = exact.blocks()[0].vectors().into_owned();
        let mut normal = normal(5);
        // Genes of the kernel, with ever more noise.
        let y = Mat::from_fn(exact.values().len(), 8, |k, _| exact.values()[k].sqrt() * normal());
        let y = &vectors * y;
        let y = Mat::from_fn(n, 8, |i, g| y[(i, g)] + [0.3, 1.0, 2.0, 4.0][g % 4] * normal());
        let fits = |spectrum: Spectrum| {
            let models = vec![AnyModel::Spectral(spectrum.into())];
            SpatialTest::from_models(models, vec![0], locations.clone()).fit(y.as_ref()).unwrap()
        };
        let interpolated =
            |tile| fits(Spectrum::interpolated(kernel, &locations, 1.2, tile).unwrap().unwrap());
        let (one, tiled) = (interpolated(f64::INFINITY), interpolated(24.0));
        for ((exact, one), tiled) in fits(exact).iter().zip(&one).zip(&tiled) {
            let (exact, one, tiled) = (exact.best[0], one.best[0], tiled.best[0]);
            assert!((one.llr - exact.llr).abs() < 1e-3 * exact.llr + 0.02, "{} {}", one.llr, exact.llr);
            assert!((one.fsv - exact.fsv).abs() < 2e-3, "{} {}", one.fsv, exact.fsv);
            assert!((tiled.llr - exact.llr).abs() < 0.06 * exact.llr + 2.0, "{} {}", tiled.llr, exact.llr);
        }
    }

    #[test]
    fn neither_place_nor_unit_nor_threads_matter() {
        let locations = irregular(500, 2, 5);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Spectrum::interpolated(se(3.0), &locations, 1.2, f64::INFINITY)).unwrap().unwrap()
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.values(), three.values());
        assert_eq!(one.blocks()[0].vectors(), three.blocks()[0].vectors());
        let moved = Mat::from_fn(500, 2, |i, k| 64.0 * (locations.coords()[(i, k)] - 3.0 * k as f64));
        let moved = Locations::new(moved.as_ref()).unwrap();
        let other = Spectrum::interpolated(se(192.0), &moved, 76.8, f64::INFINITY).unwrap().unwrap();
        for (a, b) in one.values().iter().zip(other.values()) {
            assert!((a - b).abs() < 1e-9 * one.values()[0], "{a} {b}");
        }
    }
}
