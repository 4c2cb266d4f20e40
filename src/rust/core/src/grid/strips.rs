//! Sums of narrow SE kernels over pairs of near points.
//!
//! The points of a sample are ordered in strips along the first coordinate: a point's neighbours are then a few runs of
//! places, whatever the lengthscale, and a kernel over a run is a loop without branches. Nothing is stored but the
//! points.

use crate::simd::{dot, exp_negative, vectorized};
use faer::MatRef;
use rayon::prelude::*;
use std::ops::Range;

/// Kernel values below exp(-REACH²/2), 8e-7, may be left out.
pub const REACH: f64 = 5.3;

/// Genes that are worked on together.
pub const LANES: usize = 16;

/// Places of a chunk of work; sums within a chunk are added in a fixed order.
const CHUNK: usize = 2048;

/// Kernel values that are computed together.
const RUN: usize = 64;

/// Points in strips.
pub struct Strips {
    /// The row of each place, and the place of each row less the first row.
    rows: Vec<u32>,
    places: Vec<u32>,
    first_row: usize,
    /// Coordinates by place.
    points: [Vec<f64>; 3],
    dim: usize,
    /// Strips that are not empty: their indices across (third and second coordinate) and their places.
    strips: Vec<([i64; 2], Range<usize>)>,
    /// The strip of each place.
    strip_of: Vec<u32>,
    side: f64,
}

/// Sums of a kernel's powers over a point's neighbours, without the point itself.
#[derive(Debug, Clone, Default)]
pub struct PowerSums {
    /// Σ k over j ≠ i, by place.
    pub first: Vec<f64>,
    /// Σ k².
    pub second: Vec<f64>,
    /// Σ k³ over all pairs (i, j), i ≠ j.
    pub third: f64,
}

impl Strips {
    /// Orders the points of some rows; `side` is the width of a strip.
    pub fn new(coords: MatRef<'_, f64>, rows: Range<usize>, side: f64) -> Self {
        let dim = coords.ncols();
        let across = |row: usize| -> [i64; 2] {
            [2, 1].map(|k| if k < dim { (coords[(row, k)] / side).floor() as i64 } else { 0 })
        };
        let mut order: Vec<([i64; 2], f64, u32)> =
            rows.clone().map(|row| (across(row), coords[(row, 0)], row as u32)).collect();
        order.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut places = vec![0; rows.len()];
        let mut strips: Vec<([i64; 2], Range<usize>)> = Vec::new();
        let mut strip_of = Vec::with_capacity(rows.len());
        for (place, (key, _, row)) in order.iter().enumerate() {
            places[*row as usize - rows.start] = place as u32;
            match strips.last_mut() {
                Some((last, range)) if last == key => range.end = place + 1,
                _ => strips.push((*key, place..place + 1)),
            }
            strip_of.push(strips.len() as u32 - 1);
        }
        let points = std::array::from_fn(|k| {
            if k < dim { order.iter().map(|p| coords[(p.2 as usize, k)]).collect() } else { Vec::new() }
        });
        let by_place = order.iter().map(|p| p.2).collect();
        Self { rows: by_place, places, first_row: rows.start, points, dim, strips, strip_of, side }
    }

    /// Number of points.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The row of each place.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The place of a row.
    #[inline]
    pub fn place(&self, row: usize) -> usize {
        self.places[row - self.first_row] as usize
    }

    /// Strips that points of a strip may have neighbours in, itself included; only itself and later ones if `forward`.
    fn neighbours(&self, strip: usize, reach: f64, forward: bool) -> Vec<usize> {
        let [z, y] = self.strips[strip].0;
        let apart = (reach / self.side).ceil() as i64;
        let mut found = Vec::new();
        let (from, to) = if self.dim > 2 { (z - apart, z + apart) } else { (z, z) };
        for plane in from.max(if forward { z } else { i64::MIN })..=to {
            let start = self.strips.partition_point(|s| s.0 < [plane, y - apart]);
            let near = self.strips[start..].iter().take_while(|s| s.0 <= [plane, y + apart]);
            found.extend((start..start + near.count()).filter(|&s| !forward || s >= strip));
        }
        found
    }

