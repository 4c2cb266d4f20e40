//! Patches of neighbouring locations, and what is smooth on their scale: one linear function of the coordinates in each.
//!
//! A cheap stand-in for the leading functions of a short squared exponential kernel: O(n log n) to make and O(n) to
//! apply, for any number of locations and any layout.

use crate::error::{Error, Result, check_size};
use crate::locations::check_finite;
use faer::MatRef;
use std::ops::Range;

/// A patch has at least this many locations, and less than twice as many, unless its whole sample has fewer.
pub const PATCH: usize = 16;

/// A constant and three coordinates.
const MOST_FUNCTIONS: usize = 4;

/// What a linear function may lose in the rounding, relative to its own size, before it is left out.
const DEPENDENT: f64 = 1e-8;

/// Coordinates are compared in this share of the longest side: equal ones stay equal in any unit, in spite of its rounding.
const STEP: f64 = 1.0 / (1_u64 << 30) as f64;

/// Locations cut into patches by halving, each along its longest side, with an orthonormal basis of the linear
/// functions in every patch. Inside, locations go by *place*: those of a patch follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// The row of each place.
    rows: Vec<usize>,
    /// Where each patch starts, and at the end the number of places.
    starts: Vec<usize>,
    /// `width` values for each place; functions that a patch has no room for are 0.
    basis: Vec<f64>,
    width: usize,
}

impl Patches {
    /// Patches of the locations `coords` (a row for each, a column for each dimension), none of which holds locations
    /// of two samples. `samples` has a number for each location, from 0.
    ///
    /// # Errors
    /// Coordinates that are not finite, or not one to three; `samples` of another length.
    pub fn new(coords: MatRef<'_, f64>, samples: &[usize]) -> Result<Self> {
        let (n, d) = coords.shape();
        if !(1..MOST_FUNCTIONS).contains(&d) {
            return Err(Error::Dimension(d));
        }
        check_size("samples", n, samples.len())?;
        check_finite(coords)?;
        let steps = steps(coords);
        let mut rows: Vec<usize> = (0..n).collect();
        rows.sort_by_key(|&i| samples[i]);
        let mut starts = Vec::new();
        let mut start = 0;
        while start < n {
            let sample = samples[rows[start]];
            let end = start + rows[start..].partition_point(|&i| samples[i] == sample);
            halve(&steps, &mut rows[start..end], start, &mut starts);
            start = end;
        }
        starts.push(n);
        let width = d + 1;
        let mut basis = vec![0.0; n * width];
        for patch in starts.windows(2) {
            let range = patch[0]..patch[1];
            linear_functions(
                coords,
                &rows[range.clone()],
                &mut basis[range.start * width..range.end * width],
            );
        }
        Ok(Self { rows, starts, basis, width })
    }

    /// From what [`Patches::rows`], [`Patches::starts`] and [`Patches::basis`] give.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn from_parts(rows: Vec<usize>, starts: Vec<usize>, basis: Vec<f64>) -> Result<Self> {
        let n = rows.len();
        let mut seen = vec![false; n];
        let whole = rows.iter().all(|&row| row < n && !std::mem::replace(&mut seen[row], true))
            && starts.first() == Some(&0)
            && starts.last() == Some(&n)
            && starts.windows(2).all(|w| w[0] < w[1]);
        let width = basis.len() / n.max(1);
        if !whole || width * n != basis.len() || !(2..=MOST_FUNCTIONS).contains(&width) {
            return Err(Error::Damaged("patches"));
        }
        Ok(Self { rows, starts, basis, width })
    }

    /// The row of each place.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Where each patch starts, and the number of places.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The basis, values of one place together.
    pub fn basis(&self) -> &[f64] {
        &self.basis
    }

    /// Number of locations.
    pub fn n(&self) -> usize {
        self.rows.len()
    }

    /// Number of functions that are smooth: the rank of the projection.
    pub fn rank(&self) -> usize {
        self.leverage().iter().sum::<f64>().round() as usize
    }

    /// The patches, as ranges of places.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|w| w[0]..w[1])
    }

    /// The diagonal of the projection, by place.
    pub fn leverage(&self) -> Vec<f64> {
        self.basis.chunks_exact(self.width.max(1)).map(|q| q.iter().map(|q| q * q).sum()).collect()
    }

    /// The smooth part of values by place.
    pub fn smooth(&self, values: &[f64], smooth: &mut [f64]) {
        match self.width {
            2 => self.smooth_by::<2>(values, smooth),
            3 => self.smooth_by::<3>(values, smooth),
            _ => self.smooth_by::<MOST_FUNCTIONS>(values, smooth),
        }
    }

    fn smooth_by<const WIDTH: usize>(&self, values: &[f64], smooth: &mut [f64]) {
        for range in self.ranges() {
            let basis = self.basis[range.start * WIDTH..range.end * WIDTH].chunks_exact(WIDTH);
            let mut sums = [0.0; WIDTH];
            for (q, value) in basis.clone().zip(&values[range.clone()]) {
                for k in 0..WIDTH {
                    sums[k] += q[k] * value;
                }
            }
            for (q, smooth) in basis.zip(&mut smooth[range]) {
                *smooth = (0..WIDTH).map(|k| q[k] * sums[k]).sum();
            }
        }
    }
}

