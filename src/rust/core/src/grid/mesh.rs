//! Products and quadratic forms of SE kernels by Fourier transforms on a regular mesh.
//!
//! An SE kernel over a box so large that nothing wraps round is a sum of waves, `K(r) = 1/V Σ K̂(ω) exp(iωr)`. So
//! `yᵀ K y = 1/V Σ K̂(ω) |ŷ(ω)|²`, where the transform ŷ of values at arbitrary points comes from a mesh: each value is
//! spread over some cells by a [`Window`], and what that does to the spectrum is divided out.
//! One transform of a gene serves all kernels for which the cells are small enough.

use super::fourier::{Real, Table, Transform, Workspace, good_length};
use super::plan::GENE_WIDTH;
use super::window::{MAX_WIDTH, OFFSETS, Window};
use crate::simd::vectorized;
use faer::MatRef;
use realfft::num_complex::Complex;
use std::f64::consts::PI;

/// A mesh over some points.
pub struct Mesh<T: Real> {
    window: Window,
    /// Its values, for meshes of [`GENE_WIDTH`] cells.
    table: Vec<[f32; GENE_WIDTH]>,
    transform: Transform<T>,
    shape: [usize; 3],
    /// Rows of the first two dimensions that the window of a point may reach.
    used: [usize; 2],
    step: f64,
    /// Of the points, in the order of their coordinates.
    origin: [f64; 3],
    dim: usize,
}

/// The coordinate along a dimension of the mesh: the first one is along the last, so that its cells are contiguous, and
/// the last one along the first, whose transforms need no copy back.
fn coordinate(axis: usize, dim: usize) -> Option<usize> {
    match (dim, axis) {
        (_, 2) => Some(0),
        (2, 0) | (3, 1) => Some(1),
        (3, 0) => Some(2),
        _ => None,
    }
}

/// The dimension of the mesh that a coordinate is along.
fn axis(coordinate: usize, dim: usize) -> usize {
    if dim == 2 { 2 - 2 * coordinate } else { 2 - coordinate }
}

/// A kernel's weights on a mesh's frequencies, a vector for each dimension.
pub type Weights = [Vec<f64>; 3];

/// The box round some points: least and largest coordinates, 0 in unused dimensions.
pub fn bounds(coords: MatRef<'_, f64>, rows: impl Iterator<Item = usize>) -> ([f64; 3], [f64; 3]) {
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for row in rows {
        for k in 0..coords.ncols() {
            low[k] = low[k].min(coords[(row, k)]);
            high[k] = high[k].max(coords[(row, k)]);
        }
    }
    for k in coords.ncols()..3 {
        (low[k], high[k]) = (0.0, 0.0);
    }
    (low, high)
}

/// The shape of a mesh over a box: cells of this step, room for the window, and `reach` beyond so that nothing that is
/// nearer wraps round.
pub fn shape(low: &[f64; 3], high: &[f64; 3], dim: usize, step: f64, reach: f64, width: usize) -> [f64; 3] {
    std::array::from_fn(|axis| {
        let Some(k) = coordinate(axis, dim) else { return 1.0 };
        let cells = ((high[k] - low[k]) / step).ceil() + width as f64 + 2.0;
        cells.max(((high[k] - low[k] + reach) / step).ceil())
    })
}

impl<T: Real> Mesh<T> {
    /// A mesh over a box that serves kernels up to the lengthscale `reach` is meant for.
    pub fn new(low: [f64; 3], high: [f64; 3], dim: usize, step: f64, reach: f64, width: usize) -> Self {
        let least = shape(&low, &high, dim, step, reach, width);
        let shape = least.map(|cells| if cells <= 1.0 { 1 } else { good_length(cells as usize) });
        Self::of_shape(shape, low, high, dim, step, width)
    }

    /// A mesh over a box that has this shape.
    fn of_shape(
        shape: [usize; 3],
        low: [f64; 3],
        high: [f64; 3],
        dim: usize,
        step: f64,
        width: usize,
    ) -> Self {
        let rows = |axis: usize| {
            coordinate(axis, dim).map_or(1, |k| ((high[k] - low[k]) / step) as usize + width + 2)
        };
        let used = [rows(0).min(shape[0]), rows(1).min(shape[1])];
        // The first point's window starts at cell 0 or 1.
        let origin = std::array::from_fn(|k| low[k] - 0.5 * width as f64 * step);
        let window = Window::new(width);
        let table = if width == GENE_WIDTH { window.tabulated() } else { Vec::new() };
        Self { window, table, transform: Transform::new(shape), shape, used, step, origin, dim }
    }