    /// About how many pairs (each once) are within reach of a kernel, from some of the points.
    pub fn pairs(&self, lengthscale: f64) -> f64 {
        const SAMPLE: usize = 400;
        let step = self.count().div_ceil(SAMPLE);
        let counts: Vec<f64> = (0..self.count())
            .into_par_iter()
            .step_by(step)
            .map(|i| {
                let x = self.points[0][i];
                let reach = REACH * lengthscale;
                let near = self.neighbours(self.strip_of[i] as usize, reach, false);
                near.iter().map(|&s| self.run(s, x - reach, x + reach).len() as f64).sum()
            })
            .collect();
        0.5 * self.count() as f64 * counts.iter().sum::<f64>() / counts.len() as f64
    }

    /// The places of a strip with first coordinates between these.
    fn run(&self, strip: usize, from: f64, to: f64) -> Range<usize> {
        let range = self.strips[strip].1.clone();
        let x = &self.points[0][range.clone()];
        let start = range.start + x.partition_point(|v| *v < from);
        start..start + self.points[0][start..range.end].partition_point(|v| *v <= to)
    }

    /// Calls `visit(place, run of neighbours' places)` for the places of a chunk that belong to one strip; each
    /// neighbour's run contains the place itself unless `forward`, where it starts after it.
    #[inline(always)]
    fn visit(
        &self,
        places: Range<usize>,
        reach: f64,
        forward: bool,
        mut visit: impl FnMut(usize, Range<usize>),
    ) {
        let mut i = places.start;
        while i < places.end {
            let strip = self.strip_of[i] as usize;
            let end = places.end.min(self.strips[strip].1.end);
            let x = &self.points[0];
            for near in self.neighbours(strip, reach, forward) {
                let range = self.strips[near].1.clone();
                // Both ends move on with the place.
                let Range { mut start, end: mut stop } = self.run(near, x[i] - reach, x[i] + reach);
                for place in i..end {
                    while start < range.end && x[start] < x[place] - reach {
                        start += 1;
                    }
                    stop = stop.max(start);
                    while stop < range.end && x[stop] <= x[place] + reach {
                        stop += 1;
                    }
                    let from = if forward && near == strip { place + 1 } else { start };
                    if from < stop {
                        visit(place, from..stop);
                    }
                }
            }
            i = end;
        }
    }

    /// Squared distances of a place to a run of at most [`RUN`] places.
    #[inline(always)]
    fn squared_distances(&self, place: usize, run: Range<usize>, out: &mut [f64; RUN]) {
        let x = self.points[0][place];
        for (d, other) in out.iter_mut().zip(&self.points[0][run.clone()]) {
            *d = (other - x) * (other - x);
        }
        for points in &self.points[1..self.dim] {
            let x = points[place];
            for (d, other) in out.iter_mut().zip(&points[run.clone()]) {
                *d += (other - x) * (other - x);
            }
        }
    }

    fn chunks(&self) -> usize {
        self.count().div_ceil(CHUNK)
    }

    fn chunk(&self, chunk: usize) -> Range<usize> {
        chunk * CHUNK..((chunk + 1) * CHUNK).min(self.count())
    }

    /// Sums of the kernel's powers, in the current rayon pool.
    pub fn power_sums(&self, lengthscale: f64) -> PowerSums {
        let factor = -0.5 / (lengthscale * lengthscale);
        let parts: Vec<(Vec<f64>, Vec<f64>, f64)> = (0..self.chunks())
            .into_par_iter()
            .map(|chunk| {
                let places = self.chunk(chunk);
                let mut first = vec![0.0; places.len()];
                let mut second = vec![0.0; places.len()];
                let mut third = 0.0;
                let start = places.start;
                vectorized!({
                    self.visit(
                        places.clone(),
                        REACH * lengthscale,
                        false,
                        #[inline(always)]
                        |place, run| {
                            let (mut a, mut b, mut c) = (0.0, 0.0, 0.0);
                            self.kernel_over(
                                place,
                                run,
                                factor,
                                #[inline(always)]
                                |_, values| {
                                    let mut lanes = [[0.0; 4]; 3];
                                    for four in values.chunks(4) {
                                        for (lane, k) in four.iter().enumerate() {
                                            lanes[0][lane] += k;
                                            lanes[1][lane] += k * k;
                                            lanes[2][lane] += k * k * k;
                                        }
                                    }
                                    a += lanes[0].iter().sum::<f64>();
                                    b += lanes[1].iter().sum::<f64>();
                                    c += lanes[2].iter().sum::<f64>();
                                },
                            );
                            first[place - start] += a;
                            second[place - start] += b;
                            third += c;
                        },
                    );
                });
                // Without the point itself.
                first.iter_mut().chain(&mut second).for_each(|sum| *sum -= 1.0);
                (first, second, third - places.len() as f64)
            })
            .collect();
        let mut sums = PowerSums::default();
        for (first, second, third) in parts {
            sums.first.extend(first);
            sums.second.extend(second);
            sums.third += third;
        }
        sums
    }