/// Coordinates as whole numbers of steps, an array for each dimension.
fn steps(coords: MatRef<'_, f64>) -> Vec<Vec<i64>> {
    let columns: Vec<Vec<f64>> =
        (0..coords.ncols()).map(|j| (0..coords.nrows()).map(|i| coords[(i, j)]).collect()).collect();
    let low: Vec<f64> = columns.iter().map(|x| x.iter().copied().fold(f64::INFINITY, f64::min)).collect();
    let high = columns.iter().map(|x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let longest = high.zip(&low).map(|(high, low)| high - low).fold(0.0, f64::max);
    let step = if longest > 0.0 { longest * STEP } else { 1.0 };
    columns
        .iter()
        .zip(&low)
        .map(|(x, low)| x.iter().map(|x| ((x - low) / step).round() as i64).collect())
        .collect()
}

/// Cuts rows in two, along the longest side, until a half would be less than a patch.
fn halve(steps: &[Vec<i64>], rows: &mut [usize], start: usize, starts: &mut Vec<usize>) {
    if rows.len() < 2 * PATCH {
        starts.push(start);
        return;
    }
    let extent = |j: usize| {
        let (low, high) = rows
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), &i| (low.min(steps[j][i]), high.max(steps[j][i])));
        high - low
    };
    let axis = (0..steps.len()).fold(0, |best, j| if extent(j) > extent(best) { j } else { best });
    let middle = rows.len() / 2;
    // ties by the other coordinates, so that the cut does not depend on the order of the locations
    let place = |i: usize| [0, 1, 2].map(|k| steps.get((axis + k) % steps.len()).map_or(0, |x| x[i]));
    rows.select_nth_unstable_by_key(middle, |&i| (place(i), i));
    let (left, right) = rows.split_at_mut(middle);
    halve(steps, left, start, starts);
    halve(steps, right, start + middle, starts);
}

