//! Fourier transforms of real values on a mesh of one to three dimensions.

use crate::simd::dot;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, FftNum, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};
use std::ops::Range;
use std::sync::Arc;

/// The numbers that transforms work with: f32 or f64.
pub trait Real: FftNum + Into<f64> + Default {
    /// Rounded from a double.
    fn rounded(value: f64) -> Self;
}

impl Real for f32 {
    fn rounded(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn rounded(value: f64) -> Self {
        value
    }
}

/// Weights below this do not count.
const LEAST: f64 = 1e-30;

/// Lines of a dimension that are transformed together.
const LINES: usize = 16;

/// Weights of a mesh's frequencies that are the same for ±k in each dimension.
pub struct Table {
    /// Frequencies from 0 to n/2 in each dimension.
    shape: [usize; 3],
    /// Those of the first dimension side by side.
    values: Vec<f64>,
    /// The largest of them for each frequency of the others.
    largest: Vec<f64>,
}

impl Table {
    /// From a function of the frequencies.
    pub fn new(shape: [usize; 3], weight: impl Fn([usize; 3]) -> f64) -> Self {
        let shape = shape.map(|n| n / 2 + 1);
        let mut values = Vec::with_capacity(shape.iter().product());
        for k1 in 0..shape[1] {
            for k2 in 0..shape[2] {
                values.extend((0..shape[0]).map(|k0| weight([k0, k1, k2])));
            }
        }
        let largest = values
            .chunks_exact(shape[0])
            .map(|row| row.iter().fold(0.0_f64, |m, v| m.max(v.abs())))
            .collect();
        Self { shape, values, largest }
    }

    /// The place of the frequencies of the last two dimensions.
    fn column(&self, k1: usize, k2: usize) -> usize {
        k1 * self.shape[2] + k2
    }

    /// Weights of the first dimension's frequencies from 0 on.
    fn row(&self, column: usize) -> &[f64] {
        &self.values[column * self.shape[0]..][..self.shape[0]]
    }

    /// One weight; frequencies from 0 to n/2.
    pub fn at(&self, [k0, k1, k2]: [usize; 3]) -> f64 {
        self.row(self.column(k1, k2))[k0]
    }

    /// Their sum over all frequencies of a mesh of this shape.
    pub fn total(&self, shape: [usize; 3]) -> f64 {
        // ±k, but for 0 and n/2.
        let times = |k: usize, n: usize| if k == 0 || 2 * k == n { 1.0 } else { 2.0 };
        let mut total = 0.0;
        for k1 in 0..self.shape[1] {
            for k2 in 0..self.shape[2] {
                let row = self.row(self.column(k1, k2)).iter().enumerate();
                let sum: f64 = row.map(|(k0, value)| times(k0, shape[0]) * value).sum();
                total += times(k1, shape[1]) * times(k2, shape[2]) * sum;
            }
        }
        total
    }

    /// All of them times a number.
    pub fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().chain(&mut self.largest).for_each(|value| *value *= factor);
        self
    }
}

/// Transforms of one shape, its last dimension contiguous.
pub struct Transform<T: FftNum> {
    shape: [usize; 3],
    forward: Arc<dyn RealToComplex<T>>,
    backward: Arc<dyn ComplexToReal<T>>,
    /// Of dimensions 0 and 1, forward and backward.
    lines: [[Arc<dyn Fft<T>>; 2]; 2],
}

/// Memory that transforms of one thread work in.
#[derive(Default)]
pub struct Workspace<T> {
    /// The values on the mesh.
    pub values: Vec<T>,
    /// Their spectrum; the last dimension has `shape[2] / 2 + 1` frequencies.
    pub spectrum: Vec<Complex<T>>,
    lines: Vec<Complex<T>>,
    scratch: Vec<Complex<T>>,
}

impl<T: Real> Transform<T> {
    /// For this shape; unused dimensions, the first ones, have length 1.
    pub fn new(shape: [usize; 3]) -> Self {
        let mut real = RealFftPlanner::new();
        let mut complex = FftPlanner::new();
        let lines =
            [0, 1].map(|axis| [complex.plan_fft_forward(shape[axis]), complex.plan_fft_inverse(shape[axis])]);
        Self {
            shape,
            forward: real.plan_fft_forward(shape[2]),
            backward: real.plan_fft_inverse(shape[2]),
            lines,
        }
    }

    /// Number of values.
    pub fn cells(&self) -> usize {
        self.shape.iter().product()
    }