    /// Cells in each dimension.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.transform.cells()
    }

    /// A finer mesh over the same periodic box, in double precision: each cell is so many in each dimension.
    pub fn finer(&self, times: usize, high: [f64; 3], width: usize) -> Mesh<f64> {
        let low = std::array::from_fn(|k| self.origin[k] + 0.5 * self.window.width() as f64 * self.step);
        let shape = self.shape.map(|n| if n == 1 { 1 } else { n * times });
        Mesh::of_shape(shape, low, high, self.dim, self.step / times as f64, width)
    }

    /// Weights that depend on the length of a wave vector: `spectrum(ω²)`, over the window's to some power.
    pub fn table(&self, spectrum: impl Fn(f64) -> f64, power: i32) -> Table {
        let windows = self.windows();
        let square =
            |k: usize, axis: usize| (2.0 * PI * k as f64 / (self.shape[axis] as f64 * self.step)).powi(2);
        Table::new(self.shape, |k| {
            let value = spectrum((0..3).map(|axis| square(k[axis], axis)).sum());
            if value == 0.0 {
                return 0.0;
            }
            value / (0..3).map(|axis| windows[axis][k[axis]]).product::<f64>().powi(power)
        })
    }

    /// Weights for quadratic forms and products with a kernel whose values on the mesh are some function of those of
    /// another, which has this spectrum.
    pub fn table_of_values(
        &self,
        spectrum: &Table,
        f: impl Fn(f64) -> f64,
        work: &mut Workspace<T>,
    ) -> Table {
        let windows = self.windows();
        self.transform.fill(work, spectrum);
        self.transform.backward(work);
        for value in &mut work.values {
            *value = T::rounded(f((*value).into()));
        }
        self.transform.forward(work, [self.shape[0], self.shape[1]]);
        let cells = self.cells() as f64;
        let (s1, c2) = (self.shape[1], self.shape[2] / 2 + 1);
        Table::new(self.shape, |k| {
            let value: f64 = work.spectrum[(k[0] * s1 + k[1]) * c2 + k[2]].re.into();
            value / cells / (0..3).map(|axis| windows[axis][k[axis]]).product::<f64>().powi(2)
        })
    }

    /// The windows' transforms, by dimension.
    fn windows(&self) -> [Vec<f64>; 3] {
        self.shape.map(|n| if n == 1 { vec![1.0] } else { self.window.transform(n) })
    }

    /// The kernel's weights for quadratic forms and products: its spectrum over the square of the window's.
    pub fn weights(&self, lengthscale: f64) -> Weights {
        self.weights_over(lengthscale, 2)
    }

    /// The kernel's spectrum over the window's, to some power.
    fn weights_over(&self, lengthscale: f64, power: i32) -> Weights {
        std::array::from_fn(|axis| {
            let n = self.shape[axis];
            if n == 1 {
                return vec![1.0];
            }
            let window = self.window.transform(n);
            let scale = (2.0 * PI).sqrt() * lengthscale / (n as f64 * self.step);
            (0..=n / 2)
                .map(|k| {
                    let turn = 2.0 * PI * k as f64 / (n as f64 * self.step) * lengthscale;
                    scale * (-0.5 * turn * turn).exp() / window[k].powi(power)
                })
                .collect()
        })
    }

    /// Where a point's window starts, and its values in each dimension of the mesh.
    #[inline(always)]
    fn window_at(&self, coords: MatRef<'_, f64>, row: usize) -> ([usize; 3], [[f64; MAX_WIDTH]; 3]) {
        let mut first = [0; 3];
        let mut values = [[1.0; MAX_WIDTH]; 3];
        for k in 0..self.dim {
            let axis = axis(k, self.dim);
            (first[axis], values[axis]) = self.window.values((coords[(row, k)] - self.origin[k]) / self.step);
        }
        (first, values)
    }

    /// Cells of the window in each dimension.
    fn widths(&self) -> [usize; 3] {
        std::array::from_fn(|axis| coordinate(axis, self.dim).map_or(1, |_| self.window.width()))
    }

    /// Spreads values at some points, added to a workspace's.
    pub fn spread(
        &self,
        coords: MatRef<'_, f64>,
        points: impl Iterator<Item = (usize, f64)>,
        work: &mut Workspace<T>,
    ) {
        let [w0, w1, w2] = self.widths();
        vectorized!(for (row, value) in points {
            let (first, values) = self.window_at(coords, row);
            for (i0, v0) in values[0][..w0].iter().enumerate() {
                for (i1, v1) in values[1][..w1].iter().enumerate() {
                    let start = ((first[0] + i0) * self.shape[1] + first[1] + i1) * self.shape[2] + first[2];
                    let outer = value * v0 * v1;
                    for (cell, v2) in work.values[start..start + w2].iter_mut().zip(&values[2]) {
                        *cell = *cell + T::rounded(outer * v2);
                    }
                }
            }
        });
    }

    /// The values of a workspace at a point, gathered by the window.
    #[inline]
    pub fn interpolate(&self, coords: MatRef<'_, f64>, row: usize, work: &Workspace<T>) -> f64 {
        let [w0, w1, w2] = self.widths();
        vectorized!({
            let (first, values) = self.window_at(coords, row);
            // Along the last dimension.
            let mut line = [0.0; MAX_WIDTH];
            for (i0, v0) in values[0][..w0].iter().enumerate() {
                for (i1, v1) in values[1][..w1].iter().enumerate() {
                    let start = ((first[0] + i0) * self.shape[1] + first[1] + i1) * self.shape[2] + first[2];
                    let outer = v0 * v1;
                    for (sum, cell) in line.iter_mut().zip(&work.values[start..start + w2]) {
                        *sum += outer * (*cell).into();
                    }
                }
            }
            let mut sum = 0.0;
            for (line, v2) in line[..w2].iter().zip(&values[2]) {
                sum += line * v2;
            }
            sum
        })
    }

    /// Zeros in a workspace.
    pub fn clear(&self, work: &mut Workspace<T>) {
        self.transform.clear(work);
    }

    /// The quadratic forms of what was spread, one for each of the kernels' weights, added to `forms`.
    pub fn forms(&self, work: &mut Workspace<T>, weights: &[Weights], forms: &mut [f64]) {
        self.transform.power(work, self.used, weights, forms);
    }

    /// The spectrum of what was spread, into the workspace.
    pub fn forward(&self, work: &mut Workspace<T>) {
        self.transform.forward(work, self.used);
    }

    /// Replaces a workspace's spectrum by the convolution with a kernel on the mesh, ready for [`Mesh::interpolate`].
    pub fn convolve(&self, work: &mut Workspace<T>, weights: &Weights) {
        self.transform.multiply(work, weights);
        self.transform.backward(work);
    }

    /// The same with a table of weights.
    pub fn convolve_by(&self, work: &mut Workspace<T>, weights: &Table) {
        self.transform.multiply_by(work, weights);
        self.transform.backward(work);
    }

    /// The quadratic form of what was spread.
    pub fn form(&self, work: &mut Workspace<T>, weights: &Table) -> f64 {
        self.transform.power_by(work, self.used, weights)
    }

    /// tr K³ from the spectrum of ones at the points, which is lost: with `ρ(t) = Σ exp(-3|xᵢ - t|²/2l²)` it is
    /// `(9/(2πl²))^(d/2) ∫ρ³`, which needs cells of at most l/3.
    pub fn trace_of_cube(&self, work: &mut Workspace<T>, lengthscale: f64) -> f64 {
        let weights = self.weights_over(lengthscale / 3f64.sqrt(), 1);
        self.convolve(work, &weights);
        let sum: f64 = work
            .values
            .iter()
            .map(|v| {
                let v: f64 = (*v).into();
                v * v * v
            })
            .sum();
        let scale = (9.0 / (2.0 * PI * lengthscale * lengthscale)).sqrt() * self.step;
        scale.powi(self.dim as i32) * sum
    }

    /// The sum of a kernel over all pairs of points, from the squares of the spectrum of ones.
    pub fn total(&self, work: &Workspace<T>, weights: &Weights) -> f64 {
        let [s0, s1, s2] = self.shape;
        let c2 = s2 / 2 + 1;
        let mut sum = 0.0;
        for k0 in 0..s0 {
            for k1 in 0..s1 {
                let outer = weights[0][k0.min(s0 - k0)] * weights[1][k1.min(s1 - k1)];
                if outer < 1e-30 {
                    continue;
                }
                let row = &work.spectrum[(k0 * s1 + k1) * c2..][..c2];
                let mut line = 0.0;
                for (k2, (value, weight)) in row.iter().zip(&weights[2]).enumerate() {
                    let times = if k2 == 0 || 2 * k2 == s2 { 1.0 } else { 2.0 };
                    let square: f64 = (value.re * value.re + value.im * value.im).into();
                    line += times * weight * square;
                }
                sum += outer * line;
            }
        }
        sum
    }
}