/// An orthonormal basis of the constant and the coordinates over some rows (modified Gram-Schmidt, twice), values of a
/// row together. Functions that others determine are 0.
fn linear_functions(coords: MatRef<'_, f64>, rows: &[usize], basis: &mut [f64]) {
    let width = coords.ncols() + 1;
    let m = rows.len();
    let mut columns: Vec<Vec<f64>> = vec![vec![1.0 / (m as f64).sqrt(); m]];
    for j in 0..coords.ncols() {
        let mean = rows.iter().map(|&i| coords[(i, j)]).sum::<f64>() / m as f64;
        let mut column: Vec<f64> = rows.iter().map(|&i| coords[(i, j)] - mean).collect();
        let size = column.iter().map(|x| x.abs()).fold(mean.abs(), f64::max);
        for _ in 0..2 {
            for other in &columns {
                let along: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
                column.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if norm > DEPENDENT * size * (m as f64).sqrt() { 1.0 / norm } else { 0.0 };
        columns.push(column.into_iter().map(|x| x * scale).collect());
    }
    for (k, values) in basis.chunks_exact_mut(width).enumerate() {
        for (value, column) in values.iter_mut().zip(&columns) {
            *value = column[k];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    /// Scattered points; the second half is another sample at the same place.
    fn points(n: usize, d: usize) -> (Mat<f64>, Vec<usize>) {
        const STEPS: [f64; 3] = [0.618_033_988_75, 0.754_877_666_25, 0.569_840_290_99];
        let x = |i: usize, j: usize| (i as f64 * STEPS[j]).fract() * (10.0 - j as f64);
        (Mat::from_fn(n, d, x), (0..n).map(|i| usize::from(i % 3 == 0)).collect())
    }

    #[test]
    fn patches_have_sixteen_to_thirty_one_locations_of_one_sample() {
        for d in 1..=3 {
            let (coords, samples) = points(517, d);
            let patches = Patches::new(coords.as_ref(), &samples).unwrap();
            let mut rows = patches.rows().to_vec();
            for range in patches.ranges() {
                assert!((PATCH..2 * PATCH).contains(&range.len()));
                let of = |place: usize| samples[patches.rows()[place]];
                assert!(range.clone().all(|place| of(place) == of(range.start)));
            }
            rows.sort_unstable();
            assert_eq!(rows, (0..517).collect::<Vec<_>>());
            assert_eq!(patches.rank(), (patches.starts().len() - 1) * (d + 1));
        }
    }

    #[test]
    fn linear_functions_are_smooth_and_what_is_left_is_orthogonal_to_them() {
        let (coords, samples) = points(300, 2);
        let patches = Patches::new(coords.as_ref(), &samples).unwrap();
        let mut smooth = vec![0.0; 300];
        let linear: Vec<f64> =
            patches.rows().iter().map(|&i| 3.0 - coords[(i, 0)] + 0.2 * coords[(i, 1)]).collect();
        patches.smooth(&linear, &mut smooth);
        assert!(linear.iter().zip(&smooth).all(|(a, b)| (a - b).abs() < 1e-12));
        let rough: Vec<f64> = (0..300).map(|k| ((k * k) as f64).sin()).collect();
        patches.smooth(&rough, &mut smooth);
        let mut twice = vec![0.0; 300];
        patches.smooth(&smooth, &mut twice);
        assert!(smooth.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-12));
        let rest: f64 = rough.iter().zip(&smooth).zip(&linear).map(|((r, s), l)| (r - s) * l).sum();
        assert!(rest.abs() < 1e-10);
    }

    #[test]
    fn patches_are_the_same_in_any_unit() {
        let coords = Mat::from_fn(900, 2, |i, j| if j == 0 { (i % 30) as f64 } else { (i / 30) as f64 });
        let samples = vec![0; 900];
        let whole = Patches::new(coords.as_ref(), &samples).unwrap();
        for unit in [1e-6, 55e-6, 1.0 / 3.0, 7e12] {
            for origin in [0.0, 1e3 * unit] {
                let scaled = Mat::from_fn(900, 2, |i, j| origin + coords[(i, j)] * unit);
                let patches = Patches::new(scaled.as_ref(), &samples).unwrap();
                assert_eq!(patches.rows(), whole.rows());
                assert_eq!(patches.starts(), whole.starts());
                let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
                assert!(patches.basis().iter().zip(whole.basis()).all(close));
            }
        }
    }

    #[test]
    fn patches_are_the_same_in_any_order_of_the_locations() {
        let (side, samples) = (30, vec![0; 900]);
        let lattice = |i: usize, j: usize| if j == 0 { (i % side) as f64 } else { (i / side) as f64 };
        let shuffled = |i: usize| i * 7 % 900;
        let members = |coords: &Mat<f64>, original: &dyn Fn(usize) -> usize| {
            let patches = Patches::new(coords.as_ref(), &samples).unwrap();
            let mut members: Vec<Vec<usize>> = patches
                .ranges()
                .map(|range| {
                    let mut rows: Vec<usize> = range.map(|place| original(patches.rows()[place])).collect();
                    rows.sort_unstable();
                    rows
                })
                .collect();
            members.sort_unstable();
            members
        };
        let ordered = members(&Mat::from_fn(900, 2, lattice), &|i| i);
        assert_eq!(members(&Mat::from_fn(900, 2, |i, j| lattice(shuffled(i), j)), &shuffled), ordered);
    }

    #[test]
    fn points_on_a_line_or_on_each_other_have_fewer_functions() {
        let samples = vec![0; 40];
        let line = Mat::from_fn(40, 2, |i, j| 1e6 + (1 + j) as f64 * i as f64);
        assert_eq!(Patches::new(line.as_ref(), &samples).unwrap().rank(), 4);
        let point = Mat::from_fn(40, 2, |_, _| 0.1);
        assert_eq!(Patches::new(point.as_ref(), &samples).unwrap().rank(), 2);
        assert_eq!(Patches::new(line.as_ref().subrows(0, 3), &samples[..3]).unwrap().rank(), 2);
    }

    #[test]
    fn parts_are_checked() {
        let (coords, samples) = points(100, 2);
        let patches = Patches::new(coords.as_ref(), &samples).unwrap();
        let (rows, starts, basis) =
            (patches.rows().to_vec(), patches.starts().to_vec(), patches.basis().to_vec());
        assert_eq!(Patches::from_parts(rows.clone(), starts.clone(), basis.clone()).unwrap(), patches);
        assert!(Patches::from_parts(rows.clone(), vec![0, 200], basis.clone()).is_err());
        assert!(Patches::from_parts(vec![0; 100], starts.clone(), basis).is_err());
        assert!(Patches::from_parts(rows, starts, vec![0.0; 150]).is_err());
        assert!(Patches::new(coords.as_ref(), &samples[1..]).is_err());
    }
}