    /// Σ k over all pairs (i, j), i ≠ j.
    pub fn total(&self, lengthscale: f64) -> f64 {
        self.power_sums(lengthscale).first.iter().sum()
    }

    /// The kernel over a run, in pieces: `with(first place of the piece, values)`.
    #[inline(always)]
    fn kernel_over(&self, place: usize, run: Range<usize>, factor: f64, mut with: impl FnMut(usize, &[f64])) {
        let mut values = [0.0; RUN];
        let mut from = run.start;
        while from < run.end {
            let count = RUN.min(run.end - from);
            self.squared_distances(place, from..from + count, &mut values);
            for value in &mut values[..count.next_multiple_of(8).min(RUN)] {
                *value = exp_negative::<10>(factor * *value);
            }
            with(from, &values[..count]);
            from += count;
        }
    }

    /// K times some vectors that lie side by side, by place, [`LANES`] at a time; in the current rayon pool.
    pub fn product(&self, lengthscale: f64, x: &[[f64; LANES]]) -> Vec<[f64; LANES]> {
        let factor = -0.5 / (lengthscale * lengthscale);
        let mut out = vec![[0.0; LANES]; self.count()];
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
            let places = self.chunk(chunk);
            let start = places.start;
            vectorized!({
                self.visit(
                    places.clone(),
                    REACH * lengthscale,
                    false,
                    #[inline(always)]
                    |place, run| {
                        let mut sums = [0.0; LANES];
                        self.kernel_over(
                            place,
                            run,
                            factor,
                            #[inline(always)]
                            |from, values| {
                                for (k, x) in values.iter().zip(&x[from..]) {
                                    for lane in 0..LANES {
                                        sums[lane] += k * x[lane];
                                    }
                                }
                            },
                        );
                        for lane in 0..LANES {
                            out[place - start][lane] += sums[lane];
                        }
                    },
                );
            });
        });
        out
    }

    /// K times a vector, by place; in the current rayon pool.
    pub fn product_one(&self, lengthscale: f64, x: &[f64]) -> Vec<f64> {
        let factor = -0.5 / (lengthscale * lengthscale);
        let mut out = vec![0.0; self.count()];
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
            let places = self.chunk(chunk);
            let start = places.start;
            vectorized!({
                self.visit(
                    places.clone(),
                    REACH * lengthscale,
                    false,
                    #[inline(always)]
                    |place, run| {
                        let mut sum = 0.0;
                        self.kernel_over(
                            place,
                            run,
                            factor,
                            #[inline(always)]
                            |from, values| {
                                sum += dot(values, &x[from..from + values.len()]);
                            },
                        );
                        out[place - start] += sum;
                    },
                );
            });
        });
        out
    }

    /// `yᵀ K y` of genes side by side, by place.
    pub fn forms(&self, lengthscale: f64, y: &[[f32; LANES]]) -> [f64; LANES] {
        let factor = -0.5 / (lengthscale * lengthscale);
        let mut forms = [0.0_f64; LANES];
        vectorized!({
            for values in y {
                for lane in 0..LANES {
                    forms[lane] += f64::from(values[lane]) * f64::from(values[lane]);
                }
            }
            self.visit(
                0..self.count(),
                REACH * lengthscale,
                true,
                #[inline(always)]
                |place, run| {
                    self.kernel_over(
                        place,
                        run,
                        factor,
                        #[inline(always)]
                        |from, values| {
                            let mut sums = [0.0_f32; LANES];
                            for (k, x) in values.iter().zip(&y[from..]) {
                                let k = *k as f32;
                                for lane in 0..LANES {
                                    sums[lane] += k * x[lane];
                                }
                            }
                            for lane in 0..LANES {
                                forms[lane] += 2.0 * f64::from(sums[lane]) * f64::from(y[place][lane]);
                            }
                        },
                    );
                },
            );
        });
        forms
    }

    /// A vector with few entries that are not zero.
    pub fn sparse(&self, entries: impl Iterator<Item = (usize, f64)>) -> SparseVector {
        let mut order: Vec<(u32, f64)> =
            entries.map(|(row, value)| (self.place(row) as u32, value)).collect();
        order.sort_unstable_by_key(|entry| entry.0);
        let mut strips: Vec<(u32, Range<usize>)> = Vec::new();
        for (i, (place, _)) in order.iter().enumerate() {
            let strip = self.strip_of[*place as usize];
            match strips.last_mut() {
                Some((last, range)) if *last == strip => range.end = i + 1,
                _ => strips.push((strip, i..i + 1)),
            }
        }
        let points = std::array::from_fn(|k| {
            if k < self.dim {
                order.iter().map(|e| self.points[k][e.0 as usize]).collect()
            } else {
                Vec::new()
            }
        });
        let (places, values) = order.into_iter().unzip();
        SparseVector { places, values, points, strips }
    }

    /// `eᵀ K e`.
    pub fn sparse_form(&self, lengthscale: f64, e: &SparseVector) -> f64 {
        let factor = -0.5 / (lengthscale * lengthscale);
        let reach = REACH * lengthscale;
        let apart = (reach / self.side).ceil() as i64;
        let mut twice = 0.0;
        let x = &e.points[0];
        vectorized!({
            let mut values = [0.0; RUN];
            for (s, (strip, own)) in e.strips.iter().enumerate() {
                let [z, y] = self.strips[*strip as usize].0;
                for (other, range) in &e.strips[s..] {
                    let [z2, y2] = self.strips[*other as usize].0;
                    if z2 - z > apart || (z2 == z && y2 - y > apart && self.dim < 3) {
                        break;
                    }
                    if (y2 - y).abs() > apart {
                        continue;
                    }
                    let (mut start, mut stop) = (range.start, range.start);
                    for i in own.clone() {
                        while start < range.end && x[start] < x[i] - reach {
                            start += 1;
                        }
                        stop = stop.max(start);
                        while stop < range.end && x[stop] <= x[i] + reach {
                            stop += 1;
                        }
                        let mut from = if other == strip { i + 1 } else { start };
                        let mut sum = 0.0;
                        while from < stop {
                            let count = RUN.min(stop - from);
                            let run = from..from + count;
                            for (d, x2) in values.iter_mut().zip(&x[run.clone()]) {
                                *d = (x2 - x[i]) * (x2 - x[i]);
                            }
                            for points in &e.points[1..self.dim] {
                                for (d, x2) in values.iter_mut().zip(&points[run.clone()]) {
                                    *d += (x2 - points[i]) * (x2 - points[i]);
                                }
                            }
                            let padded = count.next_multiple_of(4).min(RUN);
                            for value in &mut values[..padded] {
                                *value = exp_negative::<10>(factor * *value);
                            }
                            for (k, v) in values[..count].iter().zip(&e.values[run]) {
                                sum += k * v;
                            }
                            from += count;
                        }
                        twice += sum * e.values[i];
                    }
                }
            }
        });
        2.0 * twice + e.values.iter().map(|v| v * v).sum::<f64>()
    }
}