impl Mesh<f32> {
    /// As [`Mesh::spread`], for many genes: faster, and to single precision. For windows of [`GENE_WIDTH`] cells.
    pub fn spread_fast(
        &self,
        coords: MatRef<'_, f64>,
        points: impl Iterator<Item = (usize, f32)>,
        work: &mut Workspace<f32>,
    ) {
        let strides = [self.shape[1] * self.shape[2], self.shape[2], 1];
        let scale = 1.0 / self.step;
        let mut windows = [[0.0; GENE_WIDTH]; 3];
        vectorized!(for (row, value) in points {
            let mut start = 0;
            for k in 0..self.dim {
                // Where the window ends; at least 0, see `origin`.
                let low = (coords[(row, k)] - self.origin[k]) * scale - 0.5 * GENE_WIDTH as f64;
                let first = low as usize + 1;
                let offset = (first as f64 - low) * OFFSETS as f64;
                let below = (offset as usize).min(OFFSETS - 1);
                let t = (offset - below as f64) as f32;
                let (a, b) = (self.table[below], self.table[below + 1]);
                let mut window = [0.0; GENE_WIDTH];
                for i in 0..GENE_WIDTH {
                    window[i] = a[i] + t * (b[i] - a[i]);
                }
                windows[k] = window;
                start += first * strides[axis(k, self.dim)];
            }
            match self.dim {
                1 => add_line(&mut work.values, start, value, &windows[0]),
                2 => {
                    for (i, across) in windows[1].iter().enumerate() {
                        add_line(&mut work.values, start + i * strides[0], value * across, &windows[0]);
                    }
                }
                _ => {
                    for (j, along) in windows[2].iter().enumerate() {
                        for (i, across) in windows[1].iter().enumerate() {
                            let start = start + j * strides[0] + i * strides[1];
                            add_line(&mut work.values, start, value * across * along, &windows[0]);
                        }
                    }
                }
            }
        });
    }
}

