//! Forms at a finite noise ratio, nearly, without a solve.
//!
//! The profile likelihood's form `A = H - delta P` is a filter: it has K's eigenvectors, those with eigenvalues s well above
//! delta are kept, the others are not, `f(s) = s / (s + delta)`. Over many points K's eigenvectors are nearly waves with
//! `s = ρ K̂(ω)`, ρ the density of points, and f(K) is nearly `W h W`: h is the function of distances whose spectrum is
//! `f(ρ K̂)`, with h(0) = 1, and W is diagonal. Where points are dense, or near an edge, W makes up for it: f(K) is nearly a
//! projection, whose rows have a sum of squares that is their diagonal: `Σⱼ wᵢ² hᵢⱼ² wⱼ² = wᵢ²`.
//!
//! The form H W h W H is a form of its own right, with exact moments under permutation; that it is near the likelihood's
//! makes it find the same genes, with log p-values within a tenth of its own (bench/moments.R).
//!
//! h has no waves beyond some length, and its box is periodic: what a gene's mesh and the fine mesh for moments make of
//! it is the same.

use super::eigenvalues::{Eigenvalues, MESH_VALUES, WHOLE, from_probes, of_waves};
use super::fourier::{Table, Workspace};
use super::mesh::{Mesh, bounds};
use super::pieces::split;
use super::plan::{FEW, FINE_WIDTH, GENE_WIDTH, MOST_CELLS};
use crate::interrupt;
use crate::null::score::{EntrySums, ScoreSample};
use faer::{Mat, MatRef};
use std::f64::consts::PI;
use std::ops::Range;

/// The noise ratio.
pub const DELTA: f64 = 3.0;

/// The largest eigenvalue s = ρ K̂(0) from which on there is such a form: narrower kernels' differ little from the score form.
const LEAST_EIGENVALUE: f64 = 8.0;

/// Waves with a smaller part of h than this are left out.
const LEAST_PART: f64 = 1e-3;

/// Frequencies of a mesh over those of h: errors are below 1e-4 of the standard deviation of a form that many pairs carry, and
/// below as much of others where cells are few anyway.
const OVERSAMPLING: [f64; 2] = [1.25, 1.5];

/// The largest eigenvalue from which on the second of them counts.
const FEW_CELLS: f64 = 200.0;

/// The box is longer than the points' by so many lengthscales: beyond, h is below a thousandth.
const BEYOND: f64 = 6.0;

/// The mesh for moments has so many times the cells of a gene's in each dimension: h³ has three times the frequencies, few of
/// them near the end.
const FINER: usize = 2;

/// The cells of a gene's meshes are at most so many for each point, or this many: along a curve most of them would be empty,
/// and take longer than all other forms together. Where tissue fills its box there are about ten.
const CELLS_EACH: f64 = 50.0;
const FEW_CELLS_IN_ALL: f64 = 1e6;

/// Steps to W: the first divides by sums, the others by their roots, which converges.
const STEPS: usize = 2;

/// The form of one kernel in one sample.
pub struct Finite {
    rows: Range<usize>,
    shape: Shape,
    pieces: Vec<FinitePiece>,
    /// W's squared diagonal, by row of the sample: 0 for points of pieces with few of them.
    squares: Vec<f64>,
    /// W's diagonal.
    roots: Vec<f32>,
}

/// A part of a sample that h does not connect with the rest.
struct FinitePiece {
    rows: Vec<u32>,
    high: [f64; 3],
    mesh: Mesh<f32>,
    weights: Table,
}

/// The spectrum of h.
#[derive(Debug, Clone, Copy)]
struct Shape {
    lengthscale: f64,
    /// ρ K̂(0).
    top: f64,
    /// The longest wave vector.
    band: f64,
}

impl Shape {
    fn new(lengthscale: f64, density: f64, dim: usize) -> Self {
        let top = density * ((2.0 * PI).sqrt() * lengthscale).powi(dim as i32);
        let band = (2.0 * (top / (DELTA * LEAST_PART)).ln().max(0.0)).sqrt() / lengthscale;
        Self { lengthscale, top, band }
    }

    /// h's spectrum at a squared wave number, 1 for long waves and strong signals.
    fn part(&self, square: f64) -> f64 {
        if square > self.band * self.band {
            return 0.0;
        }
        let s = self.top * (-0.5 * square * self.lengthscale * self.lengthscale).exp();
        s / (s + DELTA)
    }