    /// Frequencies of the last dimension.
    fn frequencies(&self) -> usize {
        self.shape[2] / 2 + 1
    }

    /// Zeros in a workspace's values.
    pub fn clear(&self, work: &mut Workspace<T>) {
        work.values.clear();
        work.values.resize(self.cells(), T::default());
    }

    /// The spectrum of a workspace's values, which are lost. Only the first `used` rows of the first two dimensions
    /// have values that are not zero.
    pub fn forward(&self, work: &mut Workspace<T>, used: [usize; 2]) {
        self.leading(work, used);
        self.along_axis(work, 0, 0, 0..1);
    }

    /// All dimensions but the first.
    fn leading(&self, work: &mut Workspace<T>, used: [usize; 2]) {
        let [_, s1, s2] = self.shape;
        let c2 = self.frequencies();
        work.spectrum.clear();
        work.spectrum.resize(self.shape[0] * s1 * c2, Complex::default());
        work.scratch.resize(self.forward.get_scratch_len().max(work.scratch.len()), Complex::default());
        let scratch = &mut work.scratch[..self.forward.get_scratch_len()];
        for i0 in 0..used[0] {
            for i1 in 0..used[1] {
                let row = i0 * s1 + i1;
                let (from, to) = (
                    &mut work.values[row * s2..(row + 1) * s2],
                    &mut work.spectrum[row * c2..(row + 1) * c2],
                );
                // The lengths are those of the plan.
                let _ = self.forward.process_with_scratch(from, to, scratch);
            }
        }
        self.along_axis(work, 1, 0, 0..used[0]);
    }

    /// Transforms along dimension 0 or 1, in place; of dimension 1 for some indices of dimension 0.
    fn along_axis(&self, work: &mut Workspace<T>, axis: usize, direction: usize, planes: Range<usize>) {
        if self.shape[axis] == 1 {
            return;
        }
        let columns = self.columns(axis);
        let plane = self.shape[1] * self.frequencies();
        for i in planes {
            let mut from = 0;
            while from < columns {
                let count = LINES.min(columns - from);
                let start = i * plane + from;
                self.gather(work, axis, direction, start, count);
                let len = self.shape[axis];
                for k in 0..len {
                    for column in 0..count {
                        work.spectrum[start + k * columns + column] = work.lines[column * len + k];
                    }
                }
                from += count;
            }
        }
    }

    /// Lines along an axis that start at neighbouring places: also the stride along it.
    fn columns(&self, axis: usize) -> usize {
        if axis == 0 { self.shape[1] * self.frequencies() } else { self.frequencies() }
    }

    /// Some neighbouring lines, transformed, one after the other into `work.lines`.
    fn gather(&self, work: &mut Workspace<T>, axis: usize, direction: usize, start: usize, count: usize) {
        let (len, stride) = (self.shape[axis], self.columns(axis));
        let plan = &self.lines[axis][direction];
        work.lines.resize(work.lines.len().max(LINES * len), Complex::default());
        work.scratch.resize(plan.get_inplace_scratch_len().max(work.scratch.len()), Complex::default());
        for k in 0..len {
            let row = &work.spectrum[start + k * stride..][..count];
            for (column, value) in row.iter().enumerate() {
                work.lines[column * len + k] = *value;
            }
        }
        plan.process_with_scratch(&mut work.lines[..count * len], &mut work.scratch);
    }

    /// The values of a workspace's spectrum, which is lost, without division by their number.
    pub fn backward(&self, work: &mut Workspace<T>) {
        self.along_axis(work, 0, 1, 0..1);
        self.along_axis(work, 1, 1, 0..self.shape[0]);
        let (s2, c2) = (self.shape[2], self.frequencies());
        work.values.resize(self.cells(), T::default());
        work.scratch.resize(self.backward.get_scratch_len().max(work.scratch.len()), Complex::default());
        let scratch = &mut work.scratch[..self.backward.get_scratch_len()];
        for (from, to) in work.spectrum.chunks_exact_mut(c2).zip(work.values.chunks_exact_mut(s2)) {
            // The imaginary parts that must be zero are so but for rounding; the plan minds, the result does not.
            from[0].im = T::default();
            if s2 % 2 == 0 {
                from[c2 - 1].im = T::default();
            }
            let _ = self.backward.process_with_scratch(from, to, scratch);
        }
    }