/// Adds a multiple of a window's values to the cells from `start` on.
#[inline(always)]
fn add_line(cells: &mut [f32], start: usize, outer: f32, values: &[f32; GENE_WIDTH]) {
    let cells = &mut cells[start..start + GENE_WIDTH];
    // A copy, which nothing else can change meanwhile.
    let mut sums = [0.0; GENE_WIDTH];
    sums.copy_from_slice(cells);
    for i in 0..GENE_WIDTH {
        sums[i] += outer * values[i];
    }
    cells.copy_from_slice(&sums);
}

impl Mesh<f64> {
    /// The root of a kernel's spectrum, over the window's to some power; waves beyond a band are left out.
    pub fn root_spectrum(&self, lengthscale: f64, band: f64, power: i32) -> Table {
        let top = self.amplitude(&[0; 3], lengthscale).sqrt();
        let root = |square: f64| top * (-0.25 * square * lengthscale * lengthscale).exp();
        self.table(|square| if square <= band * band { root(square) } else { 0.0 }, power)
    }

    /// White noise times weights of the frequencies, ready for [`Mesh::interpolate`].
    pub fn filter_noise(&self, work: &mut Workspace<f64>, weights: &Table, mut noise: impl FnMut() -> f64) {
        self.clear(work);
        work.values.iter_mut().for_each(|value| *value = noise());
        self.transform.forward(work, [self.shape[0], self.shape[1]]);
        self.convolve_by(work, weights);
    }