    /// The size of a gene's cells.
    fn step(&self) -> f64 {
        PI / (OVERSAMPLING[usize::from(self.top > FEW_CELLS)] * self.band)
    }
}

/// Whether there is such a form for a kernel, at this density of points.
pub fn is_wide(lengthscale: f64, density: f64, dim: usize) -> bool {
    Shape::new(lengthscale, density, dim).top >= LEAST_EIGENVALUE
}

impl Finite {
    /// The form of one kernel in the sample with these rows and this density of points. `None` where no piece has enough
    /// points, or its mesh would be too large.
    pub fn new(coords: MatRef<'_, f64>, rows: Range<usize>, lengthscale: f64, density: f64) -> Option<Self> {
        let dim = coords.ncols();
        let shape = Shape::new(lengthscale, density, dim);
        let reach = BEYOND * lengthscale;
        let mut left = (CELLS_EACH * rows.len() as f64).max(FEW_CELLS_IN_ALL);
        let mut pieces = Vec::new();
        for rows in split(coords, rows.clone().map(|row| row as u32).collect(), reach) {
            if rows.len() <= FEW {
                continue;
            }
            let (low, high) = bounds(coords, rows.iter().map(|&row| row as usize));
            let cells = super::mesh::shape(&low, &high, dim, shape.step(), reach, GENE_WIDTH);
            let cells = cells.iter().product::<f64>();
            left -= cells;
            if left < 0.0 || cells * (FINER as f64).powi(dim as i32) > MOST_CELLS {
                return None;
            }
            let mesh = Mesh::new(low, high, dim, shape.step(), reach, GENE_WIDTH);
            let plain = mesh.table(|square| shape.part(square), 0);
            let scale = 1.0 / plain.total(mesh.shape());
            let weights = mesh.table(|square| shape.part(square), 2).scaled(scale);
            pieces.push(FinitePiece { rows, high, mesh, weights });
        }
        if pieces.is_empty() {
            return None;
        }
        let mut finite = Self { rows, shape, pieces, squares: Vec::new(), roots: Vec::new() };
        finite.squares = finite.balance(coords);
        finite.roots = finite.squares.iter().map(|square| square.sqrt() as f32).collect();
        Some(finite)
    }

    /// W's squared diagonal.
    fn balance(&self, coords: MatRef<'_, f64>) -> Vec<f64> {
        let mut squares = vec![0.0; self.rows.len()];
        let mut work = Workspace::default();
        for piece in &self.pieces {
            if interrupt::requested() {
                break;
            }
            let fine = piece.fine(self.shape);
            let table = fine.mesh.table_of_values(&fine.plain, |h| h * h, &mut work);
            let place = |row: u32| row as usize - self.rows.start;
            piece.rows.iter().for_each(|&row| squares[place(row)] = 1.0);
            for step in 0..STEPS {
                fine.spread(coords, piece, |row| squares[place(row)], &mut work);
                fine.mesh.convolve_by(&mut work, &table);
                for &row in &piece.rows {
                    let square = &mut squares[place(row)];
                    // Its own share at least, but for rounding.
                    let sum = fine.mesh.interpolate(coords, row as usize, &work).max(*square);
                    *square /= if step == 0 { sum } else { sum.sqrt() };
                }
            }
        }
        squares
    }

    /// Cells of the meshes, piece by piece.
    pub fn cells(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().map(|piece| piece.mesh.cells())
    }

    /// Spreads W y on the mesh of a piece, added to a workspace's; `y` gives rows with values.
    pub fn spread(
        &self,
        coords: MatRef<'_, f64>,
        piece: usize,
        y: impl Iterator<Item = (usize, f64)>,
        work: &mut Workspace<f32>,
    ) {
        let whole = self.pieces.len() == 1 && self.pieces[0].rows.len() == self.rows.len();
        let piece = &self.pieces[piece];
        let points = y
            .filter(|(row, _)| whole || piece.rows.binary_search(&(*row as u32)).is_ok())
            .map(|(row, value)| (row, self.roots[row - self.rows.start] * value as f32));
        piece.mesh.spread_fast(coords, points, work);
    }