    /// Multiplies a spectrum by a product of weights, one for each dimension (frequencies 0 to n/2).
    pub fn multiply(&self, work: &mut Workspace<T>, weights: &[Vec<f64>; 3]) {
        let [s0, s1, _] = self.shape;
        let c2 = self.frequencies();
        for k0 in 0..s0 {
            for k1 in 0..s1 {
                let outer = weights[0][k0.min(s0 - k0)] * weights[1][k1.min(s1 - k1)];
                let row = &mut work.spectrum[(k0 * s1 + k1) * c2..][..c2];
                for (value, weight) in row.iter_mut().zip(&weights[2]) {
                    let weight = T::rounded(outer * weight);
                    *value = Complex::new(value.re * weight, value.im * weight);
                }
            }
        }
    }

    /// Multiplies a spectrum by a table of weights.
    pub fn multiply_by(&self, work: &mut Workspace<T>, table: &Table) {
        self.each_weight(work, table, |value, weight| {
            let weight = T::rounded(weight);
            *value = Complex::new(value.re * weight, value.im * weight);
        });
    }

    /// A spectrum that is the table itself.
    pub fn fill(&self, work: &mut Workspace<T>, table: &Table) {
        work.spectrum.clear();
        work.spectrum.resize(self.shape[0] * self.shape[1] * self.frequencies(), Complex::default());
        self.each_weight(work, table, |value, weight| {
            *value = Complex::new(T::rounded(weight), T::default());
        });
    }

    fn each_weight(&self, work: &mut Workspace<T>, table: &Table, visit: impl Fn(&mut Complex<T>, f64)) {
        let [s0, s1, _] = self.shape;
        let c2 = self.frequencies();
        for k0 in 0..s0 {
            for k1 in 0..s1 {
                let row = &mut work.spectrum[(k0 * s1 + k1) * c2..][..c2];
                let (k0, k1) = (k0.min(s0 - k0), k1.min(s1 - k1));
                for (k2, value) in row.iter_mut().enumerate() {
                    visit(value, table.at([k0, k1, k2]));
                }
            }
        }
    }

    /// Sums of a squared spectrum times a table of weights: as [`Transform::power`] where the spectrum is known.
    pub fn total_by(&self, work: &Workspace<T>, table: &Table) -> f64 {
        let [s0, s1, s2] = self.shape;
        let c2 = self.frequencies();
        let mut sum = 0.0;
        for k0 in 0..s0 {
            for k1 in 0..s1 {
                let row = &work.spectrum[(k0 * s1 + k1) * c2..][..c2];
                let (k0, k1) = (k0.min(s0 - k0), k1.min(s1 - k1));
                for (k2, value) in row.iter().enumerate() {
                    let times = if k2 == 0 || 2 * k2 == s2 { 1.0 } else { 2.0 };
                    let square: f64 = (value.re * value.re + value.im * value.im).into();
                    sum += times * table.at([k0, k1, k2]) * square;
                }
            }
        }
        sum
    }

    /// The sum of the squared spectrum of a workspace's values (lost) times a table of weights.
    pub fn power_by(&self, work: &mut Workspace<T>, used: [usize; 2], table: &Table) -> f64 {
        let mut sum = 0.0;
        self.each_column(
            work,
            used,
            |k1, k2| table.largest[table.column(k1, k2)] > 0.0,
            |k1, k2, times, folded| {
                sum += times * dot(folded, table.row(table.column(k1, k2)));
            },
        );
        sum
    }

    /// Sums of the squared spectrum of a workspace's values (lost) times products of weights, one sum for each element
    /// of `weights`, added to `sums`. The spectrum is not kept.
    pub fn power(
        &self,
        work: &mut Workspace<T>,
        used: [usize; 2],
        weights: &[[Vec<f64>; 3]],
        sums: &mut [f64],
    ) {
        let counts = |k1: usize, k2: usize| weights.iter().any(|w| w[1][k1] * w[2][k2] > LEAST);
        self.each_column(work, used, counts, |k1, k2, times, folded| {
            for (weight, sum) in weights.iter().zip(&mut *sums) {
                let outer = times * weight[1][k1] * weight[2][k2];
                if outer > LEAST {
                    *sum += outer * dot(folded, &weight[0]);
                }
            }
        });
    }