    /// The places of a spectrum, each with its frequencies from 0 to n/2.
    pub fn places(&self) -> impl Iterator<Item = (usize, [usize; 3])> + '_ {
        let [s0, s1, s2] = self.shape;
        let frequencies = (0..s0).flat_map(move |k0| (0..s1).map(move |k1| (k0, k1)));
        let frequencies = frequencies.flat_map(move |(k0, k1)| (0..=s2 / 2).map(move |k2| [k0, k1, k2]));
        frequencies
            .enumerate()
            .map(move |(place, [k0, k1, k2])| (place, [k0.min(s0 - k0), k1.min(s1 - k1), k2]))
    }

    /// The density of some points on the mesh, up to its highest frequency: what turns sums over waves into those of the
    /// points by [`Mesh::times_on_mesh`].
    pub fn density(&self, coords: MatRef<'_, f64>, rows: &[u32], high: [f64; 3]) -> Vec<f64> {
        let mut work = Workspace::default();
        // A window of twice as many cells of half the size begins at the same place.
        let fine = self.finer(2, high, 2 * self.window.width());
        fine.clear(&mut work);
        fine.spread(coords, rows.iter().map(|&row| (row as usize, 1.0)), &mut work);
        fine.forward(&mut work);
        let spectrum = std::mem::take(&mut work.spectrum);
        let sums = fine.sums(&spectrum);
        self.clear_spectrum(&mut work);
        let [s0, s1, s2] = self.shape;
        let cells = self.cells() as f64;
        let turns = |k: usize, n: usize| if 2 * k <= n { k as i64 } else { k as i64 - n as i64 };
        for k0 in 0..s0 {
            for k1 in 0..s1 {
                for k2 in 0..=s2 / 2 {
                    let wave = [turns(k0, s0), turns(k1, s1), k2 as i64];
                    let highest = |axis: usize| wave[axis] > 0 && 2 * wave[axis] == self.shape[axis] as i64;
                    if !(0..3).any(highest) {
                        work.spectrum[(k0 * s1 + k1) * (s2 / 2 + 1) + k2] = sums.at(&wave) / cells;
                    }
                }
            }
        }
        self.transform.backward(&mut work);
        work.values
    }

    /// Zeros in a workspace's spectrum.
    pub fn clear_spectrum(&self, work: &mut Workspace<f64>) {
        work.spectrum.clear();
        work.spectrum.resize(self.shape[0] * self.shape[1] * (self.shape[2] / 2 + 1), Complex::default());
    }

    /// The values of a workspace's spectrum, which is lost.
    pub fn backward(&self, work: &mut Workspace<f64>) {
        self.transform.backward(work);
    }

    /// A workspace's spectrum multiplied, on the mesh, by values there.
    pub fn times_on_mesh(&self, values: &[f64], work: &mut Workspace<f64>) {
        self.transform.backward(work);
        work.values.iter_mut().zip(values).for_each(|(value, factor)| *value *= factor);
        self.transform.forward(work, [self.shape[0], self.shape[1]]);
    }

    /// The sum of a kernel over all pairs of points, from their values' spectrum.
    pub fn total_by(&self, work: &Workspace<f64>, weights: &Table) -> f64 {
        self.transform.total_by(work, weights)
    }

    /// The waves of the box whose wave vector is at most `band` long, as numbers of turns over the box in each dimension
    /// of the mesh; `None` if they are more than `most`.
    pub fn waves(&self, band: f64, most: usize) -> Option<Vec<[i64; 3]>> {
        let turns =
            self.shape.map(|n| if n == 1 { 0 } else { (band * n as f64 * self.step / (2.0 * PI)) as i64 });
        let mut waves = Vec::new();
        for k0 in -turns[0]..=turns[0] {
            for k1 in -turns[1]..=turns[1] {
                for k2 in -turns[2]..=turns[2] {
                    let wave = [k0, k1, k2];
                    if self.wave_number(&wave) <= band {
                        waves.push(wave);
                        if waves.len() > most {
                            return None;
                        }
                    }
                }
            }
        }
        Some(waves)
    }

    /// The length of a wave vector.
    pub fn wave_number(&self, wave: &[i64; 3]) -> f64 {
        (0..3).map(|axis| self.turn(wave, axis).powi(2)).sum::<f64>().sqrt()
    }

    /// A wave vector, in the order of coordinates.
    pub fn wave_vector(&self, wave: &[i64; 3]) -> [f64; 3] {
        std::array::from_fn(|k| if k < self.dim { self.turn(wave, axis(k, self.dim)) } else { 0.0 })
    }

    fn turn(&self, wave: &[i64; 3], axis: usize) -> f64 {
        let n = self.shape[axis];
        if n == 1 { 0.0 } else { 2.0 * PI * wave[axis] as f64 / (n as f64 * self.step) }
    }

    /// The spectrum of some values at the points by waves.
    pub fn sums<'a>(&'a self, spectrum: &'a [Complex<f64>]) -> WaveSums<'a> {
        WaveSums { mesh: self, spectrum, windows: self.windows() }
    }

    /// An SE kernel's part in a wave, K̂(ω)/V.
    pub fn amplitude(&self, wave: &[i64; 3], lengthscale: f64) -> f64 {
        let scale = |axis: usize| {
            let n = self.shape[axis];
            if n == 1 { 1.0 } else { (2.0 * PI).sqrt() * lengthscale / (n as f64 * self.step) }
        };
        (0..3).map(scale).product::<f64>() * (-0.5 * (self.wave_number(wave) * lengthscale).powi(2)).exp()
    }
}