    /// Spreads W y for all points of a piece.
    pub fn spread_all(
        &self,
        coords: MatRef<'_, f64>,
        piece: usize,
        y: impl Fn(usize) -> f64,
        work: &mut Workspace<f32>,
    ) {
        let piece = &self.pieces[piece];
        let point = |&row: &u32| {
            let row = row as usize;
            (row, self.roots[row - self.rows.start] * y(row) as f32)
        };
        piece.mesh.spread_fast(coords, piece.rows.iter().map(point), work);
    }

    /// Zeros in a workspace, for a piece.
    pub fn clear(&self, piece: usize, work: &mut Workspace<f32>) {
        self.pieces[piece].mesh.clear(work);
    }

    /// The form of what was spread on a piece.
    pub fn form(&self, piece: usize, work: &mut Workspace<f32>) -> f64 {
        let piece = &self.pieces[piece];
        piece.mesh.form(work, &piece.weights)
    }

    /// The form of a gene that is centred within the sample.
    pub fn form_of(
        &self,
        coords: MatRef<'_, f64>,
        y: impl Fn(usize) -> f64,
        work: &mut Workspace<f32>,
    ) -> f64 {
        let form = |k: usize| {
            self.clear(k, work);
            self.spread_all(coords, k, &y, work);
            self.form(k, work)
        };
        (0..self.pieces.len()).map(form).sum()
    }

    /// What permutation makes of the form: exact sums over its entries, and its eigenvalues.
    pub fn null(&self, coords: MatRef<'_, f64>, seed: u64) -> ScoreSample {
        let start = self.rows.start;
        let n = self.rows.len();
        let mut work = Workspace::default();
        let fines: Vec<Fine> = self.pieces.iter().map(|piece| piece.fine(self.shape)).collect();
        let (mut rows, mut squares) = (vec![0.0; n], vec![0.0; n]);
        let mut cubes = 0.0;
        let mut waves = None;
        for (piece, fine) in self.pieces.iter().zip(&fines) {
            let own = |row: u32| self.squares[row as usize - start];
            let [second, third] =
                [2, 3].map(|p| fine.mesh.table_of_values(&fine.plain, |h| h.powi(p), &mut work));
            fine.spread(coords, piece, |row| own(row).sqrt(), &mut work);
            let once = work.spectrum.clone();
            fine.mesh.convolve_by(&mut work, &fine.weights);
            for &row in &piece.rows {
                let sum = fine.mesh.interpolate(coords, row as usize, &work);
                rows[row as usize - start] = own(row).sqrt() * sum;
            }
            fine.spread(coords, piece, own, &mut work);
            if self.pieces.len() == 1 {
                let part =
                    |wave: &[i64; 3]| fine.scale * self.shape.part(fine.mesh.wave_number(wave).powi(2));
                waves = of_waves(&fine.mesh, self.shape.band, part, [&once, &work.spectrum], n);
            }
            fine.mesh.convolve_by(&mut work, &second);
            for &row in &piece.rows {
                let sum = fine.mesh.interpolate(coords, row as usize, &work);
                squares[row as usize - start] = own(row) * (sum - own(row));
            }
            fine.spread(coords, piece, |row| own(row).powf(1.5), &mut work);
            let diagonal: f64 = piece.rows.iter().map(|&row| own(row).powi(3)).sum();
            cubes += fine.mesh.total_by(&work, &third) - diagonal;
        }
        let product = |x: &[f64]| self.product(coords, &fines, x);
        let probed = || {
            // The distribution of the eigenvalues need not be known better than a gene's form.
            let coarse = (n > WHOLE)
                .then(|| self.pieces.iter().map(|piece| piece.coarse(self.shape)).collect::<Vec<_>>());
            let meshes = coarse.as_ref().unwrap_or(&fines);
            let products = |x: &[Vec<f64>]| x.iter().map(|x| self.product(coords, meshes, x)).collect();
            from_probes(n, seed, MESH_VALUES, products)
        };
        let eigenvalues: Eigenvalues = waves.unwrap_or_else(probed);
        let sums = EntrySums { rows, squares, cubes, triangles: None, diagonal: Some(self.squares.clone()) };
        ScoreSample::new(&sums, product, &eigenvalues)
    }

    /// W h W x, by row of the sample.
    fn product(&self, coords: MatRef<'_, f64>, fines: &[Fine], x: &[f64]) -> Vec<f64> {
        let start = self.rows.start;
        let weight = |row: u32| self.squares[row as usize - start].sqrt();
        let mut work = Workspace::default();
        let mut out = vec![0.0; x.len()];
        for (piece, fine) in self.pieces.iter().zip(fines) {
            fine.spread(coords, piece, |row| weight(row) * x[row as usize - start], &mut work);
            fine.mesh.convolve_by(&mut work, &fine.weights);
            for &row in &piece.rows {
                out[row as usize - start] = weight(row) * fine.mesh.interpolate(coords, row as usize, &work);
            }
        }
        out
    }