impl Strips {
    /// Values by place, by row.
    pub fn by_row<T: Copy>(&self, x: &[T]) -> Vec<T> {
        self.places.iter().map(|&place| x[place as usize]).collect()
    }

    /// tr K³, in the current rayon pool.
    ///
    /// With `ρ(t) = Σ exp(-3|xᵢ - t|²/2l²)` it is `(9/(2πl²))^(d/2) ∫ρ³`; ρ³ is as smooth as a Gaussian of width l/3, so
    /// that steps of that length are enough. Only tiles that points reach are visited.
    pub fn trace_of_cube(&self, lengthscale: f64) -> f64 {
        const SIDES: [usize; 3] = [1024, 48, 20];
        let cells = SIDES[self.dim - 1];
        let step = lengthscale / 3.0;
        let reach = REACH * lengthscale / 3f64.sqrt();
        let side = step * cells as f64;
        let index = |x: f64| (x / side).floor() as i64;
        let mut tiles: Vec<[i64; 3]> = (0..self.count())
            .into_par_iter()
            .fold(Vec::new, |mut tiles: Vec<[i64; 3]>, place| {
                let range = |k: usize| {
                    if k < self.dim {
                        let x = self.points[k][place];
                        index(x - reach)..=index(x + reach)
                    } else {
                        0..=0
                    }
                };
                for z in range(2) {
                    for y in range(1) {
                        for x in range(0) {
                            // Neighbouring places are mostly in the same tiles.
                            if !tiles[tiles.len().saturating_sub(8)..].contains(&[z, y, x]) {
                                tiles.push([z, y, x]);
                            }
                        }
                    }
                }
                tiles
            })
            .reduce(Vec::new, |mut a, b| {
                a.extend(b);
                a
            });
        tiles.par_sort_unstable();
        tiles.dedup();
        let sums: Vec<f64> = tiles
            .par_iter()
            .with_min_len(4)
            .map(|tile| self.cubes_in_tile(tile, cells, step, reach))
            .collect();
        sums.iter().sum::<f64>() * (2.0 * std::f64::consts::PI).powf(-0.5 * self.dim as f64)
    }