/// The sum of waves over the points of a mesh, each times its value.
pub struct WaveSums<'a> {
    mesh: &'a Mesh<f64>,
    spectrum: &'a [Complex<f64>],
    windows: [Vec<f64>; 3],
}

impl WaveSums<'_> {
    /// Σ v exp(-iωx) for a wave of at most half of the mesh's cells.
    pub fn at(&self, wave: &[i64; 3]) -> Complex<f64> {
        let shape = self.mesh.shape;
        let half = wave[2] >= 0;
        // The other half is the conjugate.
        let wave = if half { *wave } else { wave.map(|k| -k) };
        let place = |axis: usize| wave[axis].rem_euclid(shape[axis] as i64) as usize;
        let value = self.spectrum[(place(0) * shape[1] + place(1)) * (shape[2] / 2 + 1) + place(2)];
        let window: f64 = (0..3).map(|axis| self.windows[axis][wave[axis].unsigned_abs() as usize]).product();
        let value = if half { value } else { value.conj() };
        value / window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Locations;
    use crate::fixtures::{irregular, normal, se};

    fn dense(locations: &Locations, lengthscale: f64, y: &[f64]) -> (f64, Vec<f64>) {
        let kernel = se(lengthscale);
        let kernel = kernel.at(locations);
        let product: Vec<f64> =
            (0..y.len()).map(|i| (0..y.len()).map(|j| kernel.value(i, j) * y[j]).sum()).collect();
        (product.iter().zip(y).map(|(a, b)| a * b).sum(), product)
    }

    #[test]
    fn forms_and_products_agree_with_sums() {
        for (dim, ls) in [(1, [3.0, 9.0]), (2, [2.0, 7.0]), (3, [1.5, 4.0])] {
            let locations = irregular(1500, dim, 3);
            let n = locations.len();
            let mut normal = normal(9);
            let y: Vec<f64> = (0..n).map(|_| normal()).collect();
            let coords = locations.coords();
            let (low, high) = bounds(coords, 0..n);
            for (width, fraction, form_error) in [(8, 2.0, 1e-6), (12, 4.0, 1e-11)] {
                let mesh = Mesh::<f64>::new(low, high, dim, ls[0] / fraction, 7.5 * ls[1], width);
                let small = Mesh::<f32>::new(low, high, dim, ls[0] / fraction, 5.3 * ls[1], width);
                let weights: Vec<Weights> = ls.iter().map(|l| mesh.weights(*l)).collect();
                let mut work = Workspace::default();
                mesh.clear(&mut work);
                mesh.spread(coords, (0..n).map(|i| (i, y[i])), &mut work);
                let mut forms = [0.0; 2];
                mesh.forms(&mut work, &weights, &mut forms);
                let weights32: Vec<Weights> = ls.iter().map(|l| small.weights(*l)).collect();
                let mut work32 = Workspace::default();
                small.clear(&mut work32);
                small.spread(coords, (0..n).map(|i| (i, y[i])), &mut work32);
                let mut forms32 = [0.0; 2];
                small.forms(&mut work32, &weights32, &mut forms32);
                for k in 0..2 {
                    let (form, product) = dense(&locations, ls[k], &y);
                    let kernel = se(ls[k]);
                    let kernel = kernel.at(&locations);
                    let sd = (2.0
                        * (0..n)
                            .flat_map(|i| (0..n).map(move |j| (i, j)))
                            .map(|(i, j)| kernel.value(i, j).powi(2))
                            .sum::<f64>())
                    .sqrt();
                    assert!(((forms[k] - form) / sd).abs() < form_error, "{dim} {width} {k}");
                    mesh.clear(&mut work);
                    mesh.spread(coords, (0..n).map(|i| (i, y[i])), &mut work);
                    mesh.forward(&mut work);
                    mesh.convolve(&mut work, &weights[k]);
                    let error = |i: usize| (mesh.interpolate(coords, i, &work) - product[i]).abs();
                    let worst = (0..n).map(error).fold(0.0, f64::max);
                    assert!(worst < 100.0 * form_error, "{dim} {width} {k}: {worst}");
                    assert!(((forms32[k] - form) / sd).abs() < 5e-6, "{dim} {width} {k}");
                }
            }
        }
    }
}