    /// Calls `visit` for frequencies k1 and k2 of the last two dimensions, both from 0 to n/2, with the number of times that
    /// a real transform's spectrum has them, and the squared spectrum there by frequencies of the first dimension, ±k
    /// together. Only where `counts` is true.
    fn each_column(
        &self,
        work: &mut Workspace<T>,
        used: [usize; 2],
        counts: impl Fn(usize, usize) -> bool,
        mut visit: impl FnMut(usize, usize, f64, &[f64]),
    ) {
        self.leading(work, used);
        let [s0, s1, s2] = self.shape;
        let (c2, half) = (self.frequencies(), s0 / 2);
        let mut folded = vec![0.0_f64; half + 1];
        let columns = s1 * c2;
        let place = |column: usize| ((column / c2).min(s1 - column / c2), column % c2);
        let mut from = 0;
        while from < columns {
            let mut count = LINES.min(columns - from);
            let counted = |column: &usize| {
                let (k1, k2) = place(from + column);
                counts(k1, k2)
            };
            count = (0..count).rfind(counted).map_or(0, |last| last + 1);
            if s0 > 1 && count > 0 {
                self.gather(work, 0, 0, from, count);
            }
            for column in (0..count).filter(counted) {
                let (k1, k2) = place(from + column);
                // The other half of the last dimension's frequencies is the conjugate.
                let times = if k2 == 0 || 2 * k2 == s2 { 1.0 } else { 2.0 };
                let square =
                    |value: Complex<T>| -> f64 { (value.re * value.re + value.im * value.im).into() };
                if s0 > 1 {
                    let line = &work.lines[column * s0..(column + 1) * s0];
                    folded[0] = square(line[0]);
                    for k in 1..=half {
                        folded[k] = square(line[k]);
                    }
                    for k in half + 1..s0 {
                        folded[s0 - k] += square(line[k]);
                    }
                } else {
                    folded[0] = square(work.spectrum[from + column]);
                }
                visit(k1, k2, times, &folded);
            }
            from += LINES;
        }
    }
}

/// The smallest even number from `n` on without prime factors above 5.
pub fn good_length(n: usize) -> usize {
    let smooth = |mut k: usize| {
        for p in [2, 3, 5] {
            while k.rem_euclid(p) == 0 {
                k /= p;
            }
        }
        k == 1
    };
    let mut k = n.max(2).div_ceil(2) * 2;
    while !smooth(k) {
        k += 2;
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn transforms_agree_with_sums() {
        for shape in [[1, 1, 12], [6, 1, 8], [4, 6, 10]] {
            let transform = Transform::<f64>::new(shape);
            let values: Vec<f64> = (0..transform.cells()).map(|i| ((i * i) as f64).sin()).collect();
            let mut work = Workspace { values: values.clone(), ..Workspace::default() };
            transform.forward(&mut work, [shape[0], shape[1]]);
            let c2 = shape[2] / 2 + 1;
            let weight = |axis: usize| (0..=shape[axis] / 2).map(|k| 1.0 / (1.0 + k as f64)).collect();
            let weights: [Vec<f64>; 3] = std::array::from_fn(weight);
            let mut total = 0.0;
            for k0 in 0..shape[0] {
                for k1 in 0..shape[1] {
                    for k2 in 0..shape[2] {
                        let mut sum = Complex::new(0.0, 0.0);
                        for (i, v) in values.iter().enumerate() {
                            let (i0, i1, i2) =
                                (i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2]);
                            let turn = (k0 * i0) as f64 / shape[0] as f64
                                + (k1 * i1) as f64 / shape[1] as f64
                                + (k2 * i2) as f64 / shape[2] as f64;
                            sum += Complex::from_polar(*v, -2.0 * PI * turn);
                        }
                        let fold = |k: usize, n: usize| k.min(n - k);
                        total += sum.norm_sqr()
                            * weights[0][fold(k0, shape[0])]
                            * weights[1][fold(k1, shape[1])]
                            * weights[2][fold(k2, shape[2])];
                        if k2 < c2 {
                            let got = work.spectrum[(k0 * shape[1] + k1) * c2 + k2];
                            assert!((got - sum).norm() < 1e-10, "{shape:?} {k0} {k1} {k2}: {got} {sum}");
                        }
                    }
                }
            }
            transform.backward(&mut work);
            for (got, value) in work.values.iter().zip(&values) {
                assert!((got / transform.cells() as f64 - value).abs() < 1e-12);
            }
            let mut sums = [0.0];
            transform.power(&mut work, [shape[0], shape[1]], &[weights], &mut sums);
            let scale = (transform.cells() as f64).powi(2);
            assert!((sums[0] / scale / total - 1.0).abs() < 1e-12, "{sums:?} {total}");
        }
    }

    #[test]
    fn good_lengths_are_even_and_smooth() {
        assert_eq!([1, 2, 7, 31, 97, 1351].map(good_length), [2, 2, 8, 32, 100, 1440]);
    }
}