    /// Σ ρ³ over the cells of one tile.
    fn cubes_in_tile(&self, &[z, y, x]: &[i64; 3], cells: usize, step: f64, reach: f64) -> f64 {
        let side = step * cells as f64;
        let low = [x, y, z].map(|i| i as f64 * side);
        let factor = -0.5 * 3.0 / (9.0 * step * step);
        let across = |k: usize| {
            if k < self.dim {
                let strip = |v: f64| (v / self.side).floor() as i64;
                strip(low[k] - reach)..=strip(low[k] + side + reach)
            } else {
                0..=0
            }
        };
        let mut density = vec![0.0; cells.pow(self.dim as u32)];
        let mut waves = [[0.0; 1024]; 3];
        vectorized!({
            for plane in across(2) {
                let start = self.strips.partition_point(|s| s.0 < [plane, *across(1).start()]);
                for (s, strip) in self.strips.iter().enumerate().skip(start) {
                    if strip.0 > [plane, *across(1).end()] {
                        break;
                    }
                    'points: for place in self.run(s, low[0] - reach, low[0] + side + reach) {
                        let mut ranges = [0..1, 0..1, 0..1];
                        for k in 0..self.dim {
                            let at = (self.points[k][place] - low[k]) / step;
                            let from = (at - reach / step).ceil().max(0.0) as usize;
                            let to = ((at + reach / step).floor() + 1.0).clamp(0.0, cells as f64) as usize;
                            if from >= to {
                                continue 'points;
                            }
                            for (cell, wave) in waves[k][from..to].iter_mut().enumerate() {
                                let d = ((from + cell) as f64 - at) * step;
                                *wave = exp_negative::<10>(factor * d * d);
                            }
                            ranges[k] = from..to;
                        }
                        for i2 in ranges[2].clone() {
                            let outer2 = if self.dim > 2 { waves[2][i2] } else { 1.0 };
                            for i1 in ranges[1].clone() {
                                let outer = if self.dim > 1 { outer2 * waves[1][i1] } else { 1.0 };
                                let row = (i2 * cells + i1) * cells;
                                let line = &mut density[row + ranges[0].start..row + ranges[0].end];
                                for (cell, wave) in line.iter_mut().zip(&waves[0][ranges[0].clone()]) {
                                    *cell += outer * wave;
                                }
                            }
                        }
                    }
                }
            }
            density.iter().map(|v| v * v * v).sum()
        })
    }
}

/// A vector with few entries that are not zero, in the order of their places.
pub struct SparseVector {
    /// Their places.
    pub places: Vec<u32>,
    /// Their values.
    pub values: Vec<f64>,
    points: [Vec<f64>; 3],
    strips: Vec<(u32, Range<usize>)>,
}