    /// H W h W H, a matrix, by its waves.
    pub fn dense(&self, coords: MatRef<'_, f64>) -> Mat<f64> {
        let n = self.rows.len();
        let mut form = Mat::<f64>::zeros(n, n);
        for piece in &self.pieces {
            let mesh = piece.fine(self.shape).mesh;
            let mut waves = mesh.waves(self.shape.band, usize::MAX).unwrap_or_default();
            // Of a wave and its opposite, one.
            waves.retain(|wave| *wave >= [0; 3]);
            let parts: Vec<f64> = waves
                .iter()
                .map(|wave| {
                    let part = self.shape.part(mesh.wave_number(wave).powi(2));
                    if *wave == [0; 3] { part } else { 2.0 * part }
                })
                .collect();
            let total: f64 = parts.iter().sum();
            let factor = Mat::from_fn(piece.rows.len(), 2 * waves.len(), |i, k| {
                let row = piece.rows[i] as usize;
                let along = mesh.wave_vector(&waves[k / 2]);
                let turn: f64 = (0..coords.ncols()).map(|c| along[c] * coords[(row, c)]).sum();
                let wave = if k % 2 == 0 { turn.cos() } else { turn.sin() };
                (parts[k / 2] / total * self.squares[row - self.rows.start]).sqrt() * wave
            });
            let own = &factor * factor.transpose();
            let place = |i: usize| piece.rows[i] as usize - self.rows.start;
            for j in 0..own.ncols() {
                (0..own.nrows()).for_each(|i| form[(place(i), place(j))] = own[(i, j)]);
            }
        }
        let means: Vec<f64> = form.col_iter().map(|c| c.iter().sum::<f64>() / n as f64).collect();
        let mean = means.iter().sum::<f64>() / n as f64;
        Mat::from_fn(n, n, |i, j| form[(i, j)] - means[i] - means[j] + mean)
    }
}

/// A piece's mesh for moments, or for products alone.
struct Fine {
    mesh: Mesh<f64>,
    /// h's spectrum, and its weights for products.
    plain: Table,
    weights: Table,
    /// What makes h(0) = 1.
    scale: f64,
}

impl FinitePiece {
    fn fine(&self, shape: Shape) -> Fine {
        self.with(shape, FINER, FINE_WIDTH)
    }

    /// As coarse as for genes, for products alone: several times faster in three dimensions.
    fn coarse(&self, shape: Shape) -> Fine {
        self.with(shape, 1, GENE_WIDTH)
    }

    fn with(&self, shape: Shape, times: usize, width: usize) -> Fine {
        let mesh = self.mesh.finer(times, self.high, width);
        let plain = mesh.table(|square| shape.part(square), 0);
        let scale = 1.0 / plain.total(mesh.shape());
        let weights = mesh.table(|square| shape.part(square), 2).scaled(scale);
        Fine { plain: plain.scaled(scale), weights, mesh, scale }
    }
}

impl Fine {
    /// The spectrum of values at the points.
    fn spread(
        &self,
        coords: MatRef<'_, f64>,
        piece: &FinitePiece,
        value: impl Fn(u32) -> f64,
        work: &mut Workspace<f64>,
    ) {
        self.mesh.clear(work);
        let points = piece.rows.iter().map(|&row| (row as usize, value(row)));
        self.mesh.spread(coords, points, work);
        self.mesh.forward(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshes_along_a_curve_are_not_larger_than_what_they_are_for() {
        let n = 20_000;
        let line = Mat::from_fn(n, 2, |i, k| [0.6, 0.8][k] * i as f64);
        let cells = |lengthscale: f64| {
            let finite = Finite::new(line.as_ref(), 0..n, lengthscale, 0.4)?;
            Some(finite.cells().sum::<usize>() as f64)
        };
        assert_eq!([2.0, 4.0, 8.0].map(cells), [None; 3]);
        assert!(
            [60.0, 250.0].map(cells).iter().all(|cells| cells.is_some_and(|c| c < 1.5 * FEW_CELLS_IN_ALL))
        );
    }
}
